//! Watch: cancelling, by either side.

use anyhow::Result;
use api::etcdserverpb::WatchCreateRequest;
use e2e::request::{compact, put, watch, watch_cancel};
use e2e::{Member, Target, Watch, revision};

async fn a_cancelled_watch_says_so_and_is_silent(target: Target) -> Result<()> {
    let member = Member::start(target).await?;
    let mut stream = Watch::start(&member, watch("a")).await?;
    stream.create(watch("b")).await?;
    stream.send(&watch_cancel(0))?;
    let cancelled = stream.next().await?;
    assert_eq!((cancelled.created, cancelled.canceled, cancelled.watch_id), (false, true, 0));
    assert_eq!((cancelled.cancel_reason.as_str(), cancelled.compact_revision), ("", 0));
    assert_eq!(revision(&cancelled.header), 1);
    member.put(put("a", "1")).await?;
    member.put(put("b", "2")).await?;
    let response = stream.next().await?;
    assert_eq!((response.watch_id, response.events.len()), (1, 1));
    Ok(())
}

async fn an_unknown_id_is_not_answered(target: Target) -> Result<()> {
    let member = Member::start(target).await?;
    let mut stream = Watch::start(&member, watch("a")).await?;
    stream.send(&watch_cancel(0))?;
    assert!(stream.next().await?.canceled);
    for unknown in [0, 1, 77, -1] {
        stream.send(&watch_cancel(unknown))?;
    }
    let next = stream.create(watch("a")).await?;
    assert!(next.created && !next.canceled, "{next:?}");
    Ok(())
}

async fn a_compacted_start_is_created_then_cancelled_with_the_revision(target: Target) -> Result<()> {
    let member = Member::start(target).await?;
    for value in ["1", "2", "3", "4"] {
        member.put(put("a", value)).await?;
    }
    member.compact(compact(4)).await?;
    let mut stream = Watch::open(&member).await?;
    let created = stream.create(WatchCreateRequest { start_revision: 3, ..watch("a") }).await?;
    assert_eq!((created.created, created.canceled, created.watch_id), (true, false, 0));
    assert_eq!(revision(&created.header), 5);
    let cancelled = stream.next().await?;
    assert_eq!((cancelled.created, cancelled.canceled, cancelled.watch_id), (false, true, 0));
    assert_eq!((cancelled.compact_revision, cancelled.cancel_reason.as_str()), (4, ""));
    assert_eq!(revision(&cancelled.header), 0);
    // The stream lives on, and the compacted revision itself may be watched from.
    let mut from_compacted = Watch::start(&member, WatchCreateRequest { start_revision: 4, ..watch("a") }).await?;
    assert_eq!(from_compacted.events(2).await?.len(), 2);
    let again = stream.create(watch("a")).await?;
    assert_eq!((again.created, again.canceled), (true, false));
    Ok(())
}

async fn a_negative_start_is_refused(target: Target) -> Result<()> {
    let member = Member::start(target).await?;
    let mut stream = Watch::open(&member).await?;
    let refused = stream.create(WatchCreateRequest { start_revision: -1, ..watch("a") }).await?;
    assert_eq!((refused.created, refused.canceled, refused.watch_id), (true, true, -1));
    assert_eq!(refused.cancel_reason, "etcdserver: mvcc: required revision has been compacted");
    assert_eq!(refused.compact_revision, 0);
    Ok(())
}

async fn cancelling_a_refused_watch_leaves_watch_0_alone(target: Target) -> Result<()> {
    let member = Member::start(target).await?;
    let mut stream = Watch::start(&member, watch("a")).await?;
    let refused = stream.create(WatchCreateRequest { start_revision: -1, ..watch("a") }).await?;
    stream.send(&watch_cancel(refused.watch_id))?;
    member.put(put("a", "1")).await?;
    let response = stream.next().await?;
    assert_eq!((response.watch_id, response.events.len()), (0, 1));
    Ok(())
}

e2e::on_both_targets!(
    a_cancelled_watch_says_so_and_is_silent,
    an_unknown_id_is_not_answered,
    a_compacted_start_is_created_then_cancelled_with_the_revision,
    a_negative_start_is_refused,
    cancelling_a_refused_watch_leaves_watch_0_alone,
);
