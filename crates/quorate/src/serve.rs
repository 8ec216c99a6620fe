//! Network workers and the acceptor that feeds them, until something ends the member.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use env::{Clock, SystemRng};
use grpc::{Meters, Settings, Surface, Worker};
use server::{Door, Member, StartError};
use tokio::net::{TcpListener, TcpStream, UnixStream};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc::{Receiver, Sender, channel};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::LocalSet;

use crate::listeners::{Listener, Listeners, ListeningSocket};
use crate::service_manager::ServiceManager;

/// Why the member ended.
pub(crate) enum Ending {
    Signal(i32),
    /// The member was removed from the cluster: there is nothing to serve any more.
    Removed,
    Failed(String),
}

/// A connection on its way to its worker.
struct Accepted {
    stream: Stream,
    surface: Surface,
    /// Given back when the connection ends.
    place: Place,
}

/// One of the connections that may be open, and one of a worker's.
struct Place {
    _permit: OwnedSemaphorePermit,
    _load: Arc<()>,
}

/// Not yet known to any runtime.
enum Stream {
    Tcp(std::net::TcpStream, std::net::SocketAddr),
    Unix(std::os::unix::net::UnixStream),
}

/// The thread that is there until clients are served; [`crate::healthcheck`] looks for it.
pub(crate) const WAITING_THREAD: &str = "wait-ready";

/// Accepted connections that a worker has not taken yet; past it, accepting waits.
const WAITING_CONNECTIONS_MAX: usize = 1024;
/// How long clients get to finish once the member stops.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(2);
/// How long to wait when the system has no room for another connection.
const ACCEPT_RETRY_INTERVAL: Duration = Duration::from_millis(100);

/// Waits until the member can serve clients, serves them until a signal comes or it fails, then stops everything in order.
///
/// # Errors
/// If it never came so far.
pub(crate) fn serve(
    member: Member,
    listeners: Listeners,
    connections_max: usize,
    settings: &Settings,
    meters: &Arc<Meters>,
    clock: &Arc<dyn Clock>,
    manager: &ServiceManager,
) -> Result<Ending, StartError> {
    let Workers { threads, inboxes } = match Workers::start(&member, settings, meters, clock) {
        Ok(workers) => workers,
        Err(error) => {
            // The error says already why there is nothing to serve.
            let _ = member.stop();
            return Err(StartError::Thread(error));
        }
    };
    let acceptor = Arc::new(Acceptor::new(inboxes, connections_max));
    let ended = accept_until_end(&member, listeners, &acceptor, manager);
    // Workers end when no connections can come any more.
    drop(acceptor);
    let is_removed = member.is_removed();
    let stopped = member.stop();
    join(threads);
    match (ended?, stopped) {
        (_, Err(reason)) => Ok(Ending::Failed(reason)),
        (None, Ok(())) if is_removed => Ok(Ending::Removed),
        (Some(signal), Ok(())) => Ok(Ending::Signal(signal)),
        (None, Ok(())) => Ok(Ending::Failed("the member stopped without saying why".into())),
    }
}

/// The network workers, all of them able to serve.
struct Workers {
    threads: Vec<JoinHandle<()>>,
    inboxes: Vec<Inbox>,
}

/// A worker, as who accepts connections sees it.
struct Inbox {
    sender: Sender<Accepted>,
    /// Its connections.
    load: Arc<()>,
}

impl Workers {
    /// Starts one for each processor.
    fn start(
        member: &Member,
        settings: &Settings,
        meters: &Arc<Meters>,
        clock: &Arc<dyn Clock>,
    ) -> io::Result<Workers> {
        let mut workers = Workers { threads: Vec::new(), inboxes: Vec::new() };
        let (started, starts) = std::sync::mpsc::channel();
        for number in 0..std::thread::available_parallelism().map_or(1, usize::from) {
            let (sender, connections) = channel(WAITING_CONNECTIONS_MAX);
            // The first also reads what the other members send, and new connections come to it first: a lone client waits for the very
            // thread that brings what it waits for.
            let reads_peers = number == 0;
            let (door, settings, clock, started) = (member.door(), settings.clone(), clock.clone(), started.clone());
            let meters = meters.clone();
            let thread = std::thread::Builder::new().name(format!("worker{number}"));
            workers
                .threads
                .push(thread.spawn(move || work(door, reads_peers, settings, meters, clock, connections, started))?);
            workers.inboxes.push(Inbox { sender, load: Arc::default() });
        }
        drop(started);
        for _ in &workers.threads {
            starts.recv().map_err(|_| io::Error::other("a network worker panicked"))??;
        }
        Ok(workers)
    }
}

