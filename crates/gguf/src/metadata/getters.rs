//! Typed getters of the metadata: absent is `None`, another type is an error that names it.
//!
//! An integer getter takes any integer type whose value fits; a float getter takes f32 and f64.

use std::fmt;

use super::{Array, Kind, Metadata, Strings, Value};
use crate::error::{Error, quoted};

const INTEGERS: &str = "an integer (u8, i8, u16, i16, u32, i32, u64, i64)";
const FLOATS: &str = "f32 or f64";

impl Metadata {
    /// An integer from 0 to 2³² − 1.
    pub fn u32(&self, key: &str) -> Result<Option<u32>, Error> {
        self.integer(key, u32::MAX.into()).map(|found| found.map(|value| value as u32))
    }

    /// An integer from 0 to 2⁶⁴ − 1.
    pub fn u64(&self, key: &str) -> Result<Option<u64>, Error> {
        self.integer(key, u64::MAX)
    }

    /// A floating-point number; an f64 is rounded, and refused where it would become infinite.
    pub fn f32(&self, key: &str) -> Result<Option<f32>, Error> {
        self.typed(key, FLOATS, |value| value.float().map(narrow))?
            .map(|found| found.map_err(|wide| self.invalid(key, wide)))
            .transpose()
    }

    /// A truth value.
    pub fn bool(&self, key: &str) -> Result<Option<bool>, Error> {
        self.typed(key, "bool", |value| if let Value::Bool(x) = value { Some(x) } else { None })
    }

    /// A text.
    pub fn str(&self, key: &str) -> Result<Option<&str>, Error> {
        self.typed(key, "string", |value| if let Value::String(x) = value { Some(x) } else { None })
    }

    /// An array of texts, borrowed from the file.
    pub fn strings(&self, key: &str) -> Result<Option<Strings<'_>>, Error> {
        let strings = |value| if let Value::Array(array) = value { array.strings() } else { None };
        self.typed(key, "an array of strings", strings)
    }

    /// An array of integers that all fit.
    pub fn i32s(&self, key: &str) -> Result<Option<Vec<i32>>, Error> {
        self.integers(key, "i32")
    }

    /// An array of integers that all fit.
    pub fn u32s(&self, key: &str) -> Result<Option<Vec<u32>>, Error> {
        self.integers(key, "u32")
    }

    /// An array of floating-point numbers.
    pub fn f32s(&self, key: &str) -> Result<Option<Vec<f32>>, Error> {
        let floats = |value| array_of(value, |kind| matches!(kind, Kind::F32 | Kind::F64));
        let Some(array) = self.typed(key, "an array of f32 or f64", floats)? else {
            return Ok(None);
        };
        let element = |(i, value): (usize, Value<'_>)| {
            let wide = value.float().expect("an array has one element type");
            narrow(wide).map_err(|problem| self.invalid(key, format!("element {i}: {problem}")))
        };
        array.iter().enumerate().map(element).collect::<Result<_, _>>().map(Some)
    }

    /// [`u32`](Metadata::u32), where absence is an error.
    pub fn require_u32(&self, key: &str) -> Result<u32, Error> {
        self.u32(key)?.ok_or_else(|| self.missing(key))
    }

    /// [`u64`](Metadata::u64), where absence is an error.
    pub fn require_u64(&self, key: &str) -> Result<u64, Error> {
        self.u64(key)?.ok_or_else(|| self.missing(key))
    }

    /// [`f32`](Metadata::f32), where absence is an error.
    pub fn require_f32(&self, key: &str) -> Result<f32, Error> {
        self.f32(key)?.ok_or_else(|| self.missing(key))
    }

    /// [`str`](Metadata::str), where absence is an error.
    pub fn require_str(&self, key: &str) -> Result<&str, Error> {
        self.str(key)?.ok_or_else(|| self.missing(key))
    }

    /// [`strings`](Metadata::strings), where absence is an error.
    pub fn require_strings(&self, key: &str) -> Result<Strings<'_>, Error> {
        self.strings(key)?.ok_or_else(|| self.missing(key))
    }

    /// The error of a key that must be there and is not.
    pub fn missing(&self, key: &str) -> Error {
        Error::new(format!("missing key {}", quoted(key))).in_file(self.path())
    }

    fn integer(&self, key: &str, max: u64) -> Result<Option<u64>, Error> {
        let Some(found) = self.typed(key, INTEGERS, |value| value.integer())? else {
            return Ok(None);
        };
        match u64::try_from(found) {
            Ok(value) if value <= max => Ok(Some(value)),
            _ => Err(self.invalid(key, format!("found {found}, accepted: 0 to {max}"))),
        }
    }

    fn integers<T: TryFrom<i128>>(&self, key: &str, name: &str) -> Result<Option<Vec<T>>, Error> {
        let integers = |value| array_of(value, Kind::is_integer);
        let Some(array) = self.typed(key, "an array of integers", integers)? else {
            return Ok(None);
        };
        let element = |(i, value): (usize, Value<'_>)| {
            let wide = value.integer().expect("an array has one element type");
            T::try_from(wide).map_err(|_| {
                self.invalid(key, format!("element {i} is {wide}, which does not fit {name}"))
            })
        };
        array.iter().enumerate().map(element).collect::<Result<_, _>>().map(Some)
    }

    /// The value of `key` where `accept` takes it.
    fn typed<'a, T>(
        &'a self,
        key: &str,
        accepted: impl fmt::Display,
        accept: impl FnOnce(Value<'a>) -> Option<T>,
    ) -> Result<Option<T>, Error> {
        let Some(value) = self.get(key) else { return Ok(None) };
        if let Some(found) = accept(value) {
            return Ok(Some(found));
        }
        let found = match value {
            Value::Array(array) => format!("array of {}", array.kind()),
            other => format!("{} {other}", other.kind()),
        };
        Err(self.invalid(key, format!("found {found}, accepted: {accepted}")))
    }
}

