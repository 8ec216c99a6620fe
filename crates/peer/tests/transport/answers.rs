//! Streams that this member dials, as peers of any make may answer: how the answer is coded and cut, and how it ends.

use std::collections::BTreeSet;
use std::time::Duration;

use bytes::BytesMut;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::Instant;
use types::{Index, MemberId, Message, MessageKind};

use crate::ground::{CLUSTER, Member, Setup, message, run, url};

const PEER: MemberId = MemberId(2);
const HEARTBEAT: &[u8] = b"\0\0\0\0\0\0\0\x02\x08\x08";

/// A peer that this test is.
struct Peer(TcpListener);

impl Peer {
    async fn of(member: &Member) -> Peer {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        member.outbox.set_members(&[(PEER, vec![url(listener.local_addr().unwrap())])], BTreeSet::new());
        Peer(listener)
    }

    /// The next request for a `message` stream. All others are hung up on.
    async fn dialled(&self) -> TcpStream {
        loop {
            let (mut socket, _) = self.0.accept().await.unwrap();
            socket.set_nodelay(true).unwrap();
            let mut head = Vec::new();
            while !head.ends_with(b"\r\n\r\n") && socket.read_buf(&mut head).await.unwrap() > 0 {}
            if head.starts_with(b"GET /raft/stream/message/1 HTTP/1.1\r\n") {
                return socket;
            }
        }
    }
}

fn head(more: &str) -> Vec<u8> {
    format!("HTTP/1.1 200 OK\r\nX-Server-Version: 3.5.30\r\nX-Etcd-Cluster-ID: {CLUSTER}\r\n{more}\r\n").into_bytes()
}

fn numbered(number: u64) -> Message {
    Message { index: Index(number), ..message(MessageKind::AppendResponse, PEER, MemberId(1)) }
}

fn frame(message: &Message) -> Vec<u8> {
    let mut bytes = BytesMut::new();
    peer::encode(message, &mut bytes);
    [&(bytes.len() as u64).to_be_bytes(), &bytes[..]].concat()
}

fn chunk(bytes: &[u8]) -> Vec<u8> {
    [format!("{:x}\r\n", bytes.len()).as_bytes(), bytes, b"\r\n"].concat()
}

/// Until the member hangs up.
async fn hung_up(socket: &mut TcpStream) {
    while socket.read(&mut [0; 64]).await.is_ok_and(|read| read > 0) {}
}

#[test]
fn messages_come_however_an_answer_is_coded_and_cut() {
    run(async {
        let a = Member::start(1);
        let peer = Peer::of(&a).await;
        let chunked = "Transfer-Encoding: chunked\r\n";
        let frames: Vec<u8> = (0..3).flat_map(|n| frame(&numbered(n))).collect();
        let in_one = chunk(&frames);
        let in_two = [chunk(&frames[..20]), chunk(&frames[20..])].concat();
        let odd = [b"0001;why=\"not\"\r\n", &frames[..1], b"\r\n", &chunk(&frames[1..])].concat();
        let ended = [&in_one[..], b"0\r\n\r\n"].concat();
        let answers = [
            (head(chunked), in_one),
            (head(chunked), in_two),
            (head("transfer-encoding: Chunked\r\n"), odd),
            (head(chunked), ended),
            (head(""), frames.clone()),
            (head("Connection: close\r\n"), frames),
        ];
        for (head, body) in answers {
            let bytes = [head, body].concat();
            // With the head, cut within it, and byte by byte.
            for cut in [bytes.len(), 50, 1] {
                let mut socket = peer.dialled().await;
                for piece in bytes.chunks(cut) {
                    socket.write_all(piece).await.unwrap();
                    tokio::task::yield_now().await;
                }
                a.record.until_received(3).await;
                assert_eq!(a.record.taken(), [numbered(0), numbered(1), numbered(2)]);
            }
        }
        assert_eq!(a.outbox.refused(), 0);
    });
}

