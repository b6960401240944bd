//! Answer: what an endpoint sends back in one piece: JSON, and the names of ignored fields.
//!
//! ```text
//! Ok((ignored, Json(body)))
//! ```

use axum::http::{HeaderName, HeaderValue, header};
use axum::response::{IntoResponse, IntoResponseParts, Response, ResponseParts};
use serde::Serialize;
use serde_json::Value;

use crate::fault::Fault;

/// Names the fields that changed nothing.
const IGNORED_FIELDS: HeaderName = HeaderName::from_static("x-ignored-fields");
/// A header stays short, whatever a client sends.
const MOST_NAMES: usize = 32;
const LONGEST_NAME: usize = 64;

/// A body in JSON.
#[derive(Debug)]
pub struct Json<T>(pub T);

impl<T: Serialize> IntoResponse for Json<T> {
    fn into_response(self) -> Response {
        let json = HeaderValue::from_static("application/json");
        match serde_json::to_vec(&self.0) {
            Ok(bytes) => ([(header::CONTENT_TYPE, json)], bytes).into_response(),
            Err(_) => Fault::internal().into_response(),
        }
    }
}

/// The shortest decimals that are this number again, so that its bits survive the wire.
pub fn decimal(number: f32) -> Value {
    number.to_string().parse::<f64>().map_or(Value::Null, Value::from)
}

/// The fields of a request that nobody asked for.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Ignored(pub Vec<String>);

/// Foreign names enter a header: what is not plain there becomes `?`.
impl IntoResponseParts for Ignored {
    type Error = std::convert::Infallible;

    fn into_response_parts(self, mut parts: ResponseParts) -> Result<ResponseParts, Self::Error> {
        let plain = |c: char| if c.is_ascii_graphic() && c != ',' { c } else { '?' };
        let name = |name: &String| name.chars().take(LONGEST_NAME).map(plain).collect::<String>();
        let names: Vec<String> = self.0.iter().take(MOST_NAMES).map(name).collect();
        if let Some(value) = HeaderValue::from_str(&names.join(", ")).ok().filter(|v| !v.is_empty())
        {
            parts.headers_mut().insert(IGNORED_FIELDS, value);
        }
        Ok(parts)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(names: &[&str], header: Option<&str>) {
        let ignored = Ignored(names.iter().map(ToString::to_string).collect());
        let response = (ignored, Json(1)).into_response();
        let found = response.headers().get(IGNORED_FIELDS).map(|value| value.to_str().unwrap());
        assert_eq!(found, header);
    }

    #[test]
    fn a_header_names_ignored_fields() {
        check(&[], None);
        check(&["a", "b.c"], Some("a, b.c"));
        check(&["a\r\nx-key: 1", "é,"], Some("a??x-key:?1, ??"));
        check(&["", ""], Some(", "));
        check(&[&"x".repeat(100)], Some(&"x".repeat(LONGEST_NAME)));
    }
}
