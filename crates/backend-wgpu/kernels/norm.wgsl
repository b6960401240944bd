// norm: y = x / sqrt(mean(x^2) + eps) * w, as floats and as codes. A workgroup is a row.
//
//     0 x [.., k]   8 w [k]   16 pick [rows] which row of x; none: the same   24 faults [rows of x]
//     32 y: acts   72 eps   76 what a row that is not finite notes, if it has noted nothing smaller

@group(0) @binding(1) var<storage, read_write> rest: array<u32>;
@group(0) @binding(7) var<storage, read> weight: array<f32>;

var<workgroup> parts: array<f32, 256>;
var<workgroup> sums: array<f32, 16>;
var<workgroup> damaged: atomic<u32>;

@compute @workgroup_size(256)
fn norm_rows(@builtin(workgroup_id) block: vec3<u32>, @builtin(local_invocation_index) t: u32) {
    let row = block.x;
    let k = count(64u);
    var source = row;
    if (exists(16u)) { source = rest[place(16u) + row]; }
    let x = place(0u) + source * k;
    var sum = 0.0;
    for (var i = t; i < k; i += 256u) {
        let v = bitcast<f32>(rest[x + i]);
        sum = fma(v, v, sum);
    }
    parts[t] = sum;
    if (t == 0u) { atomicStore(&damaged, 0u); }
    workgroupBarrier();
    if (t < 16u) {
        var part = 0.0;
        for (var i = 0u; i < 16u; i++) { part += parts[t * 16u + i]; }
        sums[t] = part;
    }
    workgroupBarrier();
    var all = 0.0;
    for (var i = 0u; i < 16u; i++) { all += sums[i]; }
    let r = 1.0 / sqrt(all / f32(k) + number(72u));
    var bad = !is_finite(all);
    for (var first = 0u; first < k; first += 256u) {
        let i = first + t;
        if (i < k) {
            let y = bitcast<f32>(rest[x + i]) * r * weight[place(8u) + i];
            bad = bad || !is_finite(y);
            coded[place(32u) + row * k + i] = bitcast<u32>(y);
            room[t] = y;
        }
        workgroupBarrier();
        let group = (first >> 5u) + (t >> 3u);
        if (t < 64u && group < (k >> 5u)) { quantise(t, 32u, row, group); }
        workgroupBarrier();
    }
    if (bad) { atomicOr(&damaged, 1u); }
    workgroupBarrier();
    let noted = place(24u) + source;
    if (t == 0u && atomicLoad(&damaged) != 0u) { rest[noted] = min(rest[noted], count(76u)); }
}
