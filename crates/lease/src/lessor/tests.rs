use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::*;

const OPTIONS: LessorOptions = LessorOptions { ttl_min: 2, checkpoint_interval: Some(Duration::from_secs(300)) };

const NOW: Monotonic = Monotonic(Duration::ZERO);

fn at(seconds: u64) -> Monotonic {
    Monotonic(Duration::from_secs(seconds))
}

fn primary() -> Lessor {
    let mut lessor = Lessor::new(OPTIONS);
    lessor.promote(at(0), Duration::ZERO);
    lessor
}

#[test]
fn grant_raises_short_times_and_refuses_long_ones_and_taken_ids() {
    let mut lessor = Lessor::new(OPTIONS);
    let granted = |id, ttl| StoredLease { id: LeaseId(id), ttl, remaining_ttl: 0 };
    assert_eq!(lessor.grant(LeaseId(7), -5, NOW), Ok(granted(7, 2)));
    assert_eq!(lessor.grant(LeaseId(-1), TTL_MAX, NOW), Ok(granted(-1, TTL_MAX)));
    assert_eq!(lessor.grant(LeaseId(8), TTL_MAX + 1, NOW), Err(GrantError::TtlTooLarge));
    assert_eq!(lessor.grant(LeaseId(7), TTL_MAX + 1, NOW), Err(GrantError::TtlTooLarge));
    assert_eq!(lessor.grant(LeaseId(7), 10, NOW), Err(GrantError::Exists));
    assert_eq!(lessor.grant(LeaseId::NONE, 10, NOW), Err(GrantError::NoId));
}

#[test]
fn revoke_returns_the_keys_in_order() {
    let mut lessor = Lessor::new(OPTIONS);
    lessor.grant(LeaseId(1), 10, NOW).unwrap();
    for key in [b"b", b"c", b"a"] {
        lessor.attach(key, LeaseId::NONE, LeaseId(1));
    }
    lessor.attach(b"c", LeaseId(1), LeaseId::NONE);
    assert_eq!(lessor.revoke(LeaseId(1)), Ok(vec![b"a"[..].into(), b"b"[..].into()]));
    assert_eq!(lessor.revoke(LeaseId(1)), Err(NotFound));
}

#[test]
fn a_lapsed_lease_is_reported_again_until_it_is_revoked_and_cannot_be_renewed() {
    let mut lessor = primary();
    lessor.grant(LeaseId(1), 10, NOW).unwrap();
    assert_eq!(lessor.expired(at(0), 10), []);
    assert_eq!(lessor.expired(at(9), 10), []);
    assert_eq!(lessor.expired(at(10), 10), [LeaseId(1)]);
    assert_eq!(lessor.renew(LeaseId(1), at(11)), Err(RenewError::Expired));
    assert_eq!(lessor.expired(at(12), 10), []);
    assert_eq!(lessor.expired(at(13), 10), [LeaseId(1)]);
    lessor.revoke(LeaseId(1)).unwrap();
    assert_eq!(lessor.expired(at(100), 10), []);
    assert_eq!(lessor.renew(LeaseId(1), at(100)), Err(RenewError::NotFound));
}

#[test]
fn expired_leases_come_in_order_of_their_deadlines_and_bounded() {
    let mut lessor = primary();
    for (id, ttl) in [(1, 30), (2, 10), (3, 20)] {
        lessor.grant(LeaseId(id), ttl, NOW).unwrap();
    }
    assert_eq!(lessor.leases(), [LeaseId(2), LeaseId(3), LeaseId(1)]);
    assert_eq!(lessor.expired(at(60), 2), [LeaseId(2), LeaseId(3)]);
    assert_eq!(lessor.expired(at(60), 2), [LeaseId(1)]);
}

#[test]
fn only_the_primary_knows_times() {
    let mut lessor = Lessor::new(OPTIONS);
    lessor.grant(LeaseId(1), 10, NOW).unwrap();
    assert_eq!(lessor.renew(LeaseId(1), at(0)), Err(RenewError::NotPrimary));
    assert_eq!(lessor.expired(at(1000), 10), []);
    let unknown = TimeToLive { granted_ttl: 10, remaining_ttl: None };
    assert_eq!(lessor.time_to_live(LeaseId(1), at(0)), Some(unknown));
    lessor.promote(at(100), Duration::from_secs(1));
    assert_eq!(lessor.time_to_live(LeaseId(1), at(100)), Some(TimeToLive { remaining_ttl: Some(11), ..unknown }));
    lessor.demote();
    assert_eq!(lessor.time_to_live(LeaseId(1), at(100)), Some(unknown));
    assert_eq!(lessor.time_to_live(LeaseId(2), at(100)), None);
}

