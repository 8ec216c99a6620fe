//! Watch: progress notices, asked for and periodic.

use std::time::Duration;

use anyhow::Result;
use api::etcdserverpb::WatchCreateRequest;
use e2e::request::{compact, put, watch, watch_cancel, watch_progress};
use e2e::{Member, Target, Watch, revision};
use tokio::time::Instant;

async fn an_asked_for_notice_is_for_the_stream(target: Target) -> Result<()> {
    let member = Member::start(target).await?;
    let mut stream = Watch::start(&member, watch("a")).await?;
    stream.create(watch("b")).await?;
    member.put(put("other", "1")).await?;
    stream.send(&watch_progress())?;
    let notice = stream.next().await?;
    assert_eq!((notice.watch_id, notice.events.len(), revision(&notice.header)), (-1, 0, 2));
    assert!(!notice.created && !notice.canceled);
    Ok(())
}

async fn a_notice_never_precedes_events_it_covers(target: Target) -> Result<()> {
    let member = Member::start(target).await?;
    let mut stream = Watch::start(&member, watch("a")).await?;
    let mut delivered = 1;
    for _ in 0..100 {
        member.put(put("a", "v")).await?;
        stream.send(&watch_progress())?;
        let response = stream.next().await?;
        match response.events.is_empty() {
            true => assert!(revision(&response.header) <= delivered, "{response:?} after event {delivered}"),
            false => delivered = response.events.last().and_then(|event| event.kv.clone()).unwrap().mod_revision,
        }
    }
    Ok(())
}

async fn without_watches_no_notice_comes(target: Target) -> Result<()> {
    let member = Member::start(target).await?;
    let mut stream = Watch::open(&member).await?;
    stream.send(&watch_progress())?;
    stream.stays_silent().await
}

async fn a_start_in_the_future_holds_the_notice_back(target: Target) -> Result<()> {
    let member = Member::start(target).await?;
    let mut stream = Watch::start(&member, WatchCreateRequest { start_revision: 10, ..watch("a") }).await?;
    stream.send(&watch_progress())?;
    stream.stays_silent().await
}

async fn a_watch_cancelled_by_compaction_holds_notices_back_until_cancelled(target: Target) -> Result<()> {
    let member = Member::start(target).await?;
    for value in ["1", "2", "3"] {
        member.put(put("a", value)).await?;
    }
    member.compact(compact(4)).await?;
    let mut stream = Watch::start(&member, WatchCreateRequest { start_revision: 2, ..watch("a") }).await?;
    assert!(stream.next().await?.canceled);
    stream.create(watch("a")).await?;
    stream.send(&watch_progress())?;
    stream.stays_silent().await?;
    stream.send(&watch_cancel(0))?;
    stream.send(&watch_progress())?;
    let mut response = stream.next().await?;
    if response.canceled {
        response = stream.next().await?;
    }
    assert_eq!((response.watch_id, revision(&response.header)), (-1, 4));
    Ok(())
}

async fn periodic_notices_come_to_idle_watches(target: Target) -> Result<()> {
    let member = Member::start_with(target, &[("experimental-watch-progress-notify-interval", "200ms")]).await?;
    let mut stream = Watch::start(&member, WatchCreateRequest { progress_notify: true, ..watch("a") }).await?;
    let mut plain = Watch::start(&member, watch("a")).await?;
    for expected in [2, 3, 4] {
        member.put(put("elsewhere", "v")).await?;
        let mut notice = stream.next().await?;
        while revision(&notice.header) < expected {
            notice = stream.next().await?;
        }
        assert_eq!((notice.watch_id, notice.events.len(), revision(&notice.header)), (0, 0, expected));
    }
    plain.stays_silent().await
}

/// Until then the server has nothing to vouch for.
async fn notices_come_once_the_future_start_is_reached(target: Target) -> Result<()> {
    let member = Member::start_with(target, &[("experimental-watch-progress-notify-interval", "200ms")]).await?;
    let create = WatchCreateRequest { start_revision: 5, progress_notify: true, ..watch("a") };
    let mut stream = Watch::start(&member, create).await?;
    for _ in 2..5 {
        member.put(put("elsewhere", "v")).await?;
        stream.send(&watch_progress())?;
    }
    stream.stays_silent().await?;
    member.put(put("elsewhere", "v")).await?;
    let periodic = stream.next().await?;
    assert_eq!((periodic.watch_id, periodic.events.len(), revision(&periodic.header)), (0, 0, 5));
    stream.send(&watch_progress())?;
    while stream.next().await?.watch_id != -1 {}
    Ok(())
}

/// 100 ms is the least.
async fn notices_do_not_come_faster_than_they_may(target: Target) -> Result<()> {
    let member = Member::start_with(target, &[("experimental-watch-progress-notify-interval", "1ms")]).await?;
    let begun = Instant::now();
    let mut stream = Watch::start(&member, WatchCreateRequest { progress_notify: true, ..watch("a") }).await?;
    for _ in 0..10 {
        assert_eq!(stream.next().await?.events.len(), 0);
    }
    // One may have been due from the start.
    assert!(begun.elapsed() >= Duration::from_millis(900), "ten notices took {:?}", begun.elapsed());
    Ok(())
}

/// #15220: while a watch still reads history, a notice would tell that it has what it has not.
async fn a_notice_never_overtakes_history(target: Target) -> Result<()> {
    const HISTORY: i64 = 2000;
    let member = Member::start(target).await?;
    for number in 0..HISTORY {
        member.put(put("a", vec![number as u8; 1000])).await?;
    }
    for round in 0..10 {
        let mut stream = Watch::start(&member, WatchCreateRequest { start_revision: 2, ..watch("a") }).await?;
        let last = HISTORY + 1 + round + 1;
        let mut delivered = 1;
        let mut noticed = 0;
        stream.send(&watch_progress())?;
        member.put(put("a", "live")).await?;
        while noticed < last {
            stream.send(&watch_progress())?;
            let response = stream.next().await?;
            if response.events.is_empty() {
                noticed = revision(&response.header);
                assert!(noticed <= delivered, "progress to {noticed} after event {delivered}");
            }
            for event in &response.events {
                let at = event.kv.clone().unwrap().mod_revision;
                assert_eq!(at, delivered + 1, "no gap, nothing twice");
                delivered = at;
            }
        }
        assert_eq!(delivered, last);
    }
    Ok(())
}

e2e::on_both_targets!(
    an_asked_for_notice_is_for_the_stream,
    a_notice_never_precedes_events_it_covers,
    without_watches_no_notice_comes,
    a_start_in_the_future_holds_the_notice_back,
    a_watch_cancelled_by_compaction_holds_notices_back_until_cancelled,
    periodic_notices_come_to_idle_watches,
    a_notice_never_overtakes_history,
    notices_come_once_the_future_start_is_reached,
    notices_do_not_come_faster_than_they_may,
);
