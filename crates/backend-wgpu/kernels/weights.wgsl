// Weights times activations: rows of a matrix, as planes lie on the device (`planes.rs` draws
// them), and up to COLUMNS rows of activations (`codes.wgsl`), both read as four words at once. An
// op says which binding `weights` reads.

@group(0) @binding(3) var<storage, read> acts: array<vec4<u32>>;

// Columns that are met at once: 1, or 8 as arrays have room for.
override COLUMNS: u32 = 8u;

const F32 = 0u;
const F16 = 1u;
const BF16 = 2u;
const Q8_0 = 3u;
const Q4_K = 4u;
const Q5_K = 5u;
const Q6_K = 6u;

struct Matrix {
    which: u32,
    codes: u32, // all in units of 16 bytes
    high: u32,
    scale: u32,
    head: u32,
    format: u32,
    rows: u32, // of one matrix; experts follow one another
    k: u32,
}

fn matrix(field: u32, which: u32) -> Matrix {
    return Matrix(which, place(field) >> 2u, place(field + 8u) >> 2u, place(field + 16u) >> 2u,
                  place(field + 24u) >> 2u, count(field + 32u), count(field + 36u),
                  count(field + 40u));
}

// Rows of activations that are met, and how many of them there are.
struct Columns {
    floats: u32, // all in units of 16 bytes
    high: u32,
    low: u32,
    scale: u32,
    k: u32,
    count: u32,
    row: array<u32, 8>,
}

fn columns_of(field: u32, n: u32) -> Columns {
    return Columns(place(field) >> 2u, place(field + 8u) >> 2u, place(field + 16u) >> 2u,
                   place(field + 24u) >> 2u, count(field + 32u), n, array<u32, 8>());
}

// 32 weights of a row: w = s[half] code + b, but for Q6_K s[half] (code - 32).
struct Group {
    first: vec4<u32>, // sixteen codes, four to a word
    second: vec4<u32>,
    s: vec2<f32>,
    b: f32,
}

// Scale and bias of group j of a K-quant's head.
fn scale_and_bias(head: vec4<u32>, j: u32) -> vec2<f32> {
    let shift = 8u * (j & 3u);
    let low = (head.y >> shift) & 0xffu;
    let middle = (head.z >> shift) & 0xffu;
    let last = (head.w >> shift) & 0xffu;
    let scale = select((last & 15u) | ((low >> 6u) << 4u), low & 63u, j < 4u);
    let minimum = select((last >> 4u) | ((middle >> 6u) << 4u), middle & 63u, j < 4u);
    let d = half_to_float(head.x & 0xffffu);
    let dmin = half_to_float(head.x >> 16u);
    return vec2(d * f32(scale), -(dmin * f32(minimum)));
}

// Number `at` of two bytes in a plane.
fn short_at(which: u32, plane: u32, at: u32) -> u32 {
    let word = weights(which, plane + (at >> 3u))[(at >> 1u) & 3u];
    return (word >> (16u * (at & 1u))) & 0xffffu;
}

fn signed_byte(word: u32, at: u32) -> f32 {
    return f32(bitcast<i32>(word << (24u - 8u * at)) >> 24u);
}

fn load_group(m: Matrix, row: u32, g: u32) -> Group {
    var w: Group;
    let at = row * (m.k >> 5u) + g;
    if (m.format == Q8_0) {
        w.first = weights(m.which, m.codes + 2u * at);
        w.second = weights(m.which, m.codes + 2u * at + 1u);
        w.s = vec2(half_to_float(short_at(m.which, m.head, at)));
        return w;
    }
    let block = row * (m.k >> 8u) + (g >> 3u);
    let codes = weights(m.which, m.codes + at);
    w.first = codes & vec4(0x0f0f0f0fu);
    w.second = (codes >> vec4(4u)) & vec4(0x0f0f0f0fu);
    if (m.format == Q6_K) {
        let both = weights(m.which, m.high + (at >> 1u));
        let high = select(both.xy, both.zw, (at & 1u) == 1u);
        let shifts = vec4(0u, 2u, 4u, 6u);
        w.first |= ((vec4(high.x) >> shifts) & vec4(0x03030303u)) << vec4(4u);
        w.second |= ((vec4(high.y) >> shifts) & vec4(0x03030303u)) << vec4(4u);
        let d = half_to_float(short_at(m.which, m.head, block));
        let scale = short_at(m.which, m.scale, at);
        w.s = vec2(d * signed_byte(scale, 0u), d * signed_byte(scale, 1u));
        return w;
    }
    if (m.format == Q5_K) {
        let high = vec4(weights(m.which, m.high + (at >> 2u))[at & 3u]);
        w.first |= ((high >> vec4(0u, 1u, 2u, 3u)) & vec4(0x01010101u)) << vec4(4u);
        w.second |= ((high >> vec4(4u, 5u, 6u, 7u)) & vec4(0x01010101u)) << vec4(4u);
    }
    let both = scale_and_bias(weights(m.which, m.head + block), g & 7u);
    w.s = both.xx;
    w.b = both.y;
    return w;
}