#[test]
fn malformed_chunks_end_a_stream_after_what_came_before_them() {
    run(async {
        let a = Member::start(1);
        let peer = Peer::of(&a).await;
        let before = [head("Transfer-Encoding: chunked\r\n"), chunk(&frame(&numbered(7)))].concat();
        let long = format!("1;{}", "x".repeat(10_000));
        let malformed = ["zz\r\n", "\r\n\r\n", "-1\r\n", "4\nabcd\n", "2\r\n\0\0\0\0", "ffffffffffffffffff\r\n", &long];
        for (round, malformed) in malformed.iter().enumerate() {
            let mut socket = peer.dialled().await;
            socket.write_all(&[&before[..], malformed.as_bytes()].concat()).await.unwrap();
            hung_up(&mut socket).await;
            a.record.until_received(1).await;
            assert_eq!(a.record.taken(), [numbered(7)]);
            while a.outbox.refused() < round as u64 + 1 {
                tokio::task::yield_now().await;
            }
        }
        assert_eq!(a.outbox.refused(), malformed.len() as u64);
    });
}

#[test]
fn answers_that_are_no_streams_are_left() {
    run(async {
        let a = Member::start_with(1, Setup { read_timeout: Duration::from_millis(500), ..Setup::default() });
        let peer = Peer::of(&a).await;
        let answers = [
            head("Content-Length: 100\r\n"),
            head("Transfer-Encoding: gzip, chunked\r\n"),
            head("Transfer-Encoding: gzip\r\n"),
            b"\r\n\r\n\r\n\r\n".to_vec(),
            b"SSH-2.0-OpenSSH_9.6\r\n".to_vec(),
            [&b"HTTP/1.1 200 OK\r\nX: "[..], &vec![b'y'; 1 << 20]].concat(),
            b"HTTP/1.1 404 Not Found\r\nContent-Length: 5\r\n\r\nnope\n".to_vec(),
            b"HTTP/1.1 404 Not Found\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nnope\n\r\n0\r\n\r\n".to_vec(),
        ];
        for answer in answers {
            let mut socket = peer.dialled().await;
            // It may not take all of it.
            drop(socket.write_all(&answer).await);
            hung_up(&mut socket).await;
        }
        assert_eq!(a.record.taken(), []);
    });
}

#[test]
fn a_refusal_is_read_to_its_end_and_the_peer_dialled_again_at_once() {
    run(async {
        let a = Member::start(1);
        let peer = Peer::of(&a).await;
        for _ in 0..2 {
            let mut socket = peer.dialled().await;
            let came_at = Instant::now();
            socket.write_all(b"HTTP/1.1 412 Precondition Failed\r\nContent-Length: 18\r\n\r\nto field").await.unwrap();
            tokio::time::sleep(Duration::from_millis(10)).await;
            socket.write_all(b" mismatch\n").await.unwrap();
            hung_up(&mut socket).await;
            // Whoever waits for the text in vain takes five seconds.
            assert!(came_at.elapsed() < Duration::from_secs(4));
        }
    });
}

#[test]
fn a_stream_is_given_up_once_it_is_silent_for_too_long() {
    run(async {
        let patience = Duration::from_millis(300);
        let a = Member::start_with(1, Setup { read_timeout: patience, ..Setup::default() });
        let peer = Peer::of(&a).await;
        let mut socket = peer.dialled().await;
        socket.write_all(&head("Transfer-Encoding: chunked\r\n")).await.unwrap();
        let started = Instant::now();
        while started.elapsed() < 4 * patience {
            socket.write_all(&chunk(HEARTBEAT)).await.unwrap();
            tokio::time::sleep(patience / 10).await;
        }
        let silent_since = Instant::now();
        socket.write_all(&chunk(&frame(&numbered(1)))).await.unwrap();
        hung_up(&mut socket).await;
        assert!(silent_since.elapsed() >= patience);
        assert_eq!(a.record.taken(), [numbered(1)]);
        // And one of which not even the head's end comes.
        let mut socket = peer.dialled().await;
        let silent_since = Instant::now();
        socket.write_all(&head("")[..20]).await.unwrap();
        hung_up(&mut socket).await;
        assert!(silent_since.elapsed() >= patience / 2);
    });
}
