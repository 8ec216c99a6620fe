//! The leases of the cluster as this member knows them.

use std::collections::{BTreeSet, HashMap};
use std::time::Duration;

use env::Monotonic;
use types::LeaseId;

use crate::error::{GrantError, NotFound, RenewError};
use crate::primary::Primary;

/// The longest time to live that can be granted, in seconds.
pub const TTL_MAX: i64 = 9_000_000_000;

/// How long a lapsed lease is left alone before it is reported again: its revocation may have been lost.
const RETRY: Duration = Duration::from_secs(3);

/// Settings of a [`Lessor`].
#[derive(Clone, Copy, Debug)]
pub struct LessorOptions {
    /// Seconds; shorter grants are raised to it. No less than it takes to replace a lost leader.
    pub ttl_min: i64,
    /// How often a long lease's remaining time should go through the log; `None` for never.
    pub checkpoint_interval: Option<Duration>,
}

/// What is stored of a lease. Times in whole seconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StoredLease {
    pub id: LeaseId,
    pub ttl: i64,
    /// What was left at the last checkpoint; 0 for all of `ttl`.
    pub remaining_ttl: i64,
}

/// A successful renewal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Renewal {
    /// Seconds from now.
    pub ttl: i64,
    /// A checkpoint has shortened the lease, or may have on other members, or one may still be on its way: a checkpoint of 0
    /// must go through the log behind it before the renewal is acknowledged, or the next leader would cut it short.
    pub clear_checkpoint: bool,
}

/// How a lease stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TimeToLive {
    pub granted_ttl: i64,
    /// Whole seconds left, 0 if it has lapsed; `None` where this member is not primary.
    pub remaining_ttl: Option<i64>,
}

/// All leases, and, while this member leads, their deadlines.
#[derive(Debug)]
pub struct Lessor {
    options: LessorOptions,
    leases: HashMap<LeaseId, Lease>,
    primary: Option<Primary>,
    counts: Counts,
}

/// What has happened to leases since the start, for metrics.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    pub granted: u64,
    pub revoked: u64,
    /// While this member led.
    pub renewed: u64,
    /// Reported as lapsed; one that is reported again counts again.
    pub expired: u64,
    /// Times to live that were granted: how many were at most `1 << place` and above half of that. The last place has all that were above.
    pub ttls: [u64; TTL_PLACES],
    pub ttls_sum: u64,
}

/// Of powers of two that times to live are sorted by, and one.
pub const TTL_PLACES: usize = 25;

#[derive(Debug, Default)]
struct Lease {
    ttl: i64,
    remaining_ttl: i64,
    /// What is stored need not have its last checkpoint: other members may know of one that this member does not.
    is_from_storage: bool,
    keys: BTreeSet<Box<[u8]>>,
}

impl Lessor {
    /// No leases; not primary.
    pub fn new(options: LessorOptions) -> Lessor {
        Lessor { options, leases: HashMap::new(), primary: None, counts: Counts::default() }
    }

    /// Takes the leases back from storage. Their keys are attached by the caller, which reads the keys anyway.
    pub fn restore(options: LessorOptions, stored: impl IntoIterator<Item = StoredLease>) -> Lessor {
        let lease = |row: StoredLease| Lease {
            ttl: row.ttl,
            remaining_ttl: row.remaining_ttl.clamp(0, row.ttl.max(0)),
            is_from_storage: true,
            keys: BTreeSet::new(),
        };
        let leases = stored.into_iter().map(|row| (row.id, lease(row))).collect();
        Lessor { leases, ..Lessor::new(options) }
    }

    // What applied entries do.

    /// Makes a lease; negative ids are fine. Returns what to store, with the time to live it really has. `now` only
    /// sets this member's own deadline.
    ///
    /// # Errors
    /// [`GrantError`]; nothing has changed then.
    pub fn grant(&mut self, id: LeaseId, ttl: i64, now: Monotonic) -> Result<StoredLease, GrantError> {
        if id == LeaseId::NONE {
            return Err(GrantError::NoId);
        }
        if ttl > TTL_MAX {
            return Err(GrantError::TtlTooLarge);
        }
        if self.leases.contains_key(&id) {
            return Err(GrantError::Exists);
        }
        let ttl = ttl.max(self.options.ttl_min);
        self.leases.insert(id, Lease { ttl, ..Lease::default() });
        self.counts.granted(ttl);
        if let Some(primary) = &mut self.primary {
            let deadline = now.plus(seconds(ttl));
            primary.set(id, deadline, self.options.first_checkpoint(now, deadline));
        }
        Ok(StoredLease { id, ttl, remaining_ttl: 0 })
    }

