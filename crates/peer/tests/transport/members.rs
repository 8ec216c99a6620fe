//! Who may talk to whom: clusters, releases, members that are removed or not known yet.

use std::collections::BTreeSet;
use std::net::TcpListener;

use bytes::BytesMut;
use types::{ClusterId, MemberId, Message, MessageKind};

use crate::ground::{Event, Member, Setup, append, ask, connected, identity, join, message, request, run, url};

const STRANGER: MemberId = MemberId(0xf00);

fn post(path: &str, headers: &str, message: &Message) -> Vec<u8> {
    let mut body = BytesMut::new();
    peer::encode(message, &mut body);
    request("POST", path, headers, &body)
}

#[test]
fn checks_of_raft_paths_come_in_etcds_order_with_its_texts() {
    run(async {
        let (a, b) = (Member::start(1), Member::start(2));
        join(&[&a, &b]);
        let heartbeat = message(MessageKind::Heartbeat, STRANGER, a.id);
        let identity = identity(STRANGER);
        let wrong_cluster = identity.replace("ID: c1", "ID: c2");
        let old = identity.replace("3.5.30", "2.2.0");
        let demanding = identity.replace("3.0.0", "4.0.0");
        let cases: Vec<(Vec<u8>, (u16, &str))> = vec![
            (request("GET", "/raft", "", b""), (405, "Method Not Allowed\n")),
            (request("POST", "/raft", "", b""), (412, "incompatible version\n")),
            (post("/raft", &old, &heartbeat), (412, "incompatible version\n")),
            (post("/raft", &demanding, &heartbeat), (412, "incompatible version\n")),
            (post("/raft", &wrong_cluster, &heartbeat), (412, "cluster ID mismatch\n")),
            (request("POST", "/raft", &identity, b"zz"), (400, "error unmarshalling raft message\n")),
            (request("POST", "/raft", &identity, b"\x08\x0c"), (400, "error unmarshalling raft message\n")),
            (post("/raft", &identity, &message(MessageKind::Heartbeat, STRANGER, b.id)), (412, "to field mismatch\n")),
            (post("/raft", &identity, &heartbeat), (204, "")),
            (request("GET", "/raft/snapshot", "", b""), (405, "Method Not Allowed\n")),
            (request("POST", "/raft/snapshot", &identity, b""), (400, "failed to decode raft message (EOF)\n")),
            (
                request("POST", "/raft/snapshot", &identity, b"\0\0\0\0\0\0\0\x04\x08\x08\x10\x05"),
                (400, "wrong raft message type\n"),
            ),
            (request("POST", "/raft/stream/msgapp/2", &identity, b""), (405, "Method Not Allowed\n")),
            (request("GET", "/raft/stream/msgapp/2", &old, b""), (412, "incompatible version\n")),
            (request("GET", "/raft/stream/msgapp/2", &wrong_cluster, b""), (412, "cluster ID mismatch\n")),
            (request("GET", "/raft/stream/msgappx/2", &identity, b""), (404, "invalid path\n")),
            (request("GET", "/raft/stream/msgapp", &identity, b""), (404, "invalid path\n")),
            (request("GET", "/raft/stream/msgapp/zz", &identity, b""), (404, "invalid from\n")),
            (request("GET", "/raft/stream/msgapp/f00", &identity, b""), (404, "error sender not found\n")),
            (request("GET", "/raft/stream/msgapp/2", &identity, b""), (412, "to field mismatch\n")),
            (
                request("GET", "/raft/stream/message/2", &format!("{identity}X-Raft-To: 77\r\n"), b""),
                (412, "to field mismatch\n"),
            ),
        ];
        for (request, expected) in cases {
            let answer = ask(a.address, &request).await;
            assert_eq!(answer.short(), expected, "{}", String::from_utf8_lossy(&request));
            let is_named = answer.header("X-Etcd-Cluster-Id") == Some("c1");
            assert_eq!(is_named, answer.status != 405, "{answer:?}");
        }
        assert_eq!(a.record.taken(), [heartbeat]);
    });
}

#[test]
fn a_stream_says_who_answers() {
    run(async {
        let (a, b) = (Member::start(1), Member::start(2));
        a.outbox.set_members(&[b.peer()], BTreeSet::new());
        let headers = format!("{}X-Raft-To: 1\r\n", identity(b.id));
        let dial = request("GET", "/raft/stream/message/2", &headers, b"");
        let answer = crate::ground::exchange(a.address, &dial, |read| read.ends_with(b"\r\n\r\n")).await;
        let answer = String::from_utf8(answer).unwrap();
        assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
        for line in ["X-Etcd-Cluster-Id: c1\r\n", "X-Server-Version: 3.5.30\r\n", "Transfer-Encoding: chunked\r\n"] {
            assert!(answer.to_lowercase().contains(&line.to_lowercase()), "{answer}");
        }
    });
}

