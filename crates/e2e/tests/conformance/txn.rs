//! Txn: what it does and answers.

use anyhow::Result;
use api::etcdserverpb::request_op::Request;
use api::etcdserverpb::response_op::Response;
use api::etcdserverpb::{PutRequest, RangeRequest, RangeResponse, ResponseOp, TxnRequest, TxnResponse};
use e2e::refusal::{COMPACTED, FUTURE_REVISION, KEY_NOT_FOUND, LEASE_NOT_FOUND};
use e2e::request::{compact, everything, get, op, op_delete, op_get, op_put, op_txn, put, txn, value_is};
use e2e::{Member, Target, fails, revision};

fn as_range(answer: &ResponseOp) -> &RangeResponse {
    match &answer.response {
        Some(Response::ResponseRange(range)) => range,
        other => panic!("not a range answer: {other:?}"),
    }
}

fn as_txn(answer: &ResponseOp) -> &TxnResponse {
    match &answer.response {
        Some(Response::ResponseTxn(txn)) => txn,
        other => panic!("not a txn answer: {other:?}"),
    }
}

async fn the_compares_choose_the_branch(target: Target) -> Result<()> {
    let member = Member::start(target).await?;
    member.put(put("a", "1")).await?;
    for (value, succeeded, written) in [("1", true, "then"), ("2", false, "else")] {
        let request = TxnRequest {
            compare: vec![value_is("a", value)],
            success: vec![op_put("b", "then")],
            failure: vec![op_put("b", "else"), op_get("a")],
        };
        let answer = member.txn(request).await?;
        assert_eq!(answer.succeeded, succeeded);
        assert_eq!(answer.responses.len(), if succeeded { 1 } else { 2 });
        assert_eq!(member.range(get("b")).await?.kvs[0].value, written);
    }
    Ok(())
}

async fn all_compares_must_hold(target: Target) -> Result<()> {
    let member = Member::start(target).await?;
    member.put(put("a", "1")).await?;
    let compare = vec![value_is("a", "1"), value_is("b", "1")];
    assert!(!member.txn(TxnRequest { compare, ..TxnRequest::default() }).await?.succeeded);
    Ok(())
}

async fn an_empty_txn_succeeds(target: Target) -> Result<()> {
    let member = Member::start(target).await?;
    let answer = member.txn(TxnRequest::default()).await?;
    assert_eq!((answer.succeeded, answer.responses.len(), revision(&answer.header)), (true, 0, 1));
    Ok(())
}

async fn later_ops_see_earlier_ones(target: Target) -> Result<()> {
    let member = Member::start(target).await?;
    member.put(put("a", "0")).await?;
    let answer = member
        .txn(txn([
            op_get("a"),
            op_put("a", "1"),
            op_get("a"),
            op_put("b", "2"),
            op(Request::RequestRange(everything())),
        ]))
        .await?;
    assert_eq!(revision(&answer.header), 3);
    let before = as_range(&answer.responses[0]);
    assert_eq!((before.kvs[0].value.as_ref(), before.kvs[0].mod_revision), (&b"0"[..], 2));
    let after = as_range(&answer.responses[2]);
    assert_eq!((after.kvs[0].value.as_ref(), after.kvs[0].mod_revision), (&b"1"[..], 3));
    assert_eq!(as_range(&answer.responses[4]).count, 2);
    Ok(())
}

async fn a_deletion_is_seen_by_later_ops(target: Target) -> Result<()> {
    let member = Member::start(target).await?;
    member.put(put("a", "0")).await?;
    let answer = member.txn(txn([op_delete("a"), op_get("a")])).await?;
    assert_eq!(as_range(&answer.responses[1]).count, 0);
    Ok(())
}

async fn inner_headers_hold_only_the_revision(target: Target) -> Result<()> {
    let member = Member::start(target).await?;
    let answer = member.txn(txn([op_get("a"), op_put("a", "1"), op_get("a"), op_delete("b")])).await?;
    assert_eq!(revision(&answer.header), 2);
    let headers = answer.responses.iter().map(|answer| match &answer.response {
        Some(Response::ResponseRange(range)) => range.header.unwrap(),
        Some(Response::ResponsePut(put)) => put.header.unwrap(),
        Some(Response::ResponseDeleteRange(deletion)) => deletion.header.unwrap(),
        other => panic!("{other:?}"),
    });
    let headers: Vec<_> = headers.collect();
    assert!(headers.iter().all(|header| (header.cluster_id, header.member_id, header.raft_term) == (0, 0, 0)));
    let revisions: Vec<_> = headers.iter().map(|header| header.revision).collect();
    assert_eq!(revisions, [1, 2, 2, 2]);
    Ok(())
}

