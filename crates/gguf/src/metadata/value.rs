//! Value: one metadata value, read in place. Arrays stay in the file and are decoded as iterated.
//!
//! [`skip`] proves a value well formed once, at open; everything else decodes what was proven.

use std::fmt;

use crate::cursor::Cursor;
use crate::error::{Error, quoted};

/// The type of a metadata value; the discriminants are the ids in the file.
#[allow(missing_docs)] // the names are the format's own
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    U8 = 0,
    I8 = 1,
    U16 = 2,
    I16 = 3,
    U32 = 4,
    I32 = 5,
    F32 = 6,
    Bool = 7,
    String = 8,
    Array = 9,
    U64 = 10,
    I64 = 11,
    F64 = 12,
}

impl Kind {
    /// Every kind, by ascending id.
    pub const ALL: [Kind; 13] = {
        use Kind::{Array, Bool, F32, F64, I8, I16, I32, I64, String, U8, U16, U32, U64};
        [U8, I8, U16, I16, U32, I32, F32, Bool, String, Array, U64, I64, F64]
    };

    /// Its name in messages, such as `u32`.
    pub fn name(self) -> &'static str {
        const NAMES: [&str; 13] = [
            "u8", "i8", "u16", "i16", "u32", "i32", "f32", "bool", "string", "array", "u64", "i64",
            "f64",
        ];
        NAMES[self as usize]
    }

    pub(crate) fn from_id(id: u32) -> Option<Kind> {
        Kind::ALL.get(id as usize).copied()
    }

    pub(crate) fn read(cursor: &mut Cursor<'_>, what: &str) -> Result<Kind, Error> {
        let at = cursor.position();
        let id = cursor.u32(what)?;
        Kind::from_id(id).ok_or_else(|| {
            Error::new(format!("{what} is {id}; accepted: 0 (u8) to 12 (f64)")).at(at)
        })
    }

    pub(crate) fn is_integer(self) -> bool {
        use Kind::{I8, I16, I32, I64, U8, U16, U32, U64};
        matches!(self, U8 | I8 | U16 | I16 | U32 | I32 | U64 | I64)
    }

    /// Bytes of one value, or `None` for strings and arrays, whose length is in the file.
    fn width(self) -> Option<u64> {
        Some(match self {
            Kind::U8 | Kind::I8 | Kind::Bool => 1,
            Kind::U16 | Kind::I16 => 2,
            Kind::U32 | Kind::I32 | Kind::F32 => 4,
            Kind::U64 | Kind::I64 | Kind::F64 => 8,
            Kind::String | Kind::Array => return None,
        })
    }

    /// The fewest bytes that one value can take: the lengths of strings and arrays.
    fn min_bytes(self) -> u64 {
        self.width().unwrap_or(if self == Kind::String { 8 } else { 12 })
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// A metadata value as the file holds it.
#[allow(missing_docs)] // the names are the format's own
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Value<'a> {
    U8(u8),
    I8(i8),
    U16(u16),
    I16(i16),
    U32(u32),
    I32(i32),
    F32(f32),
    Bool(bool),
    String(&'a str),
    Array(Array<'a>),
    U64(u64),
    I64(i64),
    F64(f64),
}

impl<'a> Value<'a> {
    /// Its type.
    pub fn kind(&self) -> Kind {
        match self {
            Value::U8(_) => Kind::U8,
            Value::I8(_) => Kind::I8,
            Value::U16(_) => Kind::U16,
            Value::I16(_) => Kind::I16,
            Value::U32(_) => Kind::U32,
            Value::I32(_) => Kind::I32,
            Value::F32(_) => Kind::F32,
            Value::Bool(_) => Kind::Bool,
            Value::String(_) => Kind::String,
            Value::Array(_) => Kind::Array,
            Value::U64(_) => Kind::U64,
            Value::I64(_) => Kind::I64,
            Value::F64(_) => Kind::F64,
        }
    }

    /// The number, if it is of an integer type.
    pub fn integer(&self) -> Option<i128> {
        Some(match *self {
            Value::U8(x) => x.into(),
            Value::I8(x) => x.into(),
            Value::U16(x) => x.into(),
            Value::I16(x) => x.into(),
            Value::U32(x) => x.into(),
            Value::I32(x) => x.into(),
            Value::U64(x) => x.into(),
            Value::I64(x) => x.into(),
            _ => return None,
        })
    }

    /// The number, if it is of a floating-point type.
    pub fn float(&self) -> Option<f64> {
        match *self {
            Value::F32(x) => Some(x.into()),
            Value::F64(x) => Some(x),
            _ => None,
        }
    }

    /// Decodes bytes that [`skip`] passed over.
    pub(crate) fn decode(kind: Kind, bytes: &'a [u8]) -> Value<'a> {
        match kind {
            Kind::U8 => Value::U8(bytes[0]),
            Kind::I8 => Value::I8(i8::from_le_bytes(fixed(bytes))),
            Kind::U16 => Value::U16(u16::from_le_bytes(fixed(bytes))),
            Kind::I16 => Value::I16(i16::from_le_bytes(fixed(bytes))),
            Kind::U32 => Value::U32(u32::from_le_bytes(fixed(bytes))),
            Kind::I32 => Value::I32(i32::from_le_bytes(fixed(bytes))),
            Kind::F32 => Value::F32(f32::from_le_bytes(fixed(bytes))),
            Kind::Bool => Value::Bool(bytes[0] != 0),
            Kind::String => Value::String(str::from_utf8(&bytes[8..]).expect(PROVEN)),
            Kind::Array => {
                let mut cursor = Cursor::new(bytes);
                let kind = Kind::read(&mut cursor, "array").expect(PROVEN);
                let len = cursor.u64("array").expect(PROVEN);
                Value::Array(Array { kind, len, bytes: &bytes[12..] })
            }
            Kind::U64 => Value::U64(u64::from_le_bytes(fixed(bytes))),
            Kind::I64 => Value::I64(i64::from_le_bytes(fixed(bytes))),
            Kind::F64 => Value::F64(f64::from_le_bytes(fixed(bytes))),
        }
    }
}

impl fmt::Display for Value<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Value::F32(x) => write!(f, "{x}"),
            Value::F64(x) => write!(f, "{x}"),
            Value::Bool(x) => write!(f, "{x}"),
            Value::String(text) => f.write_str(&quoted(text)),
            Value::Array(array) => write!(f, "[{} × {}]", array.len, array.kind),
            integer => write!(f, "{}", integer.integer().unwrap_or_default()),
        }
    }
}

