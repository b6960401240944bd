//! Alphabet: the 256 characters in which a byte-level vocabulary spells bytes.
//!
//! GPT-2 wanted every byte to be a visible character: printable Latin-1 bytes stand for
//! themselves, the other 68 are numbered from U+0100 upwards in the order of their value.
//! `Ġ` (U+0120) is therefore the space and `Ċ` (U+010A) the line feed.

/// The byte that `c` spells, or `None` when `c` is not in the alphabet.
pub(crate) fn byte_of(c: char) -> Option<u8> {
    let code = u32::from(c);
    let byte = match code {
        0x21..=0x7e | 0xa1..=0xac | 0xae..=0xff => code,
        0x100..=0x120 => code - 0x100,
        0x121..=0x142 => code - 0x121 + 0x7f,
        0x143 => 0xad,
        _ => return None,
    };
    u8::try_from(byte).ok()
}

/// The character that spells `byte`.
pub(crate) fn char_of(byte: u8) -> char {
    let code = match byte {
        0x21..=0x7e | 0xa1..=0xac | 0xae..=0xff => u32::from(byte),
        0x00..=0x20 => 0x100 + u32::from(byte),
        0x7f..=0xa0 => 0x121 + u32::from(byte) - 0x7f,
        0xad => 0x143,
    };
    char::from_u32(code).expect("below the surrogates")
}

/// Appends the bytes of a token; text outside the alphabet stands for itself, as a whole.
pub(crate) fn spell(token: &str, bytes: &mut Vec<u8>) {
    let start = bytes.len();
    for c in token.chars() {
        let Some(byte) = byte_of(c) else {
            bytes.truncate(start);
            bytes.extend_from_slice(token.as_bytes());
            return;
        };
        bytes.push(byte);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_byte_has_one_character() {
        for byte in 0..=255 {
            assert_eq!(byte_of(char_of(byte)), Some(byte));
        }
        let known = (0..0x500).filter_map(char::from_u32).filter(|&c| byte_of(c).is_some());
        assert_eq!(known.count(), 256);
        assert_eq!((char_of(b' '), char_of(b'\n'), char_of(0xad)), ('Ġ', 'Ċ', 'Ń'));
    }

    #[test]
    fn text_outside_the_alphabet_is_itself() {
        let mut bytes = b"<".to_vec();
        spell("Ġa", &mut bytes);
        spell("Ġ 你", &mut bytes);
        assert_eq!(bytes, "< aĠ 你".as_bytes());
    }
}
