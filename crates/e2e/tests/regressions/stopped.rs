//! A server that stands still for longer than a request may take (SIGSTOP), with calls of every kind under way.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use api::etcdserverpb::{LeaseKeepAliveRequest, RangeRequest, TxnRequest};
use e2e::request::{get, lease, op_get, op_put, put, txn, value_is, watch};
use e2e::{Member, Target, Watch, shown};
use rustix::process::Signal;
use testkit::grpc::{Client, Code, Status};
use tokio::sync::watch::{Receiver, Sender, channel};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

/// Longer than a request may take: 5 s and two election timeouts of 100 ms.
const STOP: Duration = Duration::from_secs(6);

/// How long a call may still take once the server goes on.
const ANSWER_LIMIT: Duration = Duration::from_secs(20);

fn read_only() -> TxnRequest {
    TxnRequest { compare: vec![value_is("a", "1")], failure: vec![op_get("a")], ..txn([op_get("a"), op_get("b")]) }
}

/// One call of a kind, and what must be true of its answer.
async fn call(client: &Client, kind: usize) -> Result<(), Status> {
    match kind {
        0 => {
            let answer = client.txn(read_only()).await?;
            assert_eq!(answer.responses.len(), if answer.succeeded { 2 } else { 1 });
        }
        1 => assert_eq!(client.range(get("a")).await?.count, 1),
        2 => assert_eq!(client.range(RangeRequest { serializable: true, ..get("a") }).await?.count, 1),
        3 => drop(client.put(put("b", "2")).await?),
        _ => drop(client.txn(txn([op_put("c", "3"), op_get("a")])).await?),
    }
    Ok(())
}

/// etcd has several texts for it, by what it takes for the cause.
fn took_too_long(status: &Status) -> bool {
    let texts = ["etcdserver: request timed out", "etcdserver: leader changed"];
    status.code == Code::Unavailable && texts.iter().any(|text| status.message.starts_with(text))
}

/// Calls again and again until told to stop; each call is answered, or fails as one that took too long.
async fn caller(client: Client, kind: usize, goes_on: Receiver<bool>) -> Result<u64> {
    let mut answered = 0;
    while *goes_on.borrow() {
        match timeout(STOP + ANSWER_LIMIT, call(&client, kind)).await.with_context(|| format!("kind {kind} hangs"))? {
            Ok(()) => answered += 1,
            Err(status) if took_too_long(&status) => (),
            Err(status) => return Err(status).with_context(|| format!("kind {kind}")),
        }
    }
    Ok(answered)
}

/// #14891: a read-only transaction was under way when the server stood still.
async fn calls_under_way_while_the_server_stands_still_are_answered_or_time_out(target: Target) -> Result<()> {
    let mut member = Member::start(target).await?;
    member.put(put("a", "1")).await?;
    member.lease_grant(lease(5, 600)).await?;
    let mut watching = Watch::start(&member, watch("after")).await?;
    let mut keeping = member.lease_keep_alive().await?;
    let (goes_on, told): (Sender<bool>, _) = channel(true);
    let mut calling = JoinSet::new();
    for number in 0..20 {
        calling.spawn(caller(member.connect().await?, number % 5, told.clone()));
    }
    // Every caller has a call under way nearly always. The short stops end in the middle of other calls.
    for stop in [Duration::ZERO, Duration::from_millis(100), STOP] {
        member.put(put("a", "1")).await?;
        member.process().signal(Signal::STOP)?;
        keeping.send(&LeaseKeepAliveRequest { id: 5 })?;
        sleep(stop).await;
        member.process().signal(Signal::CONT)?;
        let kept = timeout(ANSWER_LIMIT, keeping.next()).await.context("a renewal is not answered")??;
        ensure!(kept.is_some_and(|kept| kept.ttl == 600), "the lease is gone");
    }
    goes_on.send(false)?;
    while let Some(answered) = calling.join_next().await {
        ensure!(answered?? > 0, "a caller got no answer at all");
    }
    ensure!(member.process().exited()?.is_none(), "the server has ended");
    member.put(put("after", "1")).await?;
    ensure!(shown(&watching.events(1).await?[0]).starts_with("PUT after=1@"), "the watch has another event");
    Ok(())
}

e2e::on_both_targets!(calls_under_way_while_the_server_stands_still_are_answered_or_time_out);
