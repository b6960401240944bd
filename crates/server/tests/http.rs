//! The edge, over raw sockets: what HTTP/1.1 demands, and what clients get wrong.

mod toy;

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::Extension;
use axum::routing::{get, post};
use futures_util::stream;
use qwire_server::edge::{Account, RequestId, around};
use qwire_server::{App, Fault, Settings};
use qwire_text::Special;
use serde_json::json;
use toy::{Reply, Server};

/// Endpoints of a few lines.
fn routes() -> Router<Arc<App>> {
    Router::new()
        .route("/", get(|| async { "hello" }).post(|body: Bytes| async { body }))
        .route("/id", get(|Extension(id): Extension<RequestId>| async { id.0 }))
        .route("/v1/messages", post(|| async { Fault::field("n", "is wrong") }))
        .route("/panic", get(panic))
        .route("/late", get(late))
        .route("/ticks", get(ticks))
}

async fn panic() {
    panic!("provoked");
}

async fn late() -> Body {
    Body::from_stream(stream::unfold(0, |at| async move {
        assert_eq!(at, 0, "provoked");
        Some((Ok::<_, std::io::Error>("first"), at + 1))
    }))
}

/// A word every 20 ms, a hundred times.
async fn ticks(Extension(account): Extension<Account>) -> Body {
    Body::from_stream(stream::unfold(0, move |at| {
        let account = account.clone();
        async move {
            tokio::time::sleep(Duration::from_millis(20)).await;
            account.note(|figures| figures.tokens += 1);
            (at < 100).then(|| (Ok::<_, std::io::Error>("tick "), at + 1))
        }
    }))
}

fn server(settings: Settings) -> (Server, Arc<App>) {
    let app = toy::app(settings);
    (Server::with(around(routes(), app.clone()), app.clone()), app)
}

#[test]
fn the_toy_reads_and_writes() {
    let app = toy::app(Settings::default());
    let model = app.model().unwrap();
    let messages = json!([
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "Hi <b>"},
        {"role": "assistant", "content": "",
         "tool_calls": [{"function": {"name": "f", "arguments": {"a": 1}}}]},
        {"role": "tool", "content": "42"},
    ]);
    let tools = json!([{"type": "function", "function": {"name": "f"}}]);
    let render = |tools| {
        let template = model.template.as_ref().unwrap();
        template.render(&messages, tools, true, &serde_json::Map::new()).unwrap()
    };
    let plain = render(None);
    assert_eq!(
        plain,
        "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\nHi <b><|im_end|>\n\
         <|im_start|>assistant\n<tool_call>\n{\"name\": \"f\", \"arguments\": {\"a\": 1}}\n\
         </tool_call><|im_end|>\n<|im_start|>user\n<tool_response>\n42\n</tool_response>\
         <|im_end|>\n<|im_start|>assistant\n"
    );
    let head = "<|im_start|>system\nBe brief.\n\n# Tools\n<tools>\n{";
    assert!(render(Some(&tools)).starts_with(head));
    assert_eq!(model.vocabulary.encode_prompt("<|im_start|>a", Special::Parse).len(), 2);
}

