//! Whatever comes to the port, the member goes on.

use std::collections::BTreeSet;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use types::MemberId;

use crate::ground::{CLUSTER, Member, ask, connected, exchange, identity, join, request, run, url};

#[test]
fn what_is_no_request_ends_its_connection_only() {
    run(async {
        let (a, b) = (Member::start(1), Member::start(2));
        join(&[&a, &b]);
        connected(&[&a, &b]).await;
        let long_header = format!("GET /version HTTP/1.1\r\nHost: x\r\nX: {}\r\n\r\n", "y".repeat(100_000));
        let garbage: Vec<Vec<u8>> = vec![
            b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec(),
            vec![0xff; 100_000],
            b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03".repeat(100),
            long_header.into_bytes(),
            b"POST /raft HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nffffffffffffffffff\r\n".to_vec(),
            b"GET /raft/stream/msgapp/2 HTTP/9.9\r\n\r\n".to_vec(),
        ];
        for bytes in garbage {
            let answer = exchange(a.address, &bytes, |_| false).await;
            assert!(!answer.starts_with(b"HTTP/1.1 2"), "{}", String::from_utf8_lossy(&answer));
        }
        assert!(a.outbox.refused() > 0);
        a.reach(&b).await;
        b.reach(&a).await;
    });
}

#[test]
fn claimed_lengths_are_refused_or_never_come() {
    run(async {
        let a = Member::start(1);
        let identity = identity(MemberId(2));
        // A post that claims more than any message has, and one of which nothing comes.
        let head = |length: u64| {
            format!("POST /raft HTTP/1.1\r\nHost: x\r\nContent-Length: {length}\r\nConnection: close\r\n{identity}\r\n")
        };
        let answer = exchange(a.address, head(100 << 20).as_bytes(), |_| false).await;
        assert!(answer.starts_with(b"HTTP/1.1 400 "), "{}", String::from_utf8_lossy(&answer));
        // A snapshot whose message is said to be longer than any.
        let answer = ask(a.address, &request("POST", "/raft/snapshot", &identity, &u64::MAX.to_be_bytes())).await;
        assert_eq!(answer.short(), (400, "failed to decode raft message (it is too long)\n"));
        let answer = ask(a.address, &request("POST", "/raft/snapshot", &identity, &[0, 0, 0, 0, 0, 0, 0, 9, 8])).await;
        assert_eq!(answer.short(), (400, "failed to decode raft message (unexpected EOF)\n"));
        assert!(a.record.taken().is_empty());
    });
}

#[test]
fn who_says_nothing_is_dropped_in_five_seconds() {
    run(async {
        let a = Member::start(1);
        let started = tokio::time::Instant::now();
        let silent = exchange(a.address, b"", |_| false);
        let (silent, drip) = tokio::join!(silent, exchange(a.address, b"GET /version HTTP/1.1\r\nHo", |_| false));
        assert_eq!(silent, b"");
        assert!(!drip.starts_with(b"HTTP/1.1 2"));
        assert!(started.elapsed().as_secs() < 30);
    });
}

/// A peer that answers streams with frames that are none.
#[test]
fn garbage_on_a_stream_is_counted_and_the_stream_dialled_again() {
    run(async {
        let a = Member::start(1);
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        a.outbox.set_members(&[(MemberId(2), vec![url(listener.local_addr().unwrap())])], BTreeSet::new());
        let frames: [&[u8]; 4] = [
            b"\xff\xff\xff\xff\xff\xff\xff\xff",
            b"\x01\x7f\xff\xff\xff\xff\xff\xff\xff",
            b"\x00\x00\x00\x00\x00\x00\x00\x03\x08\x0c\x10",
            b"\x02\x00\x00\x00\x00\x00\x00\x00\x01\x08",
        ];
        for round in 0..8 {
            let (mut stream, _) = listener.accept().await.unwrap();
            serve_frame(&mut stream, frames[round % frames.len()]).await;
        }
        assert!(a.outbox.refused() >= 4, "{}", a.outbox.refused());
        assert!(a.record.taken().is_empty());
    });
}

async fn serve_frame(stream: &mut TcpStream, frame: &[u8]) {
    let mut head = vec![0; 4096];
    assert!(stream.read(&mut head).await.unwrap() > 0);
    let answer = format!(
        "HTTP/1.1 200 OK\r\nX-Server-Version: 3.5.30\r\nX-Etcd-Cluster-ID: {CLUSTER}\r\nTransfer-Encoding: chunked\r\n\r\n{:x}\r\n",
        frame.len()
    );
    drop(stream.write_all(&[answer.as_bytes(), frame, b"\r\n0\r\n\r\n"].concat()).await);
    // Until it hangs up.
    while stream.read(&mut head).await.is_ok_and(|read| read > 0) {}
}
