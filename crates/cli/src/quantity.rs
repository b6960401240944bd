//! Quantity: numbers as people read and write them: bytes, parameters, rates.

/// Bytes in three digits, such as `18.6 GB`; a kilobyte has 1,000.
pub fn bytes(n: u64) -> String {
    scaled(n as f64, &["B", "kB", "MB", "GB", "TB", "PB", "EB"], " ")
}

/// A count in three digits, such as `30.5B`.
pub fn count(n: u64) -> String {
    scaled(n as f64, &["", "k", "M", "B", "T", "P", "E"], "")
}

fn scaled(mut n: f64, units: &[&str], gap: &str) -> String {
    let mut unit = 0;
    // 999.95 would print as 1000.0.
    while n >= 999.5 && unit + 1 < units.len() {
        n /= 1000.0;
        unit += 1;
    }
    let digits = if unit == 0 || n >= 99.95 { 0 } else { 1 + usize::from(n < 9.995) };
    format!("{n:.digits$}{gap}{}", units[unit])
}

/// Tokens per second.
pub fn rate(per_s: f64) -> String {
    if per_s < 100.0 { format!("{per_s:.1} tok/s") } else { format!("{per_s:.0} tok/s") }
}

/// A number with its digits in groups, such as `262,144`.
pub fn grouped(n: u64) -> String {
    let digits = n.to_string();
    let mut text = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// Reads a size such as `2G`, `512MiB` (powers of 1,024) or `2GB` (powers of 1,000).
pub fn parse_bytes(text: &str) -> Result<u64, String> {
    let fault =
        || format!("`{text}` is no size; accepted: a number and a unit, such as 512M or 2G");
    let end = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let number: f64 = text[..end].parse().map_err(|_| fault())?;
    let unit = text[end..].trim().to_ascii_lowercase();
    let (letter, base) = match unit.as_bytes() {
        [] | [b'b'] => (None, 1.0),
        [letter] | [letter, b'i', b'b'] => (Some(*letter), 1024.0),
        [letter, b'b'] => (Some(*letter), 1000.0),
        _ => return Err(fault()),
    };
    let power = match letter {
        None => 0,
        Some(letter) => 1 + b"kmgt".iter().position(|c| *c == letter).ok_or_else(fault)?,
    };
    let size = (0..power).fold(number, |size, _| size * base);
    if size < 1.0 || size > u64::MAX as f64 / 2.0 {
        return Err(fault());
    }
    Ok(size as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_written_in_three_digits() {
        let check = |n, expected: &str| assert_eq!(bytes(n), expected);
        check(0, "0 B");
        check(999, "999 B");
        check(1000, "1.00 kB");
        check(18_556_686_912, "18.6 GB");
        check(999_990_000, "1.00 GB");
        check(123_456_789, "123 MB");
        check(u64::MAX, "18.4 EB");
        assert_eq!(count(30_532_122_624), "30.5B");
        assert_eq!(count(12), "12");
        assert_eq!(grouped(1), "1");
        assert_eq!(grouped(262_144), "262,144");
        assert_eq!(grouped(1_000_000), "1,000,000");
        assert_eq!(rate(16.71), "16.7 tok/s");
    }

    #[test]
    fn sizes_are_read() {
        let check = |text, expected| assert_eq!(parse_bytes(text), Ok(expected), "{text}");
        check("17", 17);
        check("2G", 2 << 30);
        check("2g", 2 << 30);
        check("1.5 GiB", 3 << 29);
        check("2GB", 2_000_000_000);
        check("512M", 512 << 20);
        for wrong in ["", "G", "-1", "1e3", "0", "2X", "2GX", "9999999999T", "1..2", "nan"] {
            assert!(parse_bytes(wrong).is_err(), "{wrong}");
        }
    }
}
