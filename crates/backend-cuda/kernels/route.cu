// route: the experts of every row and their weights, and the visits to each expert in tiles. One
// block: first a warp is a row, then a thread is an expert.

struct RouteArgs {
    const float* logits; // [rows, experts]
    u32* id;             // [rows, used], ascending
    float* weight;       // [rows, used]
    u32* faults;         // [rows]
    Visits visits;
    float scale;
    u32 rows;
    u32 experts;    // at most 1024
    u32 used;       // at most 32
    u32 normalised; // whether the weights of the chosen sum to 1
    u32 tiles;      // room for so many
    u32 code;
    u32 mode;  // 0 chooses, 1 visits the only expert of a dense model, 2 only makes tiles
    u32 width; // pairs of a tile, at most
    u32 unused;
};

// The order of floats as that of integers, NaN below all.
INLINE u32 rank_of(float x) {
    u32 bits = as_bits(x);
    if (x != x) return 0;
    return bits & 0x80000000u ? ~bits : bits | 0x80000000u;
}

INLINE void choose(const RouteArgs& a, u32 row) {
    const float* logits = a.logits + (u64)row * a.experts;
    int lane = lane_id();
    u32 taken = 0, mine = 0xffffffffu; // of this lane's experts; the choice this lane keeps
    float top = 0.0f;
    int bad = 0;
    for (u32 i = 0; i < a.used; i++) {
        // The largest, then the lowest id: as one integer, whose low half counts ids downwards.
        u64 best = 0;
        for (u32 e = lane, at = 0; e < a.experts; e += 32, at++) {
            if (i == 0) bad |= logits[e] != logits[e];
            u64 key = (u64)rank_of(logits[e]) << 32 | (0xffffffffu - e);
            if (!(taken >> at & 1) && key > best) best = key;
        }
#pragma unroll
        for (int o = 16; o > 0; o >>= 1) {
            u64 other = __shfl_xor_sync(ALL_LANES, best, o);
            best = best > other ? best : other;
        }
        u32 id = 0xffffffffu - (u32)best;
        if (i == 0) top = logits[id];
        if (id % 32 == lane) taken |= 1u << id / 32;
        if (lane == i) mine = id;
    }
    float sum = 0.0f;
    float e = lane < a.used ? exponential(logits[mine] - top) : 0.0f;
    int place = 0;
    for (u32 i = 0; i < a.used; i++) {
        u32 other = __shfl_sync(ALL_LANES, mine, i);
        place += other < mine;
    }
    if (a.normalised) {
        // Added by ascending id, in every lane alike.
        for (u32 i = 0; i < a.used; i++) {
            u32 who = __ballot_sync(ALL_LANES, lane < a.used && place == i);
            sum = sum + __shfl_sync(ALL_LANES, e, __ffs(who) - 1);
        }
    } else {
        for (u32 i = lane; i < a.experts; i += 32) sum = sum + exponential(logits[i] - top);
        sum = fold<32>(sum);
    }
    float weight = e / sum * a.scale;
    if (lane < a.used) {
        a.id[row * a.used + place] = mine;
        a.weight[row * a.used + place] = weight;
        bad |= !is_finite(weight);
    }
    bad = __any_sync(ALL_LANES, bad);
    if (bad && lane == 0 && a.code < a.faults[row]) a.faults[row] = a.code;
}

ENTRY(route, 1024, RouteArgs) {
    __shared__ u32 pairs[1024], tiles[1024];
    u32 all = a.rows * a.used, e = threadIdx.x;
    if (a.mode == 0) {
        for (u32 row = warp_id(); row < a.rows; row += 32) choose(a, row);
    } else if (a.mode == 1) {
        for (u32 i = e; i < all; i += 1024) {
            a.id[i] = 0;
            a.weight[i] = 1.0f;
        }
    }
    __syncthreads();
    u32 count = 0;
    for (u32 i = 0; e < a.experts && i < all; i++) count += a.id[i] == e;
    pairs[e] = count;
    tiles[e] = (count + a.width - 1) / a.width;
    __syncthreads();
    // Sums over all lower experts, doubling the reach.
    for (u32 reach = 1; reach < 1024; reach <<= 1) {
        u32 p = e >= reach ? pairs[e - reach] : 0, t = e >= reach ? tiles[e - reach] : 0;
        __syncthreads();
        pairs[e] += p;
        tiles[e] += t;
        __syncthreads();
    }
    u32 at = pairs[e] - count, tile = tiles[e] - (count + a.width - 1) / a.width;
    for (u32 i = 0; i < count; i += a.width, tile++) {
        a.visits.expert[tile] = e;
        a.visits.first[tile] = at + i;
        a.visits.count[tile] = count - i < a.width ? count - i : a.width;
    }
    for (u32 i = 0; count > 0 && i < all; i++) {
        if (a.id[i] == e) a.visits.order[at++] = i;
    }
    for (u32 i = tiles[1023] + e; i < a.tiles; i += 1024) a.visits.count[i] = 0;
}