/// Hands each connection to the worker that has the fewest: those of clients once the member can serve them. Returns the signal
/// that ended it; `None` if the member ended by itself.
///
/// # Errors
/// What went wrong, or why the member stopped before it could serve clients.
fn accept_until_end(
    member: &Member,
    listeners: Listeners,
    acceptor: &Arc<Acceptor>,
    manager: &ServiceManager,
) -> Result<Option<i32>, StartError> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(StartError::Thread)?;
    {
        let _entered = runtime.enter();
        accept_all(listeners.metrics, acceptor).map_err(StartError::Thread)?;
    }
    std::thread::scope(|scope| {
        let (tell, told) = tokio::sync::oneshot::channel();
        // It blocks. Who is not there to be told has given up anyway.
        let wait = || drop(tell.send(member.wait_ready()));
        std::thread::Builder::new()
            .name(WAITING_THREAD.to_owned())
            .spawn_scoped(scope, wait)
            .map_err(StartError::Thread)?;
        runtime.block_on(async {
            told.await.map_err(|_| StartError::Stopped("a thread panicked".into()))??;
            accept_all(listeners.clients, acceptor).map_err(StartError::Thread)?;
            let identity = member.identity();
            tracing::info!("cluster-id" = %identity.cluster_id, "member-id" = %identity.member_id, "ready to serve client requests");
            until_end(member, manager).await.map_err(StartError::Thread)
        })
    })
}

/// Accepts on all of them from now on.
fn accept_all(listeners: Vec<Listener>, acceptor: &Arc<Acceptor>) -> io::Result<()> {
    for Listener { socket, surface } in listeners {
        let acceptor = acceptor.clone();
        match socket {
            ListeningSocket::Tcp(listener) => {
                let listener = TcpListener::from_std(listener)?;
                tokio::spawn(async move {
                    loop {
                        let place = acceptor.place().await;
                        let accepted = listener.accept().await;
                        let stream = accepted.and_then(|(stream, peer)| Ok(Stream::Tcp(stream.into_std()?, peer)));
                        acceptor.pass_on(stream, surface, place).await;
                    }
                });
            }
            ListeningSocket::Unix(listener, file) => {
                let listener = tokio::net::UnixListener::from_std(listener)?;
                tokio::spawn(async move {
                    let _file = file;
                    loop {
                        let place = acceptor.place().await;
                        let accepted = listener.accept().await;
                        let stream = accepted.and_then(|(stream, _)| Ok(Stream::Unix(stream.into_std()?)));
                        acceptor.pass_on(stream, surface, place).await;
                    }
                });
            }
        }
    }
    Ok(())
}

/// As [`accept_until_end`] returns.
async fn until_end(member: &Member, manager: &ServiceManager) -> io::Result<Option<i32>> {
    let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    let door = member.door();
    let telling = async {
        manager.keep_told(&door, member.identity()).await;
        std::future::pending().await
    };
    let ended = tokio::select! {
        _ = terminate.recv() => Some(SignalKind::terminate().as_raw_value()),
        _ = interrupt.recv() => Some(SignalKind::interrupt().as_raw_value()),
        () = door.stopped() => None,
        never = telling => never,
    };
    manager.stopping();
    Ok(ended)
}

/// What the listeners share.
struct Acceptor {
    workers: Vec<Inbox>,
    places: Arc<Semaphore>,
    is_full: AtomicBool,
}

impl Acceptor {
    fn new(workers: Vec<Inbox>, connections_max: usize) -> Acceptor {
        let places = Arc::new(Semaphore::new(connections_max));
        Acceptor { workers, places, is_full: AtomicBool::new(false) }
    }

    /// Waits until one more connection may be open. Those that come meanwhile wait with the system.
    async fn place(&self) -> OwnedSemaphorePermit {
        if let Ok(place) = self.places.clone().try_acquire_owned() {
            self.is_full.store(false, Ordering::Relaxed);
            return place;
        }
        if !self.is_full.swap(true, Ordering::Relaxed) {
            tracing::warn!("as many connections are open as the limit of open files allows; new ones wait");
        }
        self.places.clone().acquire_owned().await.expect("the semaphore is never closed")
    }

