// reduce: x += sum of p_e (down_e m_e), experts ascending: the products of every visit and then
// their sum, or both at once for a row alone. Eight threads are a row of down, whose rows are short.
// A workgroup has sixteen, or four of eight experts at a time.
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

// Products and sum of a row alone.
//
//     0 down: matrix   48 m [used, ffn]: acts   88 id [used]   96 weight [used]   104 x [hidden]
//     112 used
@compute @workgroup_size(256)
fn reduce_1(@builtin(workgroup_id) block: vec3<u32>, @builtin(local_invocation_index) t: u32) {
    let used = count(112u);
    let m = matrix(0u, 0u);
    let base = block.x * 4u;
    var c = columns_of(48u, 1u);
    var sum = 0.0;
    for (var first = 0u; first < used; first += 8u) {
        let e = min(first + (t >> 5u), used - 1u);
        c.row[0] = e;
        let row = rest[place(88u) + e] * m.rows + base + ((t >> 3u) & 3u);
        keep(multiply(m, row, &c, t & 7u, 8u), t >> 3u, 32u, t & 7u, 8u);
        workgroupBarrier();
        if (t < 4u) {
            for (var i = 0u; i < min(8u, used - first); i++) {
                let weight = bitcast<f32>(rest[place(96u) + first + i]);
                sum = fma(weight, total(0u, 4u * i + t, 32u, 8u), sum);
            }
        }
        workgroupBarrier();
    }
    if (t >= 4u) { return; }
    let at = place(104u) + base + t;
    rest[at] = bitcast<u32>(bitcast<f32>(rest[at]) + sum);
}
