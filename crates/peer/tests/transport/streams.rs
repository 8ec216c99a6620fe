//! Streams as those who dial them see them, byte by byte, whoever writes and however fast they are read.

use std::collections::BTreeSet;
use std::io::Read;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use bytes::Bytes;
use peer::Outbox;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use types::{Index, MemberId, Message, MessageKind, Term};

use crate::ground::{Event, Member, PATIENCE, append, connected, entry, exchange, identity, join, message, run, url};

const PEER: MemberId = MemberId(2);

/// A member, and a peer of it that is this test.
fn member() -> Member {
    let member = Member::start(1);
    // It dials us at a port where nobody listens.
    let nobody = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    member.outbox.set_members(&[(PEER, vec![url(nobody)])], BTreeSet::new());
    member
}

fn dial_request(kind: &str) -> String {
    format!("GET /raft/stream/{kind}/2 HTTP/1.1\r\nHost: x\r\n{}X-Raft-To: 1\r\n\r\n", identity(PEER))
}

/// A `message` stream that was dialled.
struct Stream {
    socket: TcpStream,
    chunked: Vec<u8>,
    frames: Vec<u8>,
}

impl Stream {
    async fn dial(member: &Member) -> Stream {
        let mut socket = TcpStream::connect(member.address).await.unwrap();
        socket.write_all(dial_request("message").as_bytes()).await.unwrap();
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(socket.read_u8().await.unwrap());
        }
        assert!(head.starts_with(b"HTTP/1.1 200 OK\r\n"));
        Stream { socket, chunked: Vec::new(), frames: Vec::new() }
    }

    /// What came by now, at least one message; none at the end of the stream.
    async fn next(&mut self) -> Vec<Message> {
        loop {
            let messages = self.whole_messages();
            if !messages.is_empty() {
                return messages;
            }
            if !matches!(self.socket.read_buf(&mut self.chunked).await, Ok(1..)) {
                return Vec::new();
            }
            self.unpack();
        }
    }

    async fn next_so_many(&mut self, count: usize) -> Vec<Message> {
        let mut messages = Vec::new();
        while messages.len() < count {
            let more = self.next().await;
            assert!(!more.is_empty(), "the stream ended after {} messages", messages.len());
            messages.extend(more);
        }
        messages
    }

    fn unpack(&mut self) {
        let mut at = 0;
        while let Some(line) = self.chunked[at..].iter().position(|byte| *byte == b'\n') {
            let digits = str::from_utf8(&self.chunked[at..at + line]).unwrap().strip_suffix('\r').unwrap();
            assert!(!digits.starts_with('0'), "an end, or leading zeros: {digits}");
            let (start, len) = (at + line + 1, usize::from_str_radix(digits, 16).unwrap());
            let Some(end) = self.chunked.get(start + len..start + len + 2) else { break };
            assert_eq!(end, b"\r\n");
            self.frames.extend_from_slice(&self.chunked[start..start + len]);
            at = start + len + 2;
        }
        self.chunked.drain(..at);
    }

    fn whole_messages(&mut self) -> Vec<Message> {
        let mut at = 0;
        let mut messages = Vec::new();
        while let Some(len) = self.frames.get(at..at + 8) {
            let len = u64::from_be_bytes(len.try_into().unwrap()) as usize;
            let Some(bytes) = self.frames.get(at + 8..at + 8 + len) else { break };
            // All else are heartbeats of the link.
            if len > 2 {
                messages.push(peer::decode(&Bytes::copy_from_slice(bytes)).unwrap());
            }
            at += 8 + len;
        }
        self.frames.drain(..at);
        messages
    }
}

/// A message that says its number and who sent it, and has some size.
fn numbered(sender: u64, number: u64, size: usize) -> Message {
    Message {
        term: Term(sender + 1),
        index: Index(number),
        context: Bytes::from(vec![number as u8; size]),
        ..message(MessageKind::AppendResponse, MemberId(1), PEER)
    }
}

/// Waits for room: the queues are bounded, and what finds none is lost.
fn wait_for_room(outbox: &Outbox, peer: MemberId) {
    while outbox.figures(peer).is_none_or(|figures| figures.waiting_messages > 1000 || figures.waiting_bytes > 16 << 20)
    {
        std::thread::yield_now();
    }
}

