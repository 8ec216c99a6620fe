//! Watch: creation, live events and their order.

use std::time::Duration;

use anyhow::{Context, Result};
use api::etcdserverpb::WatchCreateRequest;
use e2e::request::{delete, op_delete, op_put, put, txn, watch, watch_cancel, watch_create, watch_range};
use e2e::{Member, Target, Watch, revision, shown};

async fn creation_is_answered_with_the_current_revision(target: Target) -> Result<()> {
    let member = Member::start(target).await?;
    member.put(put("a", "1")).await?;
    let mut stream = Watch::open(&member).await?;
    let created = stream.create(watch("a")).await?;
    assert_eq!((created.created, created.canceled, created.watch_id), (true, false, 0));
    assert_eq!((revision(&created.header), created.events.len(), created.compact_revision), (2, 0, 0));
    let header = created.header.unwrap();
    assert_eq!(Some(header), member.range(e2e::request::get("a")).await?.header);
    Ok(())
}

async fn only_later_events_come(target: Target) -> Result<()> {
    let member = Member::start(target).await?;
    member.put(put("a", "before")).await?;
    let mut stream = Watch::start(&member, watch("a")).await?;
    member.put(put("a", "after")).await?;
    let events = stream.events(1).await?;
    assert_eq!(shown(&events[0]), "PUT a=after@3");
    Ok(())
}

