// best: of up to SORTED logits or candidates the best KEPT, falling: of equals the lowest token comes
// first, NaN before all. A block sorts its share; what all shares have kept is shared out again.

#define SORTED 2048
#define KEPT 64

struct BestArgs {
    const float* logits; // [outputs, count], or none where candidates come
    const u64* from;     // [outputs, count]
    u64* to;             // [outputs, blocks, KEPT] rank, token: as one integer, tokens counted down
    u32 count;
    u32 blocks;
};

// The order of logits as that of integers: both zeros are one.
INLINE u32 order_of(float x) {
    u32 bits = as_bits(x);
    if (x != x) return 0xffffffffu;
    if (bits == 0x80000000u) return bits;
    return bits & 0x80000000u ? ~bits : bits | 0x80000000u;
}

ENTRY(best, 1024, BestArgs) {
    __shared__ u64 key[SORTED];
    u64 row = (u64)blockIdx.y * a.count;
    for (u32 i = threadIdx.x; i < SORTED; i += 1024) {
        u32 at = blockIdx.x * SORTED + i;
        key[i] = 0;
        if (at >= a.count) continue;
        if (a.logits) {
            key[i] = (u64)order_of(a.logits[row + at]) << 32 | (0xffffffffu - at);
        } else {
            key[i] = a.from[row + at];
        }
    }
    // Runs of `run` keys fall and rise in turns, until there is one.
    for (u32 run = 2; run <= SORTED; run <<= 1) {
        for (u32 far = run >> 1; far > 0; far >>= 1) {
            __syncthreads();
            u32 low = 2 * threadIdx.x - (threadIdx.x & (far - 1)), high = low + far;
            u64 x = key[low], y = key[high];
            bool falls = (low & run) == 0;
            if (falls ? x < y : x > y) {
                key[low] = y;
                key[high] = x;
            }
        }
    }
    __syncthreads();
    u64* to = a.to + ((u64)blockIdx.y * a.blocks + blockIdx.x) * KEPT;
    if (threadIdx.x < KEPT) to[threadIdx.x] = key[threadIdx.x];
}
