// expand: m = silu(gate h) * up h for each visit to an expert, as floats and as codes. A block is
// 32 rows of gate and of up, which make one group of m, for the visits of one tile.

struct ExpandArgs {
    Matrix gate;
    Matrix up;
    Acts h;        // [rows, hidden]
    Acts m;        // [rows used, ffn]
    Visits visits;
    u32 used;
    u32 unused;
};

INLINE float gated(float gate, float up) { return gate / (1.0f + exponential(-gate)) * up; }

template <int COLS> INLINE void expand(const ExpandArgs& a) {
    __shared__ float room[COLS][32];
    u32 tile = blockIdx.y;
    Columns<COLS> c;
    c.count = (int)a.visits.count[tile];
    if (c.count == 0) return;
    const u32* order = a.visits.order + a.visits.first[tile];
#pragma unroll
    for (int i = 0; i < COLS; i++) c.row[i] = i < c.count ? order[i] / a.used : 0;
    u64 base = (u64)a.visits.expert[tile] * a.gate.rows + blockIdx.x * 32;
    for (int r = warp_id() * 4; r < warp_id() * 4 + 4; r++) {
        float gate[COLS], up[COLS];
        multiply<32>(a.gate, base + r, a.h, c, gate);
        multiply<32>(a.up, base + r, a.h, c, up);
#pragma unroll
        for (int i = 0; i < COLS; i++) {
            if (i >= c.count || lane_id() != i) continue;
            room[i][r] = gated(gate[i], up[i]);
        }
    }
    __syncthreads();
    int col = warp_id();
    if (col >= c.count) return;
    u32 pair = order[col];
    float m = room[col][lane_id()];
    a.m.f[(u64)pair * a.m.k + blockIdx.x * 32 + lane_id()] = m;
    quantise(a.m, pair, blockIdx.x, m);
}

ENTRY(expand_1, 256, ExpandArgs) { expand<1>(a); }
ENTRY(expand_8, 256, ExpandArgs) { expand<8>(a); }

// Of four warps two have gate's rows and two up's, each for half of the visits.
ENTRY(expand_32, 256, ExpandArgs) {
    __shared__ float room[2][WIDE][33];
    u32 tile = blockIdx.y;
    int count = (int)a.visits.count[tile];
    if (count == 0) return;
    const u32* order = a.visits.order + a.visits.first[tile];
    int half = warp_id() % 2 * 16, rows = warp_id() / 2 % 2 * 16, side = warp_id() / 4;
    Tokens t = tokens(order, 0, count, half, a.used);
    if (t.blocks > 0) {
        const Matrix& m = side == 0 ? a.gate : a.up;
        float y[2][4];
        u64 base = (u64)a.visits.expert[tile] * m.rows;
        multiply_wide<32>(m, base, blockIdx.x * 32 + rows, a.h, t, y);
#pragma unroll
        for (int i = 0; i < 8; i++) {
            int token = half + i / 4 * 8 + lane_id() % 4 * 2 + i % 2;
            int row = rows + lane_id() / 4 + i % 4 / 2 * 8;
            if (token < count) room[side][token][row] = y[i / 4][i % 4];
        }
    }
    __syncthreads();
    for (int token = warp_id(); token < count; token += 8) {
        u32 pair = order[token];
        float m = gated(room[0][token][lane_id()], room[1][token][lane_id()]);
        a.m.f[(u64)pair * a.m.k + blockIdx.x * 32 + lane_id()] = m;
        quantise(a.m, pair, blockIdx.x, m);
    }
}