#[test]
fn a_new_primary_starts_from_the_checkpoint() {
    let mut lessor = Lessor::new(OPTIONS);
    lessor.grant(LeaseId(1), 600, NOW).unwrap();
    let stored = StoredLease { id: LeaseId(1), ttl: 600, remaining_ttl: 90 };
    assert_eq!(lessor.checkpoint(LeaseId(1), 90), Some(stored));
    assert_eq!(lessor.checkpoint(LeaseId(2), 90), None);
    lessor.promote(at(0), Duration::ZERO);
    assert_eq!(lessor.expired(at(89), 10), []);
    assert_eq!(lessor.renew(LeaseId(1), at(89)), Ok(Renewal { ttl: 600, clear_checkpoint: true }));
    lessor.checkpoint(LeaseId(1), 0);
    assert_eq!(lessor.renew(LeaseId(1), at(90)), Ok(Renewal { ttl: 600, clear_checkpoint: false }));
    assert_eq!(Lessor::restore(OPTIONS, [stored]).checkpoint(LeaseId(1), 90), Some(stored));
}

/// A leader renews a lease, says so in the log, answers, and is gone; the next one leads before it applies that entry.
#[test]
fn a_renewal_that_is_applied_after_the_promotion_counts() {
    let mut lessor = Lessor::new(OPTIONS);
    lessor.grant(LeaseId(1), 600, NOW).unwrap();
    lessor.checkpoint(LeaseId(1), 90);
    lessor.promote(at(0), Duration::from_secs(1));
    for _ in 0..2 {
        lessor.checkpoint(LeaseId(1), 0);
        assert_eq!(lessor.expired(at(600), 10), []);
        assert_eq!(lessor.time_to_live(LeaseId(1), at(0)).unwrap().remaining_ttl, Some(601));
    }
    assert_eq!(lessor.expired(at(601), 10), [LeaseId(1)]);
}

/// etcd forgets this one: the checkpoint is taken, the client renews, and then it is applied, here and at the next leader.
#[test]
fn a_renewal_while_a_checkpoint_is_on_its_way_clears_it() {
    let (mut lessor, mut follower) = (primary(), Lessor::new(OPTIONS));
    lessor.grant(LeaseId(1), 600, NOW).unwrap();
    follower.grant(LeaseId(1), 600, NOW).unwrap();
    assert_eq!(lessor.renew(LeaseId(1), at(10)), Ok(Renewal { ttl: 600, clear_checkpoint: false }));
    let taken = lessor.checkpoints(at(310), 10);
    assert_eq!(taken, [(LeaseId(1), 300)]);
    for applied in [None, Some(300), Some(0)] {
        if let Some(remaining) = applied {
            lessor.checkpoint(LeaseId(1), remaining);
            follower.checkpoint(LeaseId(1), remaining);
        }
        let clear_checkpoint = applied != Some(0);
        for _ in 0..2 {
            // The second client may not be told before the first one's clearing is applied either.
            assert_eq!(lessor.renew(LeaseId(1), at(310)), Ok(Renewal { ttl: 600, clear_checkpoint }), "{applied:?}");
        }
    }
    assert_eq!(lessor.renew(LeaseId(1), at(311)), Ok(Renewal { ttl: 600, clear_checkpoint: false }));
    follower.promote(at(312), Duration::ZERO);
    assert_eq!(follower.expired(at(911), 10), []);
}

/// Its own leader took it; the next one renews before it applies it.
#[test]
fn a_checkpoint_that_is_applied_after_a_renewal_is_noticed() {
    let mut lessor = primary();
    lessor.grant(LeaseId(1), 600, NOW).unwrap();
    assert_eq!(lessor.renew(LeaseId(1), at(10)), Ok(Renewal { ttl: 600, clear_checkpoint: false }));
    assert!(!lessor.is_shortened(LeaseId(1)));
    lessor.checkpoint(LeaseId(1), 300);
    assert!(lessor.is_shortened(LeaseId(1)));
    lessor.checkpoint(LeaseId(1), 0);
    assert!(!lessor.is_shortened(LeaseId(1)) && !lessor.is_shortened(LeaseId(2)));
}

