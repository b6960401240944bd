// attend: heads of queries and keys are normed and turned, keys and values go to their slots, then
// softmax(q K) V over blocks of SPLIT positions, up to eight heads of one key head together. A
// block is (row, heads, split): either one split, whose part `gather` folds with the others, or all
// of a row's splits in turn. Both fold in the same order and give the same bits.

#define SPLIT 256

struct Heads {
    const float* qkv;    // [rows, q + 2 kv]
    const float* q_norm; // [d] or none
    const float* k_norm;
    const float* turn; // [rows, 2, half] cosines, sines
    u32 heads;
    u32 kv_heads;
    u32 d;
    u32 half; // pairs that turn
    float eps;
    float scale; // 1 / sqrt(d), of queries
};

// A warp norms and turns a head of a row: queries come first, then keys, then values, which stay.
INLINE void turn_head(const Heads& a, u32 row, u32 head, float* x) {
    u32 d = a.d, width = (a.heads + 2 * a.kv_heads) * d;
    const float* from = a.qkv + (u64)row * width + head * d;
    bool is_q = head < a.heads, is_k = !is_q && head < a.heads + a.kv_heads;
    const float* w = is_q ? a.q_norm : is_k ? a.k_norm : (const float*)0;
    float r = 1.0f;
    if (w) {
        float sum = 0.0f;
        for (u32 i = lane_id(); i < d; i += 32) sum = fmaf(from[i], from[i], sum);
        r = 1.0f / sqrtf(fold<32>(sum) / (float)d + a.eps);
    }
    for (u32 i = lane_id(); i < d; i += 32) x[i] = w ? from[i] * r * w[i] : from[i];
    __syncwarp();
    if (is_q || is_k) {
        const float* turn = a.turn + (u64)row * 2 * a.half;
        for (u32 i = lane_id(); i < a.half; i += 32) {
            float p = x[i], q = x[a.half + i], c = turn[i], s = turn[a.half + i];
            x[i] = fmaf(p, c, -(q * s));
            x[a.half + i] = fmaf(q, c, p * s);
        }
        __syncwarp();
    }
    for (u32 i = lane_id(); is_q && i < d; i += 32) x[i] = x[i] * a.scale;
}

// Keys and values of a page, of each head first keys, then values, by bytes. Keys lie in columns of 16
// bytes, so that neighbouring lanes read neighbouring slots.
//
//     halves   keys [d / 8, 64, 8]      values [64, d]
//     codes    keys [d / 16, 64, 16]    their scales [64, s]    values [64, d]    their scales [64, s]
//
// A scale is 32 channels' as on the CPU; s is a multiple of four.
struct Side {
    u32 d;
    u32 scales; // s, or 0 where there are halves
};

INLINE Side side_of(u32 d, u32 codes) {
    Side side = {d, codes ? ((d >> 5) + 3) / 4 * 4 : 0};
    return side;
}

INLINE u32 side_bytes(const Side& side) {
    return side.scales ? 64 * side.d + 256 * side.scales : 128 * side.d;
}

// A warp puts a key or a value into its slot.
INLINE void store_head(u8* at, const Side& side, u32 slot, bool is_k, const float* x) {
    u32 d = side.d, lane = lane_id();
    if (!side.scales) {
        for (u32 i = lane; i < d; i += 32) {
            u32 place = is_k ? ((i >> 3) * 64 + slot) * 8 + (i & 7) : slot * d + i;
            ((u16*)at)[place] = float_to_half(x[i]);
        }
        return;
    }
    const float rounder = 12582912.0f;
    const u32 infinite = 255u << 23, small = 31u << 23; // 2^-96
    float* scales = (float*)(at + 64 * d) + slot * side.scales;
    for (u32 i = lane; i < d; i += 32) {
        u32 top = warp_max(as_bits(x[i]) & 0x7fffffffu);
        float scale = top >= infinite ? as_float(0x7fc00000u) : 0.0f;
        int code = 0;
        if (top < infinite && top >= small) {
            scale = as_float(top) / 127.0f;
            code = (int)(as_bits(x[i] / scale + rounder) - as_bits(rounder));
        }
        u32 place = is_k ? ((i >> 4) * 64 + slot) * 16 + (i & 15) : slot * d + i;
        ((i8*)at)[place] = (i8)code;
        if (lane == 0) scales[i >> 5] = scale;
    }
}

