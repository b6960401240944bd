// norm: y = x / sqrt(mean(x^2) + eps) * w, as floats and as codes. A block is a row.

struct NormArgs {
    const float* x; // [.., k]
    const float* w; // [k]
    const u32* pick; // [rows] which row of x; none: the same
    u32* faults;    // [rows of x]
    Acts y;
    float eps;
    u32 code; // what a row that is not finite notes, if it has noted nothing smaller
};

ENTRY(norm_rows, 256, NormArgs) {
    __shared__ float part[8];
    __shared__ int damaged[8];
    u32 row = blockIdx.x, from = a.pick ? a.pick[row] : row, k = a.y.k;
    const float* x = a.x + (u64)from * k;
    float sum = 0.0f;
    for (u32 i = threadIdx.x; i < k; i += 256) sum = fmaf(x[i], x[i], sum);
    sum = fold<32>(sum);
    if (lane_id() == 0) part[warp_id()] = sum;
    __syncthreads();
    float all = 0.0f;
    for (int i = 0; i < 8; i++) all = all + part[i];
    float r = 1.0f / sqrtf(all / (float)k + a.eps);
    int bad = !is_finite(all);
    for (u32 g = warp_id(); g < k >> 5; g += 8) {
        u32 i = g * 32 + lane_id();
        float y = x[i] * r * a.w[i];
        bad |= !is_finite(y);
        a.y.f[(u64)row * k + i] = y;
        quantise(a.y, row, g, y);
    }
    bad = __any_sync(ALL_LANES, bad);
    if (lane_id() == 0) damaged[warp_id()] = bad;
    __syncthreads();
    if (threadIdx.x == 0) {
        for (int i = 1; i < 8; i++) bad |= damaged[i];
        if (bad && a.code < a.faults[from]) a.faults[from] = a.code;
    }
}
