//! HTTP/2 as no client speaks it: each connection that does is let go, and nobody else notices.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use e2e::request::{get, put};
use e2e::{Ground, Member, Process, Target, holds_within, on_both_targets, run};
use testkit::grpc::{Client, RawRequest, frame as message};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::raw_http2::{
    CONTINUATION, Closed, Connection, DATA, END_HEADERS, END_STREAM, HEADERS, PING, PRIORITY, RST_STREAM, SETTINGS,
    WINDOW_UPDATE, call, call_fields, frame, header_block,
};
use crate::usage::{MEGABYTE, Peak};

const RANGE: &str = "/etcdserverpb.KV/Range";
const WATCH: &str = "/etcdserverpb.Watch/Watch";

/// Far more than a server that pays attention takes of any of this.
const FLOOD_BYTES: usize = 64 * MEGABYTE;

/// What one bad connection may cost while it lasts.
const GROWTH_MAX: usize = 24 * MEGABYTE;

/// A member under attack, with a client that means well.
struct Scene {
    ground: Ground,
    process: Process,
    client: Client,
    peak: Peak,
}

impl Scene {
    async fn set() -> Result<Scene> {
        let ground = Ground::new()?;
        let (process, client) = ground.serve(&[], &[]).await?;
        client.put(put("a", "1")).await?;
        let peak = Peak::of(process.id())?;
        Ok(Scene { ground, process, client, peak })
    }

    async fn connect(&self) -> Result<Connection> {
        Connection::open(self.ground.address(), &[]).await
    }

    /// Floods with `bytes` until the server closes.
    async fn flood(&self, opening: &[u8], bytes: &[u8]) -> Result<Closed> {
        let mut connection = self.connect().await?;
        connection.send(opening).await?;
        connection.flood(bytes, FLOOD_BYTES).await
    }

    /// The others are served, and the attack has cost little.
    async fn check(mut self) -> Result<()> {
        self.client.range(get("a")).await?;
        let fresh = Client::connect(self.ground.address()).await?;
        fresh.put(put("a", "2")).await?;
        let growth = self.peak.growth()?;
        ensure!(growth < GROWTH_MAX, "it has grown by {growth} bytes");
        ensure!(self.process.exited()?.is_none());
        Ok(())
    }
}

#[test]
fn calls_cancelled_as_soon_as_they_are_made() {
    run(Target::Quorate, |_| async {
        let scene = Scene::set().await?;
        let mut connection = scene.connect().await?;
        let headers = call(RANGE);
        let flood = async {
            for stream in (1..2_000_000).step_by(2) {
                let mut bytes = frame(HEADERS, END_HEADERS, stream, &headers);
                bytes.extend(frame(RST_STREAM, 0, stream, &8_u32.to_be_bytes()));
                if connection.send(&bytes).await.is_err() {
                    return Ok(stream / 2);
                }
            }
            anyhow::bail!("a million cancelled calls are taken")
        };
        let taken = timeout(Duration::from_secs(15), flood).await.context("it neither takes nor refuses them")??;
        ensure!(taken < 50_000, "{taken} cancelled calls were taken");
        scene.check().await
    });
}

#[test]
fn headers_that_never_end() {
    run(Target::Quorate, |_| async {
        let scene = Scene::set().await?;
        let opening = frame(HEADERS, 0, 1, &call(RANGE));
        let field = header_block([("x-more", &[b'x'; 100][..])]);
        scene.flood(&opening, &frame(CONTINUATION, 0, 1, &field)).await?;
        // Empty ones, which add nothing that could be too long.
        scene.flood(&opening, &frame(CONTINUATION, 0, 1, b"")).await?;
        scene.check().await
    });
}

#[test]
fn headers_larger_than_anybody_needs() {
    run(Target::Quorate, |_| async {
        let scene = Scene::set().await?;
        let large = vec![b'x'; 1 << 20];
        let request = RawRequest::grpc(RANGE, message(&get("a"))).header("x-large", large);
        let refused = match Client::connect(scene.ground.address()).await?.raw(request).await {
            Ok(answer) => answer.outcome() != Some(Ok(())),
            Err(_) => true,
        };
        ensure!(refused, "a header of a megabyte is taken");
        scene.check().await
    });
}

