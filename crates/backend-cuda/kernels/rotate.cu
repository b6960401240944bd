// rotate: heads of queries and keys are normed and turned; keys and values go to their slots. A
// warp is a head of a row: queries first, then keys, then values.

struct RotateArgs {
    const float* qkv;    // [rows, q + 2 kv]
    const float* q_norm; // [d] or none
    const float* k_norm;
    const float* turn;   // [rows, 2, half] cosines, sines
    const u32* slot;     // [rows]
    float* q;            // [rows, heads, d]
    u16* cache;          // [pages, kv_heads, 2, 64 d] of this layer
    u32 heads;
    u32 kv_heads;
    u32 d;
    u32 half; // pairs that turn
    float eps;
    float scale; // 1 / sqrt(d), of queries
};

ENTRY(rotate, 256, RotateArgs) {
    __shared__ float room[8][256];
    u32 head = blockIdx.x * 8 + warp_id(), row = blockIdx.y, d = a.d;
    u32 width = (a.heads + 2 * a.kv_heads) * d;
    if (head >= a.heads + 2 * a.kv_heads) return;
    const float* from = a.qkv + (u64)row * width + head * d;
    float* x = room[warp_id()];
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
    u32 slot = a.slot[row], page = slot >> 6, offset = slot & 63;
    for (u32 i = lane_id(); i < d; i += 32) {
        if (is_q) {
            a.q[(u64)row * a.heads * d + head * d + i] = x[i] * a.scale;
            continue;
        }
        u32 kv = is_k ? head - a.heads : head - a.heads - a.kv_heads;
        u16* to = a.cache + ((u64)page * a.kv_heads + kv) * 128 * d;
        // Keys in columns of eight channels, so that neighbouring lanes read neighbouring slots.
        u32 at = is_k ? ((i >> 3) * 64 + offset) * 8 + (i & 7) : 64 * d + offset * d + i;
        to[at] = float_to_half(x[i]);
    }
}