    /// Ends a lease. Returns its keys in order; the caller deletes them, in that order, in one revision.
    ///
    /// # Errors
    /// If there is no such lease.
    pub fn revoke(&mut self, id: LeaseId) -> Result<Vec<Box<[u8]>>, NotFound> {
        let lease = self.leases.remove(&id).ok_or(NotFound)?;
        self.counts.revoked += 1;
        if let Some(primary) = &mut self.primary {
            primary.remove(id);
        }
        Ok(lease.keys.into_iter().collect())
    }

    /// Moves `key` from the lease it hung from to another; [`LeaseId::NONE`] on either side for none. Unknown leases
    /// count as none: a key may have been stored with a lease that is gone.
    pub fn attach(&mut self, key: &[u8], from: LeaseId, to: LeaseId) {
        if from == to && from == LeaseId::NONE {
            return;
        }
        if from != to
            && let Some(lease) = self.leases.get_mut(&from)
        {
            lease.keys.remove(key);
        }
        if let Some(lease) = self.leases.get_mut(&to)
            && !lease.keys.contains(key)
        {
            lease.keys.insert(key.into());
        }
    }

    /// Notes how many seconds of a lease were left when its leader said so; 0 restores all of its time. Returns what
    /// to store, or `None` if there is no such lease.
    ///
    /// This member's own deadline stays, but for one case: a leader before it renewed the lease, and its proposal that says
    /// so came late, and is applied only after the promotion. Then the deadline gets what the promotion did not know of.
    pub fn checkpoint(&mut self, id: LeaseId, remaining_ttl: i64) -> Option<StoredLease> {
        let lease = self.leases.get_mut(&id)?;
        lease.remaining_ttl = remaining_ttl.clamp(0, lease.ttl);
        lease.is_from_storage = false;
        if let Some(primary) = &mut self.primary {
            match lease.remaining_ttl {
                0 => primary.cleared(id),
                _ => primary.checkpointed(id),
            }
        }
        Some(StoredLease { id, ttl: lease.ttl, remaining_ttl: lease.remaining_ttl })
    }

    // What anyone may ask.

    pub fn counts(&self) -> &Counts {
        &self.counts
    }

    /// Goes on counting where a lessor stopped that this one takes the place of.
    pub fn continue_counts(&mut self, of: &Lessor) {
        self.counts = of.counts.clone();
    }

    pub fn contains(&self, id: LeaseId) -> bool {
        self.leases.contains_key(&id)
    }

    /// Whether the last checkpoint that was applied took time from a lease: the next leader would give it no more.
    pub fn is_shortened(&self, id: LeaseId) -> bool {
        self.leases.get(&id).is_some_and(|lease| lease.remaining_ttl > 0)
    }

    pub fn len(&self) -> usize {
        self.leases.len()
    }

    pub fn is_empty(&self) -> bool {
        self.leases.is_empty()
    }

    /// The keys that hang from a lease, in order; `None` if there is no such lease.
    pub fn keys(&self, id: LeaseId) -> Option<impl Iterator<Item = &[u8]>> {
        Some(self.leases.get(&id)?.keys.iter().map(|key| &key[..]))
    }

    /// Every lease, the one that lapses first in front. Where no deadlines are known, in order of ids.
    pub fn leases(&self) -> Vec<LeaseId> {
        let deadline = |id| self.primary.as_ref().and_then(|primary| primary.deadline(id));
        let mut leases: Vec<(Option<Monotonic>, LeaseId)> = self.leases.keys().map(|&id| (deadline(id), id)).collect();
        leases.sort_unstable_by_key(|&(deadline, id)| (deadline.is_none(), deadline, id));
        leases.into_iter().map(|(_, id)| id).collect()
    }

    /// How a lease stands at `now`; `None` if there is no such lease.
    pub fn time_to_live(&self, id: LeaseId, now: Monotonic) -> Option<TimeToLive> {
        let lease = self.leases.get(&id)?;
        let remaining = |deadline: Monotonic| deadline.since(now).as_secs() as i64;
        let deadline = self.primary.as_ref().and_then(|primary| primary.deadline(id));
        Some(TimeToLive { granted_ttl: lease.ttl, remaining_ttl: deadline.map(remaining) })
    }

