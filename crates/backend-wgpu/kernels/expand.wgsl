// expand: m = silu(gate h) * up h for each visit to an expert, as floats and as codes. A workgroup
// is 32 rows of gate and of up, which make one group of m, for the visits of one tile.
//
//     0 gate: matrix   48 up: matrix   96 h [rows, hidden]: acts   136 m [rows used, ffn]: acts
//     176 order   184 expert   192 first   200 count: visits   208 used

@group(0) @binding(1) var<storage, read> visits: array<u32>;
@group(0) @binding(4) var<storage, read> gates: array<vec4<u32>>;
@group(0) @binding(5) var<storage, read> ups: array<vec4<u32>>;

fn weights(which: u32, at: u32) -> vec4<u32> {
    if (which == 0u) { return gates[at]; }
    return ups[at];
}

@compute @workgroup_size(256)
fn expand(@builtin(workgroup_id) block: vec3<u32>, @builtin(local_invocation_index) t: u32) {
    let tile = block.y;
    let order = place(176u) + visits[place(192u) + tile];
    var c = columns_of(96u, min(visits[place(200u) + tile], COLUMNS));
    for (var i = 0u; i < c.count; i++) { c.row[i] = visits[order + i] / count(208u); }
    let gate = matrix(0u, 0u);
    let up = matrix(48u, 1u);
    let base = visits[place(184u) + tile] * gate.rows + block.x * 32u;
    let warp = t >> 5u;
    let lane = t & 31u;
    let column = t >> 3u; // and row `t & 7` of eight, of those whose products are summed
    for (var r = 0u; r < 4u; r++) {
        let row = base + r * 8u + warp;
        if (c.count > 0u) { keep(multiply(gate, row, &c, lane, 32u), warp, 8u, lane, 32u); }
        workgroupBarrier();
        var g = 0.0;
        if (column < c.count) { g = total(column, t & 7u, 8u, 32u); }
        workgroupBarrier();
        if (c.count > 0u) { keep(multiply(up, row, &c, lane, 32u), warp, 8u, lane, 32u); }
        workgroupBarrier();
        if (column < c.count) {
            let u = total(column, t & 7u, 8u, 32u);
            room[column * 32u + r * 8u + (t & 7u)] = g / (1.0 + exponential(-g)) * u;
        }
        workgroupBarrier();
    }
    if (warp < c.count) {
        let pair = visits[order + warp];
        coded[place(136u) + pair * count(168u) + block.x * 32u + lane] = bitcast<u32>(room[t]);
    }
    if (column < c.count) { quantise(t, 136u, visits[order + column], block.x); }
}
