//! Txn compares.

use anyhow::Result;
use api::etcdserverpb::{Compare, PutRequest, TxnRequest};
use e2e::request::{CompareResult, CompareTarget, TargetUnion, bytes, compare, lease, put};
use e2e::{Member, Target};

use CompareResult::{Equal, Greater, Less, NotEqual};

async fn holds(member: &Member, compare: Compare) -> Result<bool> {
    Ok(member.txn(TxnRequest { compare: vec![compare], ..TxnRequest::default() }).await?.succeeded)
}

/// `a` at version 2, created at 3, modified at 4, value "m", lease 5; revision 2 belongs to another key.
async fn member_with_a(target: Target) -> Result<Member> {
    let member = Member::start(target).await?;
    member.lease_grant(lease(5, 100)).await?;
    member.put(put("z", "")).await?;
    member.put(put("a", "")).await?;
    member.put(PutRequest { lease: 5, ..put("a", "m") }).await?;
    Ok(member)
}

async fn every_target_compares_with_the_stored_value(target: Target) -> Result<()> {
    let member = member_with_a(target).await?;
    type Operand = fn(i64) -> TargetUnion;
    let numbers: [(CompareTarget, Operand, i64); 4] = [
        (CompareTarget::Version, TargetUnion::Version, 2),
        (CompareTarget::Create, TargetUnion::CreateRevision, 3),
        (CompareTarget::Mod, TargetUnion::ModRevision, 4),
        (CompareTarget::Lease, TargetUnion::Lease, 5),
    ];
    for (by, operand, stored) in numbers {
        let cases = [
            (Equal, stored, true),
            (Equal, stored + 1, false),
            (NotEqual, stored, false),
            (NotEqual, stored - 1, true),
            (Greater, stored - 1, true),
            (Greater, stored, false),
            (Less, stored + 1, true),
            (Less, stored, false),
        ];
        for (result, given, expected) in cases {
            let held = holds(&member, compare("a", result, by, Some(operand(given)))).await?;
            assert_eq!(held, expected, "{by:?} {stored} {result:?} {given}");
        }
    }
    Ok(())
}

async fn values_compare_as_bytes(target: Target) -> Result<()> {
    let member = member_with_a(target).await?;
    let cases: [(CompareResult, &[u8], bool); 8] = [
        (Equal, b"m", true),
        (Equal, b"", false),
        (NotEqual, b"m", false),
        (NotEqual, b"n", true),
        (Greater, b"lzz", true),
        (Greater, b"ma", false),
        (Less, b"\xff", true),
        (Less, b"m", false),
    ];
    for (result, given, expected) in cases {
        let operand = TargetUnion::Value(bytes(given));
        let held = holds(&member, compare("a", result, CompareTarget::Value, Some(operand))).await?;
        assert_eq!(held, expected, "m {result:?} {given:?}");
    }
    Ok(())
}

async fn a_missing_key_has_zeros_and_no_value(target: Target) -> Result<()> {
    let member = member_with_a(target).await?;
    let zeros = [
        (CompareTarget::Version, TargetUnion::Version(0)),
        (CompareTarget::Create, TargetUnion::CreateRevision(0)),
        (CompareTarget::Mod, TargetUnion::ModRevision(0)),
        (CompareTarget::Lease, TargetUnion::Lease(0)),
    ];
    for (by, operand) in zeros {
        for (result, expected) in [(Equal, true), (NotEqual, false), (Greater, false), (Less, false)] {
            let held = holds(&member, compare("missing", result, by, Some(operand.clone()))).await?;
            assert_eq!(held, expected, "{by:?} {result:?}");
        }
    }
    for result in [Equal, NotEqual, Greater, Less] {
        let operand = TargetUnion::Value(bytes(""));
        assert!(!holds(&member, compare("missing", result, CompareTarget::Value, Some(operand))).await?);
    }
    Ok(())
}

async fn a_range_compare_asks_every_key(target: Target) -> Result<()> {
    let member = Member::start(target).await?;
    for (key, value) in [("a", "1"), ("b", "1"), ("c", "2")] {
        member.put(put(key, value)).await?;
    }
    let ones = |range_end: &str| Compare {
        range_end: bytes(range_end),
        ..compare("a", Equal, CompareTarget::Value, Some(TargetUnion::Value(bytes("1"))))
    };
    assert!(holds(&member, ones("")).await?);
    assert!(holds(&member, ones("c")).await?);
    assert!(!holds(&member, ones("d")).await?);
    assert!(!holds(&member, ones("\0")).await?);
    Ok(())
}

async fn an_empty_range_compares_like_a_missing_key(target: Target) -> Result<()> {
    let member = Member::start(target).await?;
    member.put(put("a", "1")).await?;
    let over = |compare: Compare| Compare { range_end: bytes("y"), ..compare };
    let version =
        |result, number| over(compare("x", result, CompareTarget::Version, Some(TargetUnion::Version(number))));
    assert!(holds(&member, version(Equal, 0)).await?);
    assert!(!holds(&member, version(Greater, 0)).await?);
    assert!(holds(&member, version(Less, 1)).await?);
    let value = over(compare("x", NotEqual, CompareTarget::Value, Some(TargetUnion::Value(bytes("1")))));
    assert!(!holds(&member, value).await?);
    Ok(())
}

async fn a_mismatched_or_absent_operand_counts_as_zero(target: Target) -> Result<()> {
    let member = member_with_a(target).await?;
    let mismatched = compare("a", Equal, CompareTarget::Version, Some(TargetUnion::ModRevision(2)));
    assert!(!holds(&member, mismatched).await?);
    let mismatched = compare("missing", Equal, CompareTarget::Version, Some(TargetUnion::ModRevision(2)));
    assert!(holds(&member, mismatched).await?);
    assert!(holds(&member, compare("a", Greater, CompareTarget::Mod, None)).await?);
    assert!(holds(&member, compare("a", Greater, CompareTarget::Value, None)).await?);
    assert!(!holds(&member, compare("a", Equal, CompareTarget::Lease, None)).await?);
    Ok(())
}

async fn unknown_numbers_hold(target: Target) -> Result<()> {
    let member = member_with_a(target).await?;
    let plain = compare("a", Equal, CompareTarget::Version, Some(TargetUnion::Version(100)));
    assert!(holds(&member, Compare { result: 9, ..plain.clone() }).await?);
    assert!(holds(&member, Compare { target: 9, ..plain.clone() }).await?);
    assert!(holds(&member, Compare { result: -1, ..plain.clone() }).await?);
    assert!(!holds(&member, plain.clone()).await?);
    // Both sides of an unknown target are equal.
    for (result, expected) in [(NotEqual, false), (Greater, false), (Less, false)] {
        let held = holds(&member, Compare { target: 9, result: result.into(), ..plain.clone() }).await?;
        assert_eq!(held, expected, "{result:?}");
    }
    Ok(())
}

e2e::on_both_targets!(
    every_target_compares_with_the_stored_value,
    values_compare_as_bytes,
    a_missing_key_has_zeros_and_no_value,
    a_range_compare_asks_every_key,
    an_empty_range_compares_like_a_missing_key,
    a_mismatched_or_absent_operand_counts_as_zero,
    unknown_numbers_hold,
);