    // What the leader does.

    pub fn is_primary(&self) -> bool {
        self.primary.is_some()
    }

    /// Makes this member's copy the one that keeps deadlines: every lease gets its full time, or what a checkpoint
    /// left of it, from `now`, and `extend` on top, for clients that could reach no leader meanwhile. Deadlines that
    /// would fall on one another are spread. To be called once all that earlier leaders acknowledged is applied.
    pub fn promote(&mut self, now: Monotonic, extend: Duration) {
        let mut primary = Primary::default();
        for (&id, lease) in &self.leases {
            let left = if lease.remaining_ttl > 0 { lease.remaining_ttl } else { lease.ttl };
            let deadline = now.plus(seconds(left)).plus(extend);
            primary.set(id, deadline, self.options.first_checkpoint(now, deadline));
            primary.withhold(id, seconds(lease.ttl - left));
        }
        primary.spread();
        self.primary = Some(primary);
    }

    /// Forgets all deadlines: another member leads.
    pub fn demote(&mut self) {
        self.primary = None;
    }

    /// Gives a lease its full time from `now`.
    ///
    /// # Errors
    /// [`RenewError`]; nothing has changed then. A lapsed lease is not renewed: it may be gone on other members.
    pub fn renew(&mut self, id: LeaseId, now: Monotonic) -> Result<Renewal, RenewError> {
        let primary = self.primary.as_mut().ok_or(RenewError::NotPrimary)?;
        let lease = self.leases.get(&id).ok_or(RenewError::NotFound)?;
        if primary.deadline(id).expect("a primary knows the deadline of every lease") <= now {
            return Err(RenewError::Expired);
        }
        let is_unknown = lease.is_from_storage && self.options.checkpoint_interval.is_some();
        let clear_checkpoint = lease.remaining_ttl > 0 || primary.is_checkpointed(id) || is_unknown;
        let deadline = now.plus(seconds(lease.ttl));
        primary.renew(id, deadline, self.options.first_checkpoint(now, deadline));
        self.counts.renewed += 1;
        Ok(Renewal { ttl: lease.ttl, clear_checkpoint })
    }

    /// Up to `max` leases whose time is over at `now`, the longest overdue first, to be revoked through the log. One
    /// that is still there three seconds later is reported again. Empty where this member is not primary.
    pub fn expired(&mut self, now: Monotonic, max: usize) -> Vec<LeaseId> {
        let lapsed = self.primary.as_mut().map(|primary| primary.take_lapsed(now, RETRY, max)).unwrap_or_default();
        self.counts.expired += lapsed.len() as u64;
        lapsed
    }

    /// Up to `max` leases that are due for a checkpoint at `now`, with their remaining seconds (rounded up), to be
    /// sent through the log. Empty where this member is not primary.
    pub fn checkpoints(&mut self, now: Monotonic, max: usize) -> Vec<(LeaseId, i64)> {
        let (Some(primary), Some(interval)) = (&mut self.primary, self.options.checkpoint_interval) else {
            return Vec::new();
        };
        let remaining = |deadline: Monotonic| deadline.since(now).as_nanos().div_ceil(1_000_000_000) as i64;
        let due = primary.take_checkpoints(now, interval, max).into_iter();
        due.map(|(id, deadline)| (id, remaining(deadline))).filter(|&(_, remaining)| remaining > 0).collect()
    }
}

impl LessorOptions {
    fn first_checkpoint(&self, now: Monotonic, deadline: Monotonic) -> Option<Monotonic> {
        self.checkpoint_interval.map(|interval| now.plus(interval)).filter(|&at| at < deadline)
    }
}

impl Counts {
    fn granted(&mut self, ttl: i64) {
        let ttl = u64::try_from(ttl).unwrap_or(0);
        let place = ttl.saturating_sub(1).checked_ilog2().map_or(0, |log| log as usize + 1);
        self.granted += 1;
        self.ttls[place.min(TTL_PLACES - 1)] += 1;
        self.ttls_sum += ttl;
    }
}

fn seconds(ttl: i64) -> Duration {
    Duration::from_secs(u64::try_from(ttl).unwrap_or(0))
}

#[cfg(test)]
mod tests;