/// As hyper wrote it when it served streams too.
#[test]
fn a_stream_begins_with_these_bytes() {
    run(async {
        let (a, b) = (Member::start(1), Member::start(2));
        a.outbox.set_members(&[b.peer()], BTreeSet::new());
        let headers = format!("{}X-Raft-To: 1\r\n", identity(b.id));
        for kind in ["message", "msgapp"] {
            for (demand, last) in [("", ""), ("Connection: close\r\n", "Connection: close\r\n")] {
                let dial = format!("GET /raft/stream/{kind}/2 HTTP/1.1\r\nHost: x\r\n{demand}{headers}\r\n");
                let whole = |read: &[u8]| read.ends_with(b"\r\n\r\n");
                let answer = crate::ground::exchange(a.address, dial.as_bytes(), whole).await;
                let answer = String::from_utf8(answer).unwrap();
                let (head, date) = answer.split_once("Date: ").unwrap();
                let expected = format!(
                    "HTTP/1.1 200 OK\r\nX-Etcd-Cluster-Id: c1\r\nX-Server-Version: 3.5.30\r\n{last}Transfer-Encoding: chunked\r\n"
                );
                assert_eq!(head, expected, "{answer}");
                // `Thu, 26 Nov 2026 04:20:00 GMT`
                assert!(date.len() == 33 && date.ends_with(" GMT\r\n\r\n"), "{date:?}");
            }
        }
    });
}

#[test]
fn another_cluster_at_the_address_of_a_peer_gets_and_brings_nothing() {
    run(async {
        let other = Setup { cluster: ClusterId(0xc2), ..Setup::default() };
        let (a, b) = (Member::start(1), Member::start_with(2, other));
        join(&[&a, &b]);
        a.outbox.send(vec![append(a.id, b.id, 0, vec![])]);
        a.record.until_event(&Event::Unreachable(b.id)).await;
        b.outbox.send(vec![append(b.id, a.id, 0, vec![])]);
        b.record.until_event(&Event::Unreachable(a.id)).await;
        assert!(a.record.taken().is_empty() && b.record.taken().is_empty());
        assert_eq!(a.outbox.active_since(b.id), None);
        assert!(b.outbox.refused() > 0);
    });
}

#[test]
fn releases_that_must_not_talk_do_not() {
    run(async {
        let old = Setup { version: "2.3.8", ..Setup::default() };
        let (a, b) = (Member::start(1), Member::start_with(2, old));
        join(&[&a, &b]);
        b.outbox.send(vec![append(b.id, a.id, 0, vec![])]);
        b.record.until_event(&Event::Unreachable(a.id)).await;
        assert!(a.record.taken().is_empty());
    });
}

