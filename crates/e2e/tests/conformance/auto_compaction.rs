//! Compaction the server does by itself.

use std::time::Duration;

use anyhow::Result;
use api::etcdserverpb::RangeRequest;
use e2e::request::{get, put};
use e2e::{Member, Target, holds_within};

async fn a_period_later_old_revisions_are_gone(target: Target) -> Result<()> {
    let flags = [("auto-compaction-mode", "periodic"), ("auto-compaction-retention", "1s")];
    let mut member = Member::start_with(target, &flags).await?;
    for value in ["1", "2", "3"] {
        member.put(put("a", value)).await?;
    }
    holds_within(Duration::from_secs(10), || async {
        Ok(member.range(RangeRequest { revision: 2, ..get("a") }).await.is_err())
    })
    .await?;
    assert_eq!(member.range(get("a")).await?.kvs[0].value, "3");
    let said = member.process().output();
    for words in ["starting auto periodic compaction", "completed auto periodic compaction"] {
        assert!(said.contains(words), "{said}");
    }
    Ok(())
}

/// The first count is made after five minutes.
async fn a_count_of_revisions_is_accepted(target: Target) -> Result<()> {
    let flags = [("auto-compaction-mode", "revision"), ("auto-compaction-retention", "1")];
    let member = Member::start_with(target, &flags).await?;
    for value in ["1", "2", "3"] {
        member.put(put("a", value)).await?;
    }
    assert_eq!(member.range(RangeRequest { revision: 2, ..get("a") }).await?.count, 1);
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

e2e::on_both_targets!(
    a_period_later_old_revisions_are_gone,
    a_count_of_revisions_is_accepted,
    without_retention_nothing_is_compacted,
);
