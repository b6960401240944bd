// best: of up to SORTED logits or candidates the best KEPT, falling: of equals the lowest token comes
// first, NaN before all. A workgroup sorts its share; what all shares have kept is shared out again.
//
//     0 logits [outputs, count], or none where candidates come   8 from [outputs, count]   16 to
//     [outputs, workgroups, KEPT] of two words: the token counted down, its rank   24 count
//     28 workgroups of an output

@group(0) @binding(1) var<storage, read_write> rest: array<u32>;

const SORTED = 2048u;
const KEPT = 64u;

var<workgroup> tokens: array<u32, 2048>;
var<workgroup> ranks: array<u32, 2048>;

// The order of logits as that of integers: both zeros are one.
fn order_of(bits: u32) -> u32 {
    if ((bits & 0x7fffffffu) > 0x7f800000u) { return 0xffffffffu; }
    if (bits == 0x80000000u) { return bits; }
    return select(bits | 0x80000000u, ~bits, (bits & 0x80000000u) != 0u);
}

@compute @workgroup_size(256)
fn best(@builtin(workgroup_id) block: vec3<u32>, @builtin(local_invocation_index) t: u32) {
    let all = count(24u);
    let row = block.y * all;
    for (var i = t; i < SORTED; i += 256u) {
        let at = block.x * SORTED + i;
        var token = 0u;
        var rank = 0u;
        if (at < all && exists(0u)) {
            token = ~at;
            rank = order_of(rest[place(0u) + row + at]);
        } else if (at < all) {
            token = rest[place(8u) + 2u * (row + at)];
            rank = rest[place(8u) + 2u * (row + at) + 1u];
        }
        tokens[i] = token;
        ranks[i] = rank;
    }
    // Runs of `run` keys fall and rise in turns, until there is one.
    for (var run = 2u; run <= SORTED; run <<= 1u) {
        for (var far = run >> 1u; far > 0u; far >>= 1u) {
            workgroupBarrier();
            for (var i = t; i < SORTED / 2u; i += 256u) {
                let low = 2u * i - (i & (far - 1u));
                let high = low + far;
                let less = ranks[low] < ranks[high]
                    || (ranks[low] == ranks[high] && tokens[low] < tokens[high]);
                let more = ranks[low] > ranks[high]
                    || (ranks[low] == ranks[high] && tokens[low] > tokens[high]);
                if (select(more, less, (low & run) == 0u)) {
                    let rank = ranks[low];
                    let token = tokens[low];
                    ranks[low] = ranks[high];
                    tokens[low] = tokens[high];
                    ranks[high] = rank;
                    tokens[high] = token;
                }
            }
        }
    }
    workgroupBarrier();
    let to = place(16u) + 2u * (block.y * count(28u) + block.x) * KEPT;
    if (t < KEPT) {
        rest[to + 2u * t] = tokens[t];
        rest[to + 2u * t + 1u] = ranks[t];
    }
}
