// Runs kernels on the CPU: a block's threads are fibers, one block at a time, in an order that the
// caller chooses. A fiber runs until it has to wait for its warp or its block, so a barrier that is
// missing shows as bits that depend on the order. One launch at a time.
#pragma once
#include <cmath>
#include <cstdint>
#include <cstdlib>
#include <cstring>

#define __global__
#define __device__
#define __forceinline__ inline __attribute__((always_inline))
#define __shared__ static __attribute__((used))

struct uint2 {
    uint32_t x, y;
};
struct alignas(16) uint4 {
    uint32_t x, y, z, w;
};

namespace shim {
struct Index {
    unsigned x, y, z;
};
inline Index thread, block;

enum Wait : uint8_t { READY, WARP, BLOCK, DONE };
constexpr unsigned MOST = 1024, STACK = 64 << 10;

inline void *stacks[MOST], *pointers[MOST], *scheduler;
inline Wait waits[MOST];
inline unsigned live, waiting, warp_live[MOST / 32], warp_waiting[MOST / 32];
// Values under way between lanes. Two boxes suffice: whoever writes the next but one has passed a
// wait at which everybody had read.
inline uint64_t boxes[2][MOST];
inline uint8_t turns[MOST];
inline void (*body)(const void*);
inline const void* arguments;

extern "C" void shim_switch(void** from, void* to);
asm(".text\n.globl shim_switch\n.hidden shim_switch\nshim_switch:\n"
    "push %rbp\npush %rbx\npush %r12\npush %r13\npush %r14\npush %r15\n"
    "mov %rsp,(%rdi)\nmov %rsi,%rsp\n"
    // A jump, since the processor foretells a return to where no call came from wrongly.
    "pop %r15\npop %r14\npop %r13\npop %r12\npop %rbx\npop %rbp\npop %rcx\njmp *%rcx\n");

// The i-th of n in this order: 0 forward, 1 reverse, else a permutation by seed.
struct Order {
    unsigned order, step, shift;
    Order(unsigned order, unsigned n, unsigned round) : order(order), step(1), shift(0) {
        if (order < 2 || n < 2) return;
        uint64_t seed = (order * 0x9e3779b97f4a7c15ull) ^ (round * 0xd1342543de82ef95ull);
        seed ^= seed >> 29;
        shift = seed % n;
        step = (seed >> 20) % n | 1;
        while (divisor(step, n) != 1) step += 2;
    }
    static unsigned divisor(unsigned a, unsigned b) { return b ? divisor(b, a % b) : a; }
    unsigned at(unsigned i, unsigned n) const {
        if (order == 0) return i;
        if (order == 1) return n - 1 - i;
        return (unsigned)(((uint64_t)i * step + shift) % n);
    }
};

inline Order order_of_threads(0, 1, 0);
inline unsigned size, at_thread; // threads of a block; which place of the order has its turn

// On to the next thread of this round that may run, or back to whoever starts rounds.
inline void yield() {
    unsigned me = thread.x;
    void* next = scheduler;
    while (++at_thread < size) {
        unsigned i = order_of_threads.at(at_thread, size);
        if (waits[i] != READY) continue;
        thread.x = i;
        next = pointers[i];
        break;
    }
    asm volatile("" ::: "memory");
    shim_switch(&pointers[me], next);
    asm volatile("" ::: "memory");
}

inline void release_warp(unsigned warp) {
    if (warp_waiting[warp] == 0 || warp_waiting[warp] < warp_live[warp]) return;
    warp_waiting[warp] = 0;
    for (unsigned i = warp * 32; i < warp * 32 + 32; i++) {
        if (waits[i] == WARP) waits[i] = READY;
    }
}

inline void release_block(unsigned threads) {
    if (waiting == 0 || waiting < live) return;
    waiting = 0;
    for (unsigned i = 0; i < threads; i++) {
        if (waits[i] == BLOCK) waits[i] = READY;
    }
}

inline void wait_warp() {
    unsigned warp = thread.x >> 5;
    waits[thread.x] = WARP;
    warp_waiting[warp]++;
    release_warp(warp);
    if (waits[thread.x] != READY) yield();
    asm volatile("" ::: "memory");
}

inline void wait_block() {
    waits[thread.x] = BLOCK;
    waiting++;
    release_block(size);
    yield();
}

inline void enter() {
    body(arguments);
    waits[thread.x] = DONE;
    live--;
    warp_live[thread.x >> 5]--;
    release_warp(thread.x >> 5);
    release_block(size);
    yield();
    abort();
}

inline void start(unsigned i) {
    if (!stacks[i]) stacks[i] = malloc(STACK);
    void** top = (void**)(((uintptr_t)stacks[i] + STACK) & ~(uintptr_t)15);
    *--top = nullptr;
    *--top = (void*)enter;
    for (int k = 0; k < 6; k++) *--top = nullptr;
    pointers[i] = top;
    waits[i] = READY;
    turns[i] = 0;
}

// 0 when every block ran; 1 when threads wait for others that never come.
inline int run(unsigned threads, const unsigned* grid, unsigned order, const void* args,
               void (*kernel)(const void*)) {
    unsigned blocks = grid[0] * grid[1] * grid[2];
    arguments = args;
    body = kernel;
    size = threads;
    Order blocks_in(order, blocks, 0);
    for (unsigned b = 0; b < blocks; b++) {
        unsigned at = blocks_in.at(b, blocks);
        block = {at % grid[0], at / grid[0] % grid[1], at / grid[0] / grid[1]};
        live = threads;
        waiting = 0;
        for (unsigned i = 0; i < threads; i++) start(i);
        for (unsigned w = 0; w < threads / 32; w++) warp_live[w] = 32, warp_waiting[w] = 0;
        for (unsigned round = 0; live > 0; round++) {
            bool moved = false;
            order_of_threads = Order(order, threads, round + b);
            for (at_thread = 0; at_thread < threads; at_thread++) {
                unsigned i = order_of_threads.at(at_thread, threads);
                if (waits[i] != READY) continue;
                moved = true;
                thread = {i, 0, 0};
                shim_switch(&scheduler, pointers[i]);
            }
            if (!moved) return 1;
        }
    }
    return 0;
}

template <class T> T exchange(T mine, unsigned lane) {
    unsigned me = thread.x;
    uint8_t turn = turns[me] ^= 1;
    memcpy(&boxes[turn][me], &mine, sizeof mine);
    wait_warp();
    T theirs;
    memcpy(&theirs, &boxes[turn][(me & ~31u) | (lane & 31)], sizeof theirs);
    return theirs;
}

// What lanes have put down for the matrix units.
struct Fragment {
    int a[4], b[2];
};
inline Fragment fragments[2][MOST];

inline int dot4(int a, int b) {
    int sum = 0;
    for (int i = 0; i < 4; i++) sum += (int)(int8_t)(a >> 8 * i) * (int)(int8_t)(b >> 8 * i);
    return sum;
}

// d += a b, with `parts` registers of four values for each row.
inline void multiply(int* d, const Fragment& mine, int parts) {
    unsigned me = thread.x, lane = me & 31;
    uint8_t turn = turns[me] ^= 1;
    fragments[turn][me] = mine;
    wait_warp();
    const Fragment* all = &fragments[turn][me & ~31u];
    for (unsigned i = 0; i < 4; i++) {
        unsigned row = lane / 4, upper = i / 2, column = lane % 4 * 2 + i % 2;
        for (unsigned c = 0; c < 4; c++) {
            const Fragment &a = all[row * 4 + c], &b = all[column * 4 + c];
            for (int part = 0; part < parts; part++) {
                d[i] += dot4(a.a[2 * part + upper], b.b[part]);
            }
        }
    }
}
} // namespace shim

