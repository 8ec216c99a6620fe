//! Network workers and the acceptor that feeds them, until something ends the member.

use std::io;
use std::os::unix::net::UnixListener;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use env::Clock;
use grpc::{Settings, Worker};
use server::{Door, Member};
use tokio::net::{TcpListener, TcpStream, UnixStream};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc::{Receiver, Sender, channel};
use tokio::task::LocalSet;

use crate::listeners::Listeners;

/// Why the member ended.
pub(crate) enum Ending {
    Signal(i32),
    Failed(String),
}

/// A connection on its way to its worker, not yet known to any runtime.
enum Accepted {
    Tcp(std::net::TcpStream, std::net::SocketAddr),
    Unix(std::os::unix::net::UnixStream),
}

/// Accepted connections that a worker has not taken yet; past it, accepting waits.
const WAITING_CONNECTIONS_MAX: usize = 1024;
/// How long clients get to finish once the member stops.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(2);
/// How long to wait when the system has no room for another connection.
const ACCEPT_RETRY_INTERVAL: Duration = Duration::from_millis(100);

/// Serves until a signal comes or the member fails, then stops everything in order.
pub(crate) fn serve(
    member: Member,
    listeners: Listeners,
    settings: &Settings,
    clock: &Arc<dyn Clock>,
) -> Result<Ending, String> {
    let start = |error: io::Error| format!("cannot start a thread: {error}");
    let mut workers = Vec::new();
    let mut to_workers = Vec::new();
    for number in 0..std::thread::available_parallelism().map_or(1, usize::from) {
        let (send, receive) = channel(WAITING_CONNECTIONS_MAX);
        let (door, settings, clock) = (member.door(), settings.clone(), clock.clone());
        let worker = std::thread::Builder::new()
            .name(format!("worker{number}"))
            .spawn(move || work(&door, settings, clock, receive))
            .map_err(start)?;
        workers.push(worker);
        to_workers.push(send);
    }
    let ended = accept_until_end(&member, listeners, &to_workers).map_err(start);
    // Workers end when no connections can come any more.
    drop(to_workers);
    let stopped = member.stop();
    join(workers);
    match (ended?, stopped) {
        (_, Err(reason)) => Ok(Ending::Failed(reason)),
        (Some(signal), Ok(())) => Ok(Ending::Signal(signal)),
        (None, Ok(())) => Ok(Ending::Failed("the member stopped without saying why".into())),
    }
}

/// Hands connections to the workers in turn. Returns the signal that ended it; `None` if the member ended by itself.
fn accept_until_end(member: &Member, listeners: Listeners, workers: &[Sender<Accepted>]) -> io::Result<Option<i32>> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let turn = Arc::new(std::sync::atomic::AtomicUsize::new(0));
    runtime.block_on(async {
        for listener in listeners.tcp {
            let (workers, turn) = (workers.to_vec(), turn.clone());
            let listener = TcpListener::from_std(listener)?;
            tokio::spawn(async move {
                loop {
                    let accepted = listener.accept().await;
                    let accepted = accepted.and_then(|(stream, peer)| Ok(Accepted::Tcp(stream.into_std()?, peer)));
                    pass_on(accepted, &workers, &turn).await;
                }
            });
        }
        for listener in listeners.unix {
            let (workers, turn) = (workers.to_vec(), turn.clone());
            tokio::spawn(accept_unix(listener, workers, turn));
        }
        let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
        let stopped = member.door();
        tokio::select! {
            _ = terminate.recv() => Ok(Some(SignalKind::terminate().as_raw_value())),
            _ = interrupt.recv() => Ok(Some(SignalKind::interrupt().as_raw_value())),
            () = stopped.stopped() => Ok(None),
        }
    })
}

async fn accept_unix(
    listener: UnixListener,
    workers: Vec<Sender<Accepted>>,
    turn: Arc<std::sync::atomic::AtomicUsize>,
) {
    let listener = match tokio::net::UnixListener::from_std(listener) {
        Ok(listener) => listener,
        Err(error) => return tracing::error!(%error, "cannot listen on a unix socket"),
    };
    loop {
        let accepted = listener.accept().await.and_then(|(stream, _)| Ok(Accepted::Unix(stream.into_std()?)));
        pass_on(accepted, &workers, &turn).await;
    }
}

async fn pass_on(accepted: io::Result<Accepted>, workers: &[Sender<Accepted>], turn: &std::sync::atomic::AtomicUsize) {
    match accepted {
        Ok(accepted) => {
            let turn = turn.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
            // An error means that the worker has ended, and with it the member.
            let _ = workers[turn % workers.len()].send(accepted).await;
        }
        Err(error) => {
            // Out of file descriptors, most likely: those that are open must be served first.
            tracing::warn!(%error, "cannot accept a connection");
            tokio::time::sleep(ACCEPT_RETRY_INTERVAL).await;
        }
    }
}

/// One worker thread: its connections never leave it.
fn work(door: &Door, settings: Settings, clock: Arc<dyn Clock>, mut connections: Receiver<Accepted>) {
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return tracing::error!(%error, "cannot start a network worker"),
    };
    LocalSet::new().block_on(&runtime, async {
        let worker = Worker::start(door.open(), settings, clock);
        while let Some(accepted) = connections.recv().await {
            let worker = worker.clone();
            match accepted {
                Accepted::Tcp(stream, peer) => match TcpStream::from_std(stream) {
                    Ok(stream) => drop(tokio::task::spawn_local(worker.serve_tcp(stream, peer))),
                    Err(error) => tracing::debug!(%error, "connection lost before it began"),
                },
                Accepted::Unix(stream) => match UnixStream::from_std(stream) {
                    Ok(stream) => drop(tokio::task::spawn_local(worker.serve(stream, "unix"))),
                    Err(error) => tracing::debug!(%error, "connection lost before it began"),
                },
            }
        }
        // The acceptor has ended: the member stops, and calls under way get a moment to finish.
        let _ = tokio::time::timeout(DRAIN_TIMEOUT, worker.drained()).await;
    });
}

fn join(workers: Vec<JoinHandle<()>>) {
    for worker in workers {
        if worker.join().is_err() {
            tracing::error!("a network worker panicked");
        }
    }
}