fn dot16(w: vec4<u32>, q: vec4<u32>) -> i32 {
    return dot4I8Packed(w.x, q.x) + dot4I8Packed(w.y, q.y) + dot4I8Packed(w.z, q.z)
        + dot4I8Packed(w.w, q.w);
}

// acc + 32 weights times 32 activations: exact integers per scale, then one fma each.
fn meet(format: u32, w: Group, c: ptr<function, Columns>, row: u32, g: u32, acc: f32) -> f32 {
    let at = row * ((*c).k >> 5u) + g;
    let scale = acts[(*c).scale + at];
    let high = (*c).high + 2u * at;
    let low = (*c).low + 2u * at;
    let first = 128 * dot16(w.first, acts[high]) + dot16(w.first, acts[low]);
    let second = 128 * dot16(w.second, acts[high + 1u]) + dot16(w.second, acts[low + 1u]);
    let sums = bitcast<vec2<i32>>(scale.yz);
    let d = bitcast<f32>(scale.x);
    if (format == Q6_K) {
        let half = fma(f32(first - 32 * sums.x), w.s.x * d, acc);
        return fma(f32(second - 32 * sums.y), w.s.y * d, half);
    }
    let all = fma(f32(first + second), w.s.x * d, acc);
    if (format == Q8_0) { return all; }
    return fma(w.b, d * f32(sums.x + sums.y), all);
}

// Four floats of a plane from value `at` on, a multiple of eight, or four more.
fn load_floats(m: Matrix, at: u32, more: u32) -> vec4<f32> {
    if (m.format == F32) {
        return bitcast<vec4<f32>>(weights(m.which, m.codes + (at >> 2u) + more));
    }
    let v = weights(m.which, m.codes + (at >> 3u));
    let words = select(v.xy, v.zw, more == 1u);
    if (m.format == BF16) {
        return bitcast<vec4<f32>>(vec4(words.x << 16u, words.x & 0xffff0000u, words.y << 16u,
                                       words.y & 0xffff0000u));
    }
    return vec4(half_to_float(words.x & 0xffffu), half_to_float(words.x >> 16u),
                half_to_float(words.y & 0xffffu), half_to_float(words.y >> 16u));
}

fn fma4(w: vec4<f32>, x: vec4<f32>, acc: f32) -> f32 {
    return fma(w.w, x.w, fma(w.z, x.z, fma(w.y, x.y, fma(w.x, x.x, acc))));
}

// The part that `lane` of `lanes` has of a row of a matrix times each column: every lanes-th group.
fn multiply(m: Matrix, row: u32, c: ptr<function, Columns>, lane: u32, lanes: u32)
    -> array<f32, 8> {
    var acc = array<f32, 8>();
    if (m.format <= BF16) {
        for (var at = lane * 8u; at < m.k; at += lanes * 8u) {
            let near = load_floats(m, row * m.k + at, 0u);
            let far = load_floats(m, row * m.k + at, 1u);
            for (var i = 0u; i < COLUMNS; i++) {
                if (i >= (*c).count) { continue; }
                let begin = (*c).floats + (((*c).row[i] * (*c).k + at) >> 2u);
                let half = fma4(near, bitcast<vec4<f32>>(acts[begin]), acc[i]);
                acc[i] = fma4(far, bitcast<vec4<f32>>(acts[begin + 1u]), half);
            }
        }
        return acc;
    }
    for (var g = lane; g < (m.k >> 5u); g += lanes) {
        let w = load_group(m, row, g);
        for (var i = 0u; i < COLUMNS; i++) {
            if (i < (*c).count) { acc[i] = meet(m.format, w, c, (*c).row[i], g, acc[i]); }
        }
    }
    return acc;
}

// What lanes found, on its way to be summed: [columns, rows, lanes], a place left free behind each
// row so that rows lie in different banks.
var<workgroup> found: array<f32, 2304>;

fn keep(acc: array<f32, 8>, row: u32, rows: u32, lane: u32, lanes: u32) {
    var all = acc;
    for (var i = 0u; i < COLUMNS; i++) { found[(i * rows + row) * (lanes + 1u) + lane] = all[i]; }
}

fn total(column: u32, row: u32, rows: u32, lanes: u32) -> f32 {
    let begin = (column * rows + row) * (lanes + 1u);
    var sum = 0.0;
    for (var j = 0u; j < lanes; j += 4u) {
        sum += (found[begin + j] + found[begin + j + 1u])
            + (found[begin + j + 2u] + found[begin + j + 3u]);
    }
    return sum;
}
