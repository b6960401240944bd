// route: the experts of every row and their weights, and the visits to each expert in tiles. One
// workgroup: first 32 threads are a row, then a thread is four experts. A row alone has neither
// tiles nor this launch: `expand` chooses.
//
//     0 router   64 72 80 88 visits   96 tiles: room for so many   100 width: pairs of a tile, at most

var<workgroup> pairs: array<u32, 256>;
var<workgroup> tiles: array<u32, 256>;

fn tiles_of(n: vec4<u32>, width: u32) -> vec4<u32> { return (n + vec4(width - 1u)) / vec4(width); }

// Tiles of expert after expert, and the order of pairs within.
fn visit(t: u32, all: u32) {
    let id = place(8u);
    var mine = vec4<u32>();
    for (var i = 0u; i < all; i++) {
        let e = rest[id + i];
        if ((e >> 2u) == t) { mine[e & 3u] += 1u; }
    }
    let width = count(100u);
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
            rest[place(72u) + tile] = 4u * t + j;
            rest[place(80u) + tile] = begin[j] + i;
            rest[place(88u) + tile] = min(mine[j] - i, width);
            tile++;
        }
    }
    for (var i = 0u; own_pairs > 0u && i < all; i++) {
        let e = rest[id + i];
        if ((e >> 2u) == t) {
            rest[place(64u) + begin[e & 3u]] = i;
            begin[e & 3u] += 1u;
        }
    }
    for (var i = tiles[255] + t; i < count(96u); i += 256u) { rest[place(88u) + i] = 0u; }
}

@compute @workgroup_size(256)
fn route(@builtin(local_invocation_index) t: u32) {
    let rows = count(36u);
    let all = rows * count(44u);
    if (count(56u) == CHOOSES) {
        for (var first = 0u; first < rows; first += 8u) { choose(0u, first, t, true); }
    } else if (count(56u) == ONLY) {
        for (var i = t; i < all; i += 256u) {
            rest[place(8u) + i] = 0u;
            rest[place(16u) + i] = bitcast<u32>(1.0);
        }
    }
    storageBarrier();
    workgroupBarrier();
    visit(t, all);
}
