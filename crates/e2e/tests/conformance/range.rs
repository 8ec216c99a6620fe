//! Range: which keys, at which revision, how much of them.

use anyhow::Result;
use api::etcdserverpb::{RangeRequest, RangeResponse};
use e2e::refusal::{COMPACTED, EMPTY_KEY, FUTURE_REVISION};
use e2e::request::{compact, delete, everything, get, lease, put, range};
use e2e::{Member, Target, fails, revision};

/// A member with `a`..`e` at revisions 2..=6, each key its own value.
async fn a_to_e(target: Target) -> Result<Member> {
    let member = Member::start(target).await?;
    for key in ["a", "b", "c", "d", "e"] {
        member.put(put(key, key)).await?;
    }
    Ok(member)
}

fn keys(answer: &RangeResponse) -> String {
    answer.kvs.iter().map(|kv| String::from_utf8_lossy(&kv.key).into_owned()).collect::<Vec<_>>().join(" ")
}

async fn range_end_selects_as_documented(target: Target) -> Result<()> {
    let member = a_to_e(target).await?;
    member.put(put("cc", "")).await?;
    member.put(put("\u{ff}", "")).await?;
    let cases: [(&[u8], &[u8], &str); 9] = [
        (b"c", b"", "c"),
        (b"c", b"\0", "c cc d e \u{ff}"),
        (b"\0", b"\0", "a b c cc d e \u{ff}"),
        (b"b", b"d", "b c cc"),
        (b"c", b"c\0", "c"),
        (b"c", b"c", ""),
        (b"d", b"b", ""),
        (b"c", b"d", "c cc"),
        (b"\xff", b"\0", ""),
    ];
    for (key, end, expected) in cases {
        let answer = member.range(range(key, end)).await?;
        assert_eq!(keys(&answer), expected, "{key:?}..{end:?}");
        assert_eq!(answer.count, answer.kvs.len() as i64);
        assert!(!answer.more);
    }
    Ok(())
}

async fn keys_and_values_are_any_bytes_in_byte_order(target: Target) -> Result<()> {
    let member = Member::start(target).await?;
    let stored: [&[u8]; 6] = [b"\xff\xff", b"\0", b"\x80", b"\0\0", b"~", b"\xff"];
    for key in stored {
        member.put(put(key, [key, b"\0\xff"].concat())).await?;
    }
    let mut expected = stored;
    expected.sort_unstable();
    let answer = member.range(everything()).await?;
    assert_eq!(answer.kvs.iter().map(|kv| kv.key.as_ref()).collect::<Vec<_>>(), expected);
    assert!(answer.kvs.iter().all(|kv| kv.value == [&kv.key[..], b"\0\xff"].concat()));
    Ok(())
}

async fn an_empty_key_is_refused(target: Target) -> Result<()> {
    let member = Member::start(target).await?;
    fails(member.range(get("")).await, EMPTY_KEY);
    fails(member.range(range("", "\0")).await, EMPTY_KEY);
    Ok(())
}

async fn limit_cuts_and_says_so_but_count_is_whole(target: Target) -> Result<()> {
    let member = a_to_e(target).await?;
    for (limit, expected, more) in
        [(0, "a b c d e", false), (-1, "a b c d e", false), (2, "a b", true), (4, "a b c d", true)]
    {
        let answer = member.range(RangeRequest { limit, ..everything() }).await?;
        assert_eq!((keys(&answer).as_str(), answer.more, answer.count), (expected, more, 5), "limit {limit}");
    }
    for limit in [5, 6, i64::MAX] {
        let answer = member.range(RangeRequest { limit, ..everything() }).await?;
        assert_eq!((answer.kvs.len(), answer.more, answer.count), (5, false, 5), "limit {limit}");
    }
    Ok(())
}

async fn count_only_gives_the_count_alone(target: Target) -> Result<()> {
    let member = a_to_e(target).await?;
    for limit in [0, 2] {
        let answer = member.range(RangeRequest { count_only: true, limit, ..everything() }).await?;
        assert_eq!((answer.kvs.len(), answer.count, answer.more), (0, 5, false));
    }
    let answer = member.range(RangeRequest { count_only: true, ..get("nothing") }).await?;
    assert_eq!(answer.count, 0);
    let both = member.range(RangeRequest { count_only: true, keys_only: true, ..everything() }).await?;
    assert_eq!((both.kvs.len(), both.count), (0, 5));
    Ok(())
}

async fn keys_only_drops_the_values_alone(target: Target) -> Result<()> {
    let member = a_to_e(target).await?;
    let answer = member.range(RangeRequest { keys_only: true, ..range("b", "d") }).await?;
    assert_eq!(keys(&answer), "b c");
    assert!(answer.kvs.iter().all(|kv| kv.value.is_empty() && kv.version == 1));
    assert_eq!((answer.kvs[0].create_revision, answer.kvs[0].mod_revision), (3, 3));
    Ok(())
}