// Sixteen codes times their scale.
INLINE void scaled(uint4 v, float scale, float (&x)[16]) {
    u32 word[4] = {v.x, v.y, v.z, v.w};
#pragma unroll
    for (int i = 0; i < 16; i++) x[i] = scale * (float)(i8)(word[i / 4] >> 8 * (i % 4) & 0xffu);
}

struct RotateArgs {
    Heads heads;
    const u32* slot; // [rows]
    float* q;        // [rows, heads, d]
    u8* cache;       // [pages, kv_heads, keys and values] of this layer
    u32 codes;       // whether they are codes
    u32 unused;
};

// A warp is a head of a row.
ENTRY(rotate, 256, RotateArgs) {
    __shared__ float room[8][256];
    const Heads& h = a.heads;
    u32 head = blockIdx.x * 8 + warp_id(), row = blockIdx.y, d = h.d;
    if (head >= h.heads + 2 * h.kv_heads) return;
    float* x = room[warp_id()];
    turn_head(h, row, head, x);
    if (head < h.heads) {
        float* q = a.q + ((u64)row * h.heads + head) * d;
        for (u32 i = lane_id(); i < d; i += 32) q[i] = x[i];
        return;
    }
    bool is_k = head < h.heads + h.kv_heads;
    u32 slot = a.slot[row], kv = head - h.heads - (is_k ? 0 : h.kv_heads);
    Side side = side_of(d, a.codes);
    u64 place = ((u64)(slot >> 6) * h.kv_heads + kv) * 2 + (is_k ? 0 : 1);
    store_head(a.cache + place * side_bytes(side), side, slot & 63, is_k, x);
}

struct AttendArgs {
    Heads heads;
    const float* q;      // [rows, heads, d]; none: a row is all of its sequence, and turns its own
    u8* cache;           // [pages, kv_heads, keys and values] of this layer
    const u32* table;    // pages of all spans
    const u32* first;    // [rows] where a row's pages begin in it
    const u32* position; // [rows]
    float* out;          // [rows, heads, d]
    float* top;          // [rows, heads, splits] largest score of a split
    float* weight;       // [rows, heads, splits] sum of exp(score - top)
    float* part;         // [rows, heads, splits, d] sum of exp(score - top) v
    u32 lanes;  // lanes that share a value's channels, a power of two
    u32 splits; // room for so many
    u32 spread; // whether a block is one split
    u32 codes;  // whether keys and values are codes, by which the kernel is chosen
};

INLINE void halves(uint4 v, float (&x)[8]) {
    u32 word[4] = {v.x, v.y, v.z, v.w};
#pragma unroll
    for (int i = 0; i < 4; i++) {
        x[2 * i] = half_to_float((u16)(word[i] & 0xffffu));
        x[2 * i + 1] = half_to_float((u16)(word[i] >> 16));
    }
}

// (M, L, O) of all splits so far, and one more: the factors of both.
INLINE void factors(float top, float& all, float& before, float& now) {
    float larger = top > all ? top : all;
    before = exponential(all - larger);
    now = exponential(top - larger);
    all = larger;
}

// Scores and N channels of a key, from N c on, of each head.
template <int N>
INLINE void meet_keys(const float (&q)[8][256], int count, u32 c, const float (&x)[N],
                      float (&score)[8]) {
#pragma unroll
    for (int h = 0; h < 8; h++) {
        if (h >= count) continue;
#pragma unroll
        for (int i = 0; i < N; i++) score[h] = fmaf(q[h][c * N + i], x[i], score[h]);
    }
}

