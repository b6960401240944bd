// matmul: up to three matrices side by side times the same rows of activations: q, k and v, the
// output projection, the router, the head. A warp is a row of a matrix, for up to COLS columns.

struct Part {
    Matrix m;
    const float* bias; // [rows] or none
    float* out;        // [columns, stride]
    u32 stride;
    u32 add;   // whether out is added to
    u32 first; // the first block of this part
    u32 unused;
};

struct MatmulArgs {
    Part part[3];
    Acts x;
    u32 parts;
    u32 columns;
};

template <int COLS> INLINE void matmul(const MatmulArgs& a) {
    int at = 0;
    if (a.parts > 1 && blockIdx.x >= a.part[1].first) at = 1;
    if (a.parts > 2 && blockIdx.x >= a.part[2].first) at = 2;
    const Part& p = a.part[at];
    u32 row = (blockIdx.x - p.first) * 8 + warp_id();
    if (row >= p.m.rows) return;
    Columns<COLS> c;
    u32 first = blockIdx.y * COLS;
    c.count = a.columns - first < COLS ? (int)(a.columns - first) : COLS;
#pragma unroll
    for (int i = 0; i < COLS; i++) c.row[i] = first + i;
    float acc[COLS];
    multiply<32>(p.m, row, a.x, c, acc);
    float bias = p.bias ? p.bias[row] : 0.0f;
#pragma unroll
    for (int i = 0; i < COLS; i++) {
        if (i >= c.count || lane_id() != i) continue;
        float* out = p.out + (u64)c.row[i] * p.stride + row;
        float y = p.bias ? acc[i] + bias : acc[i];
        *out = p.add ? *out + y : y;
    }
}

ENTRY(matmul_1, 256, MatmulArgs) { matmul<1>(a); }
ENTRY(matmul_8, 256, MatmulArgs) { matmul<8>(a); }
