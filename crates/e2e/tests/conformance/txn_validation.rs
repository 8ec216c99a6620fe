//! Txn: what is refused before anything is looked up.

use anyhow::Result;
use api::etcdserverpb::request_op::Request;
use api::etcdserverpb::{PutRequest, RequestOp, TxnRequest};
use e2e::refusal::{
    DUPLICATE_KEY, EMPTY_KEY, KEY_NOT_FOUND, LEASE_PROVIDED, REQUEST_TOO_LARGE, TOO_MANY_OPS, VALUE_PROVIDED,
};
use e2e::request::{
    created_at, everything, op, op_delete, op_delete_range, op_get, op_put, op_txn, put, txn, value_is,
};
use e2e::{Member, Target, fails};

fn puts(count: usize) -> Vec<RequestOp> {
    (0..count).map(|number| op_put(format!("k{number}"), "v")).collect()
}

async fn the_op_limit_is_on_the_longest_list(target: Target) -> Result<()> {
    let member = Member::start(target).await?;
    member.txn(txn(puts(128))).await?;
    member.txn(TxnRequest { failure: puts(128), ..txn(puts(128)) }).await?;
    fails(member.txn(txn(puts(129))).await, TOO_MANY_OPS);
    fails(member.txn(TxnRequest { failure: puts(129), ..TxnRequest::default() }).await, TOO_MANY_OPS);
    let compare = (0..129).map(|_| created_at("a", 0)).collect();
    fails(member.txn(TxnRequest { compare, ..TxnRequest::default() }).await, TOO_MANY_OPS);
    Ok(())
}

async fn the_op_limit_is_a_flag(target: Target) -> Result<()> {
    let member = Member::start_with(target, &[("max-txn-ops", "3")]).await?;
    member.txn(txn(puts(3))).await?;
    fails(member.txn(txn(puts(4))).await, TOO_MANY_OPS);
    Ok(())
}

async fn a_nested_txn_has_what_its_outer_left(target: Target) -> Result<()> {
    let member = Member::start(target).await?;
    let nested = |outer: usize, inner: usize| {
        let inner = (0..inner).map(|number| op_put(format!("inner{number}"), "v")).collect::<Vec<_>>();
        let mut ops = puts(outer - 1);
        ops.push(op_txn(txn(inner)));
        txn(ops)
    };
    member.txn(nested(101, 27)).await?;
    fails(member.txn(nested(101, 28)).await, TOO_MANY_OPS);
    // Compares count as operations do.
    let with_compares = |inner: usize| {
        let compare = (0..101).map(|_| created_at("a", 0)).collect();
        TxnRequest { compare, ..txn([op_txn(txn(puts(inner)))]) }
    };
    member.txn(with_compares(27)).await?;
    fails(member.txn(with_compares(28)).await, TOO_MANY_OPS);
    member.txn(nested(127, 1)).await?;
    fails(member.txn(nested(127, 2)).await, TOO_MANY_OPS);
    Ok(())
}

async fn ops_without_a_member_are_refused(target: Target) -> Result<()> {
    let member = Member::start(target).await?;
    fails(member.txn(txn([RequestOp { request: None }])).await, KEY_NOT_FOUND);
    let failure = vec![RequestOp { request: None }];
    fails(member.txn(TxnRequest { failure, ..TxnRequest::default() }).await, KEY_NOT_FOUND);
    fails(member.txn(txn([op_txn(txn([RequestOp { request: None }]))])).await, KEY_NOT_FOUND);
    Ok(())
}

async fn empty_keys_are_refused_wherever_they_stand(target: Target) -> Result<()> {
    let member = Member::start(target).await?;
    for refused in [op_put("", "v"), op_get(""), op_delete("")] {
        fails(member.txn(txn([refused.clone()])).await, EMPTY_KEY);
        fails(member.txn(TxnRequest { failure: vec![refused.clone()], ..TxnRequest::default() }).await, EMPTY_KEY);
        fails(member.txn(txn([op_txn(txn([refused]))])).await, EMPTY_KEY);
    }
    fails(member.txn(TxnRequest { compare: vec![value_is("", "")], ..TxnRequest::default() }).await, EMPTY_KEY);
    fails(member.txn(TxnRequest { compare: vec![Default::default()], ..TxnRequest::default() }).await, EMPTY_KEY);
    Ok(())
}

async fn put_options_are_checked_inside_too(target: Target) -> Result<()> {
    let member = Member::start(target).await?;
    let value = op(Request::RequestPut(PutRequest { ignore_value: true, ..put("a", "v") }));
    fails(member.txn(txn([value])).await, VALUE_PROVIDED);
    let lease = op(Request::RequestPut(PutRequest { ignore_lease: true, lease: 3, ..put("a", "v") }));
    fails(member.txn(txn([lease])).await, LEASE_PROVIDED);
    Ok(())
}

