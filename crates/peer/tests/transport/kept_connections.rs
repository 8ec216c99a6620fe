//! Calls that share connections, against a leader that counts them.

use std::cell::{Cell, RefCell};
use std::net::SocketAddr;
use std::rc::Rc;

use api::etcdserverpb::LeaseKeepAliveResponse;
use peer::client::{ClientError, KeptConnections};
use prost::Message;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;
use tokio::task::{AbortHandle, JoinSet, spawn_local};
use types::LeaseId;

use crate::ground::{PATIENCE, run, url};

/// Answers keepalives of lease 7 and nothing else.
struct Leader {
    address: SocketAddr,
    seen: Rc<Seen>,
    accepting: AbortHandle,
}

struct Seen {
    opened: Cell<usize>,
    open: Cell<usize>,
    /// A connection fails at the request after so many.
    answers_max: Cell<usize>,
    /// Answers wait for it where it is set.
    held: RefCell<Option<Rc<Notify>>>,
    waiting: Cell<usize>,
    changed: Notify,
}

impl Leader {
    async fn start() -> Leader {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let seen = Rc::new(Seen {
            opened: Cell::new(0),
            open: Cell::new(0),
            answers_max: Cell::new(usize::MAX),
            held: RefCell::default(),
            waiting: Cell::new(0),
            changed: Notify::new(),
        });
        let accepting = spawn_local({
            let seen = seen.clone();
            async move {
                loop {
                    let (stream, _) = listener.accept().await.unwrap();
                    seen.opened.set(seen.opened.get() + 1);
                    seen.open.set(seen.open.get() + 1);
                    let seen = seen.clone();
                    spawn_local(async move {
                        seen.serve(stream).await;
                        seen.open.set(seen.open.get() - 1);
                        seen.changed.notify_one();
                    });
                }
            }
        });
        Leader { address, seen, accepting: accepting.abort_handle() }
    }

    async fn keep_alive(&self, kept: &KeptConnections) -> Result<i64, ClientError> {
        kept.keep_alive(&url(self.address), LeaseId(7), PATIENCE).await
    }
}

impl Drop for Leader {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

impl Seen {
    async fn until(&self, holds: impl Fn(&Seen) -> bool) {
        while !holds(self) {
            self.changed.notified().await;
        }
    }

    async fn serve(&self, mut stream: TcpStream) {
        let body = LeaseKeepAliveResponse { header: None, id: 7, ttl: 60 }.encode_to_vec();
        let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", body.len());
        let (mut read, mut buffer) = (Vec::new(), [0; 1024]);
        for _ in 0..self.answers_max.get() {
            // The body of a keepalive of lease 7: the last two bytes of a request.
            while !read.ends_with(b"\r\n\r\n\x08\x07") {
                match stream.read(&mut buffer).await {
                    Ok(0) | Err(_) => return,
                    Ok(count) => read.extend_from_slice(&buffer[..count]),
                }
            }
            read.clear();
            let held = self.held.borrow().clone();
            if let Some(held) = held {
                self.waiting.set(self.waiting.get() + 1);
                self.changed.notify_one();
                held.notified().await;
            }
            stream.write_all(&[head.as_bytes(), &body].concat()).await.unwrap();
        }
        // The next request is read and not answered.
        let _ = stream.read(&mut buffer).await;
    }
}

#[test]
fn calls_after_one_another_share_a_connection() {
    run(async {
        let leader = Leader::start().await;
        let kept = KeptConnections::default();
        for _ in 0..20 {
            assert_eq!(leader.keep_alive(&kept).await.unwrap(), 60);
        }
        // One, unless the machine pauses for so long that it is idle.
        assert!(leader.seen.opened.get() < 20);
    });
}

#[test]
fn another_leader_gets_connections_of_its_own() {
    run(async {
        let leaders = [Leader::start().await, Leader::start().await];
        let kept = KeptConnections::default();
        for _ in 0..20 {
            for leader in &leaders {
                leader.keep_alive(&kept).await.unwrap();
            }
        }
        assert!(leaders.iter().all(|leader| (1..20).contains(&leader.seen.opened.get())));
    });
}

#[test]
fn a_connection_that_fails_is_replaced_and_a_fresh_one_that_fails_is_not() {
    run(async {
        let leader = Leader::start().await;
        let kept = KeptConnections::default();
        leader.seen.answers_max.set(1);
        for opened in 1..=3 {
            leader.keep_alive(&kept).await.unwrap();
            assert_eq!(leader.seen.opened.get(), opened);
        }
        leader.seen.answers_max.set(0);
        let failed = leader.keep_alive(&kept).await;
        assert!(matches!(failed, Err(ClientError::Unreachable { .. })), "{failed:?}");
        assert_eq!(leader.seen.opened.get(), 4);
    });
}

#[test]
fn calls_at_once_are_bounded_and_all_are_answered() {
    run(async {
        const CALLS: usize = 200;
        const CONNECTIONS: usize = 32;
        let leader = Rc::new(Leader::start().await);
        let kept = Rc::new(KeptConnections::default());
        let held = Rc::new(Notify::new());
        *leader.seen.held.borrow_mut() = Some(held.clone());
        let mut calls = JoinSet::new();
        for _ in 0..CALLS {
            let (leader, kept) = (leader.clone(), kept.clone());
            calls.spawn_local(async move { leader.keep_alive(&kept).await.unwrap() });
        }
        leader.seen.until(|seen| seen.waiting.get() == CONNECTIONS).await;
        *leader.seen.held.borrow_mut() = None;
        held.notify_waiters();
        assert_eq!(calls.join_all().await, [60; CALLS]);
        assert_eq!(leader.seen.opened.get(), CONNECTIONS);
    });
}

#[test]
fn idle_connections_are_closed() {
    run(async {
        let leader = Leader::start().await;
        let kept = KeptConnections::default();
        leader.keep_alive(&kept).await.unwrap();
        kept.close_idle(tokio::time::Instant::now() + PATIENCE);
        leader.seen.until(|seen| seen.open.get() == 0).await;
    });
}
