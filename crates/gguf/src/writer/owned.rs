//! Owned values: a metadata value outside of any file, and the bytes that it becomes in one.

use crate::{Array, Kind, Value};

/// A metadata value that owns its text and elements.
#[allow(missing_docs)] // the names are the format's own
#[derive(Clone, Debug, PartialEq)]
pub enum OwnedValue {
    U8(u8),
    I8(i8),
    U16(u16),
    I16(i16),
    U32(u32),
    I32(i32),
    F32(f32),
    Bool(bool),
    String(String),
    Array(OwnedArray),
    U64(u64),
    I64(i64),
    F64(f64),
}

/// An array that owns its elements, kept as the file will hold them.
#[derive(Clone, Debug, PartialEq)]
pub struct OwnedArray {
    kind: Kind,
    len: u64,
    bytes: Vec<u8>,
}

impl OwnedArray {
    /// An array of strings.
    pub fn strings<S: AsRef<str>>(strings: impl IntoIterator<Item = S>) -> OwnedArray {
        let mut array = OwnedArray { kind: Kind::String, len: 0, bytes: Vec::new() };
        for text in strings {
            put_string(&mut array.bytes, text.as_ref());
            array.len += 1;
        }
        array
    }
}

impl OwnedValue {
    /// The same value, borrowed.
    pub fn borrow(&self) -> Value<'_> {
        match self {
            OwnedValue::U8(x) => Value::U8(*x),
            OwnedValue::I8(x) => Value::I8(*x),
            OwnedValue::U16(x) => Value::U16(*x),
            OwnedValue::I16(x) => Value::I16(*x),
            OwnedValue::U32(x) => Value::U32(*x),
            OwnedValue::I32(x) => Value::I32(*x),
            OwnedValue::F32(x) => Value::F32(*x),
            OwnedValue::Bool(x) => Value::Bool(*x),
            OwnedValue::String(x) => Value::String(x),
            OwnedValue::Array(x) => Value::Array(Array::new(x.kind, x.len, &x.bytes)),
            OwnedValue::U64(x) => Value::U64(*x),
            OwnedValue::I64(x) => Value::I64(*x),
            OwnedValue::F64(x) => Value::F64(*x),
        }
    }
}

impl From<Value<'_>> for OwnedValue {
    fn from(value: Value<'_>) -> OwnedValue {
        match value {
            Value::U8(x) => x.into(),
            Value::I8(x) => x.into(),
            Value::U16(x) => x.into(),
            Value::I16(x) => x.into(),
            Value::U32(x) => x.into(),
            Value::I32(x) => x.into(),
            Value::F32(x) => x.into(),
            Value::Bool(x) => x.into(),
            Value::String(x) => x.into(),
            Value::Array(x) => {
                let (kind, len, bytes) = (x.kind(), x.len() as u64, x.bytes().to_vec());
                OwnedValue::Array(OwnedArray { kind, len, bytes })
            }
            Value::U64(x) => x.into(),
            Value::I64(x) => x.into(),
            Value::F64(x) => x.into(),
        }
    }
}

macro_rules! from_scalars {
    ($($scalar:ident $kind:ident,)*) => {$(
        impl From<$scalar> for OwnedValue {
            fn from(value: $scalar) -> OwnedValue {
                OwnedValue::$kind(value)
            }
        }

        impl From<&[$scalar]> for OwnedValue {
            fn from(values: &[$scalar]) -> OwnedValue {
                let mut bytes = Vec::with_capacity(size_of_val(values));
                for &value in values {
                    put_value(&mut bytes, Value::$kind(value));
                }
                OwnedValue::Array(OwnedArray { kind: Kind::$kind, len: values.len() as u64, bytes })
            }
        }

        impl From<Vec<$scalar>> for OwnedValue {
            fn from(values: Vec<$scalar>) -> OwnedValue {
                values.as_slice().into()
            }
        }
    )*};
}

from_scalars! {
    u8 U8, i8 I8, u16 U16, i16 I16, u32 U32, i32 I32, f32 F32, bool Bool, u64 U64, i64 I64, f64 F64,
}

impl From<String> for OwnedValue {
    fn from(text: String) -> OwnedValue {
        OwnedValue::String(text)
    }
}

impl From<&str> for OwnedValue {
    fn from(text: &str) -> OwnedValue {
        OwnedValue::String(text.into())
    }
}

impl From<OwnedArray> for OwnedValue {
    fn from(array: OwnedArray) -> OwnedValue {
        OwnedValue::Array(array)
    }
}

impl From<Vec<String>> for OwnedValue {
    fn from(texts: Vec<String>) -> OwnedValue {
        OwnedArray::strings(texts).into()
    }
}

impl From<&[&str]> for OwnedValue {
    fn from(texts: &[&str]) -> OwnedValue {
        OwnedArray::strings(texts).into()
    }
}

pub(super) fn put_u32(out: &mut Vec<u8>, value: u32) {
    out.extend(value.to_le_bytes());
}

pub(super) fn put_u64(out: &mut Vec<u8>, value: u64) {
    out.extend(value.to_le_bytes());
}

pub(super) fn put_string(out: &mut Vec<u8>, text: &str) {
    put_u64(out, text.len() as u64);
    out.extend(text.as_bytes());
}

pub(super) fn put_value(out: &mut Vec<u8>, value: Value<'_>) {
    match value {
        Value::U8(x) => out.push(x),
        Value::I8(x) => out.extend(x.to_le_bytes()),
        Value::U16(x) => out.extend(x.to_le_bytes()),
        Value::I16(x) => out.extend(x.to_le_bytes()),
        Value::U32(x) => put_u32(out, x),
        Value::I32(x) => out.extend(x.to_le_bytes()),
        Value::F32(x) => out.extend(x.to_le_bytes()),
        Value::Bool(x) => out.push(x.into()),
        Value::String(x) => put_string(out, x),
        Value::Array(x) => {
            put_u32(out, x.kind() as u32);
            put_u64(out, x.len() as u64);
            out.extend(x.bytes());
        }
        Value::U64(x) => put_u64(out, x),
        Value::I64(x) => out.extend(x.to_le_bytes()),
        Value::F64(x) => out.extend(x.to_le_bytes()),
    }
}
