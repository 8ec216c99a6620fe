//! Proxies before the members' peer ports, on a thread of their own: what one member says to another can be delayed or
//! held up, each way for itself.
//!
//! Which member calls is read from the kernel's table of sockets, so that the bytes need not be understood. Bytes are
//! never lost from the middle of a connection: a cut holds them until it is mended, as TCP would by sending again, or the
//! connection is broken. No new connection comes about while either way is cut.

use std::collections::HashMap;
use std::fs;
use std::io;
use std::net::{SocketAddr, TcpListener as StdListener};
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread;
use std::time::Duration;

use anyhow::Result;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep_until};

/// How many pieces of a connection are under way at once; past them the sender waits.
const PIECES: usize = 256;

const PIECE_BYTES: usize = 64 << 10;

/// The proxies of one cluster. They end when this is dropped.
#[derive(Debug)]
pub(super) struct Links {
    shared: Arc<Shared>,
    listeners: mpsc::UnboundedSender<(StdListener, usize, SocketAddr)>,
}

#[derive(Debug)]
struct Shared {
    state: Mutex<State>,
    /// Counts the changes of the state.
    changes: watch::Sender<u64>,
}

#[derive(Debug, Default)]
struct State {
    /// Which process is which member.
    processes: HashMap<u32, usize>,
    cut: Vec<(usize, usize)>,
    /// How often all connections were broken.
    breaks: u64,
    shortest: Duration,
    longest: Duration,
}

impl Links {
    pub(super) fn start() -> Result<Links> {
        let (listeners, mut arriving) = mpsc::unbounded_channel::<(StdListener, usize, SocketAddr)>();
        let shared = Arc::new(Shared { state: Mutex::default(), changes: watch::Sender::new(0) });
        let links = Links { shared: shared.clone(), listeners };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        // It ends, and every proxy with it, when the sender of listeners is gone.
        thread::Builder::new().name("links".to_owned()).spawn(move || {
            runtime.block_on(async {
                while let Some((listener, seat, member)) = arriving.recv().await {
                    tokio::spawn(accept(shared.clone(), listener, seat, member));
                }
            });
        })?;
        Ok(links)
    }

    /// Listens at `at` for what is to go to member `seat`, which listens at `member`.
    pub(super) fn listen(&self, seat: usize, at: SocketAddr, member: SocketAddr) -> Result<()> {
        let listener = StdListener::bind(at)?;
        listener.set_nonblocking(true)?;
        self.listeners.send((listener, seat, member))?;
        Ok(())
    }

    pub(super) fn belongs(&self, process: u32, seat: usize) {
        self.shared.change(|state| {
            state.processes.retain(|_, held| *held != seat);
            state.processes.insert(process, seat);
        });
    }

    pub(super) fn cut(&self, from: usize, to: usize) {
        self.shared.change(|state| state.cut.push((from, to)));
    }

    /// Closes every connection there is; what is under way on it is lost.
    pub(super) fn break_all(&self) {
        self.shared.change(|state| state.breaks += 1);
    }

    pub(super) fn delay(&self, shortest: Duration, longest: Duration) {
        self.shared.change(|state| (state.shortest, state.longest) = (shortest, longest));
    }

    pub(super) fn heal(&self) {
        self.shared.change(|state| {
            state.cut.clear();
            (state.shortest, state.longest) = (Duration::ZERO, Duration::ZERO);
        });
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("nobody panics while holding it")
    }

    fn change(&self, change: impl FnOnce(&mut State)) {
        change(&mut self.state());
        self.changes.send_modify(|count| *count += 1);
    }

    /// Waits until nothing keeps bytes from going from `from` to `to`.
    async fn open(&self, from: usize, to: usize) {
        let mut changes = self.changes.subscribe();
        while self.state().cut.contains(&(from, to)) {
            if changes.changed().await.is_err() {
                return;
            }
        }
    }

