// reduce: x += sum of p_e (down_e m_e), experts ascending: first the products of every visit, then
// their sum. Eight threads are a row of down, whose rows are short, and a workgroup has sixteen.
//
//     0 down: matrix   48 m [pairs, ffn]: acts   88 out [pairs, hidden]
//     96 order   104 expert   112 first   120 count: visits

@group(0) @binding(1) var<storage, read_write> rest: array<u32>;
@group(0) @binding(4) var<storage, read> downs: array<vec4<u32>>;

fn weights(which: u32, at: u32) -> vec4<u32> { return downs[at]; }

@compute @workgroup_size(128)
fn down(@builtin(workgroup_id) block: vec3<u32>, @builtin(local_invocation_index) t: u32) {
    let tile = block.y;
    let order = place(96u) + rest[place(112u) + tile];
    var c = columns_of(48u, min(rest[place(120u) + tile], COLUMNS));
    for (var i = 0u; i < c.count; i++) { c.row[i] = rest[order + i]; }
    let m = matrix(0u, 0u);
    let base = block.x * 16u;
    let first = rest[place(104u) + tile] * m.rows + base;
    if (c.count > 0u) {
        keep(multiply(m, first + (t >> 3u), &c, t & 7u, 8u), t >> 3u, 16u, t & 7u, 8u);
    }
    workgroupBarrier();
    let column = t >> 4u;
    if (column >= c.count) { return; }
    let y = total(column, t & 15u, 16u, 8u);
    let pair = rest[order + column];
    rest[place(88u) + pair * m.rows + base + (t & 15u)] = bitcast<u32>(y);
}

//     0 y [rows, used, hidden]   8 weight [rows, used]   16 x [rows, hidden]   24 used   28 hidden
@compute @workgroup_size(256)
fn blend(@builtin(workgroup_id) block: vec3<u32>, @builtin(local_invocation_index) t: u32) {
    let i = block.x * 256u + t;
    let row = block.y;
    let used = count(24u);
    let hidden = count(28u);
    if (i >= hidden) { return; }
    var sum = 0.0;
    for (var e = 0u; e < used; e++) {
        let pair = row * used + e;
        let y = bitcast<f32>(rest[place(0u) + pair * hidden + i]);
        sum = fma(bitcast<f32>(rest[place(8u) + pair]), y, sum);
    }
    let at = place(16u) + row * hidden + i;
    rest[at] = bitcast<u32>(bitcast<f32>(rest[at]) + sum);
}