/// A field of 4 KiB that is put into the table once and then named a million times.
#[test]
fn headers_that_unpack_to_gigabytes() {
    run(Target::Quorate, |_| async {
        let scene = Scene::set().await?;
        let mut block = header_block(call_fields(RANGE));
        // Literal with incremental indexing, new name: the newest entry of the table is number 62.
        block.extend(b"\x40\x01b\x7f\xc1\x1e");
        block.extend(vec![b'y'; 127 + 0x41 + (0x1e << 7)]);
        let references = vec![0x80 | 62; 16_000];
        let mut bytes = frame(HEADERS, 0, 1, &block);
        for _ in 0..60 {
            bytes.extend(frame(CONTINUATION, 0, 1, &references));
        }
        bytes.extend(frame(CONTINUATION, END_HEADERS, 1, b""));
        let mut connection = scene.connect().await?;
        // The server may close before it has taken all.
        connection.send(&bytes).await.ok();
        scene.check().await
    });
}

#[test]
fn pings_without_end() {
    run(Target::Quorate, |_| async {
        let scene = Scene::set().await?;
        let closed = scene.flood(b"", &frame(PING, 0, 0, b"12345678")).await?;
        // The reset that follows may overtake the reason.
        let reason = Closed::GoAway(11, "too_many_pings".to_owned());
        ensure!(closed == reason || closed == Closed::Bare, "{closed:?}");
        scene.check().await
    });
}

/// What needs an answer, from a client that takes none: the server stops reading it.
#[test]
fn questions_whose_answers_are_not_read() {
    run(Target::Quorate, |_| async {
        let scene = Scene::set().await?;
        for question in [frame(SETTINGS, 0, 0, b""), frame(PING, 0, 0, b"12345678")] {
            let mut connection = scene.connect().await?;
            let send = async {
                let mut sent = 0;
                while sent < FLOOD_BYTES && connection.send(&question.repeat(1000)).await.is_ok() {
                    sent += question.len() * 1000;
                }
                sent
            };
            if let Ok(sent) = timeout(Duration::from_secs(2), send).await {
                ensure!(sent < FLOOD_BYTES, "{sent} bytes are taken");
            }
        }
        scene.check().await
    });
}

/// Frames that are allowed and say nothing, faster than they are worth: the server may let the client go or work them
/// off, but others are served meanwhile.
#[test]
fn frames_that_say_nothing() {
    run(Target::Quorate, |_| async {
        let scene = Scene::set().await?;
        let open_watch = frame(HEADERS, END_HEADERS, 1, &call(WATCH));
        let cases = [
            ("priorities", frame(PRIORITY, 0, 3, b"\0\0\0\0\x10")),
            ("empty data", frame(DATA, 0, 1, b"")),
            ("small windows", frame(WINDOW_UPDATE, 0, 0, &1_u32.to_be_bytes())),
            ("unknown frames", frame(0xbe, 0, 0, &[0; 100])),
            ("settings", frame(SETTINGS, 0, 0, &[0, 3, 0, 0, 0, 100].repeat(1000))),
        ];
        for (name, nothing) in cases {
            let mut connection = scene.connect().await?;
            connection.send(&open_watch).await?;
            let (mut reading, mut writing) = connection.0.into_split();
            let drain = tokio::spawn(async move {
                let mut piece = vec![0; 64 << 10];
                while let Ok(1..) = reading.read(&mut piece).await {}
            });
            let bytes = nothing.repeat((256 << 10) / nothing.len());
            let flood = tokio::spawn(async move {
                let mut sent = 0;
                while sent < FLOOD_BYTES / 4 && writing.write_all(&bytes).await.is_ok() {
                    sent += bytes.len();
                }
            });
            let meanwhile = timeout(Duration::from_secs(5), scene.client.put(put("a", "2"))).await;
            meanwhile.with_context(|| format!("{name}: others are not served"))??;
            timeout(Duration::from_secs(10), flood).await.with_context(|| format!("{name}: it takes no more"))??;
            drain.abort();
        }
        scene.check().await
    });
}

/// As many calls as the server admits on one connection, none of which ever says what it wants.
#[test]
fn calls_without_a_request() {
    run(Target::Quorate, |_| async {
        let mut scene = Scene::set().await?;
        let mut connection = scene.connect().await?;
        let headers = call(RANGE);
        let calls = 16_000;
        let bytes: Vec<u8> = (0..calls).flat_map(|call| frame(HEADERS, END_HEADERS, 2 * call + 1, &headers)).collect();
        connection.send(&bytes).await?;
        // A ping is answered after what came before it.
        connection.send(&frame(PING, 0, 0, b"12345678")).await?;
        scene.client.range(get("a")).await?;
        let growth = scene.peak.growth()?;
        ensure!(growth < 200 * MEGABYTE, "{calls} open calls take {growth} bytes");
        drop(connection);
        let is_small_again = async || {
            // The allocator gives back what is free when something else happens on its thread.
            Client::connect(scene.ground.address()).await?.range(get("a")).await?;
            Ok(scene.peak.left()? < GROWTH_MAX)
        };
        holds_within(Duration::from_secs(10), is_small_again).await.context("it stays large")
    });
}

