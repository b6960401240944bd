//! Sockets: files and ports to listen at, signals, and what happens when descriptors run out.

mod toy;

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use axum::Router;
use axum::routing::get;
use qwire_server::edge::{Address, Ending, Sockets, around, bind};
use qwire_server::{App, Settings};
use toy::Server;

/// Answers one thing at one place.
fn serve(sockets: Sockets) -> Ending {
    let app = App::new(Settings::default());
    let routes = Router::new().route("/", get(|| async { "hello" }));
    sockets.serve(around(routes, app.clone()), app)
}

/// A path in a folder of this process.
fn path(name: &str) -> PathBuf {
    let folder = std::env::temp_dir().join(format!("qwire-sockets-{}", std::process::id()));
    fs::create_dir_all(&folder).unwrap();
    folder.join(name)
}

#[track_caller]
fn refused(address: &Address, words: &str) {
    let error = bind(std::slice::from_ref(address)).err().expect("it is refused").to_string();
    assert!(error.contains(words) && error.contains(&address.to_string()), "{error}");
}

#[test]
fn a_file_is_its_owners() {
    let own = path("own");
    drop(UnixListener::bind(&own).unwrap());
    let address = Address::Unix(own.clone());
    let sockets = bind(std::slice::from_ref(&address)).unwrap();
    assert_eq!(fs::metadata(&own).unwrap().permissions().mode() & 0o777, 0o600);
    refused(&address, "another program listens there");
    let stop = sockets.stop();
    let server = std::thread::spawn(move || serve(sockets));
    let mut socket = UnixStream::connect(&own).unwrap();
    socket.write_all(b"GET / HTTP/1.1\r\nHost: any\r\nConnection: close\r\n\r\n").unwrap();
    let mut text = String::new();
    socket.read_to_string(&mut text).unwrap();
    assert!(text.ends_with("hello"), "{text}");
    stop.ask();
    assert_eq!(server.join().unwrap(), Ending::Drained);
    assert!(!own.exists());
}

#[test]
fn a_file_of_somebody_else_stays() {
    let taken = path("taken");
    fs::write(&taken, "text").unwrap();
    refused(&Address::Unix(taken.clone()), "a file that is not a socket is there");
    assert_eq!(fs::read_to_string(&taken).unwrap(), "text");
    let lost = path("lost");
    let sockets = bind(&[Address::Unix(lost.clone())]).unwrap();
    fs::rename(&lost, path("moved")).unwrap();
    fs::write(&lost, "text").unwrap();
    drop(sockets);
    assert!(lost.exists());
}

#[test]
fn a_port_is_taken_once() {
    let any = Address::Tcp("127.0.0.1:0".parse().unwrap());
    let sockets = bind(&[any.clone(), any]).unwrap();
    let addresses = sockets.addresses();
    assert_eq!(addresses.len(), 2);
    refused(&addresses[0], "another program listens there");
    refused(&Address::Tcp("192.0.2.1:80".parse().unwrap()), "cannot listen at");
}

/// Descriptors of a process that has few.
const FEW: u64 = 48;

#[test]
fn those_who_do_nothing_make_room() {
    if descriptors() == FEW {
        return few();
    }
    let test = "those_who_do_nothing_make_room --nocapture";
    let exe = std::env::current_exe().unwrap();
    let line = format!("ulimit -n {FEW}; exec {} --exact {test}", exe.display());
    let mut shell = Command::new("sh");
    shell.args(["-c", &line]).stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut child = shell.spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let port = lines.find_map(|line| line.unwrap().strip_prefix("port ")?.parse().ok());
    let address = SocketAddr::from(([127, 0, 0, 1], port.expect("a port")));
    let idle: Vec<_> = (0..200).map(|_| TcpStream::connect(address).unwrap()).collect();
    let (began, spent) = (Instant::now(), worked(child.id()));
    let mut socket = TcpStream::connect(address).unwrap();
    socket.write_all(b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").unwrap();
    let mut text = String::new();
    socket.read_to_string(&mut text).unwrap();
    assert!(text.ends_with("hello"), "{text}");
    assert!(began.elapsed() < Duration::from_secs(10), "{:?}", began.elapsed());
    let work = worked(child.id()) - spent;
    assert!(work < 50, "{work} hundredths of a second in {:?}", began.elapsed());
    drop((child.stdin.take(), idle));
    // It writes to its end.
    assert_eq!(lines.find_map(Result::err).map(|error| error.kind()), None);
    assert!(child.wait().unwrap().success());
}

/// A server until its input ends.
fn few() {
    let app = App::new(Settings::default());
    let routes = Router::new().route("/", get(|| async { "hello" }));
    let server = Server::with(around(routes, app.clone()), app);
    println!("\nport {}", server.address.port());
    std::io::stdin().read_to_end(&mut Vec::new()).unwrap();
}

/// How many descriptors this process may have.
fn descriptors() -> u64 {
    let limits = fs::read_to_string("/proc/self/limits").unwrap();
    let own = limits.lines().find(|line| line.starts_with("Max open files")).unwrap();
    own.split_whitespace().nth(3).unwrap().parse().unwrap()
}

/// Hundredths of a second that a process has worked.
fn worked(process: u32) -> u64 {
    let stat = fs::read_to_string(format!("/proc/{process}/stat")).unwrap();
    let fields: Vec<_> = stat.rsplit(')').next().unwrap().split_whitespace().collect();
    fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap()
}
