// route: the experts of every row and their weights, and the visits to each expert in tiles. One
// workgroup: first 32 threads are a row, then a thread is four experts.
//
//     0 logits [rows, experts]   8 id [rows, used], ascending   16 weight [rows, used]   24 faults
//     [rows]   32 40 48 56 visits   64 scale   68 rows   72 experts: at most 1024   76 used: at
//     most 32   80 whether the weights of the chosen sum to 1   84 tiles: room for so many   88
//     what a row at fault notes   92 mode: 0 chooses, 1 visits the only expert, 2 only makes tiles
//     96 width: pairs of a tile, at most

@group(0) @binding(1) var<storage, read_write> rest: array<u32>;

var<workgroup> ranks: array<u32, 256>;
var<workgroup> ids: array<u32, 256>;
var<workgroup> parts: array<f32, 256>;
var<workgroup> bad: array<atomic<u32>, 8>;
var<workgroup> pairs: array<u32, 256>;
var<workgroup> tiles: array<u32, 256>;

// The order of floats as that of integers, NaN below all.
fn rank_of(bits: u32) -> u32 {
    if ((bits & 0x7fffffffu) > 0x7f800000u) { return 0u; }
    return select(bits | 0x80000000u, ~bits, (bits & 0x80000000u) != 0u);
}

// The experts of eight rows from `first` on, each by 32 threads.
fn choose(first: u32, t: u32) {
    let experts = count(72u);
    let used = count(76u);
    let lane = t & 31u;
    let warp = t >> 5u;
    let row = first + warp;
    let live = row < count(68u);
    let logits = place(0u) + row * experts;
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
    let normalised = count(80u) != 0u;
    if (!normalised) { parts[t] = share; } else if (chosen) { parts[(t & ~31u) + at] = e; }
    workgroupBarrier();
    var sum = 0.0;
    for (var i = 0u; i < select(32u, used, normalised); i++) { sum += parts[(t & ~31u) + i]; }
    let weight = e / sum * number(64u);
    if (chosen) {
        rest[place(8u) + row * used + at] = mine;
        rest[place(16u) + row * used + at] = bitcast<u32>(weight);
        if (!is_finite(weight)) { atomicOr(&bad[warp], 1u); }
    }
    workgroupBarrier();
    if (live && lane == 0u && atomicLoad(&bad[warp]) != 0u) {
        rest[place(24u) + row] = min(rest[place(24u) + row], count(88u));
    }
    workgroupBarrier();
}

fn tiles_of(n: vec4<u32>, width: u32) -> vec4<u32> { return (n + vec4(width - 1u)) / vec4(width); }

// Tiles of expert after expert, and the order of pairs within.
fn visit(t: u32, all: u32) {
    let id = place(8u);
    var mine = vec4<u32>();
    for (var i = 0u; i < all; i++) {
        let e = rest[id + i];
        if ((e >> 2u) == t) { mine[e & 3u] += 1u; }
    }
    let width = count(96u);
    let own = tiles_of(mine, width);
    let own_pairs = mine.x + mine.y + mine.z + mine.w;
    let own_tiles = own.x + own.y + own.z + own.w;
    pairs[t] = own_pairs;
    tiles[t] = own_tiles;
    workgroupBarrier();
    // Sums over all lower experts, doubling the reach.
    for (var reach = 1u; reach < 256u; reach <<= 1u) {
        var p = 0u;
        var n = 0u;
        if (t >= reach) {
            p = pairs[t - reach];
            n = tiles[t - reach];
        }
        workgroupBarrier();
        pairs[t] += p;
        tiles[t] += n;
        workgroupBarrier();
    }
    var begin = vec4(pairs[t] - own_pairs);
    begin.y += mine.x;
    begin.z = begin.y + mine.y;
    begin.w = begin.z + mine.z;
    var tile = tiles[t] - own_tiles;
    for (var j = 0u; j < 4u; j++) {
        for (var i = 0u; i < mine[j]; i += width) {
            rest[place(40u) + tile] = 4u * t + j;
            rest[place(48u) + tile] = begin[j] + i;
            rest[place(56u) + tile] = min(mine[j] - i, width);
            tile++;
        }
    }
    for (var i = 0u; own_pairs > 0u && i < all; i++) {
        let e = rest[id + i];
        if ((e >> 2u) == t) {
            rest[place(32u) + begin[e & 3u]] = i;
            begin[e & 3u] += 1u;
        }
    }
    for (var i = tiles[255] + t; i < count(84u); i += 256u) { rest[place(56u) + i] = 0u; }
}

@compute @workgroup_size(256)
fn route(@builtin(local_invocation_index) t: u32) {
    let rows = count(68u);
    let all = rows * count(76u);
    if (count(92u) == 0u) {
        for (var first = 0u; first < rows; first += 8u) { choose(first, t); }
    } else if (count(92u) == 1u) {
        for (var i = t; i < all; i += 256u) {
            rest[place(8u) + i] = 0u;
            rest[place(16u) + i] = bitcast<u32>(1.0);
        }
    }
    storageBarrier();
    workgroupBarrier();
    visit(t, all);
}
