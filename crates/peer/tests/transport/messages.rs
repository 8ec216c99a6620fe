//! What is sent arrives, in order, whatever its size, and whoever else is gone.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::Bytes;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::sync::Notify;
use types::{Index, MemberId, Message, MessageKind};

use crate::ground::{Event, Member, Setup, append, connected, entry, identity, join, message, request, run, url};

#[test]
fn messages_of_every_kind_arrive_as_they_were_sent() {
    run(async {
        let (a, b) = (Member::start(1), Member::start(2));
        join(&[&a, &b]);
        connected(&[&a, &b]).await;
        let kinds = (0..20).filter_map(MessageKind::from_number).filter(|kind| *kind != MessageKind::Snapshot);
        let sent: Vec<Message> = kinds
            .map(|kind| Message {
                commit: Index(7),
                reject: true,
                reject_hint: Index(3),
                context: Bytes::from_static(b"context"),
                ..message(kind, a.id, b.id)
            })
            .collect();
        a.outbox.send(sent.clone());
        b.record.until_received(sent.len()).await;
        let mut received = b.record.taken();
        received.sort_by_key(|message| message.kind);
        assert_eq!(received, sent);
    });
}

#[test]
fn appends_of_any_size_keep_their_order() {
    run(async {
        let (a, b) = (Member::start(1), Member::start(2));
        join(&[&a, &b]);
        connected(&[&a, &b]).await;
        let sizes = [1, 0, 100, 2 << 20, 3, 70_000, 1 << 20, 9];
        let sent: Vec<Message> = (0..sizes.len())
            .map(|n| {
                let data = Bytes::from(vec![n as u8; sizes[n]]);
                append(a.id, b.id, n as u64, vec![entry(1, n as u64 + 1, data)])
            })
            .collect();
        for message in &sent {
            a.outbox.send(vec![message.clone()]);
        }
        b.record.until_received(sent.len()).await;
        assert_eq!(b.record.taken(), sent);
        assert_eq!(a.outbox.figures(b.id).unwrap().waiting_bytes, 0);
    });
}

#[test]
fn a_hundred_thousand_messages_arrive_in_order_from_several_threads_to_two_peers() {
    run(async {
        let (a, b, c) = (Member::start(1), Member::start(2), Member::start(3));
        join(&[&a, &b, &c]);
        connected(&[&a, &b, &c]).await;
        let ids = [b.id, c.id];
        let (outbox, from) = (a.outbox.clone(), a.id);
        const COUNT: u64 = 50_000;
        let sender = std::thread::spawn(move || {
            for n in 0..COUNT {
                let entries = |to| append(from, to, n, vec![entry(1, n + 1, Bytes::from_static(b"value"))]);
                // The queues are bounded: who sends faster than the network takes it has to look.
                while ids.iter().any(|id| outbox.figures(*id).unwrap().waiting_messages > 2000) {
                    std::thread::yield_now();
                }
                outbox.send(ids.map(entries).to_vec());
            }
        });
        for member in [&b, &c] {
            member.record.until_received(COUNT as usize).await;
            let received = member.record.taken();
            assert!(received.iter().enumerate().all(|(n, message)| message.index == Index(n as u64)));
            assert!(
                member.record.batches.load(Ordering::Relaxed) < COUNT as usize,
                "what waits together arrives together"
            );
        }
        sender.join().unwrap();
    });
}

#[test]
fn what_waits_together_is_received_together() {
    run(async {
        let (a, b) = (Member::start(1), Member::start(2));
        join(&[&a, &b]);
        connected(&[&a, &b]).await;
        b.record.batches.store(0, Ordering::Relaxed);
        let sent: Vec<Message> = (0..100).map(|n| append(a.id, b.id, n, vec![])).collect();
        a.outbox.send(sent.clone());
        b.record.until_received(100).await;
        assert_eq!(b.record.batches.load(Ordering::Relaxed), 1);
    });
}

#[test]
fn a_dead_peer_holds_up_no_other_and_is_reported() {
    run(async {
        let (a, b, c) = (Member::start(1), Member::start(2), Member::start(3));
        join(&[&a, &b, &c]);
        connected(&[&a, &b, &c]).await;
        let (c_id, address) = (c.id, c.stop().await);
        a.record.until_event(&Event::Unreachable(c_id)).await;
        assert_eq!(a.outbox.active_since(c_id), None);
        assert!(a.outbox.active_since(b.id).is_some());
        for n in 0..500 {
            a.outbox.send(vec![append(a.id, c_id, n, vec![]), append(a.id, b.id, n, vec![])]);
        }
        b.record.until_received(500).await;

        // It comes back where it was.
        let c = Member::start_with(3, Setup { address, ..Setup::default() });
        join(&[&a, &b, &c]);
        a.reach(&c).await;
        b.reach(&c).await;
        c.reach(&a).await;
        assert!(a.outbox.active_since(c.id).is_some());
    });
}

#[test]
fn a_peer_that_ends_is_said_to_be_gone() {
    run(async {
        let (one, two) = (Member::start(1), Member::start(2));
        join(&[&one, &two]);
        connected(&[&one, &two]).await;
        let (id, record) = (two.id, one.record.clone());
        two.stop().await;
        record.until_event(&Event::Gone(id)).await;
        let gone = Event::Gone(id);
        assert!(record.events.borrow().iter().filter(|event| **event == gone).count() <= 2, "once for each stream");
    });
}

