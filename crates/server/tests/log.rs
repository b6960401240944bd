//! The log: one line for each request, which nobody can forge and in which no key stands.

mod toy;

use std::fmt::{Debug, Write};
use std::sync::Mutex;
use std::time::Duration;

use axum::Router;
use axum::extract::Extension;
use axum::routing::get;
use qwire_server::Settings;
use qwire_server::edge::{Account, around};
use toy::Server;
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Metadata, Subscriber};

static LINES: Mutex<Vec<String>> = Mutex::new(Vec::new());

/// Writes events as a log would.
struct Log;

struct Line(String);

impl Visit for Line {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        write!(self.0, "{field}={value:?} ").unwrap();
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        write!(self.0, "{field}={value} ").unwrap();
    }
}

impl Subscriber for Log {
    fn enabled(&self, _: &Metadata<'_>) -> bool {
        true
    }

    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn event(&self, event: &Event<'_>) {
        let mut line = Line(String::new());
        event.record(&mut line);
        LINES.lock().unwrap().push(line.0);
    }

    fn enter(&self, _: &Id) {}

    fn exit(&self, _: &Id) {}
}

async fn answer(Extension(account): Extension<Account>) -> &'static str {
    account.note(|figures| {
        (figures.prompt, figures.cached, figures.tokens) = (7, 5, 3);
        figures.first = Some(Duration::from_millis(12));
        figures.finish = Some("stop");
    });
    "hello"
}

#[test]
fn a_request_is_one_honest_line() {
    tracing::subscriber::set_global_default(Log).unwrap();
    let keys = vec!["sk-secret".into()];
    let app = toy::app(Settings { keys, ..Settings::default() });
    let routes = Router::new().route("/", get(answer));
    let server = Server::with(around(routes, app.clone()), app);
    let key = "Authorization: Bearer sk-secret\r\n";
    let check = |path: &str, headers: &str, words: &[&str]| {
        LINES.lock().unwrap().clear();
        server.ask("GET", path, headers, "");
        let lines = loop {
            let lines = LINES.lock().unwrap().clone();
            if !lines.is_empty() {
                break lines;
            }
            std::thread::sleep(Duration::from_millis(5));
        };
        let [line] = lines.as_slice() else { panic!("{lines:?}") };
        assert!(words.iter().all(|word| line.contains(word)), "{line}");
        assert!(!line.contains("secret") && !line.contains(char::is_control), "{line:?}");
    };
    let figures = ["status=200", "prompt=7", "cached=5", "tokens=3", "ttft_ms=12", "finish=stop"];
    check("/", key, &figures);
    check("/", &format!("{key}X-Request-Id: mine\r\n"), &["id=mine", "method=GET", "ms="]);
    check("/?key=sk-secret", key, &["path=\"/\""]);
    check("/", "x-api-key: sk-secrets\r\n", &["status=401"]);
    check("/a%0d%0a%1b[31m\u{202e}", key, &["status=404", "%0d%0a"]);
    check("/", &format!("{key}X-Request-Id: a\tb\r\n"), &["id=req_"]);
}
