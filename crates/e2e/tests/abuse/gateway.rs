//! Clients of the JSON gateway that ask for much and take little, or send what never ends.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use api::etcdserverpb::TxnResponse;
use api::etcdserverpb::request_op::Request;
use e2e::http::{self, Stream};
use e2e::request::{everything, get, op, put, txn};
use e2e::{Member, Target, revision, run, run_unlimited, within};
use futures_util::{SinkExt, StreamExt};
use testkit::grpc::{Client, Incoming};
use tokio::net::TcpStream;
use tokio::time::sleep;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;

use crate::slow_readers::{SMALL_WINDOWS, filled};
use crate::usage::{MEGABYTE, Peak};

const SOON: Duration = Duration::from_secs(30);

const EVERYTHING: &str = r#"{"key":"AA==","range_end":"AA=="}"#;

/// Nothing near what 20 answers take.
fn is_small(peak: &mut Peak) -> Result<()> {
    let growth = peak.growth()?;
    ensure!(growth < 32 * MEGABYTE, "it has grown by {growth} bytes");
    Ok(())
}

/// Others are served while answers wait to be taken, and what waits is not in memory.
async fn serves_beside(client: &Client, peak: &mut Peak) -> Result<()> {
    for number in 0..200 {
        client.put(put("key0000000", number.to_string())).await?;
        client.range(get("key0000001")).await?;
        peak.growth()?;
    }
    is_small(peak)
}

/// 50 MB in all, as JSON 67.
#[test]
fn long_answers_wait_untranslated_for_who_does_not_read() {
    run_unlimited(async {
        const READERS: usize = 20;
        let (ground, process, client) = filled(5_000, 10_000).await?;
        let mut peak = Peak::of(process.id())?;
        let mut readers = Vec::new();
        for _ in 0..READERS {
            let mut reader = Stream::open(ground.address(), "/v3/kv/range").await?;
            reader.send(EVERYTHING).await?;
            reader.end().await?;
            within(SOON, reader.head()).await??;
            readers.push(reader);
        }
        serves_beside(&client, &mut peak).await?;
        drop(readers);
        let whole = http::post(ground.address(), "/v3/kv/range", &[], EVERYTHING.as_bytes()).await?;
        is_small(&mut peak)?;
        let whole: serde_json::Value = serde_json::from_str(&whole.body)?;
        ensure!(whole["kvs"].as_array().is_some_and(|kvs| kvs.len() == 5_000));
        Ok(())
    });
}

/// As [`long_answers_wait_untranslated_for_who_does_not_read`]: a message of WebSocket may be as long as it likes.
#[test]
fn so_do_long_answers_over_web_socket() {
    run_unlimited(async {
        const READERS: usize = 20;
        let (ground, process, client) = filled(5_000, 10_000).await?;
        let mut peak = Peak::of(process.id())?;
        let mut readers = Vec::new();
        for _ in 0..READERS {
            let mut reader = web_socket(ground.address(), "/v3/kv/range").await?;
            reader.send(Message::text(EVERYTHING)).await?;
            readers.push(reader);
        }
        serves_beside(&client, &mut peak).await?;
        let mut reader = readers.swap_remove(READERS / 2);
        drop(readers);
        let whole = within(SOON, reader.next()).await?.context("an answer")??;
        is_small(&mut peak)?;
        let whole: serde_json::Value = serde_json::from_str(whole.to_text()?)?;
        ensure!(whole["kvs"].as_array().is_some_and(|kvs| kvs.len() == 5_000), "{}", whole["message"]);
        Ok(())
    });
}

async fn web_socket(address: SocketAddr, path: &str) -> Result<WebSocketStream<TcpStream>> {
    let socket = TcpStream::connect(address).await?;
    let config = WebSocketConfig::default().max_message_size(None).max_frame_size(None);
    let url = format!("ws://{address}{path}");
    Ok(tokio_tungstenite::client_async_with_config(url, socket, Some(config)).await?.0)
}