#[test]
fn a_removed_member_is_cut_off_and_told() {
    run(async {
        let (a, b, c) = (Member::start(1), Member::start(2), Member::start(3));
        join(&[&a, &b, &c]);
        connected(&[&a, &b, &c]).await;
        for member in [&a, &c] {
            let others = [a.peer(), c.peer()];
            member.outbox.set_members(&others, BTreeSet::from([b.id]));
        }
        // Its streams end; dialling them again it hears 410, posting it hears 403.
        b.record.until_event(&Event::Removed).await;
        assert!(a.outbox.figures(b.id).is_none());
        a.record.messages.lock().clear();
        let answer = ask(a.address, &post("/raft", &identity(b.id), &message(MessageKind::Vote, b.id, a.id))).await;
        assert_eq!(answer.short(), (403, r#"{"message":"cannot process message from removed member"}"#));
        let answer = ask(a.address, &request("GET", "/raft/stream/message/2", &identity(b.id), b"")).await;
        assert_eq!(answer.short(), (410, "removed member\n"));
        // Nor does it count who brings its messages.
        let replayed = post("/raft", &identity(c.id), &message(MessageKind::Vote, b.id, a.id));
        assert_eq!(ask(a.address, &replayed).await.status, 403);
        a.outbox.send(vec![append(a.id, b.id, 0, vec![])]);
        a.reach(&c).await;
        assert!(a.record.taken().is_empty());
    });
}

#[test]
fn messages_of_a_removed_member_on_the_stream_of_another_end_it() {
    run(async {
        let (a, b) = (Member::start(1), Member::start(2));
        a.outbox.set_members(&[b.peer()], BTreeSet::from([MemberId(9)]));
        b.outbox.set_members(&[a.peer()], BTreeSet::new());
        connected(&[&a, &b]).await;
        let refused = a.outbox.refused();
        b.outbox.send(vec![message(MessageKind::Vote, b.id, a.id), message(MessageKind::Vote, MemberId(9), a.id)]);
        b.record.until_event(&Event::Unreachable(a.id)).await;
        assert!(a.outbox.refused() > refused);
        assert_eq!(*a.record.messages.lock(), [message(MessageKind::Vote, b.id, a.id)]);
    });
}

/// A server of some other cluster that says 410 or 403 to whatever it is asked.
#[test]
fn only_the_own_cluster_removes_a_member() {
    run(async {
        let a = Member::start(1);
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let address = listener.local_addr().unwrap();
        let listener = tokio::net::TcpListener::from_std(listener).unwrap();
        let asked = std::rc::Rc::new(std::cell::Cell::new(0));
        let count = asked.clone();
        tokio::task::spawn_local(async move {
            loop {
                let (mut stream, _) = listener.accept().await.unwrap();
                count.set(count.get() + 1);
                use tokio::io::{AsyncReadExt, AsyncWriteExt};
                let mut head = vec![0; 4096];
                let read = stream.read(&mut head).await.unwrap();
                let (status, cluster) = match (head.starts_with(b"GET"), count.get()) {
                    (true, ..10) => ("410 Gone", "X-Etcd-Cluster-ID: c2\r\n"),
                    (false, ..10) => ("403 Forbidden", ""),
                    _ => ("410 Gone", "X-Etcd-Cluster-ID: c1\r\n"),
                };
                assert!(read > 0);
                let text = "cannot process message from removed member";
                let answer = format!("HTTP/1.1 {status}\r\n{cluster}Content-Length: {}\r\n\r\n{text}", text.len());
                drop(stream.write_all(answer.as_bytes()).await);
            }
        });
        a.outbox.set_members(&[(MemberId(2), vec![url(address)])], BTreeSet::new());
        a.outbox.send(vec![message(MessageKind::Vote, a.id, MemberId(2))]);
        a.record.until_event(&Event::Removed).await;
        assert!(asked.get() >= 10, "{}", asked.get());
    });
}

#[test]
fn a_member_that_is_not_known_yet_gets_answers_by_posts() {
    run(async {
        let (a, b) = (Member::start(1), Member::start(2));
        // b joins and knows a; a has not heard of b.
        b.outbox.set_members(&[a.peer()], BTreeSet::new());
        let vote = message(MessageKind::PreVote, b.id, a.id);
        b.outbox.send(vec![vote.clone()]);
        a.record.until_received(1).await;
        let answer = message(MessageKind::PreVoteResponse, a.id, b.id);
        a.outbox.send(vec![answer.clone()]);
        b.record.until_received(1).await;
        assert_eq!(b.record.taken(), [answer]);
        assert_eq!(a.outbox.figures(b.id).unwrap().streams, 0);
        // Once it is a member it gets streams.
        a.outbox.set_members(&[b.peer()], BTreeSet::new());
        connected(&[&a, &b]).await;
        // And once it is none, nothing.
        a.outbox.set_members(&[], BTreeSet::new());
        assert!(a.outbox.figures(b.id).is_none());
    });
}

#[test]
fn unknown_senders_are_remembered_within_bounds() {
    run(async {
        let a = Member::start(1);
        for id in 2..200 {
            let headers = format!("{}X-PeerURLs: http://127.0.0.1:1\r\n", identity(MemberId(id)));
            let vote = post("/raft", &headers, &message(MessageKind::Vote, MemberId(id), a.id));
            assert_eq!(ask(a.address, &vote).await.status, 204);
        }
        assert_eq!(a.outbox.all_figures().len(), 64);
        assert!(a.outbox.figures(MemberId(199)).is_some());
    });
}

#[test]
fn a_new_stream_replaces_the_old_one() {
    run(async {
        let (a, b) = (Member::start(1), Member::start(2));
        a.outbox.set_members(&[b.peer()], BTreeSet::new());
        let headers = format!("{}X-Raft-To: 1\r\n", identity(b.id));
        let dial = request("GET", "/raft/stream/msgapp/2", &headers, b"");
        let first = crate::ground::exchange(a.address, &dial, |_| false);
        let second = async {
            while a.outbox.figures(b.id).is_none_or(|figures| figures.streams == 0) {
                tokio::task::yield_now().await;
            }
            let dialled = crate::ground::exchange(a.address, &dial, |read| read.ends_with(b"\r\n\r\n"));
            assert!(dialled.await.starts_with(b"HTTP/1.1 200 OK"));
        };
        let (first, ()) = tokio::join!(first, second);
        assert!(first.starts_with(b"HTTP/1.1 200 OK"));
    });
}