async fn a_nested_txn_answers_in_place_with_an_empty_header(target: Target) -> Result<()> {
    let member = Member::start(target).await?;
    member.put(put("a", "1")).await?;
    let inner = TxnRequest {
        compare: vec![value_is("a", "other")],
        success: vec![op_put("x", "then")],
        failure: vec![op_put("x", "else"), op_get("a")],
    };
    let answer = member.txn(txn([op_put("b", "2"), op_txn(inner), op_get("x")])).await?;
    let nested = as_txn(&answer.responses[1]);
    assert!(!nested.succeeded);
    assert_eq!(nested.header, Some(api::etcdserverpb::ResponseHeader::default()));
    assert_eq!(as_range(&nested.responses[1]).kvs[0].value, "1");
    assert_eq!(as_range(&answer.responses[2]).kvs[0].value, "else");
    assert_eq!(revision(&answer.header), 3);
    Ok(())
}

async fn nested_compares_see_the_state_before_the_txn(target: Target) -> Result<()> {
    let member = Member::start(target).await?;
    let inner = TxnRequest { compare: vec![value_is("a", "1")], ..txn([op_put("b", "seen")]) };
    let answer = member.txn(txn([op_put("a", "1"), op_txn(inner)])).await?;
    assert!(!as_txn(&answer.responses[1]).succeeded);
    assert_eq!(member.range(get("b")).await?.count, 0);
    Ok(())
}

async fn a_failing_op_leaves_nothing_behind(target: Target) -> Result<()> {
    let member = Member::start(target).await?;
    member.put(put("a", "1")).await?;
    let dead_lease = op(Request::RequestPut(PutRequest { lease: 99, ..put("c", "1") }));
    fails(member.txn(txn([op_put("b", "1"), dead_lease])).await, LEASE_NOT_FOUND);
    let absent_key = op(Request::RequestPut(PutRequest { ignore_value: true, ..put("c", "") }));
    fails(member.txn(txn([op_put("b", "1"), absent_key.clone()])).await, KEY_NOT_FOUND);
    let future = op(Request::RequestRange(RangeRequest { revision: 3, ..get("a") }));
    fails(member.txn(txn([op_put("b", "1"), future])).await, FUTURE_REVISION);
    let nested = op_txn(txn([op_put("d", "1"), absent_key]));
    fails(member.txn(txn([op_put("b", "1"), nested])).await, KEY_NOT_FOUND);
    let all = member.range(everything()).await?;
    assert_eq!((all.count, revision(&all.header)), (1, 2));
    Ok(())
}

async fn the_branch_not_taken_is_not_checked_against_the_state(target: Target) -> Result<()> {
    let member = Member::start(target).await?;
    let dead_lease = op(Request::RequestPut(PutRequest { lease: 99, ..put("c", "1") }));
    let answer = member.txn(TxnRequest { failure: vec![dead_lease], ..txn([op_put("a", "1")]) }).await?;
    assert!(answer.succeeded);
    Ok(())
}

async fn ignore_value_needs_the_key_before_the_txn(target: Target) -> Result<()> {
    let member = Member::start(target).await?;
    member.put(put("a", "1")).await?;
    let keep = op(Request::RequestPut(PutRequest { ignore_value: true, ..put("a", "") }));
    let answer = member.txn(txn([keep])).await?;
    assert_eq!(revision(&answer.header), 3);
    assert_eq!(member.range(get("a")).await?.kvs[0].value, "1");
    Ok(())
}

async fn ranges_in_a_txn_check_their_revision_against_the_state_before(target: Target) -> Result<()> {
    let member = Member::start(target).await?;
    for value in ["1", "2", "3"] {
        member.put(put("a", value)).await?;
    }
    member.compact(compact(3)).await?;
    let at = |revision| op(Request::RequestRange(RangeRequest { revision, ..get("a") }));
    for writes in [false, true] {
        let with_put = |range| if writes { txn([op_put("b", "1"), range]) } else { txn([range]) };
        fails(member.txn(with_put(at(2))).await, COMPACTED);
        fails(member.txn(with_put(at(-1))).await, COMPACTED);
        fails(member.txn(with_put(at(9))).await, FUTURE_REVISION);
    }
    // The revision this very txn would make is a future one.
    fails(member.txn(txn([op_put("b", "1"), at(5)])).await, FUTURE_REVISION);
    let answer = member.txn(txn([op_put("a", "4"), at(3), at(4), at(0)])).await?;
    let values: Vec<_> = answer.responses[1..].iter().map(|answer| as_range(answer).kvs[0].value.clone()).collect();
    assert_eq!(values, ["2", "3", "4"]);
    Ok(())
}

