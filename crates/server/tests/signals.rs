//! Signals, in a process of their own: everything else in it would hear them too.

mod toy;

use std::process::Command;
use std::time::Duration;

use axum::Router;
use axum::routing::get;
use qwire_server::edge::{Ending, around};
use qwire_server::{Settings, Stage};
use toy::Server;

#[test]
fn signals_drain_and_then_cut() {
    for (signal, twice, ending) in [
        ("-TERM", false, Ending::Drained),
        ("-INT", false, Ending::Drained),
        ("-TERM", true, Ending::Cut),
    ] {
        let app = toy::app(Settings::default());
        let pause = if twice { 20_000 } else { 200 };
        let slow = move || async move {
            tokio::time::sleep(Duration::from_millis(pause)).await;
            "done"
        };
        let routes = Router::new().route("/", get(slow));
        let server = Server::with(around(routes, app.clone()), app.clone());
        let client = std::thread::scope(|scope| {
            let client = scope.spawn(|| server.get("/"));
            while app.tally.requests.load(std::sync::atomic::Ordering::Relaxed) == 0 {
                std::thread::sleep(Duration::from_millis(5));
            }
            send(signal);
            while app.stage() != Stage::Draining {
                std::thread::sleep(Duration::from_millis(5));
            }
            if twice {
                send(signal);
            }
            client.join().unwrap()
        });
        assert_eq!(client.status, if twice { 0 } else { 200 });
        assert_eq!(server.over(), ending, "{signal}");
    }
}

fn send(signal: &str) {
    let process = std::process::id().to_string();
    assert!(Command::new("kill").args([signal, &process]).status().unwrap().success());
}