async fn put_events_hold_the_pair_and_deletions_key_and_revision(target: Target) -> Result<()> {
    let member = Member::start(target).await?;
    let mut stream = Watch::start(&member, watch("a")).await?;
    member.put(put("a", "1")).await?;
    member.put(put("a", "2")).await?;
    member.delete_range(delete("a")).await?;
    let events = stream.events(3).await?;
    let pair = events[1].kv.clone().unwrap();
    assert_eq!((pair.create_revision, pair.mod_revision, pair.version), (2, 3, 2));
    let deleted = api::mvccpb::KeyValue { key: "a".into(), mod_revision: 4, ..Default::default() };
    assert_eq!((events[2].kv.clone(), events[2].r#type), (Some(deleted), 1));
    assert!(events.iter().all(|event| event.prev_kv.is_none()));
    Ok(())
}

async fn a_range_watch_sees_its_range_alone(target: Target) -> Result<()> {
    let member = Member::start(target).await?;
    let mut stream = Watch::start(&member, watch_range("b", "d")).await?;
    for key in ["a", "b", "c", "cz", "d", "bb"] {
        member.put(put(key, "")).await?;
    }
    let events: Vec<_> = stream.events(4).await?.iter().map(shown).collect();
    assert_eq!(events, ["PUT b=@3", "PUT c=@4", "PUT cz=@5", "PUT bb=@7"]);
    Ok(())
}

async fn an_empty_key_watches_from_the_first_key(target: Target) -> Result<()> {
    let member = Member::start(target).await?;
    let mut everything = Watch::start(&member, watch_range("", "\0")).await?;
    let mut single = Watch::start(&member, watch("")).await?;
    member.put(put("a", "")).await?;
    member.put(put("\0", "")).await?;
    assert_eq!(everything.events(2).await?.len(), 2);
    assert_eq!(shown(&single.events(1).await?[0]), "PUT \0=@3");
    Ok(())
}

async fn one_revision_is_one_response_in_op_order(target: Target) -> Result<()> {
    let member = Member::start(target).await?;
    member.put(put("c", "")).await?;
    let mut stream = Watch::start(&member, watch_range("a", "z")).await?;
    member.txn(txn([op_put("b", "1"), op_delete("c"), op_put("a", "2")])).await?;
    let response = stream.next().await?;
    let events: Vec<_> = response.events.iter().map(shown).collect();
    assert_eq!(events, ["PUT b=1@3", "DELETE c@3", "PUT a=2@3"]);
    assert_eq!((revision(&response.header), response.fragment), (3, false));
    Ok(())
}

async fn live_responses_hold_one_revision_each(target: Target) -> Result<()> {
    let member = Member::start(target).await?;
    let mut stream = Watch::start(&member, watch("a")).await?;
    for number in 0..50 {
        member.put(put("a", number.to_string())).await?;
        let response = stream.next().await?;
        assert_eq!((response.events.len(), revision(&response.header)), (1, number + 2));
    }
    Ok(())
}

async fn ids_count_up_and_skip_those_in_use(target: Target) -> Result<()> {
    let member = Member::start(target).await?;
    let mut stream = Watch::open(&member).await?;
    let with_id = |id| api::etcdserverpb::WatchCreateRequest { watch_id: id, ..watch("a") };
    for (asked, given) in [(0, 0), (0, 1), (3, 3), (0, 2), (0, 4), (100, 100), (-7, -7)] {
        let created = stream.create(with_id(asked)).await?;
        assert_eq!((created.watch_id, created.created, created.canceled), (given, true, false));
    }
    stream.send(&watch_cancel(4))?;
    assert!(stream.next().await?.canceled);
    assert_eq!(stream.create(with_id(0)).await?.watch_id, 5, "an id the server gave is not given again");
    assert_eq!(stream.create(with_id(4)).await?.watch_id, 4, "but the client may take it");
    Ok(())
}

async fn an_id_in_use_is_refused_and_the_rest_goes_on(target: Target) -> Result<()> {
    let member = Member::start(target).await?;
    let mut stream = Watch::open(&member).await?;
    let with_id = api::etcdserverpb::WatchCreateRequest { watch_id: 9, ..watch("a") };
    stream.create(with_id.clone()).await?;
    let refused = stream.create(with_id).await?;
    assert_eq!((refused.created, refused.canceled, refused.watch_id), (true, true, -1));
    assert_eq!(refused.cancel_reason, "mvcc: duplicate watch ID provided on the WatchStream");
    member.put(put("a", "1")).await?;
    assert_eq!(stream.next().await?.watch_id, 9);
    Ok(())
}

async fn an_empty_range_is_refused(target: Target) -> Result<()> {
    let member = Member::start(target).await?;
    let mut stream = Watch::open(&member).await?;
    for (key, end) in [("b", "a"), ("b", "b")] {
        let refused = stream.create(watch_range(key, end)).await?;
        assert_eq!((refused.created, refused.canceled, refused.watch_id), (true, true, -1));
        assert_eq!(refused.cancel_reason, "mvcc: watcher range is empty");
    }
    assert_eq!(stream.create(watch("a")).await?.watch_id, 0, "a refused watch takes no id");
    Ok(())
}

async fn empty_requests_are_ignored(target: Target) -> Result<()> {
    let member = Member::start(target).await?;
    let mut stream = Watch::open(&member).await?;
    stream.send(&api::etcdserverpb::WatchRequest { request_union: None })?;
    assert!(stream.create(watch("a")).await?.created);
    Ok(())
}

async fn many_watches_share_a_stream(target: Target) -> Result<()> {
    let member = Member::start(target).await?;
    let mut stream = Watch::open(&member).await?;
    for _ in 0..100 {
        stream.create(watch("a")).await?;
    }
    member.put(put("a", "1")).await?;
    let mut ids = Vec::new();
    for _ in 0..100 {
        let response = stream.next().await?;
        assert_eq!(shown(&response.events[0]), "PUT a=1@2");
        ids.push(response.watch_id);
    }
    ids.sort_unstable();
    assert_eq!(ids, (0..100).collect::<Vec<_>>());
    Ok(())
}

async fn creation_comes_before_the_watchs_events(target: Target) -> Result<()> {
    let member = Member::start(target).await?;
    for number in 0..20 {
        member.put(put("a", number.to_string())).await?;
    }
    let mut stream = Watch::open(&member).await?;
    for _ in 0..10 {
        stream.send(&watch_create(api::etcdserverpb::WatchCreateRequest { start_revision: 2, ..watch("a") }))?;
    }
    let mut created = [false; 10];
    let mut events = 0;
    while events < 200 {
        let response = stream.next().await?;
        let watch = usize::try_from(response.watch_id)?;
        assert_ne!(response.created, created[watch], "created exactly once and first");
        created[watch] = true;
        events += response.events.len();
    }
    assert_eq!(events, 200);
    Ok(())
}

async fn events_go_on_after_the_client_half_closes(target: Target) -> Result<()> {
    let member = Member::start(target).await?;
    let mut stream = Watch::start(&member, watch("a")).await?;
    stream.close()?;
    member.put(put("a", "1")).await?;
    assert_eq!(shown(&stream.events(1).await?[0]), "PUT a=1@2");
    Ok(())
}

/// A client whose event handler makes calls on the same connection reads on only when they are answered.
async fn calls_are_answered_while_events_wait_unread(target: Target) -> Result<()> {
    let member = Member::start(target).await?;
    let mut streams = Vec::new();
    for _ in 0..4 {
        streams.push(Watch::start(&member, WatchCreateRequest { prev_kv: true, ..watch("a") }).await?);
    }
    // Few and large: the client's windows (4 MiB a stream, 64 MiB a connection) would take far more.
    for number in 0..8 {
        let put = member.put(put("a", vec![number; 1_400_000]));
        tokio::time::timeout(Duration::from_secs(10), put).await.context("a put is not answered")??;
    }
    for stream in &mut streams {
        stream.events(8).await?;
    }
    Ok(())
}

e2e::on_both_targets!(
    creation_is_answered_with_the_current_revision,
    only_later_events_come,
    put_events_hold_the_pair_and_deletions_key_and_revision,
    a_range_watch_sees_its_range_alone,
    an_empty_key_watches_from_the_first_key,
    one_revision_is_one_response_in_op_order,
    live_responses_hold_one_revision_each,
    ids_count_up_and_skip_those_in_use,
    an_id_in_use_is_refused_and_the_rest_goes_on,
    an_empty_range_is_refused,
    empty_requests_are_ignored,
    many_watches_share_a_stream,
    creation_comes_before_the_watchs_events,
    events_go_on_after_the_client_half_closes,
    calls_are_answered_while_events_wait_unread,
);