async fn prev_kv_inside_a_txn(target: Target) -> Result<()> {
    let member = Member::start(target).await?;
    member.put(put("a", "1")).await?;
    let again = op(Request::RequestPut(PutRequest { prev_kv: true, ..put("a", "2") }));
    let answer = member.txn(txn([again])).await?;
    let Some(Response::ResponsePut(put)) = &answer.responses[0].response else { panic!("{answer:?}") };
    assert_eq!(put.prev_kv.as_ref().unwrap().value, "1");
    Ok(())
}

async fn a_read_only_txn_reads_and_does_not_bump(target: Target) -> Result<()> {
    let member = Member::start(target).await?;
    member.put(put("a", "1")).await?;
    for serializable in [false, true] {
        let read = op(Request::RequestRange(RangeRequest { serializable, ..get("a") }));
        let answer = member.txn(TxnRequest { compare: vec![value_is("a", "1")], ..txn([read]) }).await?;
        assert_eq!((answer.succeeded, revision(&answer.header)), (true, 2));
        let range = as_range(&answer.responses[0]);
        assert_eq!((range.kvs[0].value.as_ref(), revision(&range.header)), (&b"1"[..], 2));
    }
    Ok(())
}

async fn several_deletions_may_overlap(target: Target) -> Result<()> {
    let member = Member::start(target).await?;
    member.put(put("a", "1")).await?;
    let answer = member.txn(txn([op_delete("a"), op_delete("a")])).await?;
    let deleted: Vec<_> = answer
        .responses
        .iter()
        .map(|answer| match &answer.response {
            Some(Response::ResponseDeleteRange(deletion)) => deletion.deleted,
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(deleted, [1, 0]);
    Ok(())
}

/// Puts are looked at before ranges, wherever they stand.
async fn what_is_wrong_with_a_put_is_told_first(target: Target) -> Result<()> {
    let member = Member::start(target).await?;
    let future = op(Request::RequestRange(RangeRequest { revision: 9, ..get("a") }));
    let dead_lease = op(Request::RequestPut(PutRequest { lease: 99, ..put("c", "1") }));
    let absent_key = op(Request::RequestPut(PutRequest { ignore_lease: true, ..put("b", "1") }));
    fails(member.txn(txn([future.clone(), dead_lease.clone()])).await, LEASE_NOT_FOUND);
    fails(member.txn(txn([future.clone(), op_txn(txn([dead_lease.clone()]))])).await, LEASE_NOT_FOUND);
    fails(member.txn(txn([absent_key.clone(), dead_lease.clone()])).await, KEY_NOT_FOUND);
    fails(member.txn(txn([dead_lease, absent_key])).await, LEASE_NOT_FOUND);
    fails(member.txn(txn([op_put("a", "1"), future])).await, FUTURE_REVISION);
    Ok(())
}

/// A transaction of ranges alone is no entry of the log; one that nests is, whatever it nests.
async fn only_what_may_write_goes_through_the_log(target: Target) -> Result<()> {
    let member = Member::start(target).await?;
    member.put(put("a", "1")).await?;
    let index = async || anyhow::Ok(member.status(Default::default()).await?.raft_applied_index);
    let before = index().await?;
    member.txn(txn([op_get("a"), op_get("b")])).await?;
    member.txn(TxnRequest { failure: vec![op_get("a")], ..txn([]) }).await?;
    assert_eq!(index().await?, before);
    member.txn(txn([op_txn(txn([op_get("a")]))])).await?;
    assert_eq!(index().await?, before + 1);
    member.txn(txn([op_delete("nothing")])).await?;
    assert_eq!(index().await?, before + 2);
    assert!(member.txn(txn([op_put("", "1")])).await.is_err());
    assert_eq!(index().await?, before + 2, "what is refused at once is no entry");
    Ok(())
}

e2e::on_both_targets!(
    the_compares_choose_the_branch,
    all_compares_must_hold,
    an_empty_txn_succeeds,
    later_ops_see_earlier_ones,
    a_deletion_is_seen_by_later_ops,
    inner_headers_hold_only_the_revision,
    a_nested_txn_answers_in_place_with_an_empty_header,
    nested_compares_see_the_state_before_the_txn,
    a_failing_op_leaves_nothing_behind,
    the_branch_not_taken_is_not_checked_against_the_state,
    ignore_value_needs_the_key_before_the_txn,
    ranges_in_a_txn_check_their_revision_against_the_state_before,
    prev_kv_inside_a_txn,
    a_read_only_txn_reads_and_does_not_bump,
    several_deletions_may_overlap,
    what_is_wrong_with_a_put_is_told_first,
    only_what_may_write_goes_through_the_log,
);
