//! Watch: starting in the past or the future.

use anyhow::Result;
use api::etcdserverpb::WatchCreateRequest;
use e2e::request::{delete, op_put, put, txn, watch, watch_range};
use e2e::{Member, Target, Watch, revision, shown};

fn from(start_revision: i64, create: WatchCreateRequest) -> WatchCreateRequest {
    WatchCreateRequest { start_revision, ..create }
}

async fn history_is_replayed_in_order_then_live_events_follow(target: Target) -> Result<()> {
    let member = Member::start(target).await?;
    member.put(put("a", "1")).await?;
    member.put(put("b", "2")).await?;
    member.delete_range(delete("a")).await?;
    member.txn(txn([op_put("c", "3"), op_put("a", "4")])).await?;
    let mut stream = Watch::start(&member, from(3, watch_range("a", "z"))).await?;
    let events: Vec<_> = stream.events(4).await?.iter().map(shown).collect();
    assert_eq!(events, ["PUT b=2@3", "DELETE a@4", "PUT c=3@5", "PUT a=4@5"]);
    member.put(put("a", "5")).await?;
    assert_eq!(shown(&stream.events(1).await?[0]), "PUT a=5@6");
    Ok(())
}

async fn the_first_revision_is_all_of_history(target: Target) -> Result<()> {
    let member = Member::start(target).await?;
    member.put(put("a", "1")).await?;
    let mut stream = Watch::start(&member, from(1, watch("a"))).await?;
    assert_eq!(shown(&stream.events(1).await?[0]), "PUT a=1@2");
    Ok(())
}

async fn the_next_revision_is_live(target: Target) -> Result<()> {
    let member = Member::start(target).await?;
    member.put(put("a", "1")).await?;
    let mut stream = Watch::start(&member, from(3, watch("a"))).await?;
    member.put(put("a", "2")).await?;
    assert_eq!(shown(&stream.events(1).await?[0]), "PUT a=2@3");
    Ok(())
}

async fn a_future_start_waits_for_its_revision(target: Target) -> Result<()> {
    let member = Member::start(target).await?;
    let mut stream = Watch::open(&member).await?;
    let created = stream.create(from(5, watch("a"))).await?;
    assert_eq!((created.created, revision(&created.header)), (true, 1));
    for value in ["2", "3", "4", "5", "6"] {
        member.put(put("a", value)).await?;
    }
    let events: Vec<_> = stream.events(2).await?.iter().map(shown).collect();
    assert_eq!(events, ["PUT a=5@5", "PUT a=6@6"]);
    Ok(())
}

async fn a_long_history_comes_whole_and_in_order_under_writes(target: Target) -> Result<()> {
    let member = Member::start(target).await?;
    for number in 0..3000 {
        member.put(put("a", number.to_string())).await?;
    }
    let mut stream = Watch::start(&member, from(2, watch("a"))).await?;
    for number in 3000..3300 {
        member.put(put("a", number.to_string())).await?;
    }
    let mut next = 2;
    while next < 3302 {
        let response = stream.next().await?;
        for event in &response.events {
            assert_eq!(shown(event), format!("PUT a={}@{next}", next - 2));
            next += 1;
        }
        assert!(revision(&response.header) >= next - 1, "the header is not behind its events");
    }
    Ok(())
}

async fn a_watch_resumes_where_it_stopped(target: Target) -> Result<()> {
    let member = Member::start(target).await?;
    let mut stream = Watch::start(&member, watch("a")).await?;
    member.put(put("a", "1")).await?;
    let last = stream.events(1).await?[0].kv.clone().unwrap().mod_revision;
    drop(stream);
    member.put(put("a", "2")).await?;
    member.put(put("a", "3")).await?;
    let mut resumed = Watch::start(&member, from(last + 1, watch("a"))).await?;
    let events: Vec<_> = resumed.events(2).await?.iter().map(shown).collect();
    assert_eq!(events, ["PUT a=2@3", "PUT a=3@4"]);
    Ok(())
}

async fn history_survives_a_restart(target: Target) -> Result<()> {
    let mut member = Member::start(target).await?;
    member.txn(txn([op_put("a", "1"), op_put("b", "2")])).await?;
    member.delete_range(delete("a")).await?;
    member.restart().await?;
    let mut stream = Watch::start(&member, from(2, watch_range("a", "z"))).await?;
    let events: Vec<_> = stream.events(3).await?.iter().map(shown).collect();
    assert_eq!(events, ["PUT a=1@2", "PUT b=2@2", "DELETE a@3"]);
    Ok(())
}

e2e::on_both_targets!(
    history_is_replayed_in_order_then_live_events_follow,
    the_first_revision_is_all_of_history,
    the_next_revision_is_live,
    a_future_start_waits_for_its_revision,
    a_long_history_comes_whole_and_in_order_under_writes,
    a_watch_resumes_where_it_stopped,
    history_survives_a_restart,
);
