//! Streams: the tokens that 64 connections get from a toy, for each second of one core.
//!
//! The time is the processor's, of server, toy and client together, so that neighbours on the
//! machine change little. It fails below [`LEAST`]: HTTP must never be what limits a model.

#[path = "../tests/toy/mod.rs"]
mod toy;

use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::thread;

use qwire_server::edge::{Address, bind};
use qwire_server::{Settings, router};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

const STREAMS: usize = 64;
const TOKENS: usize = 384;
const ROUNDS: usize = 4;
/// Tokens a second.
const LEAST: f64 = 20_000.0;

fn main() {
    let app = toy::app(Settings::default());
    let sockets = bind(&[Address::Tcp((Ipv4Addr::LOCALHOST, 0).into())]).expect("a free port");
    let Address::Tcp(address) = sockets.addresses()[0] else { unreachable!("a port was bound") };
    let stop = sockets.stop();
    let server = thread::spawn(move || sockets.serve(router(app.clone()), app));
    let client = tokio::runtime::Builder::new_current_thread().enable_io().build();
    let before = processor_seconds();
    client.expect("a runtime").block_on(async {
        for _ in 0..ROUNDS {
            let streams = (0..STREAMS).map(|seed| listen(address, seed));
            futures_util::future::join_all(streams).await;
        }
    });
    let seconds = processor_seconds() - before;
    stop.ask();
    server.join().expect("the server ends");
    let tokens = ROUNDS * STREAMS * TOKENS;
    let rate = tokens as f64 / seconds;
    println!("{tokens} tokens over {STREAMS} connections: {rate:.0} a second of one core");
    assert!(rate >= LEAST, "at least {LEAST} are expected");
}

/// Reads one stream to its end and counts its tokens.
async fn listen(address: SocketAddr, seed: usize) {
    let body = json!({
        "messages": [{ "role": "user", "content": "Speak." }],
        "stream": true, "stream_options": { "include_usage": true },
        "max_tokens": TOKENS, "seed": seed, "ignore_eos": true, "repetition_guard": false,
    })
    .to_string();
    let request = format!(
        "POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\
         Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    );
    let mut socket = TcpStream::connect(address).await.expect("a connection");
    socket.write_all(request.as_bytes()).await.expect("it is taken");
    let mut answer = Vec::new();
    socket.read_to_end(&mut answer).await.expect("an answer");
    let answer = String::from_utf8(answer).expect("a text");
    let events = answer.lines().filter_map(|line| line.strip_prefix("data: "));
    let [.., usage, done] = events.collect::<Vec<_>>()[..] else { panic!("{answer}") };
    let usage: Value = serde_json::from_str(usage).expect("JSON");
    assert_eq!((done, &usage["usage"]["completion_tokens"]), ("[DONE]", &json!(TOKENS)));
}

/// What this process has used of all cores.
fn processor_seconds() -> f64 {
    const TICKS_PER_SECOND: f64 = 100.0;
    let stat = fs::read_to_string("/proc/self/stat").expect("Linux tells");
    let fields = stat.rsplit(") ").next().expect("fields after the name").split(' ');
    fields.skip(11).take(2).map(|ticks| ticks.parse::<f64>().expect("a count")).sum::<f64>()
        / TICKS_PER_SECOND
}
