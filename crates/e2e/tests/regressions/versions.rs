//! History of one key under a storm of changes.

use std::collections::BTreeMap;

use anyhow::Result;
use api::etcdserverpb::response_op::Response;
use api::etcdserverpb::{RangeRequest, TxnRequest};
use api::mvccpb::KeyValue;
use e2e::request::{CompareResult, CompareTarget, TargetUnion, compare, delete, get, op_get, op_put, put, txn};
use e2e::{Member, Target, revision};
use testkit::grpc::Client;
use tokio::time::Instant;

/// PR 17230: all within one batch of the backend, and every revision reads as it was.
async fn every_revision_of_a_stormy_key_reads_as_it_was(target: Target) -> Result<()> {
    let mut member = Member::start(target).await?;
    let mut model: Vec<(i64, Option<String>)> = Vec::new();
    let mut random = fastrand::Rng::with_seed(6);
    let mut version = 0;
    for number in 0..1000 {
        if random.u32(0..4) == 0 {
            let answer = member.delete_range(delete("a")).await?;
            model.push((revision(&answer.header), None));
            version = 0;
        } else {
            let answer = member.put(put("a", number.to_string())).await?;
            model.push((revision(&answer.header), Some(number.to_string())));
            version += 1;
        }
        let now = member.range(get("a")).await?.kvs;
        assert_eq!(now.first().map_or(0, |pair| pair.version), version);
    }
    for crashed in [false, true] {
        if crashed {
            member.kill()?;
            member.restart().await?;
        }
        for (revision, value) in &model {
            let pair = member.range(RangeRequest { revision: *revision, ..get("a") }).await?.kvs.pop();
            assert_eq!(pair.map(|pair| pair.value), value.clone().map(Into::into), "at {revision}");
        }
    }
    Ok(())
}

/// Concurrent increments by compare-and-swap never lose one.
async fn compare_and_swap_loses_no_increment(target: Target) -> Result<()> {
    const CLIENTS: i64 = 8;
    const EACH: i64 = 50;
    let member = Member::start(target).await?;
    member.put(put("n", "0")).await?;
    let mut running = tokio::task::JoinSet::new();
    for _ in 0..CLIENTS {
        let client = member.connect().await?;
        running.spawn(async move {
            for _ in 0..EACH {
                increment(&client).await?;
            }
            anyhow::Ok(())
        });
    }
    while let Some(outcome) = running.join_next().await {
        outcome??;
    }
    let pair = member.range(get("n")).await?.kvs.remove(0);
    assert_eq!(pair.value, (CLIENTS * EACH).to_string());
    assert_eq!(pair.version, CLIENTS * EACH + 1);
    Ok(())
}

async fn increment(client: &Client) -> Result<()> {
    loop {
        let pair = client.range(get("n")).await?.kvs.remove(0);
        let next = std::str::from_utf8(&pair.value)?.parse::<i64>()? + 1;
        let unchanged = TargetUnion::ModRevision(pair.mod_revision);
        let request = TxnRequest {
            compare: vec![compare("n", CompareResult::Equal, CompareTarget::Mod, Some(unchanged))],
            ..txn([op_put("n", next.to_string())])
        };
        if client.txn(request).await?.succeeded {
            return Ok(());
        }
    }
}

/// A transaction that was answered: where it stands in the one order there is, and what it saw and did.
#[derive(Debug)]
struct Done {
    invoked: Instant,
    returned: Instant,
    revision: i64,
    /// The values of the keys, as the transaction found, left or would have left them.
    values: [String; KEYS.len()],
    kind: Kind,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Read,
    Write,
    /// A write whose compares did not hold.
    Refused,
}

const KEYS: [&str; 3] = ["x", "y", "z"];

/// Reads all keys in one transaction, then appends to two of them in another, if nobody else wrote meanwhile.
async fn append(client: &Client, mark: String, left_alone: usize) -> Result<[Done; 2]> {
    let invoked = Instant::now();
    let answer = client.txn(txn(KEYS.map(op_get))).await?;
    let found = answer.responses.iter().map(|part| match &part.response {
        Some(Response::ResponseRange(range)) => range.kvs.first().cloned().unwrap_or_default(),
        other => panic!("not a range: {other:?}"),
    });
    let found: Vec<KeyValue> = found.collect();
    let text = |pair: &KeyValue| String::from_utf8_lossy(&pair.value).into_owned();
    let values = [text(&found[0]), text(&found[1]), text(&found[2])];
    let read = Done { invoked, returned: Instant::now(), revision: revision(&answer.header), values, kind: Kind::Read };
    let mut values = read.values.clone();
    let mut request = TxnRequest::default();
    for (at, key) in KEYS.iter().enumerate() {
        let unchanged = TargetUnion::ModRevision(found[at].mod_revision);
        request.compare.push(compare(key, CompareResult::Equal, CompareTarget::Mod, Some(unchanged)));
        if at != left_alone {
            values[at].push_str(&mark);
            request.success.push(op_put(key, &values[at]));
        }
    }
    let invoked = Instant::now();
    let answer = client.txn(request).await?;
    let kind = if answer.succeeded { Kind::Write } else { Kind::Refused };
    let written = Done { invoked, returned: Instant::now(), revision: revision(&answer.header), values, kind };
    Ok([read, written])
}

/// In small what histories of appends are for: an order of all transactions that explains every answer, and in which
/// none stands before one that had been answered when it was asked.
async fn concurrent_transactions_have_one_order(target: Target) -> Result<()> {
    let member = Member::start(target).await?;
    let mut running = tokio::task::JoinSet::new();
    for number in 0..6 {
        let client = member.connect().await?;
        running.spawn(async move {
            let mut done = Vec::new();
            for round in 0..100 {
                done.extend(append(&client, format!("{number}.{round} "), (number + round) % KEYS.len()).await?);
            }
            anyhow::Ok(done)
        });
    }
    let mut done = Vec::new();
    while let Some(outcome) = running.join_next().await {
        done.extend(outcome??);
    }
    let writes = done.iter().filter(|one| one.kind == Kind::Write);
    let state: BTreeMap<i64, &[String; KEYS.len()]> = writes.map(|one| (one.revision, &one.values)).collect();
    assert!(state.keys().copied().eq(2..2 + state.len() as i64), "every revision is of one transaction");
    assert!(state.len() > 50, "only {} transactions could write", state.len());
    for read in done.iter().filter(|one| one.kind == Kind::Read) {
        let there_was = state.get(&read.revision).copied().cloned().unwrap_or_default();
        assert_eq!(read.values, there_was, "at {}", read.revision);
    }
    done.sort_unstable_by_key(|one| one.invoked);
    for later in &done {
        let before = done.iter().filter(|earlier| earlier.returned < later.invoked);
        let floor = before.map(|earlier| earlier.revision).max().unwrap_or(0) + i64::from(later.kind == Kind::Write);
        assert!(later.revision >= floor, "{} was asked after {floor} had been answered", later.revision);
    }
    Ok(())
}

e2e::on_both_targets!(
    every_revision_of_a_stormy_key_reads_as_it_was,
    compare_and_swap_loses_no_increment,
    concurrent_transactions_have_one_order
);
