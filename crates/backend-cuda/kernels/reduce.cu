// reduce: x += sum of p_e (down_e m_e), experts ascending: the products of every visit and then
// their sum, or both at once for a row alone. Eight lanes are a row of down, whose rows are short.

struct DownArgs {
    Matrix down;
    Acts m;     // [pairs, ffn]
    float* out; // [pairs, hidden]
    Visits visits;
};

// A block is sixteen rows: eight columns of codes need more registers than 256 threads have.
ENTRY(down_8, 128, DownArgs) {
    u32 tile = blockIdx.y, row = blockIdx.x * 16 + threadIdx.x / 8;
    Columns<8> c;
    c.count = (int)a.visits.count[tile];
    if (c.count == 0) return;
#pragma unroll
    for (int i = 0; i < 8; i++) {
        c.row[i] = i < c.count ? a.visits.order[a.visits.first[tile] + i] : 0;
    }
    u64 rows[1] = {(u64)a.visits.expert[tile] * a.down.rows + row};
    float acc[1][8];
    multiply<8>(a.down, rows, a.m, c, acc);
    if (threadIdx.x % 8 != 0) return;
#pragma unroll
    for (int i = 0; i < 8; i++) {
        if (i < c.count) a.out[(u64)c.row[i] * a.down.rows + row] = acc[0][i];
    }
}

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

struct ReduceArgs {
    Matrix down;
    Acts m;              // [used, ffn]
    const u32* id;       // [used]
    const float* weight; // [used]
    float* x;            // [hidden]
    u32 used;
    u32 unused;
};

// Products and sum of a row alone. A block is four rows of down, of eight experts at a time; eight
// lanes have two rows of one.
ENTRY(reduce_1, 128, ReduceArgs) {
    __shared__ float y[8][4];
    u32 team = threadIdx.x / 8, place = team / 2, pair = team % 2 * 2, base = blockIdx.x * 4;
    float sum = 0.0f;
    for (u32 first = 0; first < a.used; first += 8) {
        u32 e = first + place < a.used ? first + place : a.used - 1; // all lanes fold
        u64 row = (u64)a.id[e] * a.down.rows + base + pair, rows[2] = {row, row + 1};
        Columns<1> c = {{e}, 1};
        float acc[2][1];
        multiply<8>(a.down, rows, a.m, c, acc);
        if (threadIdx.x % 8 == 0) y[place][pair] = acc[0][0];
        if (threadIdx.x % 8 == 1) y[place][pair + 1] = acc[1][0];
        __syncthreads();
        for (u32 i = 0; threadIdx.x < 4 && i < 8 && first + i < a.used; i++) {
            sum = fmaf(a.weight[first + i], y[i][threadIdx.x], sum);
        }
        __syncthreads();
    }
    if (threadIdx.x >= 4) return;
    float* x = a.x + base + threadIdx.x;
    *x = *x + sum;
}
