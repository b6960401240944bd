//! The edge between a socket and an endpoint: who is let in, who is cut, and how a server ends.

mod toy;

use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::{Extension, State};
use axum::routing::get;
use futures_util::{StreamExt, stream};
use qwire_engine::{Choice, Event, Handle, Request, Sampling};
use qwire_model::TokenId;
use qwire_server::edge::{Account, Ending, around};
use qwire_server::{App, Settings, Stage, Times};
use tokio::sync::mpsc::unbounded_channel;
use toy::{Reply, Server, Slow};

const GET_TICKS: &[u8] = b"GET /ticks HTTP/1.1\r\nHost: localhost\r\n\r\n";

/// Endpoints of a few lines.
fn routes() -> Router<Arc<App>> {
    Router::new()
        .route("/", get(|| async { "hello" }).post(|body: Bytes| async { body }))
        .route("/health", get(|| async { "well" }))
        .route(
            "/readyz",
            get(|State(app): State<Arc<App>>| async move { format!("{:?}", app.stage()) }),
        )
        .route("/late", get(late))
        .route("/ticks", get(ticks))
        .route("/flood", get(flood))
        .route("/tokens", get(tokens))
}

/// A word every 20 ms, twenty times.
async fn ticks(Extension(account): Extension<Account>) -> Body {
    Body::from_stream(stream::iter(0..20).then(move |_| {
        account.note(|figures| figures.tokens += 1);
        async {
            tokio::time::sleep(Duration::from_millis(20)).await;
            Ok::<_, std::io::Error>("tick ")
        }
    }))
}

/// A word, then a panic.
async fn late() -> Body {
    Body::from_stream(stream::iter(0..2).map(|at| {
        assert_eq!(at, 0, "provoked");
        Ok::<_, std::io::Error>("first")
    }))
}

/// So many bytes were asked of [`flood`].
static FLOODED: AtomicUsize = AtomicUsize::new(0);

/// Bytes without an end.
async fn flood() -> Body {
    Body::from_stream(stream::repeat_with(|| {
        FLOODED.fetch_add(4096, Ordering::Relaxed);
        Ok::<_, std::io::Error>(Bytes::from_static(&[b'x'; 4096]))
    }))
}

/// A thousand tokens of the model.
async fn tokens(State(app): State<Arc<App>>) -> Body {
    let (sender, receiver) = unbounded_channel();
    let request = Request {
        prompt: vec![TokenId(1)],
        choices: vec![Choice::plain(Sampling::default())],
        max_tokens: 1000,
        ..Request::default()
    };
    let sink = move |_, event| {
        let word = match event {
            Event::Token(_) => "token ",
            Event::Failed(_) => "failed ",
            _ => "",
        };
        sender.send(word).is_ok()
    };
    let handle = app.model().unwrap().service.submit(request, Box::new(sink)).unwrap();
    let next = |(mut receiver, handle): (tokio::sync::mpsc::UnboundedReceiver<_>, Handle)| async {
        receiver.recv().await.map(|word| (Ok::<_, std::io::Error>(word), (receiver, handle)))
    };
    Body::from_stream(stream::unfold((receiver, handle), next))
}

fn start(app: &Arc<App>) -> Server {
    Server::with(around(routes(), app.clone()), app.clone())
}

fn server(settings: Settings) -> (Server, Arc<App>) {
    let app = toy::app(settings);
    (start(&app), app)
}

/// Times that a test can wait for.
fn times() -> Times {
    let [head, body, stall] = [300, 300, 500].map(Duration::from_millis);
    Times { head, body, stall, idle: Duration::from_millis(900) }
}

