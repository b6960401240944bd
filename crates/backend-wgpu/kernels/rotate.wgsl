// rotate: heads of queries and keys are normed and turned; keys and values go to their slots. 32
// threads are a head of a row: queries first, then keys, then values.
//
//     0 qkv [rows, q + 2 kv]   8 norm of queries [d] or none   16 of keys   24 turn [rows, 2, half]
//     cosines, sines   32 slot [rows]   40 q [rows, heads, d]   48 cache [pages, kv_heads, 2, 64 d]
//     of this layer, in halves   56 heads   60 kv_heads   64 d   68 half: pairs that turn   72 eps
//     76 scale: 1 / sqrt(d), of queries

@group(0) @binding(1) var<storage, read_write> rest: array<u32>;
@group(0) @binding(7) var<storage, read> q_norm: array<f32>;
@group(0) @binding(8) var<storage, read> k_norm: array<f32>;
@group(0) @binding(10) var<storage, read_write> cache: array<u32>;

var<workgroup> room: array<f32, 2048>; // [heads, 256]
var<workgroup> parts: array<f32, 256>;

@compute @workgroup_size(256)
fn rotate(@builtin(workgroup_id) block: vec3<u32>, @builtin(local_invocation_index) t: u32) {
    let heads = count(56u);
    let kv_heads = count(60u);
    let d = count(64u);
    let half = count(68u);
    let row = block.y;
    let lane = t & 31u;
    let head = block.x * 8u + (t >> 5u);
    let is_q = head < heads;
    let is_k = !is_q && head < heads + kv_heads;
    let is_v = head >= heads + kv_heads && head < heads + 2u * kv_heads;
    let live = is_q || is_k || is_v;
    let source = place(0u) + row * (heads + 2u * kv_heads) * d + head * d;
    let x = (t >> 5u) * 256u;
    var sum = 0.0;
    if (live) {
        for (var i = lane; i < d; i += 32u) {
            let v = bitcast<f32>(rest[source + i]);
            room[x + i] = v;
            sum = fma(v, v, sum);
        }
    }
    parts[t] = sum;
    workgroupBarrier();
    let normed = (is_q && exists(8u)) || (is_k && exists(16u));
    if (normed) {
        var all = 0.0;
        for (var i = 0u; i < 32u; i++) { all += parts[(t & ~31u) + i]; }
        let r = 1.0 / sqrt(all / f32(d) + number(72u));
        for (var i = lane; i < d; i += 32u) {
            var w = 0.0;
            if (is_q) { w = q_norm[place(8u) + i]; } else { w = k_norm[place(16u) + i]; }
            room[x + i] = room[x + i] * r * w;
        }
    }
    workgroupBarrier();
    if (is_q || is_k) {
        let turn = place(24u) + row * 2u * half;
        for (var i = lane; i < half; i += 32u) {
            let p = room[x + i];
            let q = room[x + half + i];
            let c = bitcast<f32>(rest[turn + i]);
            let s = bitcast<f32>(rest[turn + half + i]);
            room[x + i] = fma(p, c, -(q * s));
            room[x + half + i] = fma(q, c, p * s);
        }
    }
    workgroupBarrier();
    if (is_q) {
        let to = place(40u) + (row * heads + head) * d;
        for (var i = lane; i < d; i += 32u) {
            rest[to + i] = bitcast<u32>(room[x + i] * number(76u));
        }
    } else if (live) {
        let slot = rest[place(32u) + row];
        let offset = slot & 63u;
        var kv = head - heads;
        if (is_v) { kv -= kv_heads; }
        let to = place(48u) + ((slot >> 6u) * kv_heads + kv) * 64u * d;
        for (var i = 2u * lane; i < d; i += 64u) {
            // Keys in columns of eight channels, so that neighbours read neighbouring slots.
            let key = ((i >> 3u) * 64u + offset) * 8u + (i & 7u);
            let at = select(64u * d + offset * d + i, key, is_k);
            let both = float_to_half(room[x + i]) | (float_to_half(room[x + i + 1u]) << 16u);
            cache[to + (at >> 1u)] = both;
        }
    }
}