/// A panic with this text means that the file was overwritten while it was mapped.
const PROVEN: &str = "the value was checked at open; the file must have changed since";

fn fixed<const N: usize>(bytes: &[u8]) -> [u8; N] {
    bytes.try_into().expect(PROVEN)
}

/// An array in the file: its element type, its length, and its bytes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Array<'a> {
    kind: Kind,
    len: u64,
    bytes: &'a [u8],
}

impl<'a> Array<'a> {
    pub(crate) fn new(kind: Kind, len: u64, bytes: &'a [u8]) -> Array<'a> {
        Array { kind, len, bytes }
    }

    /// The type of its elements.
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// How many elements it has.
    pub fn len(&self) -> usize {
        self.len as usize
    }

    /// Whether it has none.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    pub(crate) fn bytes(&self) -> &'a [u8] {
        self.bytes
    }

    /// Its elements in order.
    pub fn iter(&self) -> Items<'a> {
        Items { kind: self.kind, left: self.len(), cursor: Cursor::new(self.bytes) }
    }

    /// Its elements as text, if they are strings.
    pub fn strings(&self) -> Option<Strings<'a>> {
        (self.kind == Kind::String)
            .then(|| Strings { left: self.len(), cursor: Cursor::new(self.bytes) })
    }
}

impl<'a> IntoIterator for Array<'a> {
    type Item = Value<'a>;
    type IntoIter = Items<'a>;

    fn into_iter(self) -> Items<'a> {
        self.iter()
    }
}

impl<'a> IntoIterator for &Array<'a> {
    type Item = Value<'a>;
    type IntoIter = Items<'a>;