/// Nothing else runs between the sending and the reading.
#[test]
fn a_message_leaves_on_its_senders_thread() {
    run(async {
        let a = member();
        let mut streams = Vec::new();
        for kind in ["message", "msgapp"] {
            let mut stream = TcpStream::connect(a.address).await.unwrap();
            stream.write_all(dial_request(kind).as_bytes()).await.unwrap();
            let mut head = Vec::new();
            while !head.ends_with(b"\r\n\r\n") {
                head.push(stream.read_u8().await.unwrap());
            }
            let stream = stream.into_std().unwrap();
            stream.set_nonblocking(false).unwrap();
            stream.set_read_timeout(Some(PATIENCE)).unwrap();
            streams.push(stream);
        }
        let mut read = |stream: usize, expected: &[u8]| {
            let mut bytes = vec![0; expected.len()];
            streams[stream].read_exact(&mut bytes).unwrap();
            assert_eq!(bytes, expected, "{}", String::from_utf8_lossy(&bytes));
        };
        a.outbox.send(vec![numbered(0, 7, 0)]);
        read(0, b"12\r\n\0\0\0\0\0\0\0\x0a\x08\x04\x10\x02\x18\x01\x20\x01\x30\x07\r\n");
        let first = append(a.id, PEER, 7, vec![entry(1, 8, Bytes::from_static(b"x"))]);
        a.outbox.send(vec![first, append(a.id, PEER, 8, vec![])]);
        // Two messages of one call are one chunk; the second one continues the first.
        let whole = b"\x02\0\0\0\0\0\0\0\x17\x08\x03\x10\x02\x18\x01\x20\x01\x28\x01\x30\x07\x3a\x07\x10\x01\x18\x08\x22\x01x\x40\x07";
        let brief = b"\x01\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\x08";
        read(1, &[b"31\r\n", &whole[..], brief, b"\r\n"].concat());
        let figures = a.outbox.figures(PEER).unwrap();
        assert_eq!((figures.waiting_messages, figures.waiting_bytes, figures.dropped), (0, 0, 0));
        assert_eq!(figures.sent_bytes, 0x12 + 0x31);
    });
}

#[test]
fn order_is_kept_whether_the_sender_writes_or_the_transport() {
    run(async {
        let (a, b) = (Member::start(1), Member::start(2));
        join(&[&a, &b]);
        connected(&[&a, &b]).await;
        let (outbox, from, to) = (a.outbox.clone(), a.id, b.id);
        const COUNT: u64 = 3000;
        let sender = std::thread::spawn(move || {
            for n in 0..COUNT {
                let size = match n % 50 {
                    0 => 400_000,
                    25 => 200_000,
                    _ => 10,
                };
                wait_for_room(&outbox, to);
                outbox.send(vec![append(from, to, n, vec![entry(1, n + 1, Bytes::from(vec![n as u8; size]))])]);
            }
        });
        b.record.until_received(COUNT as usize).await;
        let received = b.record.taken();
        assert!(received.iter().enumerate().all(|(n, message)| message.index == Index(n as u64)));
        assert!(
            received.iter().all(|message| message.entries[0].data.iter().all(|byte| *byte == message.index.0 as u8))
        );
        sender.join().unwrap();
        assert_eq!(a.outbox.figures(to).unwrap().dropped, 0);
    });
}

#[test]
fn what_a_full_socket_does_not_take_follows_once_it_is_read() {
    run(async {
        let a = member();
        let mut stream = Stream::dial(&a).await;
        let mut sent = 0;
        // Until something stays behind, and more that comes after it.
        let mut send = |size| {
            a.outbox.send(vec![numbered(0, sent, size)]);
            sent += 1;
        };
        while a.outbox.figures(PEER).unwrap().waiting_messages == 0 {
            send(100_000);
        }
        for size in [0, 300_000, 1, 1, 100_000, 2] {
            send(size);
        }
        assert!(a.outbox.figures(PEER).unwrap().waiting_messages > 0);
        let received = stream.next_so_many(sent as usize).await;
        assert!(received.iter().enumerate().all(|(n, message)| message.index == Index(n as u64)));
        assert!(received.iter().all(|message| message.context.iter().all(|byte| *byte == message.index.0 as u8)));
        // And then the sender writes again.
        a.outbox.send(vec![numbered(0, sent, 5)]);
        assert_eq!(stream.next_so_many(1).await, [numbered(0, sent, 5)]);
        let figures = a.outbox.figures(PEER).unwrap();
        assert_eq!((figures.waiting_messages, figures.waiting_bytes, figures.dropped), (0, 0, 0));
    });
}

