// Heads of queries, keys and values, as `rotate` and `attend` are told of them:
//
//     0 qkv [rows, q + 2 kv]   8 norm of queries [d] or none   16 of keys   24 turn [rows, 2, half]
//     cosines, sines   32 heads   36 kv_heads   40 d   44 half: pairs that turn   48 eps   52 scale:
//     1 / sqrt(d), of queries

@group(0) @binding(1) var<storage, read_write> rest: array<u32>;
@group(0) @binding(7) var<storage, read> q_norm: array<f32>;
@group(0) @binding(8) var<storage, read> k_norm: array<f32>;
@group(0) @binding(10) var<storage, read_write> cache: array<vec4<u32>>; // eight halves each

var<workgroup> turned: array<f32, 2048>; // [8, 256]
var<workgroup> parts: array<f32, 256>;

// Each 32 threads norm and turn a head of a row, if `live`: queries come first, then keys, then
// values, which stay.
fn turn_heads(t: u32, row: u32, head: u32, live: bool) {
    let heads = count(32u);
    let kv_heads = count(36u);
    let d = count(40u);
    let half = count(44u);
    let lane = t & 31u;
    let is_q = live && head < heads;
    let is_k = live && head >= heads && head < heads + kv_heads;
    let source = place(0u) + (row * (heads + 2u * kv_heads) + head) * d;
    let x = (t >> 5u) * 256u;
    var sum = 0.0;
    if (live) {
        for (var i = lane; i < d; i += 32u) {
            let v = bitcast<f32>(rest[source + i]);
            turned[x + i] = v;
            sum = fma(v, v, sum);
        }
    }
    parts[t] = sum;
    workgroupBarrier();
    if ((is_q && exists(8u)) || (is_k && exists(16u))) {
        var all = 0.0;
        for (var i = 0u; i < 32u; i++) { all += parts[(t & ~31u) + i]; }
        let r = 1.0 / sqrt(all / f32(d) + number(48u));
        for (var i = lane; i < d; i += 32u) {
            var w = 0.0;
            if (is_q) { w = q_norm[place(8u) + i]; } else { w = k_norm[place(16u) + i]; }
            turned[x + i] = turned[x + i] * r * w;
        }
    }
    workgroupBarrier();
    if (is_q || is_k) {
        let turn = place(24u) + row * 2u * half;
        for (var i = lane; i < half; i += 32u) {
            let p = turned[x + i];
            let q = turned[x + half + i];
            let c = bitcast<f32>(rest[turn + i]);
            let s = bitcast<f32>(rest[turn + half + i]);
            turned[x + i] = fma(p, c, -(q * s));
            turned[x + half + i] = fma(q, c, p * s);
        }
    }
    workgroupBarrier();
    if (is_q) {
        for (var i = lane; i < d; i += 32u) { turned[x + i] = turned[x + i] * number(52u); }
    }
    workgroupBarrier();
}

// 32 threads put a head of keys or of values, of those of one page, in their place.
fn store_head(t: u32, page: u32, offset: u32, is_k: bool) {
    let d = count(40u);
    let chunks = d >> 3u;
    for (var c = t & 31u; c < chunks; c += 32u) {
        var both = vec4<u32>();
        for (var i = 0u; i < 4u; i++) {
            let x = (t >> 5u) * 256u + c * 8u + 2u * i;
            both[i] = float_to_half(turned[x]) | (float_to_half(turned[x + 1u]) << 16u);
        }
        // Keys in columns of eight channels, so that neighbours read neighbouring slots.
        cache[page + select(8u * d + offset * chunks + c, c * 64u + offset, is_k)] = both;
    }
}