    fn into_iter(self) -> Items<'a> {
        self.iter()
    }
}

/// The elements of an [`Array`], decoded one at a time.
#[derive(Clone, Debug)]
pub struct Items<'a> {
    kind: Kind,
    left: usize,
    cursor: Cursor<'a>,
}

impl<'a> Iterator for Items<'a> {
    type Item = Value<'a>;

    fn next(&mut self) -> Option<Value<'a>> {
        self.left = self.left.checked_sub(1)?;
        let start = self.cursor.position();
        skip(&mut self.cursor, self.kind).expect(PROVEN);
        Some(Value::decode(self.kind, self.cursor.since(start)))
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.left, Some(self.left))
    }
}

impl ExactSizeIterator for Items<'_> {}

/// The elements of an array of strings, borrowed from the file.
#[derive(Clone, Debug)]
pub struct Strings<'a> {
    left: usize,
    cursor: Cursor<'a>,
}

impl<'a> Iterator for Strings<'a> {
    type Item = &'a str;

    fn next(&mut self) -> Option<&'a str> {
        self.left = self.left.checked_sub(1)?;
        Some(self.cursor.string("a string").expect(PROVEN))
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.left, Some(self.left))
    }
}

impl ExactSizeIterator for Strings<'_> {}

/// Passes over one value and proves it well formed: inside the file, strings UTF-8, bools 0 or 1,
/// arrays nested at most once. Takes time linear in the value's bytes and allocates nothing.
pub(crate) fn skip(cursor: &mut Cursor<'_>, kind: Kind) -> Result<(), Error> {
    if kind != Kind::Array {
        return skip_plain(cursor, kind, 1);
    }
    let (outer, n) = array_head(cursor)?;
    if outer != Kind::Array {
        return skip_plain(cursor, outer, n);
    }
    for _ in 0..n {
        let at = cursor.position();
        let (inner, n) = array_head(cursor)?;
        if inner == Kind::Array {
            let problem = "arrays are nested three deep; accepted: an array of arrays at most";
            return Err(Error::new(problem).at(at));
        }
        skip_plain(cursor, inner, n)?;
    }
    Ok(())
}

/// Reads an array's element type and length, and proves that the elements can fit.
fn array_head(cursor: &mut Cursor<'_>) -> Result<(Kind, u64), Error> {
    let kind = Kind::read(cursor, "the array's element type")?;
    let n = cursor.u64("the array's length")?;
    cursor.check_count(n, kind.min_bytes(), "array elements")?;
    Ok((kind, n))
}