    async fn pass_on(&self, stream: io::Result<Stream>, surface: Surface, permit: OwnedSemaphorePermit) {
        match stream {
            Ok(stream) => {
                // The first of those with equally many.
                let worker = self.workers.iter().min_by_key(|worker| Arc::strong_count(&worker.load));
                let worker = worker.expect("there is a worker for each processor");
                let place = Place { _permit: permit, _load: worker.load.clone() };
                // An error means that the worker has ended, and with it the member.
                let _ = worker.sender.send(Accepted { stream, surface, place }).await;
            }
            Err(error) => {
                // The whole system is out of descriptors, or of memory.
                tracing::warn!(%error, "cannot accept a connection");
                tokio::time::sleep(ACCEPT_RETRY_INTERVAL).await;
            }
        }
    }
}

/// One worker thread: its connections never leave it. Says first whether it can serve.
fn work(
    door: Door,
    reads_peers: bool,
    settings: Settings,
    meters: Arc<Meters>,
    clock: Arc<dyn Clock>,
    mut connections: Receiver<Accepted>,
    started: std::sync::mpsc::Sender<io::Result<()>>,
) {
    // Who is not there to be told has given up on all of them.
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return drop(started.send(Err(error))),
    };
    LocalSet::new().block_on(&runtime, async {
        let worker = Worker::start(door.open(), settings, meters, clock, &mut SystemRng::default());
        let reading = reads_peers.then(|| tokio::task::spawn_local(async move { door.read_peers().await }));
        let _ = started.send(Ok(()));
        drop(started);
        while let Some(Accepted { stream, surface, place }) = connections.recv().await {
            let worker = worker.clone();
            tokio::task::spawn_local(async move {
                let _place = place;
                match stream {
                    Stream::Tcp(stream, peer) => match TcpStream::from_std(stream) {
                        Ok(stream) => worker.serve_tcp(stream, peer, surface).await,
                        Err(error) => tracing::debug!(%error, "connection lost before it began"),
                    },
                    Stream::Unix(stream) => match UnixStream::from_std(stream) {
                        Ok(stream) => worker.serve(stream, "unix", surface).await,
                        Err(error) => tracing::debug!(%error, "connection lost before it began"),
                    },
                }
            });
        }
        // The acceptor has ended: the member stops, and calls under way get a moment to finish.
        let _ = tokio::time::timeout(DRAIN_TIMEOUT, worker.drained()).await;
        // The member hears the others until it has handed over to one of them. A panic is told already.
        if let Some(reading) = reading {
            let _ = reading.await;
        }
    });
    // Not waiting for name service, as the thread for the other members does not.
    runtime.shutdown_background();
}

fn join(workers: Vec<JoinHandle<()>>) {
    for worker in workers {
        if worker.join().is_err() {
            tracing::error!("a network worker panicked");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_connection_goes_to_who_has_the_fewest_and_a_lone_one_to_the_first() {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            let (senders, mut workers): (Vec<_>, Vec<_>) = (0..3).map(|_| channel(10)).unzip();
            let inboxes = senders.into_iter().map(|sender| Inbox { sender, load: Arc::default() }).collect();
            let acceptor = Acceptor::new(inboxes, 10);
            let mut pass_on = async || {
                let (stream, _other) = std::os::unix::net::UnixStream::pair().unwrap();
                acceptor.pass_on(Ok(Stream::Unix(stream)), Surface::Everything, acceptor.place().await).await;
                let taken = workers.iter_mut().enumerate();
                taken.into_iter().find_map(|(number, worker)| Some((number, worker.try_recv().ok()?))).unwrap()
            };
            for _ in 0..3 {
                assert_eq!(pass_on().await.0, 0, "those before it have ended");
            }
            let open = [pass_on().await, pass_on().await, pass_on().await];
            assert_eq!(open.each_ref().map(|(worker, _)| *worker), [0, 1, 2]);
            let [first, second, _third] = open;
            drop(second);
            let second = pass_on().await;
            assert_eq!(second.0, 1);
            drop(first);
            assert_eq!(pass_on().await.0, 0);
        });
    }
}