/// A member has the answer to a transaction in memory until it is taken, 50 MB here. That it is 67 as JSON adds nothing.
///
/// By how much a process grows depends on what it has kept free, and that differs by 30 MB from run to run: the least of a few runs counts.
#[test]
fn long_answers_of_transactions_are_translated_as_they_are_taken() {
    const RUNS_MAX: usize = 4;
    run_unlimited(async {
        let (ground, process, _) = filled(5_000, 10_000).await?;
        let mut peak = Peak::of_idle(process.id()).await?;
        let reader = Client::connect_with(ground.address(), SMALL_WINDOWS).await?;
        let request = txn([op(Request::RequestRange(everything()))]);
        let _answer: Incoming<TxnResponse> = reader.server_stream("/etcdserverpb.KV/Txn", &request).await?;
        let growth_without_json = settled(&mut peak).await?;

        let mut growths = Vec::new();
        while growths.iter().all(|&growth| growth >= growth_without_json + 16 * MEGABYTE) {
            ensure!(
                growths.len() < RUNS_MAX,
                "it grows by {growths:?} bytes, and by {growth_without_json} without JSON"
            );
            growths.push(growth_with_json().await?);
        }
        Ok(())
    });
}

async fn growth_with_json() -> Result<usize> {
    let (ground, process, _) = filled(5_000, 10_000).await?;
    let mut peak = Peak::of_idle(process.id()).await?;
    let transaction = format!(r#"{{"success":[{{"request_range":{EVERYTHING}}}]}}"#);
    let mut reader = Stream::open(ground.address(), "/v3/kv/txn").await?;
    reader.send(&transaction).await?;
    reader.end().await?;
    within(SOON, reader.head()).await??;
    let growth = settled(&mut peak).await?;
    drop(reader);
    let whole = http::post(ground.address(), "/v3/kv/txn", &[], transaction.as_bytes()).await?;
    let whole: serde_json::Value = serde_json::from_str(&whole.body)?;
    let kvs = whole["responses"][0]["response_range"]["kvs"].as_array();
    ensure!(kvs.is_some_and(|kvs| kvs.len() == 5_000));
    Ok(growth)
}

/// The growth once a large answer is on its way, and for a second more.
async fn settled(peak: &mut Peak) -> Result<usize> {
    let begun = async {
        while peak.growth()? < 40 * MEGABYTE {
            sleep(Duration::from_millis(10)).await;
        }
        anyhow::Ok(())
    };
    within(SOON, begun).await??;
    for _ in 0..100 {
        sleep(Duration::from_millis(10)).await;
        peak.growth()?;
    }
    peak.growth()
}

/// Each of these is far more as a message, or in memory, than as text.
#[test]
fn little_text_makes_no_large_message() {
    run(Target::Quorate, async |target| {
        let mut member = Member::start(target).await?;
        let many = |what: &str, count: usize| [vec![what; count - 1].join(","), what.to_owned()].join(",");
        let bodies = [
            ("/v3/watch", format!(r#"{{"create_request":{{"filters":[{}]}}}}"#, many("-1", 2_000_000))),
            ("/v3/kv/txn", format!(r#"{{"compare":[{}]}}"#, many("{}", 2_000_000))),
            ("/v3/kv/txn", format!(r#"{{"compare":[{}]}}"#, many("{}", 1_000_000))),
            ("/v3/kv/txn", format!(r#"{{"success":[{}]}}"#, many(r#"{"request_put":{}}"#, 400_000))),
            ("/v3/cluster/member/add", format!(r#"{{"peerURLs":[{}]}}"#, many(r#""""#, 1_000_000))),
            ("/v3/kv/txn", format!("{}{{}}{}", r#"{"success":[{"request_txn":"#.repeat(3_000), "}]}".repeat(3_000))),
        ];
        for (path, body) in bodies {
            let mut peak = Peak::of(member.process().id())?;
            let address = member.address();
            let (refused, ()) = tokio::try_join!(http::post(address, path, &[], body.as_bytes()), async {
                for _ in 0..20 {
                    sleep(Duration::from_millis(5)).await;
                    peak.growth()?;
                }
                Ok(())
            })?;
            let growth = peak.growth()?;
            ensure!((400..500).contains(&refused.status), "{path}: {refused:?}");
            ensure!(growth < 48 * MEGABYTE, "{path}, {}...: it has grown by {growth} bytes", &body[..40]);
        }
        member.put(put("k", "v")).await?;
        Ok(())
    });
}

#[test]
fn a_request_without_end_is_thrown_away_as_it_comes() {
    run(Target::Quorate, async |target| {
        let mut member = Member::start(target).await?;
        let mut peak = Peak::of(member.process().id())?;
        let body = format!("{{\"key\":\"{}", "A".repeat(100_000_000));
        let refused = http::post(member.address(), "/v3/kv/range", &[], body.as_bytes()).await?;
        ensure!(refused.status == 429, "{refused:?}");
        let growth = peak.growth()?;
        ensure!(growth < 48 * MEGABYTE, "it has grown by {growth} bytes");
        member.put(put("k", "v")).await?;
        Ok(())
    });
}

const EVENTS: i64 = 500;

/// Puts large values, and looks at the process meanwhile.
async fn put_many(member: &mut Member) -> Result<()> {
    const GROWTH_MAX: usize = 40 * MEGABYTE;
    let value = vec![b'v'; 100_000];
    let mut peak = Peak::of(member.process().id())?;
    for _ in 0..EVENTS {
        member.put(put("hot", &value)).await?;
        peak.growth()?;
    }
    let growth = peak.growth()?;
    ensure!(growth < GROWTH_MAX, "it has grown by {growth} bytes");
    Ok(())
}

fn check_events(message: &serde_json::Value, expected: &mut i64) -> Result<()> {
    for event in message["result"]["events"].as_array().into_iter().flatten() {
        let seen: i64 = event["kv"]["mod_revision"].as_str().context("a revision")?.parse()?;
        ensure!(seen == *expected, "{seen} for {expected}");
        *expected += 1;
    }
    Ok(())
}

/// Fills the log of recent events, so that what follows costs no memory of its own.
async fn warmed_up() -> Result<(Member, i64)> {
    let member = Member::start(Target::Quorate).await?;
    let value = vec![b'v'; 100_000];
    for _ in 0..400 {
        member.put(put("hot", &value)).await?;
    }
    let next = revision(&member.put(put("hot", &value)).await?.header) + 1;
    Ok((member, next))
}

#[test]
fn a_watch_that_is_not_read_waits_on_the_server_in_little() {
    run_unlimited(async {
        let (mut member, mut expected) = warmed_up().await?;
        let end = expected + EVENTS;
        let mut stream = Stream::open(member.address(), "/v3/watch").await?;
        stream.send(r#"{"create_request":{"key":"aG90"}}"#).await?;
        within(SOON, stream.head()).await??;
        put_many(&mut member).await?;
        while expected < end {
            let line = within(SOON, stream.next()).await??.context("the stream goes on")?;
            check_events(&line, &mut expected)?;
        }
        Ok(())
    });
}

#[test]
fn so_does_one_over_web_socket() {
    run_unlimited(async {
        let (mut member, mut expected) = warmed_up().await?;
        let end = expected + EVENTS;
        let socket = TcpStream::connect(member.address()).await?;
        let url = format!("ws://{}/v3/watch", member.address());
        let (mut socket, _) = tokio_tungstenite::client_async(url, socket).await?;
        socket.send(Message::text(r#"{"create_request":{"key":"aG90"}}"#)).await?;
        within(SOON, socket.next()).await?.context("it is created")??;
        put_many(&mut member).await?;
        while expected < end {
            let message = within(SOON, socket.next()).await?.context("the stream goes on")??;
            check_events(&serde_json::from_str(message.to_text()?)?, &mut expected)?;
        }
        Ok(())
    });
}

/// What waits on a stream keeps no member from stopping.
#[test]
fn a_member_stops_under_open_streams() {
    run(Target::Quorate, async |target| {
        let mut member = Member::start(target).await?;
        let mut stream = Stream::open(member.address(), "/v3/watch").await?;
        stream.send(r#"{"create_request":{"key":"aG90"}}"#).await?;
        within(SOON, stream.head()).await??;
        let socket = TcpStream::connect(member.address()).await?;
        let url = format!("ws://{}/v3/watch", member.address());
        let (_socket, _) = tokio_tungstenite::client_async(url, socket).await?;
        within(Duration::from_secs(10), member.stop()).await??;
        Ok(())
    });
}