template <bool CODES> INLINE void attend_over(const AttendArgs& a) {
    __shared__ float q[8][256];
    __shared__ float p[8][SPLIT];
    const Heads& of = a.heads;
    u32 group = of.heads / of.kv_heads, d = of.d, row = blockIdx.x;
    u32 packs = (group + 7) >> 3, kv = blockIdx.y / packs, pack = blockIdx.y % packs;
    int count = group - pack * 8 < 8 ? (int)(group - pack * 8) : 8;
    u32 head = kv * group + pack * 8; // the first of them
    u32 visible = a.position[row] + 1;
    u32 splits = (visible + SPLIT - 1) / SPLIT;
    u32 begin = a.spread ? blockIdx.z : 0, end = a.spread ? begin + 1 : splits;
    if (begin >= splits) return;
    const u32* table = a.table + a.first[row];
    Side side = side_of(d, CODES);
    u32 bytes = side_bytes(side);
    u64 stride = (u64)of.kv_heads * 2 * bytes;
    u8* cache = a.cache + (u64)kv * 2 * bytes;
    for (u32 i = threadIdx.x; a.q && i < count * d; i += 256) {
        q[i / d][i % d] = a.q[((u64)row * of.heads + head) * d + i];
    }
    // Of a row's own key and value only the split that sees them has need, and no other row.
    int heads = a.q ? 0 : end == splits ? count + 2 : count;
    for (int h = warp_id(); h < heads; h += 8) {
        if (h < count) {
            turn_head(of, row, head + h, q[h]);
            continue;
        }
        bool is_k = h == count;
        u32 at = visible - 1;
        turn_head(of, row, of.heads + kv + (is_k ? 0 : of.kv_heads), p[warp_id()]);
        __syncwarp();
        u8* page = cache + table[at >> 6] * stride + (is_k ? 0 : bytes);
        store_head(page, side, at & 63, is_k, p[warp_id()]);
    }
    // A warp is a head from here on; its lanes share the channels of a value.
    int mine = warp_id();
    u32 chunk = lane_id() % a.lanes, sub = lane_id() / a.lanes, subs = 32 / a.lanes;
    float m_all = 0.0f, l_all = 0.0f, o_all[8];
    for (u32 split = begin; split < end; split++) {
        u32 start = split * SPLIT, n = visible - start < SPLIT ? visible - start : SPLIT;
        __syncthreads();
        u32 t = threadIdx.x;
        if (t < n) {
            u32 at = start + t;
            const u8 *page = cache + table[at >> 6] * stride, *k = page + (at & 63) * 16;
            const float* scales = (const float*)(page + 64 * d) + (at & 63) * side.scales;
            float score[8] = {0.0f, 0.0f, 0.0f, 0.0f, 0.0f, 0.0f, 0.0f, 0.0f};
            if (CODES) {
                for (u32 c = 0; c < d >> 4; c++) {
                    float x[16];
                    scaled(load16(k + c * 1024), scales[c >> 1], x);
                    meet_keys(q, count, c, x, score);
                }
            } else {
                for (u32 c = 0; c < d >> 3; c++) {
                    float x[8];
                    halves(load16(k + c * 1024), x);
                    meet_keys(q, count, c, x, score);
                }
            }
#pragma unroll
            for (int h = 0; h < 8; h++) {
                if (h < count) p[h][t] = score[h];
            }
        }
        __syncthreads();
        if (mine >= count) continue;
        float m = as_float(0xff800000u), l = 0.0f;
        for (u32 j = lane_id(); j < n; j += 32) m = p[mine][j] > m ? p[mine][j] : m;
        m = warp_max_float(m);
        for (u32 j = lane_id(); j < n; j += 32) {
            float e = exponential(p[mine][j] - m);
            p[mine][j] = e;
            l = l + e;
        }
        l = fold<32>(l);
        __syncwarp();
        float o[8] = {0.0f, 0.0f, 0.0f, 0.0f, 0.0f, 0.0f, 0.0f, 0.0f};
        if (chunk < d >> 3) {
            for (u32 j = sub; j < n; j += subs) {
                u32 at = start + j;
                const u8* v = cache + table[at >> 6] * stride + bytes;
                u32 from = (at & 63) * d + chunk * 8;
                float x[8];
                if (CODES) {
                    const float* scales = (const float*)(v + 64 * d) + (at & 63) * side.scales;
                    uint2 codes = *(const uint2*)(v + from);
                    float scale = scales[chunk >> 2];
#pragma unroll
                    for (int i = 0; i < 8; i++) {
                        u32 word = i < 4 ? codes.x : codes.y;
                        x[i] = scale * (float)(i8)(word >> 8 * (i % 4) & 0xffu);
                    }
                } else {
                    halves(load16(v + 2 * from), x);
                }
                float weight = p[mine][j];
#pragma unroll
                for (int i = 0; i < 8; i++) o[i] = fmaf(weight, x[i], o[i]);
            }
        }
        for (u32 width = a.lanes; width < 32; width <<= 1) {
#pragma unroll
            for (int i = 0; i < 8; i++) o[i] = o[i] + __shfl_xor_sync(ALL_LANES, o[i], width);
        }
        if (a.spread) {
            u64 at = ((u64)row * of.heads + head + mine) * a.splits + split;
            if (lane_id() == 0) {
                a.top[at] = m;
                a.weight[at] = l;
            }
#pragma unroll
            for (int i = 0; i < 8; i++) {
                if (sub == 0 && chunk < d >> 3) a.part[at * d + chunk * 8 + i] = o[i];
            }
            continue;
        }
        float before = 0.0f, now = 1.0f;
        if (split == 0) m_all = m;
        else factors(m, m_all, before, now);
        l_all = split == 0 ? l : fmaf(now, l, before * l_all);
#pragma unroll
        for (int i = 0; i < 8; i++) {
            o_all[i] = split == 0 ? o[i] : fmaf(now, o[i], before * o_all[i]);
        }
    }
    if (a.spread || mine >= count || sub != 0 || chunk >= d >> 3) return;
    float* out = a.out + ((u64)row * of.heads + head + mine) * d + chunk * 8;
#pragma unroll
    for (int i = 0; i < 8; i++) out[i] = o_all[i] / l_all;
}

