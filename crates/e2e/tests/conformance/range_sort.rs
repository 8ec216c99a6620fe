//! Range: sort orders and targets.

use anyhow::Result;
use api::etcdserverpb::RangeRequest;
use api::etcdserverpb::range_request::{SortOrder, SortTarget};
use e2e::refusal::INVALID_SORT_OPTION;
use e2e::request::{everything, put};
use e2e::{Difference, Member, Target, fails};

/// Five keys whose order by key, version, creation, modification and value are five different ones.
async fn sortable(target: Target) -> Result<Member> {
    let member = Member::start(target).await?;
    let puts = [("c", ""), ("a", ""), ("e", ""), ("b", ""), ("d", ""), ("e", ""), ("e", ""), ("e", ""), ("e", "5")];
    let more = [("a", ""), ("a", ""), ("a", "2"), ("d", ""), ("d", "9"), ("c", ""), ("c", "1"), ("b", "3"), ("c", "1")];
    for (key, value) in puts.into_iter().chain(more) {
        member.put(put(key, value)).await?;
    }
    Ok(member)
}

async fn sorted(member: &Member, order: SortOrder, target: SortTarget, limit: i64) -> Result<(String, bool)> {
    let request = RangeRequest { sort_order: order.into(), sort_target: target.into(), limit, ..everything() };
    let answer = member.range(request).await?;
    assert_eq!(answer.count, 5);
    let keys: Vec<_> = answer.kvs.iter().map(|kv| String::from_utf8_lossy(&kv.key).into_owned()).collect();
    Ok((keys.concat(), answer.more))
}

async fn every_target_sorts_both_ways(target: Target) -> Result<()> {
    let member = sortable(target).await?;
    let cases = [
        (SortTarget::Key, "abcde"),
        (SortTarget::Create, "caebd"),
        (SortTarget::Mod, "eadbc"),
        (SortTarget::Value, "cabed"),
    ];
    for (by, ascending) in cases {
        assert_eq!(sorted(&member, SortOrder::Ascend, by, 0).await?, (ascending.to_owned(), false), "{by:?}");
        let descending = ascending.chars().rev().collect();
        assert_eq!(sorted(&member, SortOrder::Descend, by, 0).await?, (descending, false), "{by:?}");
    }
    // Versions: b 2, d 3, a and c 4 (their order is open), e 5.
    let (by_version, _) = sorted(&member, SortOrder::Ascend, SortTarget::Version, 0).await?;
    assert!(matches!(by_version.as_str(), "bdace" | "bdcae"), "{by_version}");
    Ok(())
}

async fn a_sort_comes_before_the_limit(target: Target) -> Result<()> {
    let member = sortable(target).await?;
    assert_eq!(sorted(&member, SortOrder::Descend, SortTarget::Key, 2).await?, ("ed".to_owned(), true));
    assert_eq!(sorted(&member, SortOrder::Ascend, SortTarget::Create, 3).await?, ("cae".to_owned(), true));
    assert_eq!(sorted(&member, SortOrder::Descend, SortTarget::Mod, 1).await?, ("c".to_owned(), true));
    assert_eq!(sorted(&member, SortOrder::Descend, SortTarget::Value, 5).await?, ("debac".to_owned(), false));
    Ok(())
}

async fn without_an_order_only_the_first_keys_are_sorted(target: Target) -> Result<()> {
    let member = sortable(target).await?;
    // With no limit the target alone means ascending; with one, limit + 1 keys are taken by key first.
    assert_eq!(sorted(&member, SortOrder::None, SortTarget::Create, 0).await?, ("caebd".to_owned(), false));
    assert_eq!(sorted(&member, SortOrder::None, SortTarget::Create, 2).await?, ("ca".to_owned(), true));
    assert_eq!(sorted(&member, SortOrder::None, SortTarget::Mod, 2).await?, ("ab".to_owned(), true));
    assert_eq!(sorted(&member, SortOrder::None, SortTarget::Key, 2).await?, ("ab".to_owned(), true));
    Ok(())
}

async fn sorting_works_with_keys_only(target: Target) -> Result<()> {
    let member = sortable(target).await?;
    let request = RangeRequest {
        sort_order: SortOrder::Ascend.into(),
        sort_target: SortTarget::Value.into(),
        keys_only: true,
        ..everything()
    };
    let answer = member.range(request).await?;
    let keys: Vec<_> = answer.kvs.iter().map(|kv| kv.key.as_ref()).collect();
    assert_eq!(keys.concat(), b"cabed");
    assert!(answer.kvs.iter().all(|kv| kv.value.is_empty()));
    Ok(())
}

async fn sort_numbers_outside_the_enums_are_refused(target: Target) -> Result<()> {
    let member = sortable(target).await?;
    if Difference::InvalidSortOption.shows(target) {
        for (sort_order, sort_target) in [(3, 0), (-1, 0), (0, 5), (1, 99), (2, -1)] {
            let request = RangeRequest { sort_order, sort_target, ..everything() };
            fails(member.range(request).await, INVALID_SORT_OPTION);
        }
    } else {
        let answer = member.range(RangeRequest { sort_order: 3, ..everything() }).await?;
        assert_eq!(answer.kvs.len(), 5);
    }
    Ok(())
}

e2e::on_both_targets!(
    every_target_sorts_both_ways,
    a_sort_comes_before_the_limit,
    without_an_order_only_the_first_keys_are_sorted,
    sorting_works_with_keys_only,
    sort_numbers_outside_the_enums_are_refused,
);