    /// Ends when all connections that there are now are broken.
    fn broken(self: &Arc<Shared>) -> impl Future<Output = ()> + use<> {
        let (shared, before) = (self.clone(), self.state().breaks);
        async move {
            let mut changes = shared.changes.subscribe();
            while shared.state().breaks == before && changes.changed().await.is_ok() {}
        }
    }

    /// When bytes that are read now arrive.
    fn due(&self) -> Instant {
        let state = self.state();
        let span = state.longest.saturating_sub(state.shortest);
        Instant::now() + state.shortest + span.mul_f64(fastrand::f64())
    }
}

async fn accept(shared: Arc<Shared>, listener: StdListener, to: usize, member: SocketAddr) -> io::Result<()> {
    let listener = TcpListener::from_std(listener)?;
    let at = listener.local_addr()?;
    loop {
        let (dialled, dialler) = listener.accept().await?;
        let processes: Vec<(u32, usize)> = shared.state().processes.iter().map(|(&id, &seat)| (id, seat)).collect();
        // A caller that is no member, or gone already, gets no answer.
        let Some(from) = seat_of(&processes, dialler, at) else { continue };
        tokio::spawn(connect(shared.clone(), dialled, from, to, member));
    }
}

async fn connect(
    shared: Arc<Shared>,
    dialled: TcpStream,
    from: usize,
    to: usize,
    member: SocketAddr,
) -> io::Result<()> {
    shared.open(from, to).await;
    shared.open(to, from).await;
    let broken = shared.broken();
    let onward = TcpStream::connect(member).await?;
    dialled.set_nodelay(true)?;
    onward.set_nodelay(true)?;
    let (dialled_reads, dialled_writes) = dialled.into_split();
    let (onward_reads, onward_writes) = onward.into_split();
    let both = async {
        let there = forward(&shared, dialled_reads, onward_writes, from, to);
        tokio::join!(there, forward(&shared, onward_reads, dialled_writes, to, from));
    };
    tokio::select! {
        () = both => {}
        () = broken => {}
    }
    Ok(())
}

/// Carries bytes one way until either end closes.
async fn forward(shared: &Shared, mut reads: OwnedReadHalf, mut writes: OwnedWriteHalf, from: usize, to: usize) {
    let (pieces, mut arriving) = mpsc::channel::<(Instant, Vec<u8>)>(PIECES);
    let take = async move {
        let mut piece = vec![0; PIECE_BYTES];
        while let Ok(count @ 1..) = reads.read(&mut piece).await {
            if pieces.send((shared.due(), piece[..count].to_vec())).await.is_err() {
                return;
            }
        }
    };
    let give = async move {
        while let Some((due, piece)) = arriving.recv().await {
            sleep_until(due).await;
            shared.open(from, to).await;
            if writes.write_all(&piece).await.is_err() {
                return;
            }
        }
        // The end, too, is heard only over an open wire.
        shared.open(from, to).await;
    };
    tokio::join!(take, give);
}

/// The member whose process holds the socket that is bound to `dialler` and connected to `at`.
fn seat_of(processes: &[(u32, usize)], dialler: SocketAddr, at: SocketAddr) -> Option<usize> {
    let table = fs::read_to_string("/proc/net/tcp").ok()?;
    let ends = format!("{} {} ", hex(dialler)?, hex(at)?);
    let row = table.lines().find(|row| row.contains(&ends))?;
    let socket = format!("socket:[{}]", row.split_whitespace().nth(9)?);
    let holds = |process: u32| {
        let files = fs::read_dir(format!("/proc/{process}/fd")).ok();
        let mut links = files.into_iter().flatten().filter_map(|file| fs::read_link(file.ok()?.path()).ok());
        links.any(|link| link == Path::new(&socket))
    };
    processes.iter().find(|(process, _)| holds(*process)).map(|&(_, seat)| seat)
}

/// An address as `/proc/net/tcp` has it.
fn hex(address: SocketAddr) -> Option<String> {
    let SocketAddr::V4(address) = address else { return None };
    Some(format!("{:08X}:{:04X}", u32::from_le_bytes(address.ip().octets()), address.port()))
}
