// expand: m = silu(gate h) * up h for each visit to an expert, as floats and as codes. A block is
// 32 rows of gate and of up, which make one group of m, for the visits of one tile.

struct ExpandArgs {
    Matrix side[2]; // gate, up
    Acts h;         // [rows, hidden]
    Acts m;         // [rows used, ffn]
    Visits visits;
    u32 used;
    u32 unused;
};

INLINE float gated(float gate, float up) { return gate / (1.0f + exponential(-gate)) * up; }

// Gate's and up's 32 rows of one expert, for these columns of h: a warp has four of each, ROWS at a
// time.
template <int ROWS, int COLS>
INLINE void meet_both(const Matrix (&side)[2], u32 expert, const Acts& h, const Columns<COLS>& c,
                      float (&room)[2][COLS][32]) {
    u64 base = (u64)expert * side[0].rows + blockIdx.x * 32;
#pragma unroll 1
    for (int turn = 0; turn < 8 / ROWS; turn++) {
        int first = warp_id() * 4 + turn / 2 * ROWS, which = turn % 2;
        u64 row[ROWS];
#pragma unroll
        for (int r = 0; r < ROWS; r++) row[r] = base + first + r;
        float y[ROWS][COLS];
        multiply<32>(side[which], row, h, c, y);
#pragma unroll
        for (int i = 0; i < ROWS * COLS; i++) {
            int col = i % COLS;
            if ((COLS > 1 && col >= c.count) || lane_id() != i) continue;
            room[which][col][first + i / COLS] = y[i / COLS][col];
        }
    }
    __syncthreads();
}

// A warp keeps what the block has of a visit.
INLINE void keep(const Acts& m, u32 pair, float gate, float up) {
    float value = gated(gate, up);
    m.f[(u64)pair * m.k + blockIdx.x * 32 + lane_id()] = value;
    quantise(m, pair, blockIdx.x, value);
}

ENTRY(expand_8, 256, ExpandArgs) {
    __shared__ float room[2][8][32];
    u32 tile = blockIdx.y;
    Columns<8> c;
    c.count = (int)a.visits.count[tile];
    if (c.count == 0) return;
    const u32* order = a.visits.order + a.visits.first[tile];
#pragma unroll
    for (int i = 0; i < 8; i++) c.row[i] = i < c.count ? order[i] / a.used : 0;
    meet_both<1>(a.side, a.visits.expert[tile], a.h, c, room);
    int col = warp_id();
    if (col < c.count) keep(a.m, order[col], room[0][col][lane_id()], room[1][col][lane_id()]);
}

struct AloneArgs {
    Matrix side[2]; // gate, up
    Acts h;         // [1, hidden]
    Acts m;         // [used, ffn]
    Router router;
};

// The same for a row alone. A block is of one of its experts, and all of its warps choose which; the
// first block notes the choice for what comes.
ENTRY(expand_1, 256, AloneArgs) {
    __shared__ float room[2][1][32];
    const Router& router = a.router;
    u32 place = blockIdx.y, expert = 0;
    bool notes = blockIdx.x == 0 && place == 0 && warp_id() == 0;
    if (router.choice == CHOOSES) {
        expert = __shfl_sync(ALL_LANES, choose(router, 0, notes), place);
    } else if (router.choice == GIVEN) {
        expert = router.id[place];
    } else if (notes && lane_id() == 0) {
        router.id[0] = 0;
        router.weight[0] = 1.0f;
    }
    Columns<1> c = {{0}, 1};
    meet_both<2>(a.side, expert, a.h, c, room);
    if (warp_id() == 0) keep(a.m, place, room[0][0][lane_id()], room[1][0][lane_id()]);
}

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
        const Matrix& m = a.side[side];
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
        keep(a.m, order[token], room[0][token][lane_id()], room[1][token][lane_id()]);
    }
}