#[test]
fn who_does_not_take_messages_costs_a_bounded_queue() {
    run(async {
        let setup = Setup { queue_bytes_max: 100_000, ..Setup::default() };
        let (a, b) = (Member::start_with(1, setup), Member::start(2));
        // Nobody listens where b is said to be, and nothing runs in between.
        a.outbox.set_members(&[b.peer()], Default::default());
        let data = Bytes::from(vec![0; 1000]);
        for n in 0..1000 {
            a.outbox.send(vec![append(a.id, b.id, n, vec![entry(1, n + 1, data.clone())])]);
        }
        let figures = a.outbox.figures(b.id).unwrap();
        assert!(figures.waiting_bytes <= 100_000, "{figures:?}");
        assert_eq!(figures.waiting_messages as u64 + figures.dropped, 1000);
        a.record.until_event(&Event::Unreachable(b.id)).await;
        // Short messages are bounded by number.
        for n in 0..10_000 {
            a.outbox.send(vec![append(a.id, b.id, n, vec![])]);
        }
        assert!(a.outbox.figures(b.id).unwrap().waiting_messages <= 4096);
    });
}

/// It takes the five real seconds after which a write is given up.
#[test]
fn a_peer_that_does_not_read_holds_up_no_other_and_is_given_up() {
    run(give_up(1 << 20, 60));
}

/// Pieces which senders write themselves.
#[test]
fn a_peer_that_does_not_read_holds_up_no_sender_and_is_given_up() {
    run(give_up(20_000, 2500));
}

async fn give_up(size: usize, count: u64) {
    let (a, b) = (Member::start(1), Member::start(2));
    let nobody = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let stuck = MemberId(3);
    a.outbox.set_members(&[b.peer(), (stuck, vec![url(nobody)])], Default::default());
    b.outbox.set_members(&[a.peer()], Default::default());
    connected(&[&a, &b]).await;
    let mut stream = TcpStream::connect(a.address).await.unwrap();
    let headers = format!("{}X-Raft-To: 1\r\n", identity(stuck));
    stream.write_all(&request("GET", "/raft/stream/msgapp/3", &headers, b"")).await.unwrap();
    while a.outbox.figures(stuck).unwrap().streams == 0 {
        tokio::task::yield_now().await;
    }
    a.record.events.borrow_mut().clear();
    let data = Bytes::from(vec![0; size]);
    let append = |to, n| append(a.id, to, n, vec![entry(1, n + 1, data.clone())]);
    for n in 0..count {
        a.outbox.send(vec![append(stuck, n), append(b.id, n)]);
        b.record.until_received(n as usize + 1).await;
    }
    assert!(a.outbox.figures(stuck).unwrap().waiting_messages > 0);
    a.record.until_event(&Event::Unreachable(stuck)).await;
    let figures = a.outbox.figures(stuck).unwrap();
    assert_eq!((figures.streams, figures.waiting_messages), (0, 0), "{figures:?}");
}

#[test]
fn a_peer_is_found_at_its_second_url() {
    run(async {
        let (a, b) = (Member::start(1), Member::start(2));
        let nobody = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        a.outbox.set_members(&[(b.id, vec![url(nobody), url(b.address)])], Default::default());
        b.outbox.set_members(&[a.peer()], Default::default());
        a.reach(&b).await;
        b.reach(&a).await;
    });
}

#[test]
fn a_peer_is_found_where_it_moved() {
    run(async {
        let (a, b) = (Member::start(1), Member::start(2));
        join(&[&a, &b]);
        connected(&[&a, &b]).await;
        b.stop().await;
        let b = Member::start(2);
        join(&[&a, &b]);
        a.reach(&b).await;
        b.reach(&a).await;
    });
}

#[test]
fn messages_to_nobody_vanish() {
    run(async {
        let (a, b) = (Member::start(1), Member::start(2));
        join(&[&a, &b]);
        let to = |id| message(MessageKind::Heartbeat, a.id, MemberId(id));
        a.outbox.send(vec![to(0), to(1), to(99)]);
        connected(&[&a, &b]).await;
        assert_eq!(*b.record.messages.lock(), []);
        assert_eq!(*a.record.events.borrow(), []);
    });
}

/// As while a member's disk hangs, whose log reads them.
#[test]
fn appends_that_nobody_reads_keep_no_other_message() {
    run(async {
        let begin = Arc::new(Notify::new());
        let reader = Setup { appends_read: Some(begin.clone()), ..Setup::default() };
        let (a, b) = (Member::start(1), Member::start_with(2, reader));
        join(&[&a, &b]);
        connected(&[&a, &b]).await;
        let appends = [1, 2].map(|index| append(a.id, b.id, index - 1, vec![entry(1, index, Bytes::new())]));
        let heartbeat = message(MessageKind::Heartbeat, a.id, b.id);
        a.outbox.send(vec![appends[0].clone(), heartbeat.clone(), appends[1].clone()]);
        b.record.until_received(1).await;
        assert_eq!(b.record.taken(), [heartbeat]);
        begin.notify_one();
        b.record.until_received(2).await;
        assert_eq!(b.record.taken(), appends);
    });
}
