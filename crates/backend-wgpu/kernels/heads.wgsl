// Heads of queries, keys and values, as `rotate` and `attend` are told of them:
//
//     0 qkv [rows, q + 2 kv]   8 norm of queries [d] or none   16 of keys   24 turn [rows, 2, half]
//     cosines, sines   32 heads   36 kv_heads   40 d   44 half: pairs that turn   48 eps   52 scale:
//     1 / sqrt(d), of queries

@group(0) @binding(1) var<storage, read_write> rest: array<u32>;
@group(0) @binding(7) var<storage, read> q_norm: array<f32>;
@group(0) @binding(8) var<storage, read> k_norm: array<f32>;
@group(0) @binding(10) var<storage, read_write> cache: array<vec4<u32>>;

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

// Keys and values of a page, of each head first keys, then values, in words of 16 bytes, which are
// eight halves, sixteen codes or four scales. Keys lie in columns of a word, so that neighbours read
// neighbouring slots.
//
//     halves   keys [d / 8, 64]      values [64, d / 8]
//     codes    keys [d / 16, 64]     their scales [64, s]    values [64, d / 16]    their scales [64, s]
//
// A scale is 32 channels' as on the CPU.
fn side_words(codes: bool) -> u32 {
    let d = count(40u);
    return select(8u * d, 4u * d + 64u * scale_words(), codes);
}
fn scale_words() -> u32 { return (count(40u) + 127u) / 128u; }

// The scale of channels 32 g to 32 g + 31 of a head that was turned.
fn scale_of(x: u32, g: u32) -> f32 {
    var top = 0u;
    for (var i = 0u; i < 32u; i++) {
        top = max(top, bitcast<u32>(turned[x + 32u * g + i]) & 0x7fffffffu);
    }
    if (top >= 0x7f800000u) { return bitcast<f32>(top | 0x7fc00000u); }
    if (top < (31u << 23u)) { return 0.0; } // 2^-96
    return bitcast<f32>(top) / 127.0;
}

// 32 threads put a key or a value into its slot.
fn store_head(t: u32, side: u32, slot: u32, is_k: bool, codes: bool) {
    let d = count(40u);
    let lane = t & 31u;
    let x = (t >> 5u) * 256u;
    if (!codes) {
        let chunks = d >> 3u;
        for (var c = lane; c < chunks; c += 32u) {
            var both = vec4<u32>();
            for (var i = 0u; i < 4u; i++) {
                let at = x + c * 8u + 2u * i;
                both[i] = float_to_half(turned[at]) | (float_to_half(turned[at + 1u]) << 16u);
            }
            cache[side + select(slot * chunks + c, c * 64u + slot, is_k)] = both;
        }
        return;
    }
    let chunks = d >> 4u;
    if (lane < chunks) {
        let scale = scale_of(x, lane >> 1u);
        var words = vec4<u32>();
        for (var i = 0u; i < 16u; i++) {
            var code = 0;
            if (scale > 0.0) { code = i32(round(turned[x + lane * 16u + i] / scale)); }
            words[i >> 2u] |= (u32(code) & 0xffu) << (8u * (i & 3u));
        }
        cache[side + select(slot * chunks + lane, lane * 64u + slot, is_k)] = words;
    }
    if (lane < scale_words()) {
        var scales = vec4<f32>();
        for (var i = 0u; i < 4u; i++) {
            let g = 4u * lane + i;
            if (g < (d >> 5u)) { scales[i] = scale_of(x, g); }
        }
        cache[side + 4u * d + slot * scale_words() + lane] = bitcast<vec4<u32>>(scales);
    }
}

// The scale of group g of a slot.
fn scale_at(side: u32, slot: u32, g: u32) -> f32 {
    let scales = cache[side + 4u * count(40u) + slot * scale_words() + (g >> 2u)];
    return bitcast<f32>(scales[g & 3u]);
}

// Code `at` of sixteen.
fn code_at(words: vec4<u32>, at: u32) -> f32 {
    return f32(bitcast<i32>(words[at >> 2u] << (24u - 8u * (at & 3u))) >> 24u);
}
