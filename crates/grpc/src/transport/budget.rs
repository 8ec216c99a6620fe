//! How much memory calls may take.
//!
//! What a call holds is charged to its connection and, with that, to the worker: a flat sum while it is open, the part of
//! its request that has come, the part of its answer that waits to be made or to leave. Once the worker's budget is used
//! up, a connection that holds more than a small share gets no more calls: so the few that take much do not shut out the
//! many that take little, and all of them together take no more than the budget and a share each.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use bytes::Bytes;

/// An open call with its task, in the HTTP/2 library and here.
const CALL_BYTES: usize = 8 << 10;

/// What a connection may hold however much others hold.
const SHARE_BYTES: usize = 256 << 10;

/// Data shorter than this is not charged: so many calls as there may be do not make it much.
const CHARGED_BYTES_MIN: usize = 512;

/// The memory for the calls of one worker.
#[derive(Debug)]
pub(crate) struct Budget {
    bytes_max: usize,
    held_bytes: AtomicUsize,
    is_used_up: AtomicBool,
}

/// What one connection's calls hold of it.
#[derive(Clone, Debug)]
pub(crate) struct Account(Arc<Holdings>);

#[derive(Debug)]
struct Holdings {
    budget: Arc<Budget>,
    held_bytes: AtomicUsize,
    /// The part of it that is answers on their way out for which further calls wait.
    waiting_bytes: AtomicUsize,
}

/// Something that is held; dropping it ends that.
#[derive(Debug)]
pub(crate) struct Charge {
    account: Account,
    bytes: usize,
}

impl Budget {
    pub(crate) fn new(bytes_max: usize) -> Arc<Budget> {
        Arc::new(Budget { bytes_max, held_bytes: AtomicUsize::new(0), is_used_up: AtomicBool::new(false) })
    }

    fn is_used_up(&self) -> bool {
        let held_bytes = self.held_bytes.load(Ordering::Relaxed);
        let is_used_up = held_bytes > self.bytes_max;
        if is_used_up != self.is_used_up.load(Ordering::Relaxed) {
            // Told once, and again only after there has been plenty.
            if is_used_up || held_bytes < self.bytes_max / 2 {
                self.is_used_up.store(is_used_up, Ordering::Relaxed);
            }
            if is_used_up {
                tracing::warn!(
                    held_bytes,
                    "open calls and answers not taken fill their memory; large takers are refused"
                );
            }
        }
        is_used_up
    }
}

impl Account {
    pub(crate) fn open(budget: &Arc<Budget>) -> Account {
        let budget = budget.clone();
        Account(Arc::new(Holdings { budget, held_bytes: AtomicUsize::new(0), waiting_bytes: AtomicUsize::new(0) }))
    }

    /// Whether the connection may hold more.
    pub(crate) fn has_room(&self) -> bool {
        !self.0.budget.is_used_up() || self.0.held_bytes.load(Ordering::Relaxed) <= SHARE_BYTES
    }

    pub(crate) fn charge(&self, bytes: usize) -> Charge {
        let mut charge = Charge { account: self.clone(), bytes: 0 };
        charge.resize(bytes);
        charge
    }

    /// The charge for an open call.
    pub(crate) fn charge_call(&self) -> Charge {
        self.charge(CALL_BYTES)
    }

    /// Has `data` charged until the last of it has left; if `delays_calls`, the connection's further calls wait for it.
    pub(crate) fn leaving(&self, data: Bytes, delays_calls: bool) -> Bytes {
        if data.len() < CHARGED_BYTES_MIN {
            return data;
        }
        let waiting_bytes = if delays_calls { data.len() } else { 0 };
        self.0.waiting_bytes.fetch_add(waiting_bytes, Ordering::Relaxed);
        Bytes::from_owner(Leaving { charge: self.charge(data.len()), data, waiting_bytes })
    }

    #[cfg(test)]
    pub(crate) fn held_bytes(&self) -> usize {
        self.0.held_bytes.load(Ordering::Relaxed)
    }

    pub(crate) fn waiting_bytes(&self) -> usize {
        self.0.waiting_bytes.load(Ordering::Relaxed)
    }
}

impl Charge {
    pub(crate) fn account(&self) -> &Account {
        &self.account
    }

    /// Holds more.
    pub(crate) fn add(&mut self, bytes: usize) {
        self.resize(self.bytes + bytes);
    }

    /// Changes what is held.
    pub(crate) fn resize(&mut self, bytes: usize) {
        if bytes == self.bytes {
            return;
        }
        let holdings = &self.account.0;
        for held in [&holdings.held_bytes, &holdings.budget.held_bytes] {
            // Modulo 2^64, so that less is added as well as more.
            held.fetch_add(bytes.wrapping_sub(self.bytes), Ordering::Relaxed);
        }
        self.bytes = bytes;
    }
}

impl Drop for Charge {
    fn drop(&mut self) {
        self.resize(0);
    }
}

struct Leaving {
    charge: Charge,
    data: Bytes,
    waiting_bytes: usize,
}

impl AsRef<[u8]> for Leaving {
    fn as_ref(&self) -> &[u8] {
        &self.data
    }
}

impl Drop for Leaving {
    fn drop(&mut self) {
        self.charge.account.0.waiting_bytes.fetch_sub(self.waiting_bytes, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn large_takers_wait_and_small_ones_do_not() {
        let budget = Budget::new(1 << 20);
        let (large, small) = (Account::open(&budget), Account::open(&budget));
        let mut held = large.charge(1 << 20);
        assert!(large.has_room() && small.has_room());
        held.resize((1 << 20) + 1);
        assert!(!large.has_room() && small.has_room());
        let share = small.charge(SHARE_BYTES + 1);
        assert!(!small.has_room());
        drop((held, share));
        assert!(large.has_room() && small.has_room());
        assert_eq!(budget.held_bytes.load(Ordering::Relaxed), 0);
    }

    #[test]
    fn data_waits_until_its_last_piece_is_gone() {
        let account = Account::open(&Budget::new(0));
        let mut data = account.leaving(vec![7; 1000].into(), true);
        let _event = account.leaving(vec![7; 600].into(), false);
        let first = data.split_to(400);
        drop(data);
        assert_eq!(account.waiting_bytes(), 1000);
        assert_eq!(first, vec![7; 400]);
        drop(first);
        assert_eq!((account.waiting_bytes(), account.held_bytes()), (0, 600));
    }
}
