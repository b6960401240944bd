// What every op shares: its arguments, numbers, and where its buffers are bound.
//
// Arguments are the struct that the host writes, field by field; a field is named by its offset in
// bytes. A binding has one number in all ops:
//
//     1 rest    2 coded    3 acts    4 5 6 matrices    7 8 9 vectors    10 cache
//
// Nothing depends on how a device groups its threads, on whether it fuses a product with a sum
// (`fma` may be either), flushes what is subnormal, or keeps NaN: bits are asked instead. Sums
// have an order that follows from shapes alone.

@group(0) @binding(0) var<storage, read> args: array<u32>;

// Where a buffer begins in its binding, in words.
fn place(field: u32) -> u32 { return args[field >> 2u]; }
fn exists(field: u32) -> bool { return args[(field >> 2u) + 1u] != 0u; }
fn count(field: u32) -> u32 { return args[field >> 2u]; }
fn number(field: u32) -> f32 { return bitcast<f32>(args[field >> 2u]); }

fn is_finite(x: f32) -> bool { return (bitcast<u32>(x) & 0x7f800000u) != 0x7f800000u; }
fn is_nan(x: f32) -> bool { return (bitcast<u32>(x) & 0x7fffffffu) > 0x7f800000u; }

// e^x by the polynomial of the CPU's definition: inf above 88.72, 0 below -87.33.
fn power_of_two(n: i32) -> f32 { return bitcast<f32>(u32(n + 127) << 23u); }
fn exponential(x: f32) -> f32 {
    let t = clamp(x, -87.33, 88.72);
    let n = round(t * 0x1.715476p+0f);
    var r = fma(n, -0x1.63p-1f, t);
    r = fma(n, 0x1.bd0106p-13f, r);
    var p = 0x1.6a23dp-10f;
    p = fma(p, r, 0x1.123a2p-7f);
    p = fma(p, r, 0x1.5558f2p-5f);
    p = fma(p, r, 0x1.555492p-3f);
    p = fma(p, r, 0x1.fffffcp-2f);
    p = fma(p, r, 1.0);
    p = fma(p, r, 1.0);
    let whole = i32(n);
    let half = whole >> 1u;
    var y = bitcast<u32>(p * power_of_two(half) * power_of_two(whole - half));
    y = select(y, 0x7f800000u, x > 88.72);
    y = select(y, 0u, x < -87.33);
    return bitcast<f32>(select(y, bitcast<u32>(x), is_nan(x)));
}

// Half precision by its bits, because a device may flush what is subnormal, and round as it likes.
fn half_to_float(h: u32) -> f32 {
    let exponent = (h >> 10u) & 31u;
    let normal = ((h & 0x7fffu) << 13u) + (112u << 23u);
    let small = bitcast<u32>(f32(h & 0x3ffu) * 0x1.0p-24f);
    let large = select(normal, normal + (112u << 23u), exponent == 31u);
    let bits = select(large, small, exponent == 0u);
    return bitcast<f32>(bits | ((h & 0x8000u) << 16u));
}
fn float_to_half(x: f32) -> u32 {
    let bits = bitcast<u32>(x);
    let sign = (bits >> 16u) & 0x8000u;
    let size = bits & 0x7fffffffu;
    if (size > 0x7f800000u) { return sign | 0x7e00u; }
    if (size >= 0x477ff000u) { return sign | 0x7c00u; } // from 65520 on
    if (size >= 0x38800000u) {
        let small = size - (112u << 23u);
        return sign | ((small + 0xfffu + ((small >> 13u) & 1u)) >> 13u);
    }
    let shift = 126u - (size >> 23u); // what is left of it is a multiple of 2^-24
    if (shift > 24u) { return sign; }
    let all = (size & 0x7fffffu) | 0x800000u;
    let kept = all >> shift;
    let cut = all & ((1u << shift) - 1u);
    let middle = 1u << (shift - 1u);
    let up = cut > middle || (cut == middle && (kept & 1u) == 1u);
    return sign | (kept + select(0u, 1u, up));
}

// Eight halves in order.
fn halves(v: vec4<u32>, at: u32) -> f32 {
    return half_to_float((v[at >> 1u] >> (16u * (at & 1u))) & 0xffffu);
}
