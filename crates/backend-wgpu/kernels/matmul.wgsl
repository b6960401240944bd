// matmul: up to three matrices side by side times the same rows of activations: q, k and v, the
// output projection, the router, the head. 32 threads are a row of a matrix, for COLUMNS columns;
// for one column a workgroup has sixteen rows, else eight.
//
//     0 80 160 parts:  0 matrix   48 bias [rows] or none   56 out [columns, stride]   64 stride
//                      68 whether out is added to   72 the first workgroup of this part
//     240 x: acts   280 parts   284 columns

@group(0) @binding(1) var<storage, read_write> rest: array<u32>;
@group(0) @binding(4) var<storage, read> first: array<vec4<u32>>;
@group(0) @binding(5) var<storage, read> second: array<vec4<u32>>;
@group(0) @binding(6) var<storage, read> third: array<vec4<u32>>;
@group(0) @binding(7) var<storage, read> first_bias: array<f32>;
@group(0) @binding(8) var<storage, read> second_bias: array<f32>;
@group(0) @binding(9) var<storage, read> third_bias: array<f32>;

fn weights(which: u32, at: u32) -> vec4<u32> {
    if (which == 0u) { return first[at]; }
    if (which == 1u) { return second[at]; }
    return third[at];
}

fn bias(which: u32, at: u32) -> f32 {
    if (which == 0u) { return first_bias[at]; }
    if (which == 1u) { return second_bias[at]; }
    return third_bias[at];
}

@compute @workgroup_size(256)
fn matmul(@builtin(workgroup_id) block: vec3<u32>, @builtin(local_invocation_index) t: u32) {
    let parts = count(280u);
    var which = 0u;
    if (parts > 1u && block.x >= count(80u + 72u)) { which = 1u; }
    if (parts > 2u && block.x >= count(160u + 72u)) { which = 2u; }
    let part = which * 80u;
    let m = matrix(part, which);
    let begin = block.y * COLUMNS;
    var c = columns_of(240u, min(count(284u) - begin, COLUMNS));
    for (var i = 0u; i < COLUMNS; i++) { c.row[i] = begin + i; }
    let turns = select(1u, 2u, COLUMNS == 1u);
    for (var turn = 0u; turn < turns; turn++) {
        let base = ((block.x - count(part + 72u)) * turns + turn) * 8u;
        let row = base + (t >> 5u);
        if (row < m.rows) {
            let acc = multiply(m, row, &c, t & 31u, 32u);
            keep(acc, t >> 5u, 8u, t & 31u, 32u);
        }
        workgroupBarrier();
        let column = t >> 3u;
        let mine = base + (t & 7u);
        if (column < c.count && mine < m.rows) {
            var y = total(column, t & 7u, 8u, 32u);
            if (exists(part + 48u)) { y += bias(which, place(part + 48u) + mine); }
            let out = place(part + 56u) + (begin + column) * count(part + 64u) + mine;
            if (count(part + 68u) != 0u) { y = bitcast<f32>(rest[out]) + y; }
            rest[out] = bitcast<u32>(y);
        }
        workgroupBarrier();
    }
}
