//! RangeStream: a range in several messages. It came with etcd 3.7.

use anyhow::{Context, Result, ensure};
use api::etcdserverpb::{RangeRequest, RangeResponse};
use e2e::refusal::{COMPACTED, EMPTY_KEY, FUTURE_REVISION, Refusal};
use e2e::request::{compact, delete_range, everything, get, op_put, put, range, txn};
use e2e::{Difference, Member, Target, fails, revision};
use testkit::grpc::{Code, Status};

const UNKNOWN: Refusal = (Code::Unimplemented, "unknown method RangeStream for service etcdserverpb.KV");
const CUSTOM_SORT: Refusal = (Code::Unimplemented, "RangeStream does not support custom sort orders");
const FILTERED: Refusal = (Code::Unimplemented, "RangeStream does not support revision filters");

/// A member that has the method, or none after a check that the target has not.
async fn member(target: Target) -> Result<Option<Member>> {
    let member = Member::start(target).await?;
    if Difference::NewerFields.shows(target) {
        return Ok(Some(member));
    }
    fails(parts(&member, everything()).await, UNKNOWN);
    Ok(None)
}

async fn parts(member: &Member, request: RangeRequest) -> Result<Vec<RangeResponse>, Status> {
    let mut stream = member.range_stream(request).await?;
    let mut parts = Vec::new();
    while let Some(part) = stream.next().await? {
        parts.push(part.range_response.unwrap());
    }
    Ok(parts)
}

/// Puts `count` keys of `value_len` bytes each.
async fn fill(member: &Member, count: usize, value_len: usize) -> Result<()> {
    let value = vec![b'v'; value_len];
    let keys: Vec<_> = (0..count).map(|number| format!("k{number:05}")).collect();
    for keys in keys.chunks((1_000_000 / (value_len + 100)).clamp(1, 100)) {
        member.txn(txn(keys.iter().map(|key| op_put(key, &value)).collect::<Vec<_>>())).await?;
    }
    Ok(())
}

/// Puts the parts together and checks what every part must be like.
fn whole(parts: Vec<RangeResponse>) -> Result<RangeResponse> {
    let mut whole = RangeResponse::default();
    for mut part in parts {
        ensure!(whole.header.is_none(), "a part comes after the one with the header");
        ensure!(part.header.is_some() || (!part.more && part.count == 0), "more and count come with the header");
        whole.kvs.append(&mut part.kvs);
        whole = RangeResponse { kvs: whole.kvs, ..part };
    }
    ensure!(whole.header.is_some(), "the last part has the header");
    Ok(whole)
}

async fn the_parts_make_up_the_range(target: Target) -> Result<()> {
    let Some(member) = member(target).await? else { return Ok(()) };
    fill(&member, 300, 20_000).await?;
    member.delete_range(delete_range("k00100", "k00150")).await?;
    let requests = [
        everything(),
        range("k00050", "k00250"),
        RangeRequest { limit: 120, ..everything() },
        RangeRequest { limit: 1, ..everything() },
        RangeRequest { limit: 250, ..everything() },
        RangeRequest { keys_only: true, ..everything() },
        RangeRequest { serializable: true, sort_order: 1, ..everything() },
        RangeRequest { revision: 5, ..everything() },
        RangeRequest { count_only: true, ..everything() },
        get("k00007"),
        get("nothing"),
        range("x", "z"),
    ];
    for request in requests {
        let expected = member.range(request.clone()).await?;
        let streamed = whole(parts(&member, request.clone()).await?).with_context(|| format!("{request:?}"))?;
        ensure!(streamed == expected, "{request:?}: {} keys for {}", streamed.kvs.len(), expected.kvs.len());
    }
    Ok(())
}

async fn no_message_is_much_larger_than_a_request_may_be(target: Target) -> Result<()> {
    let Some(member) = member(target).await? else { return Ok(()) };
    fill(&member, 100, 100_000).await?;
    let parts = parts(&member, everything()).await?;
    ensure!(parts.len() >= 5, "10 MB came in {} messages", parts.len());
    for part in &parts {
        let len = prost::Message::encoded_len(part);
        ensure!(len <= 2 * 1_572_864, "a message of {len} bytes");
    }
    let few = parts.iter().rev().skip(1).map(prost::Message::encoded_len).filter(|&len| len < 700_000).count();
    ensure!(few <= 1, "{few} of {} messages are small, besides the last", parts.len());
    Ok(())
}

async fn an_answer_without_keys_is_one_message(target: Target) -> Result<()> {
    let Some(member) = member(target).await? else { return Ok(()) };
    fill(&member, 50, 10).await?;
    for request in [get("nothing"), range("x", "z"), RangeRequest { count_only: true, ..everything() }] {
        let parts = parts(&member, request.clone()).await?;
        assert_eq!((parts.len(), parts[0].kvs.len(), revision(&parts[0].header)), (1, 0, 2), "{request:?}");
    }
    Ok(())
}

/// The client has windows for a small part of the answer, so most of it is made after the writes and the compaction.
async fn all_of_it_is_of_one_revision(target: Target) -> Result<()> {
    use testkit::grpc::{Client, ConnectOptions};
    let Some(member) = member(target).await? else { return Ok(()) };
    fill(&member, 100, 100_000).await?;
    let before = member.range(everything()).await?;
    let small =
        ConnectOptions { stream_window_bytes: 65_535, connection_window_bytes: 65_535, ..ConnectOptions::default() };
    let slow = Client::connect_with(member.address(), small).await?;
    let mut stream = slow.range_stream(everything()).await?;
    let first = stream.next().await?.context("a first message")?.range_response.unwrap();
    fill(&member, 100, 7).await?;
    let now = revision(&member.delete_range(delete_range("k00050", "l")).await?.header);
    member.compact(api::etcdserverpb::CompactionRequest { revision: now, physical: false }).await?;
    let mut parts = vec![first];
    while let Some(part) = stream.next().await? {
        parts.push(part.range_response.unwrap());
    }
    let streamed = whole(parts)?;
    ensure!(streamed.kvs == before.kvs, "{} keys, which changed meanwhile", streamed.kvs.len());
    assert_eq!((streamed.count, streamed.more), (100, false));
    Ok(())
}

async fn what_a_range_refuses_it_refuses(target: Target) -> Result<()> {
    let Some(member) = member(target).await? else { return Ok(()) };
    for value in ["1", "2", "3"] {
        member.put(put("a", value)).await?;
    }
    member.compact(compact(3)).await?;
    fails(parts(&member, get("")).await, EMPTY_KEY);
    fails(parts(&member, RangeRequest { revision: 2, ..get("a") }).await, COMPACTED);
    fails(parts(&member, RangeRequest { revision: 9, ..get("a") }).await, FUTURE_REVISION);
    for (sort_order, sort_target) in [(2, 0), (1, 1), (2, 4)] {
        fails(parts(&member, RangeRequest { sort_order, sort_target, ..everything() }).await, CUSTOM_SORT);
    }
    let filters: [fn(&mut RangeRequest) -> &mut i64; 4] = [
        |request| &mut request.min_mod_revision,
        |request| &mut request.max_mod_revision,
        |request| &mut request.min_create_revision,
        |request| &mut request.max_create_revision,
    ];
    for filter in filters {
        let mut request = everything();
        *filter(&mut request) = 1;
        fails(parts(&member, request).await, FILTERED);
    }
    Ok(())
}

e2e::on_both_targets!(
    the_parts_make_up_the_range,
    no_message_is_much_larger_than_a_request_may_be,
    an_answer_without_keys_is_one_message,
    all_of_it_is_of_one_revision,
    what_a_range_refuses_it_refuses,
);