#[test]
fn long_leases_are_checkpointed_every_interval() {
    let mut lessor = primary();
    lessor.grant(LeaseId(1), 1000, NOW).unwrap();
    lessor.grant(LeaseId(2), 200, NOW).unwrap();
    assert_eq!(lessor.checkpoints(at(299), 10), []);
    assert_eq!(lessor.checkpoints(at(300), 10), [(LeaseId(1), 700)]);
    assert_eq!(lessor.checkpoints(at(300), 10), []);
    assert_eq!(lessor.checkpoints(at(605), 10), [(LeaseId(1), 395)]);
    assert_eq!(lessor.checkpoints(at(905), 10), [(LeaseId(1), 95)]);
    assert_eq!(lessor.checkpoints(at(1205), 10), []);
}

#[derive(Clone, Debug)]
enum Step {
    Grant(i64, i64),
    Revoke(i64),
    Put(u8, i64),
    Checkpoint(i64, i64),
    Wait(u64),
    Renew(i64),
    Expire(usize),
    Promote,
    Demote,
}

fn step() -> impl Strategy<Value = Step> {
    let id = || 1..6i64;
    prop_oneof![
        (id(), 0..30i64).prop_map(|(id, ttl)| Step::Grant(id, ttl)),
        id().prop_map(Step::Revoke),
        (0..8u8, 0..6i64).prop_map(|(key, id)| Step::Put(key, id)),
        (id(), 0..40i64).prop_map(|(id, remaining)| Step::Checkpoint(id, remaining)),
        (0..10u64).prop_map(Step::Wait),
        id().prop_map(Step::Renew),
        (0..4usize).prop_map(Step::Expire),
        Just(Step::Promote),
        Just(Step::Demote),
    ]
}

/// Leases as plainly as they can be said.
#[derive(Default)]
struct Model {
    leases: BTreeMap<i64, (i64, i64)>,
    lease_of: BTreeMap<u8, i64>,
    deadlines: BTreeMap<i64, u64>,
    /// What deadlines lack since the promotion because of checkpoints.
    withheld: BTreeMap<i64, u64>,
    primary: bool,
}

impl Model {
    fn keys(&self, id: i64) -> BTreeSet<u8> {
        self.lease_of.iter().filter(|(_, lease)| **lease == id).map(|(key, _)| *key).collect()
    }
}

