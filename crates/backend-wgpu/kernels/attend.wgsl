// attend: softmax(q K) V over splits of SPLIT positions, up to eight heads of one key head
// together. A workgroup is (row, heads, split): either one split, whose part `gather` folds with
// the others, or all of a row's splits in turn. Both fold in the same order and give the same
// bits.
//
//     0 heads   56 q [rows, heads, d]; none: a row is all of its sequence, and turns its own   64
//     cache of this layer   72 table: pages of all spans   80 first [rows] where a row's pages begin
//     in it   88 position [rows]   96 out [rows, heads, d]   104 top [rows, heads, splits] largest
//     score of a split   112 weight [rows, heads, splits] sum of exp(score - top)   120 part [rows,
//     heads, splits, d] sum of exp(score - top) v   128 lanes that share a value's channels, a power
//     of two   132 splits: room for so many   136 whether a workgroup is one split   140 whether keys
//     and values are codes

const SPLIT = 256u;

var<workgroup> p: array<f32, 2048>; // [heads, SPLIT], then [threads, 8]
var<workgroup> seen: u32;

// (larger top, factor of what is before, factor of what comes)
fn factors(all: f32, top: f32) -> vec3<f32> {
    let larger = max(all, top);
    return vec3(larger, exponential(all - larger), exponential(top - larger));
}

// What the 32 threads of a head know, together.
fn largest(t: u32) -> f32 {
    var top = parts[t & ~31u];
    for (var i = 1u; i < 32u; i++) { top = max(top, parts[(t & ~31u) + i]); }
    return top;
}
fn total(t: u32) -> f32 {
    var sum = 0.0;
    for (var i = 0u; i < 32u; i++) { sum += parts[(t & ~31u) + i]; }
    return sum;
}

// Scores of one position, of every head, from the keys that begin there.
fn score(keys: u32, slot: u32, held: u32, codes: bool, t: u32) {
    let d = count(40u);
    let wide = select(8u, 16u, codes);
    var scores = array<f32, 8>();
    for (var c = 0u; c < d / wide; c++) {
        let word = cache[keys + c * 64u + slot];
        var scale = 1.0;
        if (codes) { scale = scale_at(keys, slot, c >> 1u); }
        for (var i = 0u; i < wide; i++) {
            var x = 0.0;
            if (codes) { x = scale * code_at(word, i); } else { x = halves(word, i); }
            for (var h = 0u; h < 8u; h++) {
                if (h < held) { scores[h] = fma(turned[h * 256u + c * wide + i], x, scores[h]); }
            }
        }
    }
    for (var h = 0u; h < held; h++) { p[h * SPLIT + t] = scores[h]; }
}

// Channels 8 chunk to 8 chunk + 7 of a value, of those that begin there.
fn value(values: u32, slot: u32, chunk: u32, codes: bool) -> array<f32, 8> {
    let d = count(40u);
    var x = array<f32, 8>();
    if (codes) {
        let word = cache[values + slot * (d >> 4u) + (chunk >> 1u)];
        let scale = scale_at(values, slot, chunk >> 2u);
        for (var i = 0u; i < 8u; i++) { x[i] = scale * code_at(word, 8u * (chunk & 1u) + i); }
    } else {
        let word = cache[values + slot * (d >> 3u) + chunk];
        for (var i = 0u; i < 8u; i++) { x[i] = halves(word, i); }
    }
    return x;
}

