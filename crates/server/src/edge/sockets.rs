//! Sockets: where the server listens: addresses of the network, and files that only their owner
//! may open.

use std::fmt;
use std::fs::{self, Permissions};
use std::io;
use std::net::SocketAddr;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use tokio::net::{TcpListener, TcpSocket, UnixListener, UnixSocket};
use tokio::runtime::{Builder, Runtime};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

/// Connections that wait to be accepted.
const BACKLOG: u32 = 4096;
/// What the system keeps of an answer for a client that does not read.
const SEND_BYTES: u32 = 256 << 10;

/// Where to listen.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Address {
    /// A port; 0 is any that is free.
    Tcp(SocketAddr),
    /// A file.
    Unix(PathBuf),
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => write!(f, "http://{address}"),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

/// Sockets that listen, before anything is answered.
pub struct Sockets {
    pub(super) runtime: Runtime,
    pub(super) listeners: Vec<Listener>,
    /// Where figures alone are told.
    pub(super) figures: Option<Listener>,
    pub(super) asked: UnboundedReceiver<()>,
    pub(super) stop: Stop,
}

/// A socket that listens.
pub(super) enum Listener {
    Tcp(TcpListener),
    Unix(UnixListener, OwnFile),
}

impl Listener {
    fn address(&self) -> Option<Address> {
        match self {
            Self::Tcp(listener) => listener.local_addr().ok().map(Address::Tcp),
            Self::Unix(_, file) => Some(Address::Unix(file.path.clone())),
        }
    }
}

/// Ends a server as a signal does: asked once it drains, asked twice it stops at once.
#[derive(Clone, Debug)]
pub struct Stop(UnboundedSender<()>);

impl Stop {
    /// Asks.
    pub fn ask(&self) {
        // A server that has ended needs no asking.
        let _ = self.0.send(());
    }
}

/// Listens at all of these addresses, or at none.
pub fn bind(addresses: &[Address]) -> io::Result<Sockets> {
    let mut builder = Builder::new_multi_thread();
    let runtime = builder.worker_threads(2).thread_name("qwire-http").enable_all().build()?;
    let inside = runtime.enter();
    let listeners: io::Result<_> = addresses.iter().map(listen).collect();
    drop(inside);
    let (stop, asked) = unbounded_channel();
    Ok(Sockets { runtime, listeners: listeners?, figures: None, asked, stop: Stop(stop) })
}

impl Sockets {
    /// Where they listen, with the ports that were free.
    pub fn addresses(&self) -> Vec<Address> {
        self.listeners.iter().filter_map(Listener::address).collect()
    }

    /// Tells figures and health at one more address, to whoever asks there.
    pub fn with_figures(mut self, address: &Address) -> io::Result<Self> {
        let inside = self.runtime.enter();
        let listener = listen(address);
        drop(inside);
        self.figures = Some(listener?);
        Ok(self)
    }

    /// Where those are, with the port that was free.
    pub fn figures_address(&self) -> Option<Address> {
        self.figures.as_ref()?.address()
    }

    /// Ends the server from another thread.
    pub fn stop(&self) -> Stop {
        self.stop.clone()
    }
}

/// Inside of a runtime.
fn listen(address: &Address) -> io::Result<Listener> {
    let listener = match address {
        Address::Tcp(address) => tcp(*address).map(Listener::Tcp),
        Address::Unix(path) => unix(path).map(|(listener, file)| Listener::Unix(listener, file)),
    };
    listener.map_err(|error| {
        let why = match error.kind() {
            io::ErrorKind::AddrInUse => "another program listens there".to_string(),
            _ => error.to_string(),
        };
        io::Error::new(error.kind(), format!("cannot listen at {address}: {why}"))
    })
}

fn tcp(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    socket.set_reuseaddr(true)?;
    socket.set_send_buffer_size(SEND_BYTES)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

fn unix(path: &Path) -> io::Result<(UnixListener, OwnFile)> {
    if let Ok(found) = fs::symlink_metadata(path) {
        if !found.file_type().is_socket() {
            let why = "a file that is not a socket is there";
            return Err(io::Error::new(io::ErrorKind::AlreadyExists, why));
        }
        match UnixStream::connect(path) {
            Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
                fs::remove_file(path)?;
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
            Ok(_) => return Err(io::ErrorKind::AddrInUse.into()),
        }
    }
    let socket = UnixSocket::new_stream()?;
    socket.bind(path)?;
    let file = OwnFile::of(path)?;
    // Nobody can connect before it listens.
    fs::set_permissions(path, Permissions::from_mode(0o600))?;
    Ok((socket.listen(BACKLOG)?, file))
}

/// A socket's file, removed at the end unless it has become another's.
pub(super) struct OwnFile {
    path: PathBuf,
    identity: (u64, u64),
}

impl OwnFile {
    fn of(path: &Path) -> io::Result<Self> {
        Ok(Self { path: path.into(), identity: identity(path)? })
    }
}

impl Drop for OwnFile {
    fn drop(&mut self) {
        if identity(&self.path).is_ok_and(|found| found == self.identity) {
            // What cannot be removed is found stale by the next server.
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// Device and number of a file.
fn identity(path: &Path) -> io::Result<(u64, u64)> {
    fs::symlink_metadata(path).map(|found| (found.dev(), found.ino()))
}
