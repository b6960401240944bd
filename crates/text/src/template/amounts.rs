//! Amounts: the engine's filters that could ask for any memory at once, with bounded arguments.
//!
//! A number in a template is cheap to write; an allocation of that many bytes may end the process
//! before any watch sees it. What a filter does with an accepted number is the engine's own.

use minijinja::value::{Kwargs, Rest, StringInput, Value, ValueOrKwargs};
use minijinja::{Environment, Error, ErrorKind, State, filters};

use super::{MAX_TEXT_BYTES, python};

const MAX_INDENT: usize = 256;
const MAX_PARTS: usize = 4096;
const MAX_WIDTH: usize = 4096;

/// Replaces the filters of an environment.
pub(super) fn add_to(environment: &mut Environment) {
    environment.add_filter("indent", indent);
    environment.add_filter("batch", |state: &State, value, count, filler| {
        at_most("batch", count, MAX_PARTS)?;
        filters::batch(state, value, count, filler)
    });
    environment.add_filter("slice", |state: &State, value, count, filler| {
        at_most("slice", count, MAX_PARTS)?;
        filters::slice(state, value, count, filler)
    });
    environment.add_filter("format", |state: &mut State, pattern: &Value, args| {
        percent_widths(pattern.as_str().unwrap_or_default())?;
        let args: Rest<ValueOrKwargs> = args;
        filters::format(state, pattern, args)
    });
    environment.add_filter("pprint", |value: &Value| python::str(value, MAX_TEXT_BYTES));
}

fn at_most(name: &str, found: usize, max: usize) -> Result<(), Error> {
    if found > max {
        return Err(refused(format!("{name}: {found}; accepted: at most {max}")));
    }
    Ok(())
}

fn refused(why: String) -> Error {
    Error::new(ErrorKind::InvalidOperation, why)
}

/// `text | indent(width=4, first=False, blank=False)`
fn indent(
    text: StringInput<'_>,
    width: Option<usize>,
    first: Option<bool>,
    blank: Option<bool>,
    named: Kwargs,
) -> Result<Value, Error> {
    let width = width.map_or_else(|| named.get("width"), |width| Ok(Some(width)))?.unwrap_or(4);
    at_most("indent", width, MAX_INDENT)?;
    let lines = text.as_str().matches('\n').count() + 1;
    if text.as_str().len().saturating_add(lines * width) > MAX_TEXT_BYTES {
        return Err(python::too_long(MAX_TEXT_BYTES));
    }
    filters::indent(text, Some(width), first, blank, named)
}

/// Whether the widths in a pattern of `str.format` stand there as small numbers, and all of them
/// together are a text of accepted length.
pub(super) fn braced_widths(pattern: &str) -> Result<(), Error> {
    let mut widths = Widths::default();
    let (mut inside, mut spec, mut previous) = (false, false, 0);
    let next = pattern.bytes().skip(1).chain([0]);
    for (byte, next) in pattern.bytes().zip(next) {
        widths.read(byte, inside)?;
        match byte {
            b'{' if inside && !spec && previous == b'{' => inside = false,
            b'{' if inside => return Err(argument()),
            b'{' => (inside, spec) = (true, false),
            b':' if inside => spec = true,
            b'}' if previous == b':' && b"<>^=".contains(&next) => {} // what to fill with
            b'}' => inside = false,
            _ => {}
        }
        previous = byte;
    }
    widths.read(0, true)
}

/// The same for a pattern with `%`.
pub(super) fn percent_widths(pattern: &str) -> Result<(), Error> {
    let mut widths = Widths::default();
    let (mut spec, mut key) = (false, false);
    for byte in pattern.bytes() {
        widths.read(byte, spec && !key)?;
        match byte {
            b')' => key = false,
            _ if key => {}
            b'%' => spec = !spec,
            b'(' => key = spec,
            b'*' if spec => return Err(argument()),
            b'A'..=b'Z' | b'a'..=b'z' => spec = false,
            _ => {}
        }
    }
    widths.read(0, true)
}

fn argument() -> Error {
    refused("format: a width may not be an argument".into())
}

/// The numbers of a pattern, read byte by byte.
#[derive(Default)]
struct Widths {
    number: usize,
    sum: usize,
}

impl Widths {
    fn read(&mut self, byte: u8, counts: bool) -> Result<(), Error> {
        if counts && byte.is_ascii_digit() {
            self.number = self.number.saturating_mul(10).saturating_add((byte - b'0').into());
            return Ok(());
        }
        at_most("the width of a format", self.number, MAX_WIDTH)?;
        self.sum += std::mem::take(&mut self.number);
        if self.sum > MAX_TEXT_BYTES {
            return Err(python::too_long(MAX_TEXT_BYTES));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn widths_are_small_numbers() {
        for pattern in ["", "{}", "{{\"a\": {:>5.2f}}} 20250101", "{:}{0}", "{a}: {:}>9}"] {
            assert!(braced_widths(pattern).is_ok(), "{pattern}");
        }
        for pattern in ["{:>4097}", "{:>99999999999999999999}", "{:{}}", "{:.{w}}", "{:}>{}}"] {
            assert!(braced_widths(pattern).is_err(), "{pattern}");
        }
        assert!(braced_widths(&"{0:4096}".repeat(5_000)).is_err());
        for pattern in ["", "20250101 100%% %s*%5.2f", "{\"a\": {\"b\": %(x)9s}}", "%d 99999"] {
            assert!(percent_widths(pattern).is_ok(), "{pattern}");
        }
        for pattern in ["%099999999d", "%.99999f", "%*d", "%-.*f", "%(a)99999d", "%5000"] {
            assert!(percent_widths(pattern).is_err(), "{pattern}");
        }
    }
}