async fn an_old_revision_is_read_as_it_was(target: Target) -> Result<()> {
    let member = a_to_e(target).await?;
    member.put(put("a", "changed")).await?;
    member.delete_range(delete("b")).await?;
    let then = member.range(RangeRequest { revision: 6, ..everything() }).await?;
    assert_eq!((keys(&then).as_str(), then.count), ("a b c d e", 5));
    assert_eq!((then.kvs[0].value.as_ref(), then.kvs[0].version), (&b"a"[..], 1));
    assert_eq!(revision(&then.header), 8, "the header has the current revision");
    let early = member.range(RangeRequest { revision: 3, ..everything() }).await?;
    assert_eq!(keys(&early), "a b");
    let first = member.range(RangeRequest { revision: 1, ..everything() }).await?;
    assert_eq!((first.kvs.len(), first.count), (0, 0));
    for current in [0, -1, i64::MIN, 8] {
        let now = member.range(RangeRequest { revision: current, ..everything() }).await?;
        assert_eq!(keys(&now), "a c d e", "revision {current}");
    }
    Ok(())
}

async fn future_and_compacted_revisions_are_refused(target: Target) -> Result<()> {
    let member = a_to_e(target).await?;
    for future in [7, i64::MAX] {
        fails(member.range(RangeRequest { revision: future, ..get("a") }).await, FUTURE_REVISION);
    }
    member.compact(compact(4)).await?;
    fails(member.range(RangeRequest { revision: 3, ..get("a") }).await, COMPACTED);
    fails(member.range(RangeRequest { revision: 3, count_only: true, ..everything() }).await, COMPACTED);
    let at = member.range(RangeRequest { revision: 4, ..everything() }).await?;
    assert_eq!(keys(&at), "a b c");
    Ok(())
}

async fn revision_filters_come_before_the_limit_and_leave_count_alone(target: Target) -> Result<()> {
    let member = a_to_e(target).await?;
    member.put(put("b", "again")).await?;
    let mod_from_4 = member.range(RangeRequest { min_mod_revision: 4, ..everything() }).await?;
    assert_eq!((keys(&mod_from_4).as_str(), mod_from_4.count, mod_from_4.more), ("b c d e", 5, false));
    let limited = member.range(RangeRequest { min_mod_revision: 4, limit: 2, ..everything() }).await?;
    assert_eq!((keys(&limited).as_str(), limited.count, limited.more), ("b c", 5, true));
    let mod_to_5 = member.range(RangeRequest { max_mod_revision: 5, ..everything() }).await?;
    assert_eq!(keys(&mod_to_5), "a c d");
    let created = member.range(RangeRequest { min_create_revision: 3, max_create_revision: 5, ..everything() }).await?;
    assert_eq!(keys(&created), "b c d");
    let none = member.range(RangeRequest { min_mod_revision: 100, ..everything() }).await?;
    assert_eq!((none.kvs.len(), none.count, none.more), (0, 5, false));
    let off = member.range(RangeRequest { min_mod_revision: 0, max_mod_revision: 0, ..everything() }).await?;
    assert_eq!(off.kvs.len(), 5);
    Ok(())
}

async fn negative_filters_are_compared_as_numbers(target: Target) -> Result<()> {
    let member = a_to_e(target).await?;
    let below = member.range(RangeRequest { max_mod_revision: -1, ..everything() }).await?;
    assert_eq!((below.kvs.len(), below.count), (0, 5));
    let above = member.range(RangeRequest { min_mod_revision: -1, ..everything() }).await?;
    assert_eq!(above.kvs.len(), 5);
    Ok(())
}

async fn serializable_reads_answer_the_same_on_one_member(target: Target) -> Result<()> {
    let member = a_to_e(target).await?;
    let linearizable = member.range(everything()).await?;
    let serializable = member.range(RangeRequest { serializable: true, ..everything() }).await?;
    assert_eq!(serializable, linearizable);
    Ok(())
}

async fn a_lease_shows_in_the_pair(target: Target) -> Result<()> {
    let member = Member::start(target).await?;
    member.lease_grant(lease(77, 100)).await?;
    member.put(api::etcdserverpb::PutRequest { lease: 77, ..put("a", "1") }).await?;
    assert_eq!(member.range(get("a")).await?.kvs[0].lease, 77);
    Ok(())
}

async fn a_large_range_comes_whole_in_one_message(target: Target) -> Result<()> {
    let member = Member::start(target).await?;
    let value = vec![7u8; 100_000];
    for number in 0..100 {
        member.put(put(format!("k{number:03}"), &value)).await?;
    }
    let answer = member.range(everything()).await?;
    assert_eq!((answer.kvs.len(), answer.count), (100, 100));
    assert!(answer.kvs.iter().all(|kv| kv.value == value));
    Ok(())
}

e2e::on_both_targets!(
    range_end_selects_as_documented,
    keys_and_values_are_any_bytes_in_byte_order,
    an_empty_key_is_refused,
    limit_cuts_and_says_so_but_count_is_whole,
    count_only_gives_the_count_alone,
    keys_only_drops_the_values_alone,
    an_old_revision_is_read_as_it_was,
    future_and_compacted_revisions_are_refused,
    revision_filters_come_before_the_limit_and_leave_count_alone,
    negative_filters_are_compared_as_numbers,
    serializable_reads_answer_the_same_on_one_member,
    a_lease_shows_in_the_pair,
    a_large_range_comes_whole_in_one_message,
);
