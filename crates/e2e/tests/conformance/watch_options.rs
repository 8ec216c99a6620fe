//! Watch: prev_kv, filters and fragments.

use anyhow::Result;
use api::etcdserverpb::WatchCreateRequest;
use api::etcdserverpb::watch_create_request::FilterType;
use e2e::request::{compact, delete, op_delete, op_put, op_txn, put, txn, watch, watch_range};
use e2e::{Member, Target, Watch, shown};

async fn prev_kv_is_the_pair_before_the_revision(target: Target) -> Result<()> {
    let member = Member::start(target).await?;
    let with_prev = WatchCreateRequest { prev_kv: true, ..watch("a") };
    let mut live = Watch::start(&member, with_prev.clone()).await?;
    member.put(put("a", "1")).await?;
    member.put(put("a", "2")).await?;
    member.delete_range(delete("a")).await?;
    member.put(put("a", "3")).await?;
    let mut history = Watch::start(&member, WatchCreateRequest { start_revision: 2, ..with_prev }).await?;
    for stream in [&mut live, &mut history] {
        let events = stream.events(4).await?;
        assert_eq!(events[0].prev_kv, None, "a creation has none");
        assert_eq!(events[1].prev_kv, events[0].kv);
        assert_eq!(events[2].prev_kv, events[1].kv);
        assert_eq!(events[3].prev_kv, None, "nor has a creation after a deletion");
    }
    Ok(())
}

/// Which a transaction can do to one key, see `txn_validation`.
async fn prev_kv_of_a_key_put_and_deleted_at_once_is_the_one_before_both(target: Target) -> Result<()> {
    let member = Member::start(target).await?;
    let create = WatchCreateRequest { prev_kv: true, ..watch("a") };
    let mut stream = Watch::start(&member, create).await?;
    let both = || txn([op_txn(txn([op_put("a", "1")])), op_txn(txn([op_delete("a")]))]);
    member.txn(both()).await?;
    member.put(put("a", "0")).await?;
    member.txn(both()).await?;
    let events = stream.events(5).await?;
    let seen: Vec<_> = events
        .iter()
        .map(|event| (shown(event), event.prev_kv.as_ref().map_or(0, |previous| previous.mod_revision)))
        .collect();
    let expected = [("PUT a=1@2", 0), ("DELETE a@2", 0), ("PUT a=0@3", 0), ("PUT a=1@4", 3), ("DELETE a@4", 3)];
    assert_eq!(seen, expected.map(|(event, previous)| (event.to_owned(), previous)));
    Ok(())
}

async fn prev_kv_is_left_out_where_it_was_compacted(target: Target) -> Result<()> {
    let member = Member::start(target).await?;
    for value in ["1", "2", "3"] {
        member.put(put("a", value)).await?;
    }
    member.compact(compact(3)).await?;
    let create = WatchCreateRequest { prev_kv: true, start_revision: 3, ..watch("a") };
    let events = Watch::start(&member, create).await?.events(2).await?;
    assert_eq!((shown(&events[0]).as_str(), &events[0].prev_kv), ("PUT a=2@3", &None));
    assert_eq!(events[1].prev_kv, events[0].kv);
    Ok(())
}

async fn filters_drop_their_kind(target: Target) -> Result<()> {
    let member = Member::start(target).await?;
    let with = |filters: &[FilterType]| WatchCreateRequest {
        filters: filters.iter().map(|&filter| filter.into()).collect(),
        ..watch_range("a", "z")
    };
    let mut no_put = Watch::start(&member, with(&[FilterType::Noput])).await?;
    let mut no_delete = Watch::start(&member, with(&[FilterType::Nodelete])).await?;
    let mut neither = Watch::start(&member, with(&[FilterType::Noput, FilterType::Nodelete])).await?;
    let mut repeated = Watch::start(&member, with(&[FilterType::Noput, FilterType::Noput])).await?;
    member.put(put("a", "1")).await?;
    member.txn(txn([op_delete("a"), op_put("b", "2")])).await?;
    member.delete_range(delete("b")).await?;
    let shown_events = |events: Vec<api::mvccpb::Event>| events.iter().map(shown).collect::<Vec<_>>();
    assert_eq!(shown_events(no_put.events(2).await?), ["DELETE a@3", "DELETE b@4"]);
    assert_eq!(shown_events(repeated.events(2).await?), ["DELETE a@3", "DELETE b@4"]);
    assert_eq!(shown_events(no_delete.events(2).await?), ["PUT a=1@2", "PUT b=2@3"]);
    neither.stays_silent().await
}

