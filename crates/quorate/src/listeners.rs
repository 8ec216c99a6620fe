//! The sockets that clients and other members connect to.

use std::io;
use std::net::{SocketAddr, ToSocketAddrs};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};

use config::{Settings, Url};
use grpc::Surface;
use socket2::{Domain, Protocol, SockAddr, Socket, Type};

/// Connections that may wait to be accepted.
const BACKLOG: i32 = 4096;

/// Bound, and not accepting yet.
pub(crate) struct Listeners {
    pub(crate) clients: Vec<Listener>,
    /// For whoever watches over the member: they accept before it can serve clients.
    pub(crate) metrics: Vec<Listener>,
    /// For other members.
    pub(crate) peers: Vec<std::net::TcpListener>,
}

/// One socket, and what is served on it.
pub(crate) struct Listener {
    pub(crate) socket: ListeningSocket,
    pub(crate) surface: Surface,
}

pub(crate) enum ListeningSocket {
    Tcp(std::net::TcpListener),
    Unix(UnixListener, SocketFile),
}

/// The file of a listener that is ours; removed when this is dropped.
pub(crate) struct SocketFile(PathBuf);

/// A listener cannot be had; worded as etcd words it, with the flag in front.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BindError {
    #[error("{flag}: listen tcp {address}: bind: {}", config::reason(why))]
    Tcp { flag: &'static str, address: String, why: io::Error },
    #[error("{flag}: listen unix {}: bind: {}", path.display(), config::reason(why))]
    Unix { flag: &'static str, path: PathBuf, why: io::Error },
    #[error("{flag}: lookup {host}: {why}")]
    Lookup { flag: &'static str, host: String, why: io::Error },
    #[error("{PEERS}: {url}: members cannot reach each other by unix sockets yet; use http://")]
    PeerUnix { url: String },
}

impl Listeners {
    /// Binds every URL: first those for members, as etcd does.
    ///
    /// # Errors
    /// The first that cannot be bound; the others are closed again.
    pub(crate) fn bind(settings: &Settings) -> Result<Listeners, BindError> {
        let mut listeners = Listeners { clients: Vec::new(), metrics: Vec::new(), peers: Vec::new() };
        for url in &settings.listen_peer_urls {
            if url.socket_path().is_some() {
                return Err(BindError::PeerUnix { url: url.to_string() });
            }
            listeners.peers.push(bind_tcp(PEERS, url, settings)?);
        }
        let clients = if settings.listen_client_http_urls.is_empty() { Surface::Everything } else { Surface::Grpc };
        for url in &settings.listen_client_urls {
            listeners.clients.push(bind(CLIENTS, url, clients, settings)?);
        }
        for url in &settings.listen_client_http_urls {
            listeners.clients.push(bind(HTTP_CLIENTS, url, Surface::Http, settings)?);
        }
        for url in &settings.listen_metrics_urls {
            listeners.metrics.push(bind(METRICS, url, Surface::Metrics, settings)?);
        }
        Ok(listeners)
    }
}

const CLIENTS: &str = "--listen-client-urls";
const HTTP_CLIENTS: &str = "--listen-client-http-urls";
const METRICS: &str = "--listen-metrics-urls";
const PEERS: &str = "--listen-peer-urls";

fn bind(flag: &'static str, url: &Url, surface: Surface, settings: &Settings) -> Result<Listener, BindError> {
    let socket = match url.socket_path() {
        Some(path) => {
            let (listener, file) = bind_unix(flag, path)?;
            ListeningSocket::Unix(listener, file)
        }
        None => ListeningSocket::Tcp(bind_tcp(flag, url, settings)?),
    };
    Ok(Listener { socket, surface })
}

fn bind_tcp(flag: &'static str, url: &Url, settings: &Settings) -> Result<std::net::TcpListener, BindError> {
    let (host, port) = (url.host().unwrap_or_default(), url.port().unwrap_or_default());
    let lookup = |why| BindError::Lookup { flag, host: host.to_owned(), why };
    let mut found = (host, port).to_socket_addrs().map_err(lookup)?.collect::<Vec<_>>();
    // A name for both families is bound where most clients look first.
    found.sort_by_key(SocketAddr::is_ipv6);
    let address = *found.first().ok_or_else(|| lookup(io::ErrorKind::NotFound.into()))?;
    let failed = |why| BindError::Tcp { flag, address: address.to_string(), why };
    let listen = || {
        let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
        // Without this a restart would have to wait until the connections of the last run are forgotten.
        socket.set_reuse_address(true)?;
        socket.set_reuse_port(settings.socket_reuse_port)?;
        socket.bind(&SockAddr::from(address))?;
        socket.listen(BACKLOG)?;
        socket.set_nonblocking(true)?;
        Ok(socket.into())
    };
    listen().map_err(failed)
}

/// A socket file that nobody listens on any more is a leftover of a process that was killed.
fn bind_unix(flag: &'static str, path: &Path) -> Result<(UnixListener, SocketFile), BindError> {
    let failed = |why| BindError::Unix { flag, path: path.to_owned(), why };
    let bound = match UnixListener::bind(path) {
        Err(error) if error.kind() == io::ErrorKind::AddrInUse => {
            if std::os::unix::net::UnixStream::connect(path).is_ok() {
                return Err(failed(error));
            }
            remove(path).map_err(failed)?;
            UnixListener::bind(path)
        }
        other => other,
    };
    let listener = bound.map_err(failed)?;
    let file = SocketFile(path.to_owned());
    listener.set_nonblocking(true).map_err(failed)?;
    Ok((listener, file))
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        // One that stays is in nobody's way: the next start takes it for a leftover.
        let _ = remove(&self.0);
    }
}

#[allow(clippy::disallowed_methods, reason = "a socket file is no data: nothing about it is durable")]
fn remove(path: &Path) -> io::Result<()> {
    std::fs::remove_file(path)
}
