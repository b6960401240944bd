// reduce: x += sum of p_e (down_e m_e), experts ascending: first the products of every visit, then
// their sum. Eight lanes are a row of down, whose rows are short, and a
// block has sixteen: eight columns of codes need more registers than 256 threads have.

struct DownArgs {
    Matrix down;
    Acts m;     // [pairs, ffn]
    float* out; // [pairs, hidden]
    Visits visits;
};

template <int COLS> INLINE void down(const DownArgs& a) {
    u32 tile = blockIdx.y, row = blockIdx.x * 16 + threadIdx.x / 8;
    Columns<COLS> c;
    c.count = (int)a.visits.count[tile];
    if (c.count == 0) return;
#pragma unroll
    for (int i = 0; i < COLS; i++) {
        c.row[i] = i < c.count ? a.visits.order[a.visits.first[tile] + i] : 0;
    }
    float acc[COLS];
    multiply<8>(a.down, (u64)a.visits.expert[tile] * a.down.rows + row, a.m, c, acc);
    if (threadIdx.x % 8 != 0) return;
#pragma unroll
    for (int i = 0; i < COLS; i++) {
        if (i < c.count) a.out[(u64)c.row[i] * a.down.rows + row] = acc[i];
    }
}

ENTRY(down_1, 128, DownArgs) { down<1>(a); }
ENTRY(down_8, 128, DownArgs) { down<8>(a); }

// A block is 64 rows.
ENTRY(down_32, 256, DownArgs) {
    u32 tile = blockIdx.y, row = blockIdx.x * 64 + warp_id() / 2 * 16;
    int count = (int)a.visits.count[tile], half = warp_id() % 2 * 16;
    const u32* order = a.visits.order + a.visits.first[tile];
    if (row >= a.down.rows || count <= half) return;
    Tokens t = tokens(order, 0, count, half, 1);
    float y[2][4];
    multiply_wide<8>(a.down, (u64)a.visits.expert[tile] * a.down.rows, row, a.m, t, y);
#pragma unroll
    for (int i = 0; i < 8; i++) {
        u32 at = row + lane_id() / 4 + i % 4 / 2 * 8;
        int token = half + i / 4 * 8 + lane_id() % 4 * 2 + i % 2;
        if (at >= a.down.rows || token >= count) continue;
        a.out[(u64)order[token] * a.down.rows + at] = y[i / 4][i % 4];
    }
}

struct BlendArgs {
    const float* y;      // [rows, used, hidden]
    const float* weight; // [rows, used]
    float* x;            // [rows, hidden]
    u32 used;
    u32 hidden;
};

ENTRY(blend, 256, BlendArgs) {
    u32 i = blockIdx.x * 256 + threadIdx.x, row = blockIdx.y;
    if (i >= a.hidden) return;
    float sum = 0.0f;
    for (u32 e = 0; e < a.used; e++) {
        u32 pair = row * a.used + e;
        sum = fmaf(a.weight[pair], a.y[(u64)pair * a.hidden + i], sum);
    }
    u64 at = (u64)row * a.hidden + i;
    a.x[at] = a.x[at] + sum;
}