@compute @workgroup_size(256)
fn attend(@builtin(workgroup_id) block: vec3<u32>, @builtin(local_invocation_index) t: u32) {
    let heads = count(32u);
    let kv_heads = count(36u);
    let d = count(40u);
    let lanes = count(128u);
    let spread = count(136u) != 0u;
    let row = block.x;
    let group = heads / kv_heads;
    let packs = (group + 7u) >> 3u;
    let kv = block.y / packs;
    let pack = block.y % packs;
    let held = min(group - pack * 8u, 8u);
    let head = kv * group + pack * 8u; // the first of them
    if (t == 0u) { seen = rest[place(88u) + row] + 1u; }
    let visible = workgroupUniformLoad(&seen);
    let splits = (visible + SPLIT - 1u) / SPLIT;
    let begin = select(0u, block.z, spread);
    let end = select(splits, min(begin + 1u, splits), spread);
    let table = place(72u) + rest[place(80u) + row];
    let codes = count(140u) != 0u;
    let words = side_words(codes);
    let base = place(64u) / 4u + kv * 2u * words;
    let stride = kv_heads * 2u * words;
    if (exists(56u)) {
        let q = place(56u) + (row * heads + head) * d;
        for (var i = t; i < held * d; i += 256u) {
            turned[i / d * 256u + i % d] = bitcast<f32>(rest[q + i]);
        }
    } else {
        // Of a row's own key and value only the split that sees them has need, and no other row.
        if (begin < splits && end == splits) {
            let other = t >> 5u; // key, value
            turn_heads(t, row, heads + other * kv_heads + kv, other < 2u);
            let page = base + rest[table + ((visible - 1u) >> 6u)] * stride;
            let slot = (visible - 1u) & 63u;
            if (other < 2u) { store_head(t, page + other * words, slot, other == 0u, codes); }
            storageBarrier();
            workgroupBarrier();
        }
        turn_heads(t, row, head + (t >> 5u), (t >> 5u) < held);
    }
    let mine = t >> 5u; // of the heads
    let lane = t & 31u;
    let chunk = lane % lanes;
    let sub = lane / lanes;
    let subs = 32u / lanes;
    let live = mine < held && chunk < (d >> 3u);
    var all_top = 0.0;
    var all_weight = 0.0;
    var all = array<f32, 8>();
    for (var split = begin; split < end; split++) {
        let start = split * SPLIT;
        let n = min(visible - start, SPLIT);
        workgroupBarrier();
        if (t < n) {
            let at = start + t;
            score(base + rest[table + (at >> 6u)] * stride, at & 63u, held, codes, t);
        }
        workgroupBarrier();
        var m = -3.4e38;
        if (mine < held) {
            for (var j = lane; j < n; j += 32u) { m = max(m, p[mine * SPLIT + j]); }
        }
        parts[t] = m;
        workgroupBarrier();
        let top = largest(t);
        workgroupBarrier();
        var l = 0.0;
        if (mine < held) {
            for (var j = lane; j < n; j += 32u) {
                let e = exponential(p[mine * SPLIT + j] - top);
                p[mine * SPLIT + j] = e;
                l += e;
            }
        }
        parts[t] = l;
        workgroupBarrier();
        let weight = total(t);
        var o = array<f32, 8>();
        if (live) {
            for (var j = sub; j < n; j += subs) {
                let at = start + j;
                let values = base + rest[table + (at >> 6u)] * stride + words;
                let e = p[mine * SPLIT + j];
                var x = value(values, at & 63u, chunk, codes);
                for (var i = 0u; i < 8u; i++) { o[i] = fma(e, x[i], o[i]); }
            }
        }
        workgroupBarrier();
        for (var i = 0u; i < 8u; i++) { p[t * 8u + i] = o[i]; }
        workgroupBarrier();
        if (!live || sub != 0u) { continue; }
        let known = ((row * heads + head + mine) * count(132u)) + split;
        let f = factors(all_top, top);
        for (var i = 0u; i < 8u; i++) {
            var sum = 0.0;
            for (var s = 0u; s < subs; s++) { sum += p[(t + s * lanes) * 8u + i]; }
            if (spread) {
                rest[place(120u) + known * d + chunk * 8u + i] = bitcast<u32>(sum);
            } else if (split == 0u) {
                all[i] = sum;
            } else {
                all[i] = fma(f.z, sum, f.y * all[i]);
            }
        }
        if (spread && lane == 0u) {
            rest[place(104u) + known] = bitcast<u32>(top);
            rest[place(112u) + known] = bitcast<u32>(weight);
        }
        all_weight = select(fma(f.z, weight, f.y * all_weight), weight, split == 0u);
        all_top = select(f.x, top, split == 0u);
    }
    if (spread || !live || sub != 0u) { return; }
    let out = place(96u) + (row * heads + head + mine) * d + chunk * 8u;
    for (var i = 0u; i < 8u; i++) { coded[out + i] = bitcast<u32>(all[i] / all_weight); }
}

// The fold over splits, and the codes of its outcome. A thread is a channel.
//
//     0 position [rows]   8 top [rows, heads, splits]   16 weight   24 part [rows, heads, splits,
//     d] 32 out: acts   72 d   76 splits
@compute @workgroup_size(256)
fn gather(@builtin(workgroup_id) block: vec3<u32>, @builtin(local_invocation_index) t: u32) {
    let row = block.y;
    let width = count(64u);
    let d = count(72u);
    let i = block.x * 256u + t;
    if (i < width) {
        let at = (row * (width / d) + i / d) * count(76u);
        let part = place(24u) + at * d + i % d;
        let splits = (rest[place(0u) + row] + SPLIT) / SPLIT;
        var top = bitcast<f32>(rest[place(8u) + at]);
        var weight = bitcast<f32>(rest[place(16u) + at]);
        var o = bitcast<f32>(rest[part]);
        for (var s = 1u; s < splits; s++) {
            let f = factors(top, bitcast<f32>(rest[place(8u) + at + s]));
            top = f.x;
            weight = fma(f.z, bitcast<f32>(rest[place(16u) + at + s]), f.y * weight);
            o = fma(f.z, bitcast<f32>(rest[part + s * d]), f.y * o);
        }
        let y = o / weight;
        coded[place(32u) + row * width + i] = bitcast<u32>(y);
        room[t] = y;
    }
    workgroupBarrier();
    let group = block.x * 8u + (t >> 3u);
    if (t < 64u && group < (width >> 5u)) { quantise(t, 32u, row, group); }
}
