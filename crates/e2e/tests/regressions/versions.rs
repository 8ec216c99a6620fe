//! History of one key under a storm of changes.

use anyhow::Result;
use api::etcdserverpb::RangeRequest;
use e2e::request::{delete, get, put};
use e2e::{Member, Target, revision};
use testkit::grpc::Client;

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
    use api::etcdserverpb::TxnRequest;
    use e2e::request::{CompareResult, CompareTarget, TargetUnion, compare, op_put, txn};
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

e2e::on_both_targets!(every_revision_of_a_stormy_key_reads_as_it_was, compare_and_swap_loses_no_increment);