#[test]
fn faults_speak_their_wire() {
    let (server, _) = server(Settings::default());
    let check = |method, path, status, body: &str| {
        let reply = server.ask(method, path, "X-Request-Id: me\r\n", "");
        assert_eq!((reply.status, reply.header("x-request-id")), (status, Some("me")), "{path}");
        assert!(reply.body.contains(body), "{reply:?}");
        reply
    };
    check("GET", "/", 200, "hello");
    check("GET", "/nothing", 404, r#""type":"not_found_error","param":null"#);
    check("GET", "/v1/messages/x", 404, r#"{"type":"error","error":{"type":"not_found_error""#);
    check("GET", "/api/x", 404, r#"{"error":"there is nothing at /api/x"}"#);
    let reply = check("DELETE", "/", 405, r#""type":"invalid_request_error""#);
    assert_eq!(reply.header("allow"), Some("get,head,post"));
    assert_eq!(reply.header("content-type"), Some("application/json"));
    check("POST", "/v1/messages", 400, r#""request_id":"me""#);
    check("GET", "/panic", 500, r#""code":"internal_error""#);
    check("GET", "/id", 200, "me");
    check("HEAD", "/", 200, "");
    check("FOO", "/", 405, "FOO");
    let made = server.ask("GET", "/id", "X-Request-Id: a b\r\n", "");
    assert_eq!(Some(made.body.as_str()), made.header("x-request-id"));
}

/// A request whose head is as given, and the status of its answer; 0 if there is none.
#[track_caller]
fn check(server: &Server, request: &str, expected: &[u16]) {
    let reply = Reply::of(&server.raw(request.as_bytes()));
    let shown = &request[..request.floor_char_boundary(300)];
    assert!(expected.contains(&reply.status), "{shown:?}: {} not {expected:?}", reply.status);
}

#[test]
fn a_request_is_well_formed_or_refused() {
    let (server, _) = server(Settings::default());
    let get = |lines: &str, expected: &[u16]| {
        let close = "Connection: close\r\n";
        check(&server, &format!("GET / HTTP/1.1\r\n{lines}{close}\r\n"), expected);
    };
    let host = "Host: localhost\r\n";
    get(host, &[200]);
    get("hOST:localhost:80\r\n", &[200]);
    get("Host: [::1]:80\r\n", &[200]);
    get("Host: localhost\r\nEmpty:\r\n", &[200]);
    get("Host: localhost\r\nA: \tb\t \r\nB: \u{e9}\r\n", &[200]);
    get("", &[400]);
    get("Host: localhost\r\nHost: localhost\r\n", &[400]);
    get("Host: a b\r\n", &[400]);
    get("Host: a/b\r\n", &[400]);
    get("Host: u@localhost\r\n", &[400]);
    get("Host:\r\n", &[400]);
    get("Host : localhost\r\n", &[400]);
    get("Host: localhost\r\nA : b\r\n", &[400]);
    get("Host: localhost\r\n: b\r\n", &[400]);
    get("Host: localhost\r\nA\r\n", &[400]);
    get("Host: localhost\r\nA: b\r\n c\r\n", &[400]);
    get("Host: localhost\r\n\tA: b\r\n", &[400]);
    get("Host: localhost\r\nA(b: c\r\n", &[400]);
    get("Host: localhost\r\nA\u{0}: c\r\n", &[400]);
    get("Host: localhost\r\nA: \u{0}\r\n", &[400]);
    get("Host: localhost\r\nA: \u{1b}[31m\r\n", &[400]);
    get("Host: localhost\r\nA: \u{7f}\r\n", &[400]);
    get("Host: localhost\nA: b\r\n", &[400]);
    get("Host: localhost\rA: b\r\n", &[400]);
    get("Host: localhost\r\r\nA: b\r\n", &[400]);
    get("Host: localhost\r\nExpect: magic\r\n", &[417]);
    get(&format!("{host}A: {}\r\n", "a".repeat(70_000)), &[431]);
    get(&format!("{host}{}", "A: b\r\n".repeat(200)), &[431]);
    let line = |line: &str, expected: &[u16]| {
        check(&server, &format!("{line}{host}Connection: close\r\n\r\n"), expected);
    };
    line("\r\nGET / HTTP/1.1\r\n", &[200]);
    line("GET / HTTP/1.0\r\n", &[200]);
    line("GET http://localhost/ HTTP/1.1\r\n", &[200]);
    line("GET /?q=%00 HTTP/1.1\r\n", &[200]);
    line("GET http://evil.example/ HTTP/1.1\r\n", &[403]);
    line("OPTIONS * HTTP/1.1\r\n", &[404, 405]);
    line("CONNECT localhost:80 HTTP/1.1\r\n", &[404, 405]);
    line("get / HTTP/1.1\r\n", &[405]);
    line("GET / HTTP/1.2\r\n", &[400, 505]);
    line("GET / HTTP/2.0\r\n", &[400, 505]);
    line("GET / HTTP/9\r\n", &[400, 505]);
    line("GET / http/1.1\r\n", &[400, 505]);
    line("GET / HTTP/1.1 \r\n", &[400]);
    line("GET  / HTTP/1.1\r\n", &[400]);
    line("GET /  HTTP/1.1\r\n", &[400]);
    line(" GET / HTTP/1.1\r\n", &[400]);
    line("GET\t/ HTTP/1.1\r\n", &[400]);
    line("GET / HTTP/1.1\n", &[400]);
    line("GET / HTTP/1.1\r", &[400]);
    line("GET /\r\n", &[400]);
    line("GET\r\n", &[400]);
    line("G@T / HTTP/1.1\r\n", &[400]);
    line("GET /\u{0} HTTP/1.1\r\n", &[400]);
    line("GET /\u{7f} HTTP/1.1\r\n", &[400]);
    line("GET x HTTP/1.1\r\n", &[400]);
    line("\nGET / HTTP/1.1\r\n", &[400]);
    line(&format!("GET /{} HTTP/1.1\r\n", "a".repeat(9_000)), &[414]);
    line(&format!("GET /{} HTTP/1.1\r\n", "a".repeat(70_000)), &[414, 431]);
    line(&format!("{} / HTTP/1.1\r\n", "A".repeat(70_000)), &[400, 405, 431]);
    assert_eq!(server.get("/").status, 200);
}

#[test]
fn a_body_ends_in_one_place() {
    let (server, _) = server(Settings::default());
    let post = |lines: &str, body: &str, expected: &[u16]| {
        let head = "POST / HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n\
                    Connection: close\r\n";
        check(&server, &format!("{head}{lines}\r\n{body}"), expected);
    };
    post("Content-Length: 2\r\n", "{}", &[200]);
    post("Content-Length: 0\r\n", "", &[200]);
    post("", "", &[200]);
    post("Expect: 100-continue\r\nContent-Length: 2\r\n", "{}", &[100]);
    for length in ["+2", "-2", "2, 2", "0x2", "", "2 2", "18446744073709551618", "1e1", "\u{0662}"]
    {
        post(&format!("Content-Length: {length}\r\n"), "{}", &[400]);
    }
    post("Content-Length: 9223372036854775807\r\n", "{}", &[413]);
    post("Content-Length: 2\r\nContent-Length: 2\r\n", "{}", &[400]);
    post("Content-Length: 2\r\nContent-Length: 3\r\n", "{}", &[400]);
    let chunked = "Transfer-Encoding: chunked\r\n";
    post(&format!("Content-Length: 2\r\n{chunked}"), "0\r\n\r\n", &[400]);
    post(&format!("{chunked}Content-Length: 2\r\n"), "0\r\n\r\n", &[400]);
    post("content-length: 2\r\nTRANSFER-ENCODING: chunked\r\n", "0\r\n\r\n", &[400]);
    for coding in ["gzip", "gzip, chunked", "chunked, gzip", "identity", "xchunked", "chunked;a=b"]
    {
        post(&format!("Transfer-Encoding: {coding}\r\n"), "0\r\n\r\n", &[400, 501]);
    }
    post(&format!("{chunked}{chunked}"), "0\r\n\r\n", &[400]);
    post(chunked, "2\r\n{}\r\n0\r\n\r\n", &[200]);
    post(chunked, "1;a=\"b\"\r\n{\r\n001\r\n}\r\n0\r\nTrailer: x\r\n\r\n", &[200]);
    for chunks in [
        "\r\n{}\r\n0\r\n\r\n",
        "x\r\n{}\r\n0\r\n\r\n",
        "0x2\r\n{}\r\n0\r\n\r\n",
        "-2\r\n{}\r\n0\r\n\r\n",
        "+2\r\n{}\r\n0\r\n\r\n",
        "2 \r\n{}\r\n0\r\n\r\n",
        "2\n{}\n0\n\n",
        "2\r{}\r\n0\r\n\r\n",
        "1\r\n{}\r\n0\r\n\r\n",
        "3\r\n{}\r\n0\r\n\r\n",
        "2\r\n{}0\r\n\r\n",
        "10000000000000002\r\n{}\r\n0\r\n\r\n",
        "2;a\nb\r\n{}\r\n0\r\n\r\n",
        "2\r\n{}\r\n0\r\nA b\r\n\r\n",
        "2\r\n{}\r\n0\r\nA: b\n\r\n",
    ] {
        post(chunked, chunks, &[400]);
    }
    let old = "POST / HTTP/1.0\r\nContent-Type: application/json\r\n";
    check(&server, &format!("{old}{chunked}\r\n0\r\n\r\n"), &[400]);
    assert_eq!(server.get("/").status, 200);
}

#[test]
fn nothing_is_smuggled() {
    let (server, _) = server(Settings::default());
    let inner = "GET /id HTTP/1.1\r\nHost: localhost\r\nX-Request-Id: smuggled\r\n\r\n";
    let outer = "POST / HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n";
    for lines in [
        "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        "Transfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n",
        "Content-Length: 0\r\nContent-Length: 5\r\n\r\nabcde",
        "Content-Length: 0\nTransfer-Encoding: chunked\r\n\r\n",
        "Transfer-Encoding: chunked\r\n\r\n0\n\r\n",
        "A: b\rContent-Length: 5\r\n\r\n",
        "Transfer-Encoding : chunked\r\n\r\n",
        "Expect: magic\r\nContent-Length: 200\r\n\r\n",
    ] {
        let text = server.raw(format!("{outer}{lines}{inner}").as_bytes());
        assert_eq!(text.matches("HTTP/1.1 ").count(), 1, "{lines:?}: {text}");
        assert!(!text.contains("smuggled"), "{lines:?}: {text}");
    }
}

#[test]
fn pipelined_requests_are_answered_in_order() {
    let (server, _) = server(Settings::default());
    let post = "POST / HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n";
    let text = server.raw(
        format!(
            "GET / HTTP/1.1\r\nHost: localhost\r\n\r\n{post}Content-Length: 3\r\n\r\none\
             {post}Transfer-Encoding: chunked\r\n\r\n3\r\ntwo\r\n0\r\n\r\n\
             GET /id HTTP/1.1\r\nHost: localhost\r\nUpgrade: h2c\r\nX-Request-Id: three\r\n\r\n\
             GET /nothing HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
        )
        .as_bytes(),
    );
    let places = ["\r\nhello", "one", "two", "three", " 404 "].map(|word| text.find(word));
    assert!(places.is_sorted() && places[0].is_some(), "{places:?} {text}");
    assert_eq!(text.matches("HTTP/1.1 ").count(), 5);
}
