// Codes of activations: rows as floats, and as codes of 15 bits (128 high + low), 32 to a scale:
//
//     floats [rows, k]    high, low [rows, k] of a byte    scale [rows, k / 32] d, two sums, unused

@group(0) @binding(2) var<storage, read_write> coded: array<u32>;

var<workgroup> room: array<f32, 256>; // eight groups of 32 values

fn code_of(x: f32, inverse: f32) -> i32 {
    if (inverse == 0.0) { return 0; }
    return i32(round(x * inverse));
}

// 64 threads write the codes of what is in `room`, four each, by the definition of the CPU's wide
// rows (`activation.rs`): thread t those of group t / 8 of the room, which is `group` of `row` of
// the acts at `field`.
fn quantise(t: u32, field: u32, row: u32, group: u32) {
    let k = count(field + 32u);
    let first = (t >> 3u) * 32u;
    let quad = t & 7u;
    var top = 0u;
    for (var i = 0u; i < 32u; i++) {
        top = max(top, bitcast<u32>(room[first + i]) & 0x7fffffffu);
    }
    var inverse = 0.0;
    var d = 0u;
    if (top >= (227u << 23u)) { // 2^100
        d = 0x7fc00000u;
    } else if (top >= (31u << 23u)) { // 2^-96
        inverse = 16256.0 / bitcast<f32>(top);
        d = bitcast<u32>(bitcast<f32>(top) / 16256.0);
    }
    var high = 0u;
    var low = 0u;
    for (var i = 0u; i < 4u; i++) {
        let code = code_of(room[first + quad * 4u + i], inverse);
        let upper = (code + 64) >> 7u;
        high |= (u32(upper) & 0xffu) << (8u * i);
        low |= (u32(code - 128 * upper) & 0xffu) << (8u * i);
    }
    let word = (row * k + group * 32u) / 4u + quad;
    coded[place(field + 8u) + word] = high;
    coded[place(field + 16u) + word] = low;
    let scale = place(field + 24u) + (row * (k >> 5u) + group) * 4u;
    if (quad == 0u) { coded[scale] = d; }
    if ((quad & 3u) == 0u) {
        var sum = 0;
        for (var i = 0u; i < 16u; i++) { sum += code_of(room[first + quad * 4u + i], inverse); }
        coded[scale + 1u + (quad >> 2u)] = bitcast<u32>(sum);
    }
}
