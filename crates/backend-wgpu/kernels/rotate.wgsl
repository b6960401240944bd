// rotate: heads of queries and keys are normed and turned; keys and values go to their slots. 32
// threads are a head of a row.
//
//     0 heads   56 slot [rows]   64 q [rows, heads, d]   72 cache [pages, kv_heads, keys and values]
//     of this layer   80 whether they are codes

@compute @workgroup_size(256)
fn rotate(@builtin(workgroup_id) block: vec3<u32>, @builtin(local_invocation_index) t: u32) {
    let heads = count(32u);
    let kv_heads = count(36u);
    let d = count(40u);
    let row = block.y;
    let head = block.x * 8u + (t >> 5u);
    let live = head < heads + 2u * kv_heads;
    turn_heads(t, row, head, live);
    if (head < heads) {
        let to = place(64u) + (row * heads + head) * d;
        let x = (t >> 5u) * 256u;
        for (var i = t & 31u; i < d; i += 32u) { rest[to + i] = bitcast<u32>(turned[x + i]); }
    } else if (live) {
        let slot = rest[place(56u) + row];
        let is_k = head < heads + kv_heads;
        let kv = head - heads - select(kv_heads, 0u, is_k);
        let codes = count(80u) != 0u;
        let side = 2u * ((slot >> 6u) * kv_heads + kv) + select(1u, 0u, is_k);
        store_head(t, place(72u) / 4u + side * side_words(codes), slot & 63u, is_k, codes);
    }
}
