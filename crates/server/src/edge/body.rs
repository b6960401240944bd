//! Body: a request's body, read to its end within its time, its limit, and a limit for all bodies
//! together, so that many clients cannot take what one may not.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use axum::body::Body;
use axum::http::header::CONTENT_LENGTH;
use axum::http::{HeaderMap, StatusCode};
use http_body_util::BodyExt;
use tokio::time::timeout;

use crate::app::App;
use crate::fault::Fault;

/// So many of the largest bodies may be here at a time.
const LARGEST: usize = 4;

/// The bytes of a body, and what counts them until it is dropped.
pub async fn whole(
    headers: &HeaderMap,
    mut body: Body,
    app: &Arc<App>,
) -> Result<(Vec<u8>, Held), Fault> {
    let (limit, time) = (app.settings.body_limit, app.settings.times.body);
    let too_large = || {
        let message = format!("the body is too large: accepted are {limit} bytes");
        Fault::new(StatusCode::PAYLOAD_TOO_LARGE, message)
    };
    let length = headers.get(CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse().ok());
    if length.is_some_and(|length: usize| length > limit) {
        return Err(too_large());
    }
    let read = async {
        let mut bytes = Vec::with_capacity(length.unwrap_or_default());
        let mut held = Held { app: app.clone(), bytes: 0 };
        while let Some(frame) = body.frame().await {
            let broken = |_| Fault::request("the body broke off or is not framed as HTTP has it");
            if let Ok(data) = frame.map_err(broken)?.into_data() {
                if bytes.len() + data.len() > limit {
                    return Err(too_large());
                }
                held.add(data.len())?;
                bytes.extend_from_slice(&data);
            }
        }
        Ok((bytes, held))
    };
    timeout(time, read).await.unwrap_or_else(|_| {
        let message = format!("the body was not here after {} s", time.as_secs_f64());
        Err(Fault::new(StatusCode::REQUEST_TIMEOUT, message))
    })
}

/// Bytes that are counted.
pub struct Held {
    app: Arc<App>,
    bytes: usize,
}

impl Held {
    fn add(&mut self, bytes: usize) -> Result<(), Fault> {
        self.bytes += bytes;
        let before = self.app.tally.bodies.fetch_add(bytes, Ordering::Relaxed);
        if before + bytes <= self.app.settings.body_limit.saturating_mul(LARGEST) {
            return Ok(());
        }
        let message = "too many large bodies come at once; try again in a moment";
        Err(Fault::new(StatusCode::SERVICE_UNAVAILABLE, message).code("overloaded").retry(2))
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.app.tally.bodies.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}