/// Waits until it is so.
#[track_caller]
fn soon(what: &str, so: impl Fn() -> bool) {
    let began = Instant::now();
    while !so() {
        assert!(began.elapsed() < Duration::from_secs(10), "{what} is still to come");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Reads until some text has come.
#[track_caller]
fn read_until(socket: &mut TcpStream, text: &str) -> String {
    let (mut found, mut room) = (Vec::new(), [0; 4096]);
    loop {
        let read = socket.read(&mut room).unwrap();
        found.extend_from_slice(&room[..read]);
        let so_far = String::from_utf8_lossy(&found).into_owned();
        if so_far.contains(text) {
            return so_far;
        }
        assert_ne!(read, 0, "{text:?} is not in {so_far:?}");
    }
}

/// Everything until the server closes, and how long that took.
fn rest(mut socket: &TcpStream) -> (String, Duration) {
    let (mut text, began) = (Vec::new(), Instant::now());
    let _ = socket.read_to_end(&mut text);
    (String::from_utf8_lossy(&text).into_owned(), began.elapsed())
}

#[test]
fn a_key_opens() {
    let keys = vec!["one".into(), "two".into()];
    let (server, _) = server(Settings { keys, ..Settings::default() });
    let check = |headers: &str, status| {
        assert_eq!(server.ask("GET", "/", headers, "").status, status, "{headers}");
    };
    check("Authorization: Bearer one\r\n", 200);
    check("Authorization: bearer two\r\n", 200);
    check("x-api-key: two\r\n", 200);
    check("", 401);
    check("Authorization: Bearer onetwo\r\n", 401);
    check("Authorization: Bearer\r\n", 401);
    check("Authorization: Basic one\r\n", 401);
    check("Authorization: \u{e9}\u{e9}\u{e9}\u{e9}\r\n", 401);
    check("x-api-key: \r\n", 401);
    let reply = server.ask("POST", "/", "Content-Type: text/plain\r\n", "x");
    assert_eq!((reply.status, reply.header("www-authenticate")), (401, Some("bearer")));
    assert_eq!(reply.json()["error"]["code"], "invalid_api_key");
    assert_eq!(server.get("/health").status, 200);
    assert_eq!(server.get("/nothing").status, 404);
    assert_eq!(server.ask("DELETE", "/", "", "").status, 405);
    let from_afar = "GET / HTTP/1.0\r\nHost: a.example\r\nx-api-key: one\r\n\r\n";
    assert_eq!(Reply::of(&server.raw(from_afar.as_bytes())).status, 200);
}

#[test]
fn without_a_key_only_this_machine_asks() {
    let (server, _) = server(Settings::default());
    let port = server.address.port();
    for (host, status) in [
        ("localhost", 200),
        (&format!("127.0.0.1:{port}"), 200),
        ("[::1]", 200),
        ("evil.example", 403),
        (&format!("localhost.evil.example:{port}"), 403),
        ("10.0.0.1", 403),
    ] {
        let text = format!("GET / HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
        assert_eq!(Reply::of(&server.raw(text.as_bytes())).status, status, "{host}");
    }
}

#[test]
fn a_body_is_json_and_not_too_large() {
    let (server, app) = server(Settings { body_limit: 1000, ..Settings::default() });
    let check = |headers: &str, body: &str, status| {
        let reply = server.ask("POST", "/", headers, body);
        assert_eq!(reply.status, status, "{headers}");
        reply
    };
    let json = "Content-Type: application/json\r\n";
    check(json, "{}", 200);
    check("Content-Type: Application/JSON; charset=utf-8\r\n", "{}", 200);
    check("", "", 200);
    check("", "{}", 415);
    check("Content-Type: text/plain\r\n", "{}", 415);
    check("Content-Type: application/x-www-form-urlencoded\r\n", "{}", 415);
    check(json, &"x".repeat(1000), 200);
    // Whoever sends on still hears why.
    let reply = check(json, &"x".repeat(3 << 20), 413);
    assert_eq!(reply.header("connection"), Some("close"));
    let head = format!("POST / HTTP/1.1\r\nHost: localhost\r\n{json}");
    let mut socket = server.connect();
    write!(socket, "{head}Content-Length: {}\r\n\r\n", 1_u64 << 40).unwrap();
    read_until(&mut socket, "HTTP/1.1 413 ");
    let mut socket = server.connect();
    let chunk = format!("100\r\n{}\r\n", "x".repeat(256));
    write!(socket, "{head}Transfer-Encoding: chunked\r\n\r\n{}", chunk.repeat(4)).unwrap();
    read_until(&mut socket, "HTTP/1.1 413 ");
    let mut socket = server.connect();
    write!(socket, "{head}Content-Length: 2\r\nExpect: 100-continue\r\n\r\n").unwrap();
    read_until(&mut socket, "HTTP/1.1 100 Continue\r\n\r\n");
    socket.write_all(b"{}").unwrap();
    read_until(&mut socket, "{}");
    // A body that breaks off has no answer and leaves nothing behind.
    let mut socket = server.connect();
    write!(socket, "{head}Content-Length: 20\r\n\r\n{{").unwrap();
    socket.shutdown(Shutdown::Write).unwrap();
    rest(&socket);
    soon("quiet", || app.tally.requests.load(Ordering::Relaxed) == 0);
}

#[test]
fn large_bodies_share_a_limit() {
    let (server, app) = server(Settings { body_limit: 1000, ..Settings::default() });
    let bodies = || app.tally.bodies.load(Ordering::Relaxed);
    let begin = || {
        let mut socket = server.connect();
        let head = "POST / HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n";
        write!(socket, "{head}Content-Length: 1000\r\n\r\n{}", "x".repeat(900)).unwrap();
        socket
    };
    let mut sockets: Vec<_> = (0..4).map(|_| begin()).collect();
    soon("four bodies", || bodies() == 3600);
    read_until(&mut begin(), "HTTP/1.1 503 ");
    soon("its end", || bodies() == 3600);
    let mut last = sockets.pop().unwrap();
    last.write_all(&[b'x'; 100]).unwrap();
    read_until(&mut last, "HTTP/1.1 200 ");
    drop(sockets);
    soon("quiet", || bodies() == 0);
}

#[test]
fn pages_ask_only_from_origins_that_are_named() {
    let preflight = "Origin: http://a.example\r\nAccess-Control-Request-Method: POST\r\n";
    let origin = "Origin: http://a.example\r\n";
    let allowed = "access-control-allow-origin";
    let (closed, _) = server(Settings::default());
    assert_eq!(closed.ask("OPTIONS", "/", preflight, "").status, 405);
    assert_eq!(closed.ask("GET", "/", origin, "").header(allowed), None);
    for named in ["http://a.example", "*"] {
        let (origins, keys) = (vec![named.into()], vec!["k".into()]);
        let (open, _) = server(Settings { origins, keys, ..Settings::default() });
        let reply = open.ask("OPTIONS", "/", preflight, "");
        assert_eq!((reply.status, reply.header(allowed)), (204, Some("http://a.example")));
        let reply = open.ask("GET", "/", origin, "");
        assert_eq!((reply.status, reply.header(allowed)), (401, Some("http://a.example")));
        let other = open.ask("GET", "/", "Origin: http://b.example\r\n", "");
        assert_eq!(other.header(allowed).is_some(), named == "*");
    }
}

#[test]
fn a_panic_is_one_requests_own() {
    let (server, app) = server(Settings::default());
    let text = server.raw(b"GET /late HTTP/1.1\r\nHost: localhost\r\n\r\n");
    assert!(text.contains("first") && !text.contains("provoked"), "{text}");
    assert!(!text.ends_with("0\r\n\r\n"), "what broke off does not look whole: {text}");
    assert_eq!(app.tally.panics.load(Ordering::Relaxed), 1);
    assert_eq!(server.get("/").status, 200);
}

#[test]
fn whoever_leaves_cancels() {
    let (server, app) = server(Settings::default());
    let requests = || app.tally.requests.load(Ordering::Relaxed);
    for how in [Shutdown::Write, Shutdown::Both] {
        let mut socket = server.connect();
        socket.write_all(GET_TICKS).unwrap();
        read_until(&mut socket, "tick");
        assert_eq!(requests(), 1);
        let began = Instant::now();
        socket.shutdown(how).unwrap();
        soon("the cancel", || requests() == 0);
        assert!(began.elapsed() < Duration::from_millis(200), "{how:?} {:?}", began.elapsed());
    }
}

#[test]
fn whoever_knows_a_name_cancels() {
    let app = toy::paced(Settings::default(), Duration::from_millis(5));
    let server = Server::start(app.clone());
    let service = &app.model().unwrap().service;
    let named = "x-request-id: mine\r\nContent-Type: application/json\r\n";
    let chat = r#""messages": [{"role": "user", "content": "a"}], "max_tokens": 900"#;
    for (path, rest, status, words) in [
        ("/v1/chat/completions", "", 499, r#""code":"cancelled""#),
        ("/v1/chat/completions", r#", "n": 3"#, 499, r#""code":"cancelled""#),
        ("/v1/chat/completions", r#", "stream": true"#, 200, r#""code":"cancelled""#),
        ("/v1/messages", r#", "stream": true"#, 200, "cancelled by its name"),
        ("/api/chat", "", 200, "cancelled by its name"),
    ] {
        let body = format!("{{{chat}{rest}}}");
        let reply = std::thread::scope(|scope| {
            let asked = scope.spawn(|| server.ask("POST", path, named, &body));
            soon("the answer", || service.stats().running > 0);
            assert_eq!(server.ask("DELETE", "/v1/requests/mine", "", "").status, 200);
            asked.join().unwrap()
        });
        assert!(reply.status == status && reply.body.contains(words), "{path} {rest}: {reply:?}");
        soon("the cancel", || service.stats().running == 0);
        let again = server.ask("DELETE", "/v1/requests/mine", "", "");
        assert!(again.status == 404 && again.body.contains("request_not_found"), "{again:?}");
    }
    assert_eq!(server.get("/").status, 200);
}

#[test]
fn whoever_is_slow_is_cut() {
    let (server, _) = server(Settings { times: times(), ..Settings::default() });
    let check = |said: &str, answer: &str, about: Duration| {
        let mut socket = server.connect();
        socket.write_all(said.as_bytes()).unwrap();
        let (text, time) = rest(&socket);
        assert!(text.starts_with(answer) && text.is_empty() == answer.is_empty(), "{said}: {text}");
        assert!(time >= about && time < about + Duration::from_secs(2), "{said}: {time:?}");
    };
    let Times { head, body, idle, .. } = times();
    check("", "", idle);
    check("G", "", head);
    check("GET / HTTP/1.1\r\nHost: localhost\r\nA: ", "", head);
    check("GET / HTTP/1.1\r\nHost: localhost\r\n\r\n", "HTTP/1.1 200 ", idle);
    check("GET / HTTP/1.1\r\nHost: localhost\r\n\r\nGET", "HTTP/1.1 200 ", head);
    let post = "POST / HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n";
    check(&format!("{post}Content-Length: 9\r\n\r\n{{"), "HTTP/1.1 408 ", body);
    // An answer takes as long as it takes, whatever was begun beside it.
    let mut socket = server.connect();
    socket.write_all(&[GET_TICKS, b"GET"].concat()).unwrap();
    assert_eq!(Reply::of(&rest(&socket).0).body.matches("tick").count(), 20);
}

#[test]
fn whoever_does_not_read_is_cut() {
    let (server, app) = server(Settings { times: times(), ..Settings::default() });
    let mut socket = server.connect();
    socket.write_all(b"GET /flood HTTP/1.1\r\nHost: localhost\r\n\r\n").unwrap();
    soon("the flood", || FLOODED.load(Ordering::Relaxed) > 0);
    let began = Instant::now();
    soon("the cut", || app.tally.requests.load(Ordering::Relaxed) == 0);
    assert!(began.elapsed() >= times().stall / 2, "{:?}", began.elapsed());
    let flooded = FLOODED.load(Ordering::Relaxed);
    assert!(flooded <= 1 << 20, "{flooded} bytes were taken for nobody");
}

#[test]
fn draining_finishes_what_runs() {
    let (server, app) = server(Settings::default());
    let mut streams: Vec<_> = (0..32).map(|_| server.connect()).collect();
    streams.iter_mut().for_each(|socket| socket.write_all(GET_TICKS).unwrap());
    streams.iter_mut().for_each(|socket| drop(read_until(socket, "tick")));
    let mut kept = server.connect();
    let get = b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n";
    kept.write_all(get).unwrap();
    read_until(&mut kept, "hello");
    server.stop.ask();
    soon("the end", || app.stage() == Stage::Draining);
    let began = Instant::now();
    let refused = server.get("/");
    assert_eq!((refused.status, refused.header("retry-after")), (503, Some("10")));
    assert!(began.elapsed() < Duration::from_millis(300), "{:?}", began.elapsed());
    assert_eq!(server.get("/readyz").body, "Draining");
    assert_eq!(server.get("/health").status, 200);
    kept.write_all(get).unwrap();
    read_until(&mut kept, "HTTP/1.1 503 ");
    for socket in &streams {
        let (text, _) = rest(socket);
        assert!(text.ends_with("\r\n0\r\n\r\n"), "{text}");
    }
    assert_eq!(server.end(), Ending::Drained);
}

#[test]
fn time_is_up_for_what_does_not_finish() {
    let drain = Duration::from_millis(300);
    let app = toy::paced(Settings { drain, ..Settings::default() }, Duration::from_millis(10));
    let server = start(&app);
    let mut socket = server.connect();
    socket.write_all(b"GET /tokens HTTP/1.1\r\nHost: localhost\r\n\r\n").unwrap();
    read_until(&mut socket, "token");
    let began = Instant::now();
    let client = std::thread::spawn(move || rest(&socket).0);
    assert_eq!(server.end(), Ending::Cut);
    assert!(began.elapsed() < drain + Duration::from_secs(1), "{:?}", began.elapsed());
    let text = client.join().unwrap();
    assert!(text.ends_with("failed \r\n0\r\n\r\n"), "{text}");
}

#[test]
fn asked_twice_it_ends_at_once() {
    let app = toy::paced(Settings::default(), Duration::from_millis(10));
    let server = start(&app);
    let mut socket = server.connect();
    socket.write_all(b"GET /tokens HTTP/1.1\r\nHost: localhost\r\n\r\n").unwrap();
    read_until(&mut socket, "token");
    let began = Instant::now();
    server.stop.ask();
    assert_eq!(server.end(), Ending::Cut);
    assert!(began.elapsed() < Duration::from_millis(500), "{:?}", began.elapsed());
}

#[test]
fn it_ends_before_there_is_a_model() {
    let app = App::new(Settings::default());
    let server = start(&app);
    assert_eq!(server.get("/readyz").body, "Loading");
    assert_eq!(server.end(), Ending::Drained);
}

#[test]
fn a_broken_engine_ends_it() {
    let app = App::new(Settings::default());
    let fatal = Some(TokenId(1));
    app.install(toy::model(Slow { toy: toy::toy(), pause: Duration::ZERO, fatal }));
    let server = start(&app);
    for _ in 0..2 {
        assert!(server.get("/tokens").body.ends_with("failed "));
    }
    assert_eq!(server.over(), Ending::Broken);
}
