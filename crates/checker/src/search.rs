//! The judge that looks for an order: Wing and Gong's search, with Lowe's memory of what was tried.
//!
//! Serializable reads are left out: they have no place in a linear order. What lease ends do is guessed, as one more
//! operation of each lease that may happen at any time after its grant began.

use std::collections::HashSet;
use std::hash::{DefaultHasher, Hash, Hasher};

use crate::history::{Answer, Body, History, Operation, Outcome, Request};
use crate::model::{Model, View};

/// What the search came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    Linearizable,
    NotLinearizable,
    /// More steps would be needed than were allowed.
    GaveUp,
}

/// Looks for an order of the operations in which every answer follows from the model. Takes at most `steps_max` steps.
pub fn search(history: &History, steps_max: usize) -> Verdict {
    let calls = calls_of(history);
    let mut search = Search {
        history,
        done: vec![0; calls.len().div_ceil(64)],
        calls,
        tried: HashSet::new(),
        steps_left: steps_max,
    };
    let reads_history = history.operations.iter().any(|operation| match &operation.request {
        Request::Range(range) => range.revision > 0,
        Request::Txn(_) => true,
        _ => false,
    });
    match search.run(&Model::new(history.start, reads_history)) {
        Some(true) => Verdict::Linearizable,
        Some(false) => Verdict::NotLinearizable,
        None => Verdict::GaveUp,
    }
}

struct Call<'a> {
    invoked: u64,
    /// `None` if it need not happen.
    returned: Option<u64>,
    request: &'a Request,
    outcome: Option<&'a Outcome>,
}

fn calls_of(history: &History) -> Vec<(Call<'_>, Option<Request>)> {
    let mut calls = Vec::new();
    for operation in &history.operations {
        let Operation { invoked, returned, request, outcome, .. } = operation;
        if request.is_serializable() || *outcome == Outcome::Failed {
            continue;
        }
        let is_unknown = *outcome == Outcome::Unknown;
        let call = Call {
            invoked: *invoked,
            returned: (!is_unknown).then_some(*returned),
            request,
            outcome: (!is_unknown).then_some(outcome),
        };
        calls.push((call, None));
        if let Request::Grant { lease, .. } = request {
            let end = Call { invoked: *invoked, returned: None, request, outcome: None };
            calls.push((end, Some(Request::Revoke(*lease))));
        }
    }
    calls.sort_by_key(|(call, _)| call.invoked);
    calls
}

struct Search<'a> {
    history: &'a History,
    /// With the request to do in place of the operation's own, for the ends of leases.
    calls: Vec<(Call<'a>, Option<Request>)>,
    done: Vec<u64>,
    tried: HashSet<(u64, u64)>,
    steps_left: usize,
}

impl Search<'_> {
    /// `None` if it takes too long.
    fn run(&mut self, model: &Model) -> Option<bool> {
        let mut settled = Vec::new();
        let verdict = self.settle(model, &mut settled).and_then(|()| self.branch(model));
        if verdict != Some(true) {
            for at in settled {
                self.unmark(at);
            }
        }
        verdict
    }

    /// Does everything that can happen now and changes nothing: to wait with it would help nobody.
    fn settle(&mut self, model: &Model, settled: &mut Vec<usize>) -> Option<()> {
        loop {
            let before = settled.len();
            for at in self.enabled() {
                self.steps_left = self.steps_left.checked_sub(1)?;
                if self.step(at, model).is_some_and(|next| next == *model) {
                    self.mark(at);
                    settled.push(at);
                }
            }
            if settled.len() == before {
                return Some(());
            }
        }
    }

    fn branch(&mut self, model: &Model) -> Option<bool> {
        if self.is_complete(model) {
            return Some(true);
        }
        for at in self.enabled() {
            self.steps_left = self.steps_left.checked_sub(1)?;
            let Some(next) = self.step(at, model) else { continue };
            self.mark(at);
            if self.tried.insert(self.fingerprint(&next)) && self.run(&next)? {
                return Some(true);
            }
            self.unmark(at);
        }
        Some(false)
    }

    /// What can come next: all that began before the first of the others returned.
    fn enabled(&self) -> Vec<usize> {
        let waiting = (0..self.calls.len()).filter(|&at| !self.is_done(at));
        let horizon = waiting.clone().filter_map(|at| self.calls[at].0.returned).min().unwrap_or(u64::MAX);
        waiting.take_while(|&at| self.calls[at].0.invoked <= horizon).collect()
    }

    fn mark(&mut self, at: usize) {
        self.done[at / 64] |= 1 << (at % 64);
    }

    fn unmark(&mut self, at: usize) {
        self.done[at / 64] &= !(1 << (at % 64));
    }

    fn is_done(&self, at: usize) -> bool {
        self.done[at / 64] >> (at % 64) & 1 == 1
    }

    fn is_complete(&self, model: &Model) -> bool {
        let all_answered = (0..self.calls.len()).all(|at| self.is_done(at) || self.calls[at].0.returned.is_none());
        let last = self.history.log.keys().next_back();
        all_answered && last.is_none_or(|last| model.revision() >= *last)
    }

    /// The state after a call, if it can happen now.
    fn step(&self, at: usize, model: &Model) -> Option<Model> {
        let (call, instead) = &self.calls[at];
        let mut next = model.clone();
        let result = next.apply(instead.as_ref().unwrap_or(call.request));
        if let Ok((_, changes)) = &result
            && !changes.is_empty()
            && self.history.log.get(&next.revision()).is_some_and(|logged| logged != changes)
        {
            return None;
        }
        match (call.outcome, result) {
            // Without effect it might as well not have happened.
            (None, result) => (result.is_ok() && next != *model).then_some(next),
            (Some(Outcome::Answered(given)), Ok((expected, _))) => {
                agree(model, call.request, &expected, given).then_some(next)
            }
            (Some(Outcome::Refused(given)), Err(expected)) => (*given == expected).then_some(next),
            _ => None,
        }
    }

    fn fingerprint(&self, model: &Model) -> (u64, u64) {
        let of = |salt: u64| {
            let mut hasher = DefaultHasher::new();
            (salt, &self.done, model).hash(&mut hasher);
            hasher.finish()
        };
        (of(1), of(2))
    }
}

fn agree(before: &Model, request: &Request, expected: &Answer, given: &Answer) -> bool {
    match (request, &given.body) {
        (Request::KeepAlive(lease), Body::KeptAlive { ttl }) => {
            given.revision <= before.revision() && (*ttl == 0 || before.has_lease(*lease))
        }
        (Request::Grant { ttl: asked, .. }, Body::Granted { ttl }) => {
            ttl >= asked && expected.revision == given.revision
        }
        _ => expected == given,
    }
}
