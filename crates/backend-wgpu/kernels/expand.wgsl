// expand: m = silu(gate h) * up h for each visit to an expert, as floats and as codes. A workgroup
// is 32 rows of gate and of up, which make one group of m, for the visits of one tile.
//
//     0 gate: matrix   48 up: matrix   96 h [rows, hidden]: acts   136 m [rows used, ffn]: acts
//     176 order   184 expert   192 first   200 count: visits   208 used

@group(0) @binding(4) var<storage, read> gates: array<vec4<u32>>;
@group(0) @binding(5) var<storage, read> ups: array<vec4<u32>>;

fn weights(which: u32, at: u32) -> vec4<u32> {
    if (which == 0u) { return gates[at]; }
    return ups[at];
}

var<workgroup> expert: u32;

// The workgroup's 32 rows of one expert, for these columns of h, one behind the other into `room`.
fn meet_both(t: u32, c: ptr<function, Columns>, expert: u32, block: u32) {
    let gate = matrix(0u, 0u);
    let up = matrix(48u, 1u);
    let base = expert * gate.rows + block * 32u;
    let warp = t >> 5u;
    let lane = t & 31u;
    let column = t >> 3u; // and row `t & 7` of eight, of those whose products are summed
    let n = (*c).count;
    for (var r = 0u; r < 4u; r++) {
        let row = base + r * 8u + warp;
        if (n > 0u) { keep(multiply(gate, row, c, lane, 32u), warp, 8u, lane, 32u); }
        workgroupBarrier();
        var g = 0.0;
        if (column < n) { g = total(column, t & 7u, 8u, 32u); }
        workgroupBarrier();
        if (n > 0u) { keep(multiply(up, row, c, lane, 32u), warp, 8u, lane, 32u); }
        workgroupBarrier();
        if (column < n) {
            let u = total(column, t & 7u, 8u, 32u);
            room[column * 32u + r * 8u + (t & 7u)] = g / (1.0 + exponential(-g)) * u;
        }
        workgroupBarrier();
    }
}

@compute @workgroup_size(256)
fn expand(@builtin(workgroup_id) block: vec3<u32>, @builtin(local_invocation_index) t: u32) {
    let tile = block.y;
    let order = place(176u) + rest[place(192u) + tile];
    var c = columns_of(96u, min(rest[place(200u) + tile], COLUMNS));
    for (var i = 0u; i < c.count; i++) { c.row[i] = rest[order + i] / count(208u); }
    meet_both(t, &c, rest[place(184u) + tile], block.x);
    if ((t >> 5u) < c.count) {
        let to = place(136u) + rest[order + (t >> 5u)] * count(168u) + block.x * 32u;
        coded[to + (t & 31u)] = bitcast<u32>(room[t]);
    }
    if ((t >> 3u) < c.count) { quantise(t, 136u, rest[order + (t >> 3u)], block.x); }
}

// The same for a row alone. A workgroup is of one of its experts, and chooses which; the first one
// notes the choice for what comes.
//
//     0 gate   48 up   96 h [1, hidden]   136 m [used, ffn]   176 router
@compute @workgroup_size(256)
fn expand_1(@builtin(workgroup_id) block: vec3<u32>, @builtin(local_invocation_index) t: u32) {
    let pair = block.y;
    let first = block.x == 0u && pair == 0u;
    let choice = count(176u + 56u);
    if (choice == CHOOSES) { choose(176u, 0u, t, first); }
    if (t == 0u) {
        if (choice == CHOOSES) {
            expert = ids[pair];
        } else if (choice == GIVEN) {
            expert = rest[place(176u + 8u) + pair];
        } else {
            expert = 0u;
            if (first) {
                rest[place(176u + 8u)] = 0u;
                rest[place(176u + 16u)] = bitcast<u32>(1.0);
            }
        }
    }
    var c = columns_of(96u, 1u);
    meet_both(t, &c, workgroupUniformLoad(&expert), block.x);
    if (t < 32u) {
        coded[place(136u) + pair * count(168u) + block.x * 32u + t] = bitcast<u32>(room[t]);
    }
    if (t < 8u) { quantise(t, 136u, pair, block.x); }
}