proptest! {
    #[test]
    fn behaves_as_the_model(steps in prop::collection::vec(step(), 1..80)) {
        let (mut lessor, mut model, mut now) = (Lessor::new(OPTIONS), Model::default(), 0u64);
        for step in steps {
            match step {
                Step::Grant(id, ttl) => {
                    let granted = lessor.grant(LeaseId(id), ttl, at(now)).map(|lease| lease.ttl);
                    let exists = model.leases.contains_key(&id);
                    prop_assert_eq!(granted, if exists { Err(GrantError::Exists) } else { Ok(ttl.max(2)) });
                    if !exists {
                        model.leases.insert(id, (ttl.max(2), 0));
                        if model.primary {
                            model.deadlines.insert(id, now + ttl.max(2) as u64);
                        }
                    }
                }
                Step::Revoke(id) => {
                    let keys = lessor.revoke(LeaseId(id)).ok();
                    let expected = model.leases.remove(&id).map(|_| model.keys(id));
                    model.lease_of.retain(|_, lease| *lease != id);
                    model.deadlines.remove(&id);
                    model.withheld.remove(&id);
                    let boxed = |keys: BTreeSet<u8>| keys.into_iter().map(|key| Box::from([key])).collect();
                    let expected: Option<Vec<Box<[u8]>>> = expected.map(boxed);
                    prop_assert_eq!(keys, expected);
                }
                Step::Put(key, id) => {
                    let from = model.lease_of.remove(&key).unwrap_or(0);
                    lessor.attach(&[key], LeaseId(from), LeaseId(id));
                    if model.leases.contains_key(&id) {
                        model.lease_of.insert(key, id);
                    }
                }
                Step::Checkpoint(id, remaining) => {
                    let stored = lessor.checkpoint(LeaseId(id), remaining).map(|lease| lease.remaining_ttl);
                    let expected = model.leases.get_mut(&id).map(|lease| {
                        lease.1 = remaining.min(lease.0);
                        lease.1
                    });
                    prop_assert_eq!(stored, expected);
                    if expected == Some(0)
                        && let Some(withheld) = model.withheld.remove(&id)
                    {
                        *model.deadlines.get_mut(&id).unwrap() += withheld;
                    }
                }
                Step::Wait(seconds) => now += seconds,
                Step::Renew(id) => {
                    let renewed = lessor.renew(LeaseId(id), at(now)).map(|renewal| renewal.ttl);
                    let expected = match model.leases.get(&id) {
                        _ if !model.primary => Err(RenewError::NotPrimary),
                        None => Err(RenewError::NotFound),
                        Some(_) if model.deadlines[&id] <= now => Err(RenewError::Expired),
                        Some(lease) => {
                            model.withheld.remove(&id);
                            model.deadlines.insert(id, now + lease.0 as u64);
                            Ok(lease.0)
                        }
                    };
                    prop_assert_eq!(renewed, expected);
                }
                Step::Expire(max) => {
                    let expired = lessor.expired(at(now), max);
                    prop_assert!(expired.len() <= max);
                    prop_assert!(expired.iter().all(|id| model.deadlines[&id.0] <= now));
                    now += 3;
                    let again: BTreeSet<i64> = lessor.expired(at(now), 100).into_iter().map(|id| id.0).collect();
                    let due = model.deadlines.iter().filter(|(_, deadline)| **deadline <= now);
                    prop_assert_eq!(again, due.map(|(id, _)| *id).collect::<BTreeSet<_>>());
                    now += 3;
                }
                Step::Promote => {
                    lessor.promote(at(now), Duration::from_secs(1));
                    model.primary = true;
                    let left = |lease: &(i64, i64)| if lease.1 > 0 { lease.1 } else { lease.0 };
                    model.deadlines =
                        model.leases.iter().map(|(id, lease)| (*id, now + 1 + left(lease) as u64)).collect();
                    model.withheld =
                        model.leases.iter().map(|(id, lease)| (*id, (lease.0 - left(lease)) as u64)).collect();
                }
                Step::Demote => {
                    lessor.demote();
                    model.primary = false;
                    model.deadlines.clear();
                    model.withheld.clear();
                }
            }
            prop_assert_eq!(lessor.len(), model.leases.len());
            for (&id, &(ttl, _)) in &model.leases {
                let keys: Vec<u8> = lessor.keys(LeaseId(id)).unwrap().map(|key| key[0]).collect();
                prop_assert_eq!(keys, model.keys(id).into_iter().collect::<Vec<_>>());
                let remaining_ttl = model.deadlines.get(&id).map(|deadline| deadline.saturating_sub(now) as i64);
                let expected = TimeToLive { granted_ttl: ttl, remaining_ttl };
                prop_assert_eq!(lessor.time_to_live(LeaseId(id), at(now)), Some(expected));
            }
        }
    }
}

#[test]
fn what_happens_to_leases_is_counted() {
    let mut lessor = Lessor::new(LessorOptions { ttl_min: 1, checkpoint_interval: None });
    let at = |seconds| Monotonic(Duration::from_secs(seconds));
    lessor.promote(at(0), Duration::ZERO);
    for (id, ttl) in [(1, 1), (2, 2), (3, 3), (4, TTL_MAX)] {
        lessor.grant(LeaseId(id), ttl, at(0)).unwrap();
    }
    lessor.grant(LeaseId(1), 5, at(0)).unwrap_err();
    lessor.renew(LeaseId(3), at(0)).unwrap();
    lessor.renew(LeaseId(9), at(0)).unwrap_err();
    assert_eq!(lessor.expired(at(2), 10).len(), 2);
    lessor.revoke(LeaseId(1)).unwrap();
    lessor.revoke(LeaseId(1)).unwrap_err();
    let mut ttls = [0; TTL_PLACES];
    // At most 1, 2 and 4; and above all.
    (ttls[0], ttls[1], ttls[2], ttls[TTL_PLACES - 1]) = (1, 1, 1, 1);
    let ttls_sum = 6 + TTL_MAX as u64;
    let expected = Counts { granted: 4, revoked: 1, renewed: 1, expired: 2, ttls, ttls_sum };
    assert_eq!(*lessor.counts(), expected);
    let mut restored = Lessor::new(LessorOptions { ttl_min: 1, checkpoint_interval: None });
    restored.continue_counts(&lessor);
    assert_eq!(*restored.counts(), expected);
}
