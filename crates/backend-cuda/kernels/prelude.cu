// What every op shares: numbers, weights as they lie on the device, activations, warps.
//
// Each op's file is compiled behind this one, and includes nothing. All arithmetic is written out:
// contraction is off, so a product and a sum are fused where `fmaf` says so and nowhere else. Sums
// have an order that depends on shapes alone, never on how many rows a launch has.

typedef unsigned char u8;
typedef signed char i8;
typedef unsigned short u16;
typedef unsigned int u32;
typedef unsigned long long u64;

#ifdef __CUDACC__
// A kernel takes one struct, so that whoever launches it needs to know no signature. Registers are
// bounded so that two blocks fit on a multiprocessor, one of 1024 threads.
#define ENTRY(name, threads, Args)                                                 \
    extern "C" __global__ void __launch_bounds__(threads, threads == 1024 ? 1 : 2) \
        name(const __grid_constant__ Args a)
static __device__ __forceinline__ float half_to_float(u16 h) {
    float f;
    asm("cvt.f32.f16 %0, %1;" : "=f"(f) : "h"(h));
    return f;
}
static __device__ __forceinline__ u16 float_to_half(float f) {
    u16 h;
    asm("cvt.rn.f16.f32 %0, %1;" : "=h"(h) : "f"(f));
    return h;
}
static __device__ __forceinline__ float as_float(u32 bits) { return __uint_as_float(bits); }
static __device__ __forceinline__ u32 as_bits(float f) { return __float_as_uint(f); }
// The matrix units: d += a b, of 16 rows of a and 8 of b, 32 values or 16 of them. Lane 4 r + c has
// of a row four values in a register: values 4 c of row r and of row r + 8, then, of 32, values
// 16 + 4 c of both; of b the same values of row r; and the sums of rows r and r + 8 of a with rows
// 2 c and 2 c + 1 of b.
static __device__ __forceinline__ void mma_32(int (&d)[4], const int (&a)[4], const int (&b)[2]) {
    asm volatile("mma.sync.aligned.m16n8k32.row.col.s32.s8.s8.s32 "
                 "{%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
                 : "+r"(d[0]), "+r"(d[1]), "+r"(d[2]), "+r"(d[3])
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}
static __device__ __forceinline__ void mma_16(int (&d)[4], int a0, int a1, int b) {
    asm volatile("mma.sync.aligned.m16n8k16.row.col.s32.s8.s8.s32 "
                 "{%0, %1, %2, %3}, {%4, %5}, {%6}, {%0, %1, %2, %3};"
                 : "+r"(d[0]), "+r"(d[1]), "+r"(d[2]), "+r"(d[3])
                 : "r"(a0), "r"(a1), "r"(b));
}
#endif
#define INLINE static __device__ __forceinline__
#define ALL_LANES 0xffffffffu

// ---- warps

INLINE int lane_id() { return threadIdx.x & 31; }
INLINE int warp_id() { return threadIdx.x >> 5; }

// The sum over WIDTH neighbouring lanes, in each of them.
template <int WIDTH> INLINE float fold(float x) {
#pragma unroll
    for (int o = WIDTH / 2; o > 0; o >>= 1) x = x + __shfl_xor_sync(ALL_LANES, x, o);
    return x;
}
template <int WIDTH> INLINE int fold_int(int x) {
#pragma unroll
    for (int o = WIDTH / 2; o > 0; o >>= 1) x = x + __shfl_xor_sync(ALL_LANES, x, o);
    return x;
}
INLINE u32 warp_max(u32 x) { return __reduce_max_sync(ALL_LANES, x); }
INLINE u32 warp_min(u32 x) { return __reduce_min_sync(ALL_LANES, x); }
INLINE float warp_max_float(float x) {
#pragma unroll
    for (int o = 16; o > 0; o >>= 1) {
        float y = __shfl_xor_sync(ALL_LANES, x, o);
        x = x > y ? x : y;
    }
    return x;
}
INLINE bool is_finite(float x) { return (as_bits(x) & 0x7f800000u) != 0x7f800000u; }

// e^x by the polynomial of the CPU's definition: inf above 88.72, 0 below -87.33.
INLINE float power_of_two(int n) { return as_float((u32)(n + 127) << 23); }
INLINE float exponential(float x) {
    const float rounder = 12582912.0f;
    float t = x > 88.72f ? 88.72f : x;
    t = t < -87.33f ? -87.33f : t;
    float rounded = t * as_float(0x3fb8aa3bu) + rounder;
    float n = rounded - rounder;
    float r = fmaf(n, -as_float(0x3f318000u), t);
    r = fmaf(n, -as_float(0xb95e8083u), r);
    float p = as_float(0x3ab511e8u);
    p = fmaf(p, r, as_float(0x3c091d10u));
    p = fmaf(p, r, as_float(0x3d2aac79u));
    p = fmaf(p, r, as_float(0x3e2aaa49u));
    p = fmaf(p, r, as_float(0x3efffffeu));
    p = fmaf(p, r, 1.0f);
    p = fmaf(p, r, 1.0f);
    int whole = (int)(as_bits(rounded) - as_bits(rounder));
    int half = whole >> 1;
    float y = x == x ? p * power_of_two(half) * power_of_two(whole - half) : x;
    y = x > 88.72f ? as_float(0x7f800000u) : y;
    return x < -87.33f ? 0.0f : y;
}

// ---- activations

// Rows of activations: as floats, and as codes of 15 bits (128 high + low), 32 to a scale. Eight
// bits would do where weights are coarser still, but a step waits for weights, not for products,
// and the second plane brings logits of small models from a cosine of 0.9995 to more than 0.999999.
struct Acts {
    float* f;     // [rows, k]
    i8* high;     // [rows, k]
    i8* low;      // [rows, k]
    uint4* scale; // [rows, k / 32] d, the sum of codes of the first half, of the second
    u32 k;
    u32 unused;
};

// A warp quantises 32 values, one a lane: the definition of the CPU's wide rows (`activation.rs`).
INLINE void quantise(const Acts& x, u32 row, u32 group, float v) {
    const float rounder = 12582912.0f;
    const u32 large = 227u << 23, small = 31u << 23; // 2^100, 2^-96
    int lane = lane_id();
    u32 top = warp_max(as_bits(v) & 0x7fffffffu);
    float d = top >= large ? as_float(0x7fc00000u) : 0.0f;
    int code = 0;
    if (top < large && top >= small) {
        float inverse = 16256.0f / as_float(top);
        d = as_float(top) / 16256.0f;
        code = (int)(as_bits(v * inverse + rounder) - as_bits(rounder));
    }
    int sum = fold_int<16>(code), high = (code + 64) >> 7;
    u32 second = (u32)__shfl_sync(ALL_LANES, sum, 16);
    u64 at = (u64)row * x.k + group * 32 + lane;
    x.high[at] = (i8)high;
    x.low[at] = (i8)(code - 128 * high);
    uint4 scale = {as_bits(d), (u32)sum, second, 0};
    if (lane == 0) x.scale[(u64)row * (x.k >> 5) + group] = scale;
}

// ---- weights

enum Format { F32, F16, BF16, Q8_0, Q4_K, Q5_K, Q6_K };

// The file's bits in planes that are read 16 bytes at a time, rows one after the other:
//
//         codes [k / 32]                            high [k / 32]     scale             head
// Q8_0    32 bytes, in order                        -                 -                 d [k / 32]
// Q4_K    16 bytes: value i low, value 16 + i high  -                 -                 [k / 256]
// Q5_K    the same                                  4: bit 4          -                 [k / 256]
// Q6_K    the same                                  8: bits 4 and 5   i8 [k / 16]       d [k / 256]
// floats  [k] in order
//
// The head of Q4_K and Q5_K is the file's own: d, dmin, twelve bytes of scales and minima.
struct Matrix {
    const u8* codes;
    const u8* high;
    const u8* scale;
    const u8* head;
    u32 format;
    u32 rows; // of one matrix; experts follow one another
    u32 k;
    u32 unused;
};

// 32 weights of a row: w = s[half] (code - zero) + b.
struct Group {
    int code[8]; // four values each, in order
    float s[2];
    float b;
};

INLINE uint4 load16(const void* at) { return *(const uint4*)at; }

// 32 codes as words of four.
INLINE void load_codes(const i8* at, int (&q)[8]) {
    uint4 a = load16(at), b = load16(at + 16);
    u32 word[8] = {a.x, a.y, a.z, a.w, b.x, b.y, b.z, b.w};
#pragma unroll
    for (int j = 0; j < 8; j++) q[j] = (int)word[j];
}

INLINE void nibbles(uint4 v, int (&code)[8]) {
    u32 word[4] = {v.x, v.y, v.z, v.w};
#pragma unroll
    for (int j = 0; j < 4; j++) {
        code[j] = (int)(word[j] & 0x0f0f0f0fu);
        code[4 + j] = (int)(word[j] >> 4 & 0x0f0f0f0fu);
    }
}

// Scale and bias of group j of a K-quant's head.
INLINE void scale_and_bias(uint4 head, int j, float& s, float& b) {
    float d = half_to_float((u16)(head.x & 0xffffu)), dmin = half_to_float((u16)(head.x >> 16));
    int shift = 8 * (j & 3);
    u32 low = head.y >> shift & 0xffu, middle = head.z >> shift & 0xffu;
    u32 last = head.w >> shift & 0xffu;
    u32 scale = j < 4 ? low & 63u : (last & 15u) | (low >> 6) << 4;
    u32 minimum = j < 4 ? middle & 63u : last >> 4 | (middle >> 6) << 4;
    s = d * (float)(int)scale;
    b = -(dmin * (float)(int)minimum);
}

template <int F> INLINE Group load_group(const Matrix& m, u64 row, u32 g) {
    Group w;
    u32 groups = m.k >> 5;
    u64 at = row * groups + g;
    if (F == Q8_0) {
        load_codes((const i8*)m.codes + at * 32, w.code);
        w.s[0] = half_to_float(((const u16*)m.head)[at]);
        return w;
    }
    nibbles(load16(m.codes + at * 16), w.code);
    if (F == Q5_K) {
        u32 high = ((const u32*)m.high)[at];
#pragma unroll
        for (int j = 0; j < 8; j++) w.code[j] |= (int)((high >> j & 0x01010101u) << 4);
    }
    if (F == Q6_K) {
        uint2 high = ((const uint2*)m.high)[at];
#pragma unroll
        for (int j = 0; j < 4; j++) {
            w.code[j] |= (int)((high.x >> 2 * j & 0x03030303u) << 4);
            w.code[4 + j] |= (int)((high.y >> 2 * j & 0x03030303u) << 4);
        }
        u32 scale = ((const u16*)m.scale)[at];
        float d = half_to_float(((const u16*)m.head)[row * (groups >> 3) + (g >> 3)]);
        w.s[0] = d * (float)(int)(i8)(scale & 0xffu);
        w.s[1] = d * (float)(int)(i8)(scale >> 8);
    } else {
        scale_and_bias(load16(m.head + (row * (groups >> 3) + (g >> 3)) * 16), g & 7, w.s[0], w.b);
    }
    return w;
}

// 32 activations of a row: words of four codes of both planes.
struct Codes {
    int high[8];
    int low[8];
    float d;
    int sums[2];
};

INLINE Codes load_acts(const Acts& x, u64 row, u32 g) {
    Codes q;
    u64 at = row * (x.k >> 5) + g;
    uint4 scale = x.scale[at];
    load_codes(x.high + at * 32, q.high);
    load_codes(x.low + at * 32, q.low);
    q.d = as_float(scale.x);
    q.sums[0] = (int)scale.y;
    q.sums[1] = (int)scale.z;
    return q;
}

// acc + 32 weights times 32 activations: exact integers per scale, then one fma each.
template <int F> INLINE float meet(const Group& w, const Codes& q, float acc) {
    int high[2] = {0, 0}, low[2] = {0, 0};
#pragma unroll
    for (int j = 0; j < 8; j++) high[j >> 2] = __dp4a(w.code[j], q.high[j], high[j >> 2]);
#pragma unroll
    for (int j = 0; j < 8; j++) low[j >> 2] = __dp4a(w.code[j], q.low[j], low[j >> 2]);
    int first = 128 * high[0] + low[0], second = 128 * high[1] + low[1];
    if (F == Q6_K) {
        acc = fmaf((float)(first - 32 * q.sums[0]), w.s[0] * q.d, acc);
        return fmaf((float)(second - 32 * q.sums[1]), w.s[1] * q.d, acc);
    }
    acc = fmaf((float)(first + second), w.s[0] * q.d, acc);
    if (F == Q4_K || F == Q5_K) acc = fmaf(w.b, q.d * (float)(q.sums[0] + q.sums[1]), acc);
    return acc;
}

template <int F> INLINE void load_floats(const Matrix& m, u64 at, float (&w)[8]) {
    if (F == F32) {
        uint4 a = load16(m.codes + at * 4), b = load16(m.codes + at * 4 + 16);
        u32 bits[8] = {a.x, a.y, a.z, a.w, b.x, b.y, b.z, b.w};
#pragma unroll
        for (int i = 0; i < 8; i++) w[i] = as_float(bits[i]);
        return;
    }
    uint4 v = load16(m.codes + at * 2);
    u32 word[4] = {v.x, v.y, v.z, v.w};
#pragma unroll
    for (int i = 0; i < 4; i++) {
        u32 low = word[i] & 0xffffu, high = word[i] >> 16;
        w[2 * i] = F == F16 ? half_to_float((u16)low) : as_float(low << 16);
        w[2 * i + 1] = F == F16 ? half_to_float((u16)high) : as_float(high << 16);
    }
}

// Which rows of activations a launch's columns are, and how many of them there are; one, where
// there is room for one.
template <int COLS> struct Columns {
    u32 row[COLS];
    int count;
};

template <int F, int LANES, int ROWS, int COLS>
INLINE void dot_codes(const Matrix& m, const u64 (&row)[ROWS], const Acts& x,
                      const Columns<COLS>& c, float (&acc)[ROWS][COLS]) {
    u32 groups = m.k >> 5;
#pragma unroll (COLS == 1 ? 2 : 1)
    for (u32 g = lane_id() % LANES; g < groups; g += LANES) {
        Group w[ROWS];
#pragma unroll
        for (int r = 0; r < ROWS; r++) w[r] = load_group<F>(m, row[r], g);
#pragma unroll
        for (int i = 0; i < COLS; i++) {
            if (COLS > 1 && i >= c.count) continue;
            Codes q = load_acts(x, c.row[i], g);
#pragma unroll
            for (int r = 0; r < ROWS; r++) acc[r][i] = meet<F>(w[r], q, acc[r][i]);
        }
    }
}

template <int F, int LANES, int ROWS, int COLS>
INLINE void dot_floats(const Matrix& m, const u64 (&row)[ROWS], const Acts& x,
                       const Columns<COLS>& c, float (&acc)[ROWS][COLS]) {
#pragma unroll (COLS == 1 ? 2 : 1)
    for (u32 at = lane_id() % LANES * 8; at < m.k; at += LANES * 8) {
        float w[ROWS][8];
#pragma unroll
        for (int r = 0; r < ROWS; r++) load_floats<F>(m, row[r] * m.k + at, w[r]);
#pragma unroll
        for (int i = 0; i < COLS; i++) {
            if (COLS > 1 && i >= c.count) continue;
            const float* from = x.f + (u64)c.row[i] * x.k + at;
            uint4 a = load16(from), b = load16(from + 4);
            u32 bits[8] = {a.x, a.y, a.z, a.w, b.x, b.y, b.z, b.w};
#pragma unroll
            for (int r = 0; r < ROWS; r++) {
#pragma unroll
                for (int j = 0; j < 8; j++) acc[r][i] = fmaf(w[r][j], as_float(bits[j]), acc[r][i]);
            }
        }
    }
}

// Rows of a matrix times rows of activations, by LANES neighbouring lanes: each takes every LANES-th
// group, then the lanes fold.
template <int LANES, int ROWS, int COLS>
INLINE void multiply(const Matrix& m, const u64 (&row)[ROWS], const Acts& x,
                     const Columns<COLS>& c, float (&acc)[ROWS][COLS]) {
#pragma unroll
    for (int i = 0; i < ROWS * COLS; i++) acc[i / COLS][i % COLS] = 0.0f;
    switch (m.format) {
    case F32: dot_floats<F32, LANES>(m, row, x, c, acc); break;
    case F16: dot_floats<F16, LANES>(m, row, x, c, acc); break;
    case BF16: dot_floats<BF16, LANES>(m, row, x, c, acc); break;
    case Q8_0: dot_codes<Q8_0, LANES>(m, row, x, c, acc); break;
    case Q4_K: dot_codes<Q4_K, LANES>(m, row, x, c, acc); break;
    case Q5_K: dot_codes<Q5_K, LANES>(m, row, x, c, acc); break;
    case Q6_K: dot_codes<Q6_K, LANES>(m, row, x, c, acc); break;
    }
#pragma unroll
    for (int i = 0; i < COLS; i++) {
        if (COLS > 1 && i >= c.count) continue;
#pragma unroll
        for (int r = 0; r < ROWS; r++) acc[r][i] = fold<LANES>(acc[r][i]);
    }
}

// ---- wide tiles

// Rows of activations of a wide tile: two warps have 16 of them each, as two blocks of eight.
#define WIDE 32

// The rows of activations of a warp: those whose codes a lane reads, and those whose sums it has.
struct Tokens {
    u32 read[2];
    u32 mine[2][2];
    int blocks; // of eight, in which there is one at all
};

// Those of a tile of `count` from `first` on, in `order` where there is one, as 16 from `half` on.
INLINE Tokens tokens(const u32* order, u32 first, int count, int half, u32 used) {
    Tokens t;
    int left = count - half;
    t.blocks = left <= 0 ? 0 : left <= 8 ? 1 : 2;
#pragma unroll
    for (int b = 0; b < 2; b++) {
        int at[3] = {lane_id() / 4, lane_id() % 4 * 2, lane_id() % 4 * 2 + 1};
        u32 row[3];
#pragma unroll
        for (int i = 0; i < 3; i++) {
            // One beyond the end is computed as the last one, and kept by nobody.
            int token = half + b * 8 + at[i];
            token = token < count ? token : count - 1;
            row[i] = order ? order[first + token] / used : first + token;
        }
        t.read[b] = row[0];
        t.mine[b][0] = row[1];
        t.mine[b][1] = row[2];
    }
    return t;
}

// A group of two rows of weights, as the matrix units take it: words c and 4 + c of the codes.
struct Slab {
    int a[4];
    float s[2][2]; // of each row, the first scale and the second
    float b[2];
};

template <int F> INLINE Slab load_slab(const Matrix& m, const u64 (&row)[2], u32 g) {
    Slab w;
    u32 groups = m.k >> 5;
    int c = lane_id() % 4;
#pragma unroll
    for (int r = 0; r < 2; r++) {
        u64 at = row[r] * groups + g;
        if (F == Q8_0) {
            w.a[r] = ((const int*)(m.codes + at * 32))[c];
            w.a[2 + r] = ((const int*)(m.codes + at * 32))[4 + c];
            w.s[r][0] = half_to_float(((const u16*)m.head)[at]);
            continue;
        }
        u32 word = ((const u32*)(m.codes + at * 16))[c];
        w.a[r] = (int)(word & 0x0f0f0f0fu);
        w.a[2 + r] = (int)(word >> 4 & 0x0f0f0f0fu);
        if (F == Q5_K) {
            u32 high = ((const u32*)m.high)[at];
            w.a[r] |= (int)((high >> c & 0x01010101u) << 4);
            w.a[2 + r] |= (int)((high >> (4 + c) & 0x01010101u) << 4);
        }
        u64 block = row[r] * (groups >> 3) + (g >> 3);
        if (F == Q6_K) {
            uint2 high = ((const uint2*)m.high)[at];
            w.a[r] |= (int)((high.x >> 2 * c & 0x03030303u) << 4);
            w.a[2 + r] |= (int)((high.y >> 2 * c & 0x03030303u) << 4);
            u32 scale = ((const u16*)m.scale)[at];
            float d = half_to_float(((const u16*)m.head)[block]);
            w.s[r][0] = d * (float)(int)(i8)(scale & 0xffu);
            w.s[r][1] = d * (float)(int)(i8)(scale >> 8);
        } else {
            scale_and_bias(load16(m.head + block * 16), g & 7, w.s[r][0], w.b[r]);
        }
    }
    return w;
}

// acc + 32 weights of two rows times 32 activations of eight, as `meet` has it.
template <int F>
INLINE void meet_block(const Slab& w, const Acts& x, const Tokens& t, int block, u32 g,
                       float (&acc)[4]) {
    u32 groups = x.k >> 5;
    int c = lane_id() % 4;
    u64 at = ((u64)t.read[block] * groups + g) * 32;
    const int *high = (const int*)(x.high + at), *low = (const int*)(x.low + at);
    int h[2] = {high[c], high[4 + c]}, l[2] = {low[c], low[4 + c]};
    int first[4] = {0, 0, 0, 0}, second[4] = {0, 0, 0, 0};
    if (F == Q6_K) {
        mma_16(first, w.a[0], w.a[1], h[0]);
        mma_16(second, w.a[2], w.a[3], h[1]);
    } else {
        mma_32(first, w.a, h);
    }
#pragma unroll
    for (int i = 0; i < 4; i++) {
        first[i] *= 128;
        second[i] *= 128;
    }
    if (F == Q6_K) {
        mma_16(first, w.a[0], w.a[1], l[0]);
        mma_16(second, w.a[2], w.a[3], l[1]);
    } else {
        mma_32(first, w.a, l);
    }
#pragma unroll
    for (int token = 0; token < 2; token++) {
        uint4 scale = x.scale[(u64)t.mine[block][token] * groups + g];
        int sums[2] = {(int)scale.y, (int)scale.z};
        float d = as_float(scale.x);
#pragma unroll
        for (int r = 0; r < 2; r++) {
            int i = 2 * r + token;
            if (F == Q6_K) {
                acc[i] = fmaf((float)(first[i] - 32 * sums[0]), w.s[r][0] * d, acc[i]);
                acc[i] = fmaf((float)(second[i] - 32 * sums[1]), w.s[r][1] * d, acc[i]);
                continue;
            }
            acc[i] = fmaf((float)first[i], w.s[r][0] * d, acc[i]);
            if (F == Q4_K || F == Q5_K) {
                acc[i] = fmaf(w.b[r], d * (float)(sums[0] + sums[1]), acc[i]);
            }
        }
    }
}

// The sums that `dot_codes` and its fold over LANES lanes have, in their order: what would be a
// lane's is summed group after group, and the lanes come in the order in which the fold meets
// them, so that a sum waits on each of its levels for its other half.
template <int F, int LANES>
INLINE void dot_wide(const Matrix& m, const u64 (&row)[2], const Acts& x, const Tokens& t,
                     float (&y)[2][4]) {
    const int levels = LANES == 32 ? 5 : 3;
    u32 groups = m.k >> 5;
    float waiting[levels][2][4];
    for (u32 turn = 0; turn < LANES; turn++) {
        u32 lane = 0;
#pragma unroll
        for (int level = 0; level < levels; level++) {
            lane |= (turn >> level & 1) << (levels - 1 - level);
        }
#pragma unroll
        for (int i = 0; i < 8; i++) y[i / 4][i % 4] = 0.0f;
        for (u32 g = lane; g < groups; g += LANES) {
            Slab w = load_slab<F>(m, row, g);
            meet_block<F>(w, x, t, 0, g, y[0]);
            if (t.blocks > 1) meet_block<F>(w, x, t, 1, g, y[1]);
        }
        bool rises = true;
#pragma unroll
        for (int level = 0; level < levels; level++) {
            bool joins = turn >> level & 1;
#pragma unroll
            for (int i = 0; i < 8; i++) {
                float& other = waiting[level][i / 4][i % 4];
                float& mine = y[i / 4][i % 4];
                if (rises && joins) mine = other + mine;
                if (rises && !joins) other = mine;
            }
            rises = rises && joins;
        }
    }
}

// Sixteen rows of a matrix from `first` on, by a warp, times the activations that it has: of lane
// 4 r + c the sums of rows r and r + 8 with tokens 2 c and 2 c + 1 of each block.
template <int LANES>
INLINE void multiply_wide(const Matrix& m, u64 base, u32 first, const Acts& x, const Tokens& t,
                          float (&y)[2][4]) {
    u64 row[2];
#pragma unroll
    for (int r = 0; r < 2; r++) {
        u32 at = first + lane_id() / 4 + 8 * r;
        row[r] = base + (at < m.rows ? at : m.rows - 1);
    }
    switch (m.format) {
    case Q8_0: dot_wide<Q8_0, LANES>(m, row, x, t, y); break;
    case Q4_K: dot_wide<Q4_K, LANES>(m, row, x, t, y); break;
    case Q5_K: dot_wide<Q5_K, LANES>(m, row, x, t, y); break;
    case Q6_K: dot_wide<Q6_K, LANES>(m, row, x, t, y); break;
    }
}

// ---- routes

// Routed (row, place) pairs in tiles of one expert each, and as many pairs as a kernel takes.
struct Visits {
    u32* order;  // [pairs] pair by expert, then by row
    u32* expert; // [tiles]
    u32* first;  // [tiles] in order
    u32* count;  // [tiles]; 0 beyond the last
};

enum Choice { CHOOSES, ONLY, GIVEN }; // by scores; the only expert of a dense model; made before

struct Router {
    const float* logits; // [rows, experts]
    u32* id;             // [rows, used], ascending
    float* weight;       // [rows, used]
    u32* faults;         // [rows]
    float scale;
    u32 rows;
    u32 experts;    // at most 1024
    u32 used;       // at most 32
    u32 normalised; // whether the weights of the chosen sum to 1
    u32 code;
    u32 choice;
    u32 unused;
};

// The order of floats as that of integers, NaN below all.
INLINE u32 rank_of(float x) {
    u32 bits = as_bits(x);
    if (x != x) return 0;
    return bits & 0x80000000u ? ~bits : bits | 0x80000000u;
}

// A warp chooses the experts of a row and notes them, if `notes`. Each lane below `used` gets the
// expert that comes at its place.
INLINE u32 choose(const Router& a, u32 row, bool notes) {
    const float* logits = a.logits + (u64)row * a.experts;
    u32 lane = lane_id(), taken = 0, mine = 0xffffffffu; // of this lane's experts; its choice
    float top = 0.0f;
#pragma unroll 1
    for (u32 i = 0; i < a.used; i++) {
        // The largest, then the lowest id.
        u32 rank = 0, id = 0xffffffffu;
#pragma unroll 4
        for (u32 e = lane, at = 0; e < a.experts; e += 32, at++) {
            u32 other = rank_of(logits[e]);
            if (taken >> at & 1 || (id != 0xffffffffu && other <= rank)) continue;
            rank = other;
            id = e;
        }
        u32 best = warp_max(rank);
        id = warp_min(rank == best ? id : 0xffffffffu);
        if (i == 0) top = logits[id];
        if (id % 32 == lane) taken |= 1u << id / 32;
        if (lane == i) mine = id;
    }
    u32 place = 0, placed = 0;
#pragma unroll 1
    for (u32 i = 0; i < a.used; i++) {
        u32 other = __shfl_sync(ALL_LANES, mine, i);
        place += other < mine;
    }
#pragma unroll 1
    for (u32 i = 0; i < a.used; i++) {
        u32 at = __shfl_sync(ALL_LANES, place, i), id = __shfl_sync(ALL_LANES, mine, i);
        if (at == lane) placed = id;
    }
    if (!notes) return placed;
    int bad = 0;
#pragma unroll 1
    for (u32 e = lane; e < a.experts; e += 32) bad |= logits[e] != logits[e];
    float e = lane < a.used ? exponential(logits[placed] - top) : 0.0f, sum = 0.0f;
    if (a.normalised) {
        // Added by ascending id, in every lane alike.
#pragma unroll 1
        for (u32 i = 0; i < a.used; i++) sum = sum + __shfl_sync(ALL_LANES, e, i);
    } else {
#pragma unroll 1
        for (u32 i = lane; i < a.experts; i += 32) sum = sum + exponential(logits[i] - top);
        sum = fold<32>(sum);
    }
    float weight = e / sum * a.scale;
    if (lane < a.used) {
        a.id[row * a.used + lane] = placed;
        a.weight[row * a.used + lane] = weight;
        bad |= !is_finite(weight);
    }
    bad = __any_sync(ALL_LANES, bad);
    if (bad && lane == 0 && a.code < a.faults[row]) a.faults[row] = a.code;
    return placed;
}
