//! Builtins: what Transformers gives a template beyond plain Jinja, and where Python differs.

use minijinja::value::{Kwargs, Rest, Tuple, Value, ValueKind, from_args};
use minijinja::{Environment, Error, ErrorKind, State};
use minijinja_contrib::pycompat::unknown_method_callback;

use super::{MAX_TEXT_BYTES, amounts, clock, json, python, watch};

/// Seconds since 1970, replaced in tests.
pub(super) type Clock = fn() -> i64;

/// The message of `raise_exception`, carried as the source of an error.
#[derive(Debug)]
pub(super) struct Raised(pub(super) String);

impl std::fmt::Display for Raised {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Raised {}

/// Adds the builtins to an environment.
pub(super) fn add_to(environment: &mut Environment, clock: Clock) {
    environment.remove_global("debug");
    environment.add_function("raise_exception", |message: String| -> Result<Value, Error> {
        let error = Error::new(ErrorKind::InvalidOperation, "raise_exception");
        Err(error.with_source(Raised(message)))
    });
    environment.add_function("strftime_now", move |pattern: &str| clock::format(clock(), pattern));
    environment.add_filter("tojson", |value: &Value, positional: Rest<Value>, named: Kwargs| {
        json::dumps(value, &positional, &named, MAX_TEXT_BYTES)
    });
    for name in ["default", "d"] {
        environment.add_filter(name, |value: Value, positional: Rest<Value>, named: Kwargs| {
            default(value, &positional, &named)
        });
    }
    environment.add_filter("length", length);
    environment.add_filter("count", length);
    environment.add_filter("string", |value: &Value| python::str(value, MAX_TEXT_BYTES));
    environment.add_test("sequence", |value: &Value| {
        is_container(value) || matches!(value.kind(), ValueKind::String | ValueKind::Undefined)
    });
    environment.add_test("iterable", |value: &Value| {
        is_container(value) || matches!(value.kind(), ValueKind::String | ValueKind::Undefined)
    });
    environment.add_test("number", |value: &Value| {
        matches!(value.kind(), ValueKind::Number | ValueKind::Bool)
    });
    environment.add_test("callable", |value: &Value| value.kind() == ValueKind::Plain);
    amounts::add_to(environment);
    watch::add_to(environment);
    environment.set_unknown_method_callback(method);
}

/// `value | default(other='', boolean=False)`
fn default(value: Value, positional: &[Value], named: &Kwargs) -> Result<Value, Error> {
    let argument = |at: usize, name: &str| {
        let named = named.get::<Option<Value>>(name)?;
        Ok::<_, Error>(named.or_else(|| positional.get(at).cloned()))
    };
    let other = argument(0, "default_value")?.unwrap_or_else(|| "".into());
    let boolean = argument(1, "boolean")?.is_some_and(|boolean| boolean.is_true());
    named.assert_all_used()?;
    let absent = value.is_undefined() || (boolean && !value.is_true());
    Ok(if absent { other } else { value })
}

/// `value | length`; what is undefined is empty.
fn length(value: &Value) -> Result<usize, Error> {
    match value.len() {
        Some(len) => Ok(len),
        None if value.is_undefined() => Ok(0),
        None => {
            let why = format!("{} has no length", value.kind());
            Err(Error::new(ErrorKind::InvalidOperation, why))
        }
    }
}

fn is_container(value: &Value) -> bool {
    matches!(value.kind(), ValueKind::Seq | ValueKind::Iterable | ValueKind::Map)
}

/// Methods of Python's types.
fn method(state: &mut State, value: &Value, name: &str, args: &[Value]) -> Result<Value, Error> {
    watch::go_on()?;
    let Some(text) = value.as_str() else {
        return unknown_method_callback(state, value, name, args);
    };
    let one = || from_args::<(&str,)>(args).map(|(text,)| text);
    match name {
        "index" => match text.find(one()?) {
            Some(at) => Ok(text[..at].chars().count().into()),
            None => Err(Error::new(ErrorKind::InvalidOperation, "substring not found")),
        },
        "removeprefix" => Ok(text.strip_prefix(one()?).unwrap_or(text).into()),
        "removesuffix" => Ok(text.strip_suffix(one()?).unwrap_or(text).into()),
        "partition" => {
            let separator = one()?;
            let (head, found, tail) = match text.split_once(separator) {
                Some((head, tail)) => (head, separator, tail),
                None => (text, "", ""),
            };
            Ok(Tuple::from([head, found, tail].map(Value::from)).into())
        }
        "rpartition" => {
            let separator = one()?;
            let (head, found, tail) = match text.rsplit_once(separator) {
                Some((head, tail)) => (head, separator, tail),
                None => ("", "", text),
            };
            Ok(Tuple::from([head, found, tail].map(Value::from)).into())
        }
        "rsplit" => {
            let (separator, max): (&str, Option<usize>) = from_args(args)?;
            let parts =
                text.rsplitn(max.map_or(usize::MAX, |max| max.saturating_add(1)), separator);
            let mut parts: Vec<Value> = parts.map(Value::from).collect();
            parts.reverse();
            Ok(parts.into())
        }
        "format" => {
            amounts::braced_widths(text)?;
            unknown_method_callback(state, value, name, args)
        }
        _ => unknown_method_callback(state, value, name, args),
    }
}