ENTRY(attend, 256, AttendArgs) { attend_over<false>(a); }
ENTRY(attend_codes, 256, AttendArgs) { attend_over<true>(a); }

struct GatherArgs {
    const u32* position; // [rows]
    const float* top;    // [rows, heads, splits]
    const float* weight;
    const float* part;   // [rows, heads, splits, d]
    Acts out;            // [rows, heads d]
    u32 d;
    u32 splits;
};

// The fold over splits, and the codes of its outcome. A lane is a channel.
ENTRY(gather, 256, GatherArgs) {
    u32 group = blockIdx.x * 8 + warp_id(), row = blockIdx.y, width = a.out.k;
    if (group >= width >> 5) return;
    u32 i = group * 32 + lane_id(), heads = width / a.d, head = i / a.d;
    u64 at = ((u64)row * heads + head) * a.splits;
    const float* part = a.part + at * a.d + i % a.d;
    u32 splits = (a.position[row] + SPLIT) / SPLIT;
    float m = a.top[at], l = a.weight[at], o = part[0];
    for (u32 s = 1; s < splits; s++) {
        float before, now;
        factors(a.top[at + s], m, before, now);
        l = fmaf(now, a.weight[at + s], before * l);
        o = fmaf(now, part[(u64)s * a.d], before * o);
    }
    float y = o / l;
    a.out.f[(u64)row * width + i] = y;
    quantise(a.out, row, group, y);
}