async fn garbage_is_answered_or_let_go(target: Target) -> Result<()> {
    let member = Member::start(target).await?;
    let mut random = fastrand::Rng::with_seed(9);
    let mut garbage: Vec<Vec<u8>> =
        (0..20).map(|_| (0..random.usize(1..3000)).map(|_| random.u8(..)).collect()).collect();
    garbage.push(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03".to_vec());
    garbage.push(b"\r\n\r\n".to_vec());
    garbage.push(b"GET / HTTP/9.9\r\n\r\n".to_vec());
    garbage.push([b"GET /".as_slice(), &vec![b'a'; 100_000], b" HTTP/1.1\r\n\r\n"].concat());
    garbage.push([b"GET / HTTP/1.1\r\n".as_slice(), &b"X: y\r\n".repeat(20_000), b"\r\n"].concat());
    for bytes in garbage {
        let mut socket = TcpStream::connect(member.address()).await?;
        // It may hang up in the middle.
        socket.write_all(&bytes).await.ok();
        socket.shutdown().await.ok();
        let mut answer = Vec::new();
        let read = timeout(Duration::from_secs(10), socket.read_to_end(&mut answer)).await;
        let start = String::from_utf8_lossy(&bytes[..bytes.len().min(40)]).into_owned();
        read.with_context(|| format!("still open after {start:?}"))?.ok();
    }
    member.put(put("a", "1")).await?;
    Ok(())
}

/// HTTP/2 up to where it stops being HTTP/2: the connection goes, the server does not. etcd overlooks some of it.
#[test]
fn broken_http2_ends_its_connection() {
    run(Target::Quorate, broken_http2);
}

async fn broken_http2(target: Target) -> Result<()> {
    let member = Member::start(target).await?;
    let headers = call(RANGE);
    let open = frame(HEADERS, END_HEADERS, 1, &headers);
    let broken = [
        ("an even number", frame(HEADERS, END_HEADERS, 2, &headers)),
        ("a call of number 0", frame(HEADERS, END_HEADERS, 0, &headers)),
        ("a continuation of nothing", frame(CONTINUATION, END_HEADERS, 1, &headers)),
        ("something inside headers", [frame(HEADERS, 0, 1, &headers), frame(PING, 0, 0, b"12345678")].concat()),
        ("settings of half a size", frame(SETTINGS, 0, 0, b"123")),
        ("a ping of half a size", frame(PING, 0, 0, b"1234")),
        ("more window than there is", [&open[..], &frame(WINDOW_UPDATE, 0, 0, &[0x7f, 0xff, 0xff, 0xff])].concat()),
        ("headers that cannot be unpacked", frame(HEADERS, END_HEADERS, 1, &[0xff; 50])),
        ("a frame of 16 megabytes", vec![0xff, 0xff, 0xff, DATA, 0, 0, 0, 0, 1]),
    ];
    for (name, bytes) in broken {
        let connection = Connection::open(member.address(), &[]).await?;
        let (reading, mut writing) = connection.0.into_split();
        writing.write_all(&bytes).await.ok();
        let connection = Connection(reading.reunite(writing)?);
        connection.closed(Duration::from_secs(10)).await.context(name)?;
    }
    member.put(put("a", "1")).await?;
    Ok(())
}

/// A method that reads no more after its one request.
async fn what_follows_a_request_does_no_harm(target: Target) -> Result<()> {
    let member = Member::start(target).await?;
    let mut connection = Connection::open(member.address(), &[]).await?;
    let body = message(&get("a"));
    let mut bytes = frame(HEADERS, END_HEADERS, 1, &call(RANGE));
    bytes.extend(frame(DATA, END_STREAM, 1, &body));
    bytes.extend(frame(RST_STREAM, 0, 1, &8_u32.to_be_bytes()));
    connection.send(&bytes).await?;
    member.put(put("a", "1")).await?;
    Ok(())
}

on_both_targets!(garbage_is_answered_or_let_go, what_follows_a_request_does_no_harm,);