async fn filters_apply_to_history_too(target: Target) -> Result<()> {
    let member = Member::start(target).await?;
    member.put(put("a", "1")).await?;
    member.delete_range(delete("a")).await?;
    let create = WatchCreateRequest { filters: vec![FilterType::Noput.into()], start_revision: 1, ..watch("a") };
    let events = Watch::start(&member, create).await?.events(1).await?;
    assert_eq!(shown(&events[0]), "DELETE a@3");
    Ok(())
}

async fn unknown_filters_drop_nothing(target: Target) -> Result<()> {
    let member = Member::start(target).await?;
    let mut stream = Watch::start(&member, WatchCreateRequest { filters: vec![9], ..watch("a") }).await?;
    member.put(put("a", "1")).await?;
    assert_eq!(stream.events(1).await?.len(), 1);
    Ok(())
}

/// With the pairs before, the events of one transaction are twice as large as a request may be.
async fn fragments_split_what_is_too_large_for_one_message(target: Target) -> Result<()> {
    let member = Member::start(target).await?;
    let ops = |value: u8| (0..14).map(|key| op_put(format!("k{key}"), vec![value; 100_000])).collect::<Vec<_>>();
    member.txn(txn(ops(1))).await?;
    member.txn(txn(ops(2))).await?;
    let create = WatchCreateRequest { start_revision: 3, prev_kv: true, ..watch_range("k", "l") };
    let mut whole = Watch::start(&member, create.clone()).await?;
    let mut split = Watch::start(&member, WatchCreateRequest { fragment: true, ..create }).await?;
    let response = whole.next().await?;
    assert_eq!((response.events.len(), response.fragment), (14, false), "a revision comes whole, however large");
    let mut events = Vec::new();
    let mut parts = 0;
    loop {
        let part = split.next().await?;
        assert!(prost::Message::encoded_len(&part) < 2_200_000);
        events.extend(part.events);
        parts += 1;
        if !part.fragment {
            break;
        }
    }
    assert!(parts >= 2, "2.8 MB do not fit in one part");
    assert_eq!(events, response.events);
    Ok(())
}

/// 128 values of 100 KB in one revision, live and from history: whole without the flag, in parts with it.
async fn a_very_large_revision_is_split_only_where_allowed(target: Target) -> Result<()> {
    let mut member = Member::start_with(target, &[("max-request-bytes", "15000000")]).await?;
    let watching = member.connect().await?;
    let ops: Vec<_> = (0..128).map(|key| op_put(format!("k{key:03}"), vec![key as u8; 100_000])).collect();
    let mut live = Watch::start(&watching, watch_range("k", "l")).await?;
    member.txn(txn(ops)).await?;
    member.put(put("k", "next")).await?;
    let response = live.next().await?;
    assert_eq!((response.events.len(), response.fragment), (128, false));
    assert_eq!(shown(&live.events(1).await?[0]), "PUT k=next@3");

    // What may be sent in one part follows from what may be asked for in one request.
    member.restart_with(&[("max-request-bytes", "1572864")]).await?;
    let history = WatchCreateRequest { start_revision: 2, ..watch_range("k0", "l") };
    let whole = Watch::start(&member, history.clone()).await?.next().await?;
    assert_eq!((whole.events.len(), whole.fragment), (128, false));
    let mut split = Watch::start(&member, WatchCreateRequest { fragment: true, ..history }).await?;
    let (mut events, mut parts) = (Vec::new(), Vec::new());
    while events.len() < 128 {
        let part = split.next().await?;
        assert!(prost::Message::encoded_len(&part) < 2_200_000);
        events.extend(part.events);
        parts.push(part.fragment);
    }
    assert_eq!(events, whole.events);
    assert!(parts.len() >= 6 && parts.iter().rev().skip(1).all(|&more| more) && !parts[parts.len() - 1], "{parts:?}");
    Ok(())
}

e2e::on_both_targets!(
    prev_kv_is_the_pair_before_the_revision,
    prev_kv_is_left_out_where_it_was_compacted,
    prev_kv_of_a_key_put_and_deleted_at_once_is_the_one_before_both,
    filters_drop_their_kind,
    filters_apply_to_history_too,
    unknown_filters_drop_nothing,
    fragments_split_what_is_too_large_for_one_message,
    a_very_large_revision_is_split_only_where_allowed,
);
