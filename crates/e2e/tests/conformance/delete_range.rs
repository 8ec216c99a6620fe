//! DeleteRange.

use anyhow::Result;
use api::etcdserverpb::DeleteRangeRequest;
use e2e::refusal::EMPTY_KEY;
use e2e::request::{delete, delete_range, everything, put};
use e2e::{Member, Target, fails, revision};

async fn filled(target: Target) -> Result<Member> {
    let member = Member::start(target).await?;
    for key in ["c", "a", "d", "b"] {
        member.put(put(key, key)).await?;
    }
    Ok(member)
}

async fn a_range_goes_in_one_revision_and_prev_kvs_come_in_key_order(target: Target) -> Result<()> {
    let member = filled(target).await?;
    let answer = member.delete_range(DeleteRangeRequest { prev_kv: true, ..delete_range("a", "d") }).await?;
    assert_eq!((answer.deleted, revision(&answer.header)), (3, 6));
    let keys: Vec<_> = answer.prev_kvs.iter().map(|kv| kv.key.as_ref()).collect();
    assert_eq!(keys.concat(), b"abc");
    assert_eq!(answer.prev_kvs[2].mod_revision, 2);
    assert_eq!(member.range(everything()).await?.count, 1);
    Ok(())
}

async fn prev_kvs_come_only_when_asked_for(target: Target) -> Result<()> {
    let member = filled(target).await?;
    let answer = member.delete_range(delete("a")).await?;
    assert_eq!((answer.deleted, answer.prev_kvs.len()), (1, 0));
    Ok(())
}

async fn no_match_deletes_nothing(target: Target) -> Result<()> {
    let member = filled(target).await?;
    for request in [delete("x"), delete_range("x", "z"), delete_range("c", "a"), delete_range("b", "b")] {
        let answer = member.delete_range(DeleteRangeRequest { prev_kv: true, ..request }).await?;
        assert_eq!((answer.deleted, revision(&answer.header), answer.prev_kvs.len()), (0, 5, 0));
    }
    Ok(())
}

async fn from_a_key_on_and_everything(target: Target) -> Result<()> {
    let member = filled(target).await?;
    assert_eq!(member.delete_range(delete_range("c", "\0")).await?.deleted, 2);
    assert_eq!(member.delete_range(delete_range("\0", "\0")).await?.deleted, 2);
    assert_eq!(member.range(everything()).await?.count, 0);
    Ok(())
}

async fn a_deleted_key_is_not_deleted_again(target: Target) -> Result<()> {
    let member = filled(target).await?;
    assert_eq!(member.delete_range(delete("a")).await?.deleted, 1);
    let again = member.delete_range(delete("a")).await?;
    assert_eq!((again.deleted, revision(&again.header)), (0, 6));
    Ok(())
}

async fn an_empty_key_is_refused(target: Target) -> Result<()> {
    let member = filled(target).await?;
    fails(member.delete_range(delete("")).await, EMPTY_KEY);
    fails(member.delete_range(delete_range("", "\0")).await, EMPTY_KEY);
    assert_eq!(member.range(everything()).await?.count, 4);
    Ok(())
}

e2e::on_both_targets!(
    a_range_goes_in_one_revision_and_prev_kvs_come_in_key_order,
    prev_kvs_come_only_when_asked_for,
    no_match_deletes_nothing,
    from_a_key_on_and_everything,
    a_deleted_key_is_not_deleted_again,
    an_empty_key_is_refused,
);
