//! Leases: never over before their time, nor much after it.
//!
//! A lease is alive for its whole time to live from the moment it was granted or last renewed, and that moment is no
//! earlier than when the client asked. So whoever finds it gone before `asked + ttl` was deceived. And once nobody renews
//! it and no leader is lost, its keys are gone soon after the latest moment it can have been renewed.

use std::collections::BTreeMap;

use types::LeaseId;

use crate::history::{Body, History, Outcome, Refusal, Request, Step};
use crate::ordered::Findings;
use crate::violation::{Rule, Violation};

/// How long is how long.
#[derive(Clone, Copy, Debug)]
pub struct LeaseRules {
    /// One second, in the history's unit of time.
    pub second: u64,
    /// How much later than its time a lease may end.
    pub grace: u64,
    /// By how much, of a thousand, the leader's clock may run fast or slow.
    pub drift_permille: u64,
}

/// Judges all leases that were granted once. `seen_at` tells when the first member had applied a revision, `disturbed` at
/// which times leases may have got all their time anew (another leader) or their end may have been held up, `end` when the
/// history ends.
///
/// # Errors
/// [`Rule::LeaseEarly`], [`Rule::LeaseLate`] or [`Rule::LeaseRevived`].
pub fn check_leases(
    history: &History,
    findings: &Findings,
    seen_at: impl Fn(i64) -> Option<u64>,
    disturbed: &[u64],
    end: u64,
    rules: LeaseRules,
) -> Result<(), Violation> {
    let mut lives = lives(history);
    for expiry in &findings.expiries {
        if let (Some(life), Some(at)) = (lives.get_mut(&expiry.lease), seen_at(expiry.revision)) {
            if expiry.is_certain {
                life.gone.push(Gone { at, by: None });
            }
            life.ended = Some(life.ended.map_or(at, |ended| ended.min(at)));
        }
    }
    for (lease, life) in lives {
        let Some(ttl) = life.ttl.filter(|_| life.grants == 1) else { continue };
        let time = ttl.unsigned_abs() * rules.second;
        check_revived(lease, &life)?;
        check_early(lease, &life, time - time * rules.drift_permille / 1000)?;
        let has_keys = || findings.replay.attached_now(lease).next().is_some();
        let ended = match life.ended {
            None if has_keys() => end,
            None => continue,
            Some(ended) => ended,
        };
        check_late(lease, &life, disturbed, ended, time + time * rules.drift_permille / 1000 + rules.grace)?;
    }
    Ok(())
}

/// What is known of one lease.
#[derive(Default)]
struct Life {
    grants: usize,
    /// Seconds, as granted.
    ttl: Option<i64>,
    /// Answered grant and renewals: when they were asked for.
    asked: Vec<(u64, usize)>,
    /// When it may at the latest have been granted or renewed, by operations answered or not.
    held: Vec<u64>,
    /// When somebody knew that it had run out.
    gone: Vec<Gone>,
    /// When its keys went.
    ended: Option<u64>,
    /// The first time anyone asked to revoke it; after that nothing is early.
    revoked: Option<u64>,
}

#[derive(Clone, Copy)]
struct Gone {
    at: u64,
    /// The operation that was told, and when it began; `None` for what the store did.
    by: Option<(usize, u64)>,
}

