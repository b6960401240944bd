// quantise: codes of rows that are there as floats. A warp is a group of 32 values.

struct QuantiseArgs {
    Acts x;
};

ENTRY(quantise_rows, 256, QuantiseArgs) {
    u32 group = blockIdx.x * 8 + warp_id(), row = blockIdx.y;
    if (group >= a.x.k >> 5) return;
    quantise(a.x, row, group, a.x.f[(u64)row * a.x.k + group * 32 + lane_id()]);
}