#[test]
fn many_threads_send_and_each_ones_order_is_kept() {
    run(async {
        let a = member();
        let mut stream = Stream::dial(&a).await;
        const SENDERS: u64 = 8;
        const COUNT: u64 = 3000;
        let senders: Vec<_> = (0..SENDERS)
            .map(|sender| {
                let outbox = a.outbox.clone();
                std::thread::spawn(move || {
                    for n in 0..COUNT {
                        wait_for_room(&outbox, PEER);
                        let size = if n % 100 == sender { 100_000 } else { 3 };
                        outbox.send(vec![numbered(sender, n, size)]);
                    }
                })
            })
            .collect();
        let mut expected = [0; SENDERS as usize];
        for message in stream.next_so_many((SENDERS * COUNT) as usize).await {
            let next = &mut expected[message.term.0 as usize - 1];
            assert_eq!(message.index, Index(*next));
            *next += 1;
        }
        assert_eq!(expected, [COUNT; SENDERS as usize]);
        senders.into_iter().for_each(|sender| sender.join().unwrap());
        assert_eq!(a.outbox.figures(PEER).unwrap().waiting_messages, 0);
    });
}

/// Each stream begins anew with a whole message; none comes twice or late.
#[test]
fn a_stream_is_replaced_while_others_write_to_it() {
    run(async {
        let a = member();
        let mut stream = Stream::dial(&a).await;
        let (is_over, sent) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let sender = {
            let (outbox, is_over, sent) = (a.outbox.clone(), is_over.clone(), sent.clone());
            std::thread::spawn(move || {
                while !is_over.load(Ordering::Relaxed) {
                    wait_for_room(&outbox, PEER);
                    let n = sent.fetch_add(1, Ordering::Relaxed);
                    outbox.send(vec![numbered(0, n, if n % 20 == 0 { 150_000 } else { 20 })]);
                }
            })
        };
        let mut received: Vec<Message> = Vec::new();
        for _ in 0..50 {
            received.extend(stream.next_so_many(30).await);
            let newer = Stream::dial(&a).await;
            // The old one ends, and whatever it still holds was sent before.
            loop {
                let rest = stream.next().await;
                if rest.is_empty() {
                    break;
                }
                received.extend(rest);
            }
            stream = newer;
        }
        is_over.store(true, Ordering::Relaxed);
        while !sender.is_finished() {
            received.extend(stream.next().await);
        }
        sender.join().unwrap();
        let last = numbered(0, sent.load(Ordering::Relaxed) + 1, 0);
        a.outbox.send(vec![last.clone()]);
        while received.last() != Some(&last) {
            received.extend(stream.next().await);
        }
        assert!(received.is_sorted_by(|one, next| one.index < next.index));
        assert!(received.iter().all(|message| message.context.iter().all(|byte| *byte == message.index.0 as u8)));
        // What was lost with a stream was said to be.
        assert!(a.record.events.borrow().contains(&Event::Unreachable(PEER)));
        assert_eq!(a.outbox.figures(PEER).unwrap().streams, 1);
    });
}

#[test]
fn a_dialler_that_hangs_up_or_says_anything_more_loses_its_stream() {
    run(async {
        let a = member();
        for more in ["", "x", "GET /version HTTP/1.1\r\nHost: x\r\n\r\n"] {
            let mut stream = Stream::dial(&a).await;
            while a.outbox.figures(PEER).unwrap().streams == 0 {
                tokio::task::yield_now().await;
            }
            a.record.events.borrow_mut().clear();
            match more {
                "" => stream.socket.shutdown().await.unwrap(),
                more => stream.socket.write_all(more.as_bytes()).await.unwrap(),
            }
            assert!(stream.next().await.is_empty());
            a.record.until_event(&Event::Unreachable(PEER)).await;
            assert_eq!(a.outbox.figures(PEER).unwrap().streams, 0);
            assert_eq!(a.outbox.active_since(PEER), None);
        }
        // With the request, even.
        let together = dial_request("message") + "x";
        assert_eq!(exchange(a.address, together.as_bytes(), |_| false).await, b"");
    });
}

#[test]
fn a_peer_that_goes_and_comes_again_at_once_has_streams_again() {
    run(async {
        let (a, b) = (Member::start(1), Member::start(2));
        join(&[&a, &b]);
        connected(&[&a, &b]).await;
        a.outbox.set_members(&[], BTreeSet::new());
        a.outbox.set_members(&[b.peer()], BTreeSet::new());
        connected(&[&a, &b]).await;
        b.record.messages.lock().clear();
        a.outbox.send(vec![append(a.id, b.id, 3, vec![])]);
        b.record.until_received(1).await;
        assert_eq!(b.record.taken(), [append(a.id, b.id, 3, vec![])]);
    });
}