fn lives(history: &History) -> BTreeMap<LeaseId, Life> {
    let mut lives: BTreeMap<LeaseId, Life> = BTreeMap::new();
    for (at, operation) in history.operations.iter().enumerate() {
        let (invoked, returned) = (operation.invoked, operation.returned);
        let gone = Gone { at: returned, by: Some((at, invoked)) };
        match &operation.request {
            Request::Grant { lease, .. } => {
                let life = lives.entry(*lease).or_default();
                match &operation.outcome {
                    Outcome::Answered(answer) => {
                        if let Body::Granted { ttl } = answer.body {
                            life.ttl = Some(ttl);
                        }
                        life.grants += 1;
                        life.asked.push((invoked, at));
                        life.held.push(returned);
                    }
                    Outcome::Unknown => life.grants += 1,
                    _ => {}
                }
            }
            Request::KeepAlive(lease) => {
                let life = lives.entry(*lease).or_default();
                match &operation.outcome {
                    Outcome::Answered(answer) if answer.body == (Body::KeptAlive { ttl: 0 }) => {
                        life.gone.push(gone);
                    }
                    Outcome::Answered(_) => {
                        life.asked.push((invoked, at));
                        life.held.push(returned);
                    }
                    Outcome::Unknown => life.held.push(returned),
                    _ => {}
                }
            }
            Request::Revoke(lease) => {
                let life = lives.entry(*lease).or_default();
                match &operation.outcome {
                    Outcome::Answered(_) => life.ended = Some(life.ended.map_or(returned, |ended| ended.min(returned))),
                    Outcome::Refused(Refusal::LeaseNotFound) => life.gone.push(gone),
                    _ => {}
                }
                let may_have_happened = matches!(operation.outcome, Outcome::Answered(_) | Outcome::Unknown);
                if may_have_happened {
                    life.revoked = Some(life.revoked.map_or(invoked, |revoked| revoked.min(invoked)));
                }
            }
            request if operation.outcome == Outcome::Refused(Refusal::LeaseNotFound) => {
                // With several it is not known which one was missing.
                if let [lease] = leases_of(request)[..] {
                    lives.entry(lease).or_default().gone.push(gone);
                }
            }
            _ => {}
        }
    }
    lives
}

fn leases_of(request: &Request) -> Vec<LeaseId> {
    let of_step = |step: &Step| match step {
        Step::Put(put) => Some(put.lease),
        _ => None,
    };
    let mut leases: Vec<LeaseId> = match request {
        Request::Put(put) => vec![put.lease],
        Request::Txn(txn) => txn.success.iter().chain(&txn.failure).filter_map(of_step).collect(),
        _ => Vec::new(),
    };
    leases.retain(|lease| *lease != LeaseId::NONE);
    leases.sort_unstable();
    leases.dedup();
    leases
}

fn check_early(lease: LeaseId, life: &Life, time: u64) -> Result<(), Violation> {
    let granted = life.held.iter().min().copied().unwrap_or(u64::MAX);
    for &Gone { at, by } in &life.gone {
        // Who asked before the lease was there may have been told so.
        let was_too_soon = by.is_some_and(|(_, invoked)| invoked <= granted);
        if was_too_soon || life.revoked.is_some_and(|revoked| revoked <= at) {
            continue;
        }
        let renewal = life.asked.iter().filter(|(asked, _)| *asked < at).max();
        if let Some(&(asked, renewal)) = renewal.filter(|(asked, _)| at < asked + time) {
            let what = format!("lease {lease} was gone at {at}, held at {asked} for {time}");
            let operations = [Some(renewal), by.map(|(by, _)| by)].into_iter().flatten().collect::<Vec<_>>();
            return Err(Violation::new(Rule::LeaseEarly, operations, what));
        }
    }
    Ok(())
}

fn check_revived(lease: LeaseId, life: &Life) -> Result<(), Violation> {
    let Some(gone) = life.gone.iter().filter(|gone| gone.by.is_none()).map(|gone| gone.at).min() else { return Ok(()) };
    match life.asked.iter().find(|(asked, _)| *asked > gone) {
        Some(&(asked, renewal)) => {
            let what = format!("lease {lease} was gone at {gone}, and renewed when asked for at {asked}");
            Err(Violation::new(Rule::LeaseRevived, [renewal], what))
        }
        None => Ok(()),
    }
}

fn check_late(lease: LeaseId, life: &Life, disturbed: &[u64], ended: u64, time: u64) -> Result<(), Violation> {
    let mut holds: Vec<u64> = life.held.iter().chain(disturbed).copied().filter(|hold| *hold < ended).collect();
    holds.sort_unstable();
    let Some(first) = life.held.iter().min() else { return Ok(()) };
    let mut deadline = first + time;
    for hold in holds {
        if hold > deadline {
            break;
        }
        deadline = deadline.max(hold + time);
    }
    if ended > deadline {
        let what = format!("lease {lease} was to be over by {deadline}, and its keys were there until {ended}");
        let operations = life.asked.iter().max().map(|&(_, at)| at).into_iter().collect::<Vec<_>>();
        return Err(Violation::new(Rule::LeaseLate, operations, what));
    }
    Ok(())
}
