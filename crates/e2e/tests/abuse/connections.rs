//! Connections: silent ones, slow ones, very many.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use api::etcdserverpb::StatusRequest;
use e2e::request::{get, put};
use e2e::{Ground, Target, holds_within, run};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use testkit::grpc::Client;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use crate::raw_http2::PREFACE;
use crate::usage::{MEGABYTE, Peak, descriptors};

/// How long a connection may take to say what it wants, and some time to spare.
const OPENING_LIMIT: Duration = Duration::from_secs(14);

/// The test has one end of every connection.
fn allow_many_files() -> Result<()> {
    let found = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: found.maximum, maximum: found.maximum })?;
    Ok(())
}

/// Sends `opening`, then `drop_by_drop` at a byte a second, and waits for the server to close.
async fn until_closed(
    address: std::net::SocketAddr,
    name: &'static str,
    opening: Vec<u8>,
    drop_by_drop: &'static [u8],
) -> Result<()> {
    let mut socket = TcpStream::connect(address).await?;
    socket.write_all(&opening).await?;
    let (mut reading, mut writing) = socket.into_split();
    let drip = async {
        for byte in drop_by_drop {
            sleep(Duration::from_secs(1)).await;
            if writing.write_all(&[*byte]).await.is_err() {
                break;
            }
        }
        std::future::pending::<()>().await;
    };
    let read = async {
        let mut piece = [0; 1024];
        while let Ok(1..) = reading.read(&mut piece).await {}
    };
    let closed = async {
        tokio::select! {
            () = drip => {}
            () = read => {}
        }
    };
    timeout(OPENING_LIMIT, closed).await.with_context(|| format!("{name}: still open"))
}

#[test]
fn those_who_do_not_say_what_they_want_are_let_go() {
    run(Target::Quorate, |_| async {
        allow_many_files()?;
        let ground = Ground::new()?;
        let (process, client) = ground.serve(&[], &[]).await?;
        let mut peak = Peak::of(process.id())?;
        let before = descriptors(process.id())?;
        let address = ground.address();
        let mut waiting = JoinSet::new();
        for _ in 0..2000 {
            waiting.spawn(until_closed(address, "silence", Vec::new(), b""));
        }
        let slow: [(&str, Vec<u8>, &[u8]); 6] = [
            ("half a preface", PREFACE[..10].to_vec(), b""),
            ("a preface, byte by byte", Vec::new(), PREFACE),
            ("a preface without settings", PREFACE.to_vec(), b""),
            ("half a request line", b"GET /heal".to_vec(), b""),
            (
                "headers, byte by byte",
                b"GET /health HTTP/1.1\r\nHost: x\r\n".to_vec(),
                b"X-Slow: aaaaaaaaaaaaaaaaaaaaaaaaa",
            ),
            (
                "a body that does not come",
                b"POST /health HTTP/1.1\r\nHost: x\r\nContent-Length: 100000\r\n\r\n".to_vec(),
                b"",
            ),
        ];
        for (name, opening, drip) in slow {
            waiting.spawn(until_closed(address, name, opening, drip));
        }
        holds_within(OPENING_LIMIT, async || {
            client.put(put("a", "1")).await?;
            Ok(descriptors(process.id())? > before + 2000)
        })
        .await
        .context("the connections are not accepted")?;
        let grown = peak.growth()?;
        while let Some(closed) = waiting.join_next().await {
            closed??;
        }
        ensure!(grown < 20 * MEGABYTE, "{grown} bytes for 2000 connections");
        holds_within(Duration::from_secs(5), async || Ok(descriptors(process.id())? <= before)).await?;
        client.range(get("a")).await?;
        Ok(())
    });
}

/// 106 connections are all that a limit of 256 files leaves for clients; etcd keeps back as many for itself.
#[test]
fn a_storm_of_connections_leaves_files_for_the_member() {
    run(Target::Quorate, |_| async {
        allow_many_files()?;
        let ground = Ground::new()?;
        let (mut process, client) = ground.serve(&["prlimit", "--nofile=256"], &[]).await?;
        let address = ground.address();
        let mut storm = Vec::new();
        for _ in 0..600 {
            storm.push(TcpStream::connect(address).await?);
        }
        // Those that were there go on, and so does the log, which needs new files.
        let large = vec![0; 1_400_000];
        for number in 0..60 {
            client.put(put(format!("key{}", number % 3), &large)).await?;
        }
        client.status(StatusRequest {}).await?;
        let open = descriptors(process.id())?;
        ensure!(open <= 256 - 20, "{open} files are open");
        ensure!(process.exited()?.is_none());
        drop(storm);
        let late = timeout(Duration::from_secs(15), async { Client::connect(address).await?.range(get("a")).await });
        late.await.context("a new connection is not served after the storm")??;
        Ok(())
    });
}
