//! Compaction the server does by itself.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use api::etcdserverpb::RangeRequest;
use e2e::request::{get, put};
use e2e::{Difference, Member, Target, holds_within};

async fn a_period_later_old_revisions_are_gone(target: Target) -> Result<()> {
    let flags = [("auto-compaction-mode", "periodic"), ("auto-compaction-retention", "1s")];
    if Difference::NoAutoCompaction.shows(target) {
        let refusal = Member::start_with(target, &flags).await.err().context("the flag was accepted")?;
        ensure!(format!("{refusal:?}").contains("--auto-compaction-retention"), "{refusal:?}");
        return Ok(());
    }
    let member = Member::start_with(target, &flags).await?;
    for value in ["1", "2", "3"] {
        member.put(put("a", value)).await?;
    }
    holds_within(Duration::from_secs(10), || async {
        Ok(member.range(RangeRequest { revision: 2, ..get("a") }).await.is_err())
    })
    .await?;
    assert_eq!(member.range(get("a")).await?.kvs[0].value, "3");
    Ok(())
}

async fn without_retention_nothing_is_compacted(target: Target) -> Result<()> {
    let member = Member::start_with(target, &[("auto-compaction-retention", "0")]).await?;
    member.put(put("a", "1")).await?;
    member.put(put("a", "2")).await?;
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(member.range(RangeRequest { revision: 2, ..get("a") }).await?.count, 1);
    Ok(())
}

e2e::on_both_targets!(a_period_later_old_revisions_are_gone, without_retention_nothing_is_compacted);