/// The paths of one txn: a key may not be put twice on one, nor put where a deletion reaches.
async fn duplicate_keys_are_refused_on_one_path(target: Target) -> Result<()> {
    let member = Member::start(target).await?;
    let nested = |ops: Vec<RequestOp>| op_txn(txn(ops));
    let either = |success: Vec<RequestOp>, failure: Vec<RequestOp>| {
        op_txn(TxnRequest { success, failure, ..TxnRequest::default() })
    };
    let refused: Vec<Vec<RequestOp>> = vec![
        vec![op_put("a", "1"), op_put("a", "2")],
        vec![op_put("a", "1"), op_delete("a")],
        vec![op_delete("a"), op_put("a", "1")],
        vec![op_put("b", "1"), op_delete_range("a", "c")],
        vec![op_put("a", "1"), nested(vec![op_put("a", "2")])],
        vec![nested(vec![op_put("a", "2")]), op_put("a", "1")],
        vec![op_put("b", "1"), nested(vec![op_delete_range("a", "c")])],
        vec![op_delete_range("a", "c"), nested(vec![op_put("b", "1")])],
        vec![nested(vec![op_put("a", "1")]), nested(vec![op_put("a", "2")])],
        vec![nested(vec![op_delete("a")]), nested(vec![op_put("a", "1")])],
        vec![either(vec![op_put("a", "1")], vec![]), either(vec![], vec![op_put("a", "2")])],
        vec![nested(vec![nested(vec![op_put("a", "1")])]), op_put("a", "2")],
    ];
    for ops in refused {
        fails(member.txn(txn(ops.clone())).await, DUPLICATE_KEY);
        fails(member.txn(TxnRequest { failure: ops, ..TxnRequest::default() }).await, DUPLICATE_KEY);
    }
    let accepted: Vec<Vec<RequestOp>> = vec![
        vec![op_delete("a"), op_delete("a")],
        vec![op_delete_range("a", "c"), op_put("c", "1")],
        vec![op_put("a", "1"), op_delete("b"), op_get("a")],
        vec![op_delete_range("c", "a"), op_put("b", "1")],
        // etcd takes the end "\0" for a key here, not for "no end", so these reach nothing in its eyes.
        vec![op_delete_range("a", "\0"), op_put("z", "1")],
        vec![op_delete_range("\0", "\0"), op_put("a", "1")],
        vec![either(vec![op_put("a", "1")], vec![op_put("a", "2")])],
        vec![either(vec![op_put("a", "1")], vec![op_delete("a")])],
        vec![nested(vec![op_delete("a")]), nested(vec![op_delete("a")])],
        // Between siblings etcd looks for puts after deletions, not for deletions after puts.
        vec![nested(vec![op_put("a", "1")]), nested(vec![op_delete("a")])],
    ];
    for ops in accepted {
        member.txn(txn(ops)).await?;
    }
    Ok(())
}

async fn the_two_branches_are_separate_paths(target: Target) -> Result<()> {
    let member = Member::start(target).await?;
    let request = TxnRequest { failure: vec![op_put("a", "2")], ..txn([op_put("a", "1")]) };
    member.txn(request).await?;
    let request = TxnRequest { failure: vec![op_delete("a")], ..txn([op_put("a", "1")]) };
    member.txn(request).await?;
    Ok(())
}

async fn deep_nesting_is_refused_not_followed(target: Target) -> Result<()> {
    let member = Member::start(target).await?;
    let nested = |depth| (1..depth).fold(txn([op_put("a", "1")]), |inner, _| txn([op_txn(inner)]));
    member.txn(nested(10)).await?;
    fails(member.txn(nested(1000)).await, TOO_MANY_OPS);
    assert_eq!(member.range(everything()).await?.count, 1);
    Ok(())
}

async fn a_txn_too_large_is_refused(target: Target) -> Result<()> {
    let member = Member::start(target).await?;
    let ops: Vec<_> = (0..16).map(|number| op_put(format!("k{number}"), vec![0; 100_000])).collect();
    fails(member.txn(txn(ops)).await, REQUEST_TOO_LARGE);
    assert_eq!(member.range(everything()).await?.count, 0);
    Ok(())
}

e2e::on_both_targets!(
    the_op_limit_is_on_the_longest_list,
    the_op_limit_is_a_flag,
    a_nested_txn_has_what_its_outer_left,
    ops_without_a_member_are_refused,
    empty_keys_are_refused_wherever_they_stand,
    put_options_are_checked_inside_too,
    duplicate_keys_are_refused_on_one_path,
    the_two_branches_are_separate_paths,
    deep_nesting_is_refused_not_followed,
    a_txn_too_large_is_refused,
);
