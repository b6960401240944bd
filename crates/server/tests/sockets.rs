//! Sockets: files and ports to listen at, signals, and what happens when descriptors run out.

mod toy;

use std::fs;
use std::io::{BufRead, BufReader, Lines, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::process::{Child, ChildStdout, Command, Stdio};
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

#[test]
fn figures_have_an_address_of_their_own() {
    let any = Address::Tcp("127.0.0.1:0".parse().unwrap());
    let sockets = bind(std::slice::from_ref(&any)).unwrap().with_figures(&any).unwrap();
    let Some(Address::Tcp(figures)) = sockets.figures_address() else { panic!("a port") };
    refused(&Address::Tcp(figures), "another program listens there");
    let app = App::new(Settings { keys: vec!["secret".into()], ..Settings::default() });
    let server = Server::at(sockets, qwire_server::router(app.clone()), app);
    let ask = |at: SocketAddr, path: &str| {
        let mut socket = TcpStream::connect(at).unwrap();
        let head = format!("GET {path} HTTP/1.1\r\nHost: elsewhere\r\nConnection: close\r\n\r\n");
        socket.write_all(head.as_bytes()).unwrap();
        let mut text = String::new();
        socket.read_to_string(&mut text).unwrap();
        toy::Reply::of(&text)
    };
    assert_eq!(ask(server.address, "/metrics").status, 401);
    let told = ask(figures, "/metrics");
    assert!(told.status == 200 && told.body.contains("qwire_connections 1\n"), "{told:?}");
    for (path, status) in [("/health", 503), ("/readyz", 503), ("/v1/models", 404), ("/", 404)] {
        assert_eq!(ask(figures, path).status, status, "{path}");
    }
    assert_eq!(server.end(), Ending::Drained);
}

/// A server in a process of its own, with so many descriptors.
struct Apart {
    child: Child,
    address: SocketAddr,
    lines: Lines<BufReader<ChildStdout>>,
}

impl Apart {
    /// Starts this test again in that process, where it serves until its input ends.
    fn start(test: &str, descriptors: u64) -> Option<Self> {
        let limits = fs::read_to_string("/proc/self/limits").unwrap();
        let own = limits.lines().find(|line| line.starts_with("Max open files")).unwrap();
        if own.split_whitespace().nth(3).unwrap().parse() == Ok(descriptors) {
            let app = App::new(Settings::default());
            let routes = Router::new().route("/", get(|| async { "hello" }));
            let server = Server::with(around(routes, app.clone()), app);
            println!("\nport {}", server.address.port());
            std::io::stdin().read_to_end(&mut Vec::new()).unwrap();
            return None;
        }
        let exe = std::env::current_exe().unwrap();
        let line =
            format!("ulimit -n {descriptors}; exec {} --exact {test} --nocapture", exe.display());
        let mut shell = Command::new("sh");
        shell.args(["-c", &line]).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = shell.spawn().unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let port = lines.find_map(|line| line.unwrap().strip_prefix("port ")?.parse().ok());
        let address = SocketAddr::from(([127, 0, 0, 1], port.expect("a port")));
        Some(Self { child, address, lines })
    }

    fn connect(&self) -> TcpStream {
        TcpStream::connect(self.address).unwrap()
    }

    /// Asks on a connection that stays.
    fn ask(mut socket: &TcpStream) {
        socket.write_all(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n").unwrap();
        let (mut text, mut room) = (Vec::new(), [0; 1024]);
        while !text.ends_with(b"hello") {
            let read = socket.read(&mut room).unwrap();
            assert_ne!(read, 0, "closed after {:?}", String::from_utf8_lossy(&text));
            text.extend_from_slice(&room[..read]);
        }
    }

    /// Hundredths of a second that it has worked.
    fn worked(&self) -> u64 {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.child.id())).unwrap();
        let fields: Vec<_> = stat.rsplit(')').next().unwrap().split_whitespace().collect();
        fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap()
    }

    /// Memory that it has touched, in KiB.
    fn memory(&self) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
        line.split_whitespace().next().unwrap().parse().unwrap()
    }

    fn end(mut self) {
        drop(self.child.stdin.take());
        // It writes to its own end.
        self.lines.by_ref().for_each(drop);
        assert!(self.child.wait().unwrap().success());
    }
}

#[test]
fn those_who_do_nothing_make_room() {
    let Some(server) = Apart::start("those_who_do_nothing_make_room", 48) else { return };
    let idle: Vec<_> = (0..200).map(|_| server.connect()).collect();
    let (began, spent) = (Instant::now(), server.worked());
    Apart::ask(&server.connect());
    assert!(began.elapsed() < Duration::from_secs(10), "{:?}", began.elapsed());
    let work = server.worked() - spent;
    assert!(work < 50, "{work} hundredths of a second in {:?}", began.elapsed());
    drop(idle);
    server.end();
}

#[test]
fn connections_that_wait_cost_little() {
    const COUNT: usize = 3000;
    let Some(server) = Apart::start("connections_that_wait_cost_little", COUNT as u64 + 40) else {
        return;
    };
    Apart::ask(&server.connect());
    let before = server.memory();
    let each = || (server.memory() - before) as f64 / COUNT as f64;
    let sockets: Vec<_> = (0..COUNT).map(|_| server.connect()).collect();
    std::thread::sleep(Duration::from_millis(500));
    assert!(each() < 5.0, "{} KiB", each());
    // Each has its request, but not all at once.
    for some in sockets.chunks(100) {
        some.iter().for_each(Apart::ask);
        std::thread::sleep(Duration::from_millis(100));
    }
    std::thread::sleep(Duration::from_millis(1500));
    assert!(each() < 10.0, "{} KiB", each());
    println!("{} KiB", each());
    drop(sockets);
    server.end();
}

#[test]
fn a_thousand_clients_come_again_and_again() {
    const COUNT: usize = 1000;
    let name = "a_thousand_clients_come_again_and_again";
    let Some(server) = Apart::start(name, COUNT as u64 + 50) else { return };
    let sockets: Vec<_> = (0..COUNT).map(|_| server.connect()).collect();
    std::thread::scope(|scope| {
        for some in sockets.chunks(COUNT / 20) {
            scope.spawn(|| (0..5).for_each(|_| some.iter().for_each(Apart::ask)));
        }
    });
    drop(sockets);
    server.end();
}
