// matmul: up to three matrices side by side times the same rows of activations: q, k and v, the
// output projection, the router, the head. A warp is a row of a matrix for up to eight columns, or
// two rows for one column, which both meet at once; or 16 rows for 16 columns, of weights that are
// codes. All give the same bits.

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

INLINE const Part& part_of(const MatmulArgs& a) {
    int at = 0;
    if (a.parts > 1 && blockIdx.x >= a.part[1].first) at = 1;
    if (a.parts > 2 && blockIdx.x >= a.part[2].first) at = 2;
    return a.part[at];
}

INLINE void put(const Part& p, u32 column, u32 row, float acc) {
    float* out = p.out + (u64)column * p.stride + row;
    float y = p.bias ? acc + p.bias[row] : acc;
    *out = p.add ? *out + y : y;
}

ENTRY(matmul_1, 256, MatmulArgs) {
    const Part& p = part_of(a);
    u32 first = (blockIdx.x - p.first) * 16 + warp_id() * 2, last = p.m.rows - 1;
    if (first > last) return;
    u64 row[2] = {first, first < last ? first + 1 : last};
    Columns<1> c = {{0}, 1};
    float acc[2][1];
    multiply<32>(p.m, row, a.x, c, acc);
    if (lane_id() == 0) put(p, 0, first, acc[0][0]);
    if (lane_id() == 1 && first < last) put(p, 0, first + 1, acc[1][0]);
}

ENTRY(matmul_8, 256, MatmulArgs) {
    const Part& p = part_of(a);
    u64 row[1] = {(blockIdx.x - p.first) * 8 + warp_id()};
    if (row[0] >= p.m.rows) return;
    Columns<8> c;
    u32 first = blockIdx.y * 8;
    c.count = a.columns - first < 8 ? (int)(a.columns - first) : 8;
#pragma unroll
    for (int i = 0; i < 8; i++) c.row[i] = first + i;
    float acc[1][8];
    multiply<32>(p.m, row, a.x, c, acc);
#pragma unroll
    for (int i = 0; i < 8; i++) {
        if (i < c.count && lane_id() == i) put(p, c.row[i], row[0], acc[0][i]);
    }
}

// A block is 64 rows.
ENTRY(matmul_32, 256, MatmulArgs) {
    const Part& p = part_of(a);
    u32 row = (blockIdx.x - p.first) * 64 + warp_id() / 2 * 16, first = blockIdx.y * WIDE;
    int count = a.columns - first < WIDE ? (int)(a.columns - first) : WIDE;
    int half = warp_id() % 2 * 16;
    Tokens t = tokens((const u32*)0, first, count, half, 1);
    if (row >= p.m.rows || t.blocks == 0) return;
    float y[2][4];
    multiply_wide<32>(p.m, 0, row, a.x, t, y);
#pragma unroll
    for (int i = 0; i < 8; i++) {
        u32 at = row + lane_id() / 4 + i % 4 / 2 * 8;
        int token = half + i / 4 * 8 + lane_id() % 4 * 2 + i % 2;
        if (at < p.m.rows && token < count) put(p, first + token, at, y[i / 4][i % 4]);
    }
}