/// Passes over `n` values that are not arrays.
fn skip_plain(cursor: &mut Cursor<'_>, kind: Kind, n: u64) -> Result<(), Error> {
    let Some(width) = kind.width() else {
        for _ in 0..n {
            cursor.string("a string")?;
        }
        return Ok(());
    };
    // `n * width` cannot wrap: it is one value, or `array_head` compared it with the file's size.
    let start = cursor.position();
    let bytes = cursor.bytes(n * width, "the value")?;
    if kind == Kind::Bool
        && let Some(i) = bytes.iter().position(|&b| b > 1)
    {
        let problem = format!("a bool holds {}; accepted: 0 or 1", bytes[i]);
        return Err(Error::new(problem).at(start + i as u64));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn array(kind: u32, n: u64, elements: &[u8]) -> Vec<u8> {
        [&kind.to_le_bytes()[..], &n.to_le_bytes(), elements].concat()
    }

    fn value(kind: Kind, bytes: &[u8]) -> Result<Value<'_>, String> {
        let mut cursor = Cursor::new(bytes);
        skip(&mut cursor, kind).map_err(|e| e.to_string())?;
        assert_eq!(cursor.remaining(), 0);
        Ok(Value::decode(kind, bytes))
    }

    #[test]
    fn names_and_ids_agree() {
        for (id, kind) in Kind::ALL.into_iter().enumerate() {
            assert_eq!(kind as usize, id);
            assert_eq!(Kind::from_id(id as u32), Some(kind));
            assert_eq!(format!("{kind:?}").to_lowercase(), kind.name());
        }
        assert_eq!(Kind::from_id(13), None);
    }

    #[test]
    fn scalars() {
        let check = |kind, bytes: &[u8], expected: Value<'_>| {
            let found = value(kind, bytes).unwrap();
            assert_eq!((found, found.kind()), (expected, kind));
        };
        check(Kind::U8, &[200], Value::U8(200));
        check(Kind::I8, &[200], Value::I8(-56));
        check(Kind::U16, &[1, 2], Value::U16(513));
        check(Kind::I16, &[254, 255], Value::I16(-2));
        check(Kind::U32, &[1, 0, 0, 128], Value::U32(0x8000_0001));
        check(Kind::I32, &[255; 4], Value::I32(-1));
        check(Kind::F32, &1.5f32.to_le_bytes(), Value::F32(1.5));
        check(Kind::Bool, &[1], Value::Bool(true));
        check(Kind::String, b"\x02\0\0\0\0\0\0\0hi", Value::String("hi"));
        check(Kind::U64, &[255; 8], Value::U64(u64::MAX));
        check(Kind::I64, &[255; 8], Value::I64(-1));
        check(Kind::F64, &(-2.5f64).to_le_bytes(), Value::F64(-2.5));
    }

    #[test]
    fn arrays_are_iterated_in_place() {
        let bytes = array(3, 3, &[1, 0, 254, 255, 3, 0]);
        let Ok(Value::Array(found)) = value(Kind::Array, &bytes) else { panic!("an array") };
        assert_eq!((found.kind(), found.len(), found.iter().len()), (Kind::I16, 3, 3));
        let items: Vec<_> = found.iter().collect();
        assert_eq!(items, [Value::I16(1), Value::I16(-2), Value::I16(3)]);
        assert!(found.strings().is_none());

        let bytes = array(8, 2, b"\x01\0\0\0\0\0\0\0a\x00\0\0\0\0\0\0\0");
        let Ok(Value::Array(found)) = value(Kind::Array, &bytes) else { panic!("an array") };
        assert_eq!(found.strings().unwrap().collect::<Vec<_>>(), ["a", ""]);

        let bytes = array(9, 2, &[array(0, 2, &[7, 8]), array(8, 0, &[])].concat());
        let Ok(Value::Array(found)) = value(Kind::Array, &bytes) else { panic!("an array") };
        let inner = |v| if let Value::Array(a) = v { a.iter().collect() } else { vec![v] };
        let items: Vec<Vec<Value<'_>>> = found.iter().map(inner).collect();
        assert_eq!(items, [vec![Value::U8(7), Value::U8(8)], vec![]]);
    }

    #[test]
    fn what_is_not_well_formed_is_refused() {
        let check = |kind, bytes: &[u8], words: &str| {
            let found = value(kind, bytes).unwrap_err();
            assert!(found.contains(words), "{found:?} lacks {words:?}");
        };
        check(Kind::Bool, &[2], "a bool holds 2; accepted: 0 or 1 [at byte 0]");
        check(Kind::U64, &[0; 7], "needs 8 bytes, 7 left");
        check(Kind::Array, &array(99, 0, &[]), "element type is 99; accepted: 0 (u8) to 12 (f64)");
        check(Kind::Array, &array(10, 1 << 61, &[]), "cannot fit in the 0 bytes left");
        check(
            Kind::Array,
            &array(8, 1 << 40, &[0; 80]),
            "cannot fit in the 80 bytes left (at most 10)",
        );
        check(Kind::Array, &array(7, 3, &[1, 0, 9]), "a bool holds 9");
        check(Kind::Array, &array(8, 1, &[255; 8]), "a string claims 18446744073709551615 bytes");
        let deep = array(9, 1, &array(9, 1, &array(0, 1, &[1])));
        check(Kind::Array, &deep, "nested three deep; accepted: an array of arrays at most");
    }

    #[test]
    fn display_is_short() {
        assert_eq!(Value::I64(-3).to_string(), "-3");
        assert_eq!(Value::String("a\nb").to_string(), r"`a\nb`");
        assert_eq!(Value::Array(Array::new(Kind::String, 3, &[])).to_string(), "[3 × string]");
    }
}