fn array_of(value: Value<'_>, accept: impl FnOnce(Kind) -> bool) -> Option<Array<'_>> {
    match value {
        Value::Array(array) if accept(array.kind()) => Some(array),
        _ => None,
    }
}

fn narrow(wide: f64) -> Result<f32, String> {
    let narrow = wide as f32;
    if wide.is_finite() && !narrow.is_finite() {
        return Err(format!("found {wide:e}, which does not fit f32"));
    }
    Ok(narrow)
}

#[cfg(test)]
mod tests {
    use crate::{Error, File, OwnedValue, Writer};

    fn file() -> File {
        let mut writer = Writer::new(32);
        let entries: [(&str, OwnedValue); 12] = [
            ("u8", 7u8.into()),
            ("i64", (-1i64).into()),
            ("u64", (1u64 << 32).into()),
            ("f32", 1.5f32.into()),
            ("f64", 0.1f64.into()),
            ("f64 large", 1e300f64.into()),
            ("bool", true.into()),
            ("text", "hi".into()),
            ("texts", ["a", "b"].as_slice().into()),
            ("i16s", [1i16, -2].as_slice().into()),
            ("i64s", [1i64, 1 << 40].as_slice().into()),
            ("f64s", [1f64, 2.5].as_slice().into()),
        ];
        for (key, value) in entries {
            writer.metadata(key, value).unwrap();
        }
        File::from_bytes(writer.begin(vec![]).unwrap().finish().unwrap()).unwrap()
    }

    #[test]
    fn any_type_that_fits() {
        let file = file();
        let m = file.metadata();
        assert_eq!(m.u32("u8").unwrap(), Some(7));
        assert_eq!(m.u64("u64").unwrap(), Some(1 << 32));
        assert_eq!(m.f32("f32").unwrap(), Some(1.5));
        assert_eq!(m.f32("f64").unwrap(), Some(0.1));
        assert_eq!(m.bool("bool").unwrap(), Some(true));
        assert_eq!(m.str("text").unwrap(), Some("hi"));
        assert_eq!(m.strings("texts").unwrap().unwrap().collect::<Vec<_>>(), ["a", "b"]);
        assert_eq!(m.strings("texts").unwrap().unwrap().len(), 2);
        assert_eq!(m.i32s("i16s").unwrap().unwrap(), [1, -2]);
        assert_eq!(m.f32s("f64s").unwrap().unwrap(), [1.0, 2.5]);
        assert_eq!(m.require_str("text").unwrap(), "hi");
    }

    #[test]
    fn absent_is_none_or_missing() {
        let file = file();
        let m = file.metadata();
        assert_eq!(m.u32("no").unwrap(), None);
        assert!(m.strings("no").unwrap().is_none() && m.f32s("no").unwrap().is_none());
        assert_eq!(m.require_u32("no").unwrap_err().to_string(), "missing key `no`");
    }

    #[test]
    fn wrong_types_and_values_are_named() {
        fn check<T>(found: Result<Option<T>, Error>, words: &str) {
            let error = found.err().expect("an error").to_string();
            assert!(error.contains(words), "{error:?} lacks {words:?}");
            assert!(error.starts_with("key `") && error.contains(" [at byte "), "{error:?}");
        }
        let file = file();
        let m = file.metadata();
        check(m.u32("i64"), "key `i64`: found -1, accepted: 0 to 4294967295");
        check(m.u64("i64"), "found -1, accepted: 0 to 18446744073709551615");
        check(m.u32("u64"), "found 4294967296, accepted: 0 to 4294967295");
        check(m.u32("f32"), "found f32 1.5, accepted: an integer (u8,");
        check(m.f32("u8"), "found u8 7, accepted: f32 or f64");
        check(m.f32("f64 large"), "found 1e300, which does not fit f32");
        check(m.bool("u8"), "found u8 7, accepted: bool");
        check(m.str("texts"), "found array of string, accepted: string");
        check(m.strings("text"), "found string `hi`, accepted: an array of strings");
        check(m.strings("i16s"), "found array of i16, accepted: an array of strings");
        check(m.u32s("i16s"), "element 1 is -2, which does not fit u32");
        check(m.i32s("i64s"), "element 1 is 1099511627776, which does not fit i32");
        check(m.i32s("f64s"), "found array of f64, accepted: an array of integers");
        check(m.f32s("i16s"), "found array of i16, accepted: an array of f32 or f64");
    }
}
