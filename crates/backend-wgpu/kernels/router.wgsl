// The choice of experts, as `route` and `expand` are told of it, from `field` on:
//
//     0 logits [rows, experts]   8 id [rows, used], ascending   16 weight [rows, used]   24 faults
//     [rows]   32 scale   36 rows   40 experts: at most 1024   44 used: at most 32   48 whether the
//     weights of the chosen sum to 1   52 what a row at fault notes   56 choice

@group(0) @binding(1) var<storage, read_write> rest: array<u32>;

const CHOOSES = 0u; // by scores
const ONLY = 1u; // the only expert of a dense model
const GIVEN = 2u; // made before

var<workgroup> ranks: array<u32, 256>;
var<workgroup> ids: array<u32, 256>;
var<workgroup> shares: array<f32, 256>;
var<workgroup> bad: array<atomic<u32>, 8>;

// The order of floats as that of integers, NaN below all.
fn rank_of(bits: u32) -> u32 {
    if ((bits & 0x7fffffffu) > 0x7f800000u) { return 0u; }
    return select(bits | 0x80000000u, ~bits, (bits & 0x80000000u) != 0u);
}

// The experts of eight rows from `first` on, each by 32 threads, noted if `notes`. They stay in `ids`,
// by their places.
fn choose(field: u32, first: u32, t: u32, notes: bool) {
    let experts = count(field + 40u);
    let used = count(field + 44u);
    let lane = t & 31u;
    let warp = t >> 5u;
    let row = first + warp;
    let live = row < count(field + 36u);
    let logits = place(field) + row * experts;
    var taken = 0u; // of this thread's experts
    var mine = 0xffffffffu; // the choice this thread keeps
    var top = 0.0;
    if (lane == 0u) { atomicStore(&bad[warp], 0u); }
    for (var i = 0u; i < used; i++) {
        var rank = 0u;
        var id = 0xffffffffu;
        if (live) {
            // The largest, then the lowest id.
            for (var e = lane; e < experts; e += 32u) {
                let other = rank_of(rest[logits + e]);
                let free = ((taken >> (e >> 5u)) & 1u) == 0u;
                if (free && (other > rank || (other == rank && e < id))) {
                    rank = other;
                    id = e;
                }
            }
        }
        ranks[t] = rank;
        ids[t] = id;
        workgroupBarrier();
        for (var j = t & ~31u; j <= (t | 31u); j++) {
            if (ranks[j] > rank || (ranks[j] == rank && ids[j] < id)) {
                rank = ranks[j];
                id = ids[j];
            }
        }
        if (live) {
            if (i == 0u) { top = bitcast<f32>(rest[logits + id]); }
            if ((id & 31u) == lane) { taken |= 1u << (id >> 5u); }
            if (lane == i) { mine = id; }
        }
        workgroupBarrier();
    }
    let chosen = live && lane < used;
    ids[t] = mine;
    workgroupBarrier();
    var at = 0u;
    for (var j = t & ~31u; j <= (t | 31u); j++) { at += select(0u, 1u, ids[j] < mine); }
    workgroupBarrier();
    if (chosen) { ids[(t & ~31u) + at] = mine; }
    workgroupBarrier();
    if (!notes) { return; }
    var e = 0.0;
    if (chosen) { e = exponential(bitcast<f32>(rest[logits + mine]) - top); }
    // What is summed: the chosen by ascending id, or every thread's share of all.
    var share = 0.0;
    if (live) {
        for (var i = lane; i < experts; i += 32u) {
            let bits = rest[logits + i];
            if (rank_of(bits) == 0u) { atomicOr(&bad[warp], 1u); }
            share += exponential(bitcast<f32>(bits) - top);
        }
    }
    let normalised = count(field + 48u) != 0u;
    if (!normalised) { shares[t] = share; } else if (chosen) { shares[(t & ~31u) + at] = e; }
    workgroupBarrier();
    var sum = 0.0;
    for (var i = 0u; i < select(32u, used, normalised); i++) { sum += shares[(t & ~31u) + i]; }
    let weight = e / sum * number(field + 32u);
    if (chosen) {
        rest[place(field + 8u) + row * used + at] = mine;
        rest[place(field + 16u) + row * used + at] = bitcast<u32>(weight);
        if (!is_finite(weight)) { atomicOr(&bad[warp], 1u); }
    }
    workgroupBarrier();
    if (live && lane == 0u && atomicLoad(&bad[warp]) != 0u) {
        rest[place(field + 24u) + row] = min(rest[place(field + 24u) + row], count(field + 52u));
    }
    workgroupBarrier();
}