// Everything else is hidden, or libraries that are loaded side by side would share statics.
#define VISIBLE extern "C" __attribute__((visibility("default")))
#define threadIdx shim::thread
#define blockIdx shim::block
#define ENTRY(name, threads, Args)                                                             \
    static void name##_thread(const Args& a);                                                  \
    VISIBLE int shim_##name(const void* args, const unsigned* grid, unsigned order) {          \
        return shim::run(threads, grid, order, args,                                           \
                         [](const void* a) { name##_thread(*(const Args*)a); });               \
    }                                                                                          \
    VISIBLE unsigned shim_args_##name() { return sizeof(Args); }                               \
    static void name##_thread(const Args& a)

inline void __syncthreads() { shim::wait_block(); }
inline void __syncwarp() { shim::wait_warp(); }
template <class T> T __shfl_sync(unsigned, T x, int lane) { return shim::exchange(x, lane); }
template <class T> T __shfl_xor_sync(unsigned, T x, int mask) {
    return shim::exchange(x, (shim::thread.x & 31) ^ mask);
}
inline unsigned __ballot_sync(unsigned, bool yes) {
    unsigned me = shim::thread.x;
    uint8_t turn = shim::turns[me] ^= 1;
    shim::boxes[turn][me] = yes;
    shim::wait_warp();
    unsigned all = 0;
    for (unsigned i = 0; i < 32; i++) {
        all |= (unsigned)(shim::boxes[turn][(me & ~31u) | i] & 1) << i;
    }
    return all;
}
// What a fold of all lanes of a warp gives.
template <class F> unsigned fold_lanes(unsigned x, F f) {
    for (int o = 16; o > 0; o >>= 1) x = f(x, __shfl_xor_sync(~0u, x, o));
    return x;
}
inline unsigned __reduce_max_sync(unsigned, unsigned x) {
    return fold_lanes(x, [](unsigned a, unsigned b) { return a > b ? a : b; });
}
inline unsigned __reduce_min_sync(unsigned, unsigned x) {
    return fold_lanes(x, [](unsigned a, unsigned b) { return a < b ? a : b; });
}
inline int __any_sync(unsigned mask, bool yes) { return __ballot_sync(mask, yes) != 0; }
inline int __popc(unsigned x) { return __builtin_popcount(x); }
inline int __ffs(unsigned x) { return __builtin_ffs((int)x); }
inline int __dp4a(int a, int b, int sum) { return sum + shim::dot4(a, b); }
inline void mma_32(int (&d)[4], const int (&a)[4], const int (&b)[2]) {
    shim::multiply(d, {{a[0], a[1], a[2], a[3]}, {b[0], b[1]}}, 2);
}
inline void mma_16(int (&d)[4], int a0, int a1, int b) {
    shim::multiply(d, {{a0, a1}, {b}}, 1);
}

static inline float as_float(unsigned bits) {
    float f;
    memcpy(&f, &bits, sizeof f);
    return f;
}
static inline unsigned as_bits(float f) {
    unsigned bits;
    memcpy(&bits, &f, sizeof bits);
    return bits;
}
static inline float half_to_float(unsigned short h) {
    unsigned sign = (h & 0x8000u) << 16, magnitude = (h & 0x7fffu) << 13;
    unsigned finite = as_bits(as_float(magnitude) * as_float(0x77800000u));
    return as_float(sign | (magnitude < 0x0f800000u ? finite : magnitude | 0x7f800000u));
}
static inline unsigned short float_to_half(float f) {
    unsigned sign = as_bits(f) >> 16 & 0x8000u, magnitude = as_bits(f) & 0x7fffffffu;
    unsigned half = (magnitude + 0xc8000fffu + (magnitude >> 13 & 1u)) >> 13;
    if (magnitude < 0x38800000u) half = as_bits(as_float(magnitude) + 0.5f) - 0x3f000000u;
    if (magnitude >= 0x477ff000u) half = 0x7c00;
    if (magnitude > 0x7f800000u) half = 0x7e00;
    return (unsigned short)(sign | (half & 0x7fffu));
}
