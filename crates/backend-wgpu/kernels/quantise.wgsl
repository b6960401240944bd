// quantise: codes of rows that are there as floats. A workgroup is eight groups of a row.
//
//     0 x: acts

@compute @workgroup_size(256)
fn quantise_rows(@builtin(workgroup_id) block: vec3<u32>, @builtin(local_invocation_index) t: u32) {
    let row = block.y;
    let k = count(32u);
    let i = block.x * 256u + t;
    if (i < k) { room[t] = bitcast<f32>(coded[place(0u) + row * k + i]); }
    workgroupBarrier();
    let group = block.x * 8u + (t >> 3u);
    if (t < 64u && group < (k >> 5u)) { quantise(t, 0u, row, group); }
}
