//! The end of a run: are the members one again, and was what clients saw right?

use std::collections::BTreeMap;

use checker::{History, LeaseRules, Outcome, Request, Verdict, check_leases, check_watch, ordered, search};
use types::MemberId;

use crate::dice::{Micros, SECOND};
use crate::world::World;

/// Operations that are also judged by search.
const SEARCHED: usize = 150;
const SEARCH_STEPS_MAX: usize = 100_000;

impl World {
    /// Some write that was asked for after the last fault was done.
    pub(crate) fn require_recovery(&mut self, healed: Micros) {
        let is_work = |operation: &checker::Operation| {
            operation.invoked >= healed
                && matches!(operation.outcome, Outcome::Answered(_))
                && matches!(operation.request, Request::Put(_))
        };
        if self.found.is_none() && !self.operations.iter().any(is_work) {
            let status: Vec<String> = self
                .members
                .iter()
                .map(|(id, member)| {
                    let status = member.life.as_ref().map(|life| (life.driver.status(), life.machine.applied()));
                    format!("{id}: {status:?}")
                })
                .collect();
            self.fail(
                "Recovery",
                format!("no write in the {} s after the last fault: {status:?}", (self.now - healed) / SECOND),
            );
        }
    }

    pub(crate) fn require_convergence(&mut self) {
        if let (None, Some(difference)) = (&self.found, self.difference()) {
            self.fail("Convergence", difference);
        }
    }

    /// In what the members differ, if they do.
    pub(crate) fn difference(&self) -> Option<String> {
        let Some(leader) = self.leader() else { return Some("nobody leads".to_owned()) };
        let wanted = self.state_of(leader)?;
        if self.ledger.last_applied() != self.applied(leader).unwrap_or_default() {
            return Some(format!(
                "entry {} was applied once, and the leader's last is another",
                self.ledger.last_applied()
            ));
        }
        let membership = self.members[&leader].life.as_ref()?.machine.shared().membership();
        for member in membership.members() {
            let id = member.id;
            match self.state_of(id) {
                None if self.members.get(&id).is_none_or(|member| member.is_gone) && !self.operator.is_idle() => {
                    return Some(format!("member {id} is being replaced"));
                }
                None => return Some(format!("member {id} does not run")),
                Some(state) if state != wanted => return Some(format!("{id} has {state}, {leader} has {wanted}")),
                Some(_) => {}
            }
        }
        None
    }

    /// All of a member's state that has to be the same everywhere, in short.
    fn state_of(&self, id: MemberId) -> Option<String> {
        let life = self.members.get(&id)?.life.as_ref()?;
        let shared = life.machine.shared();
        let view = shared.view();
        let hash = match view.hash_kv(view.revision()) {
            Ok(hash) => format!("{:08x}", hash.hash),
            Err(error) => error.to_string(),
        };
        let lessor = shared.lessor().lock();
        let mut leases = lessor.leases();
        leases.sort_unstable();
        let keys: Vec<usize> = leases.iter().map(|lease| lessor.keys(*lease).map_or(0, Iterator::count)).collect();
        let members = shared.membership().conf_state();
        Some(format!(
            "applied {} revision {} compacted {} hash {hash} leases {leases:?} with {keys:?} keys, voters {:?}, learners {:?}",
            life.machine.applied(),
            view.revision(),
            view.compacted(),
            members.voters,
            members.learners
        ))
    }

    pub(crate) fn judge(&mut self) {
        if self.found.is_some() {
            return;
        }
        let end = self.now;
        for operation in self.operations.iter_mut().filter(|operation| operation.returned == 0) {
            operation.returned = end;
        }
        let log: BTreeMap<_, _> =
            self.ledger.revisions.iter().map(|(revision, (_, changes))| (*revision, changes.clone())).collect();
        let seen = self.ledger.revisions.iter().map(|(revision, (at, _))| (*revision, *at)).collect();
        let history = History { operations: self.operations.clone(), log, seen, start: 1 };
        let findings = match ordered(&history) {
            Ok(findings) => findings,
            Err(violation) => {
                self.tell_history(&history);
                return self.violated(&violation);
            }
        };
        self.counts.lease_expiries += findings.expiries.len() as u64;
        if let Err(violation) = self.search_beginning(&history) {
            self.tell_history(&history);
            return self.fail("NotLinearizable", violation);
        }
        self.complete_sessions();
        for watcher in 0..self.watchers.len() {
            for session in 0..self.watchers[watcher].sessions.len() {
                let watched = &self.watchers[watcher].sessions[session];
                if let Err(violation) = check_watch(&history, &findings, watched) {
                    let what = format!("watcher {watcher}, session {session}: {}", violation.what);
                    return self.fail(&format!("{:?}", violation.rule), what);
                }
            }
        }
        let rules = LeaseRules {
            second: SECOND,
            grace: self.plan.tick * self.plan.election_ticks + SECOND,
            drift_permille: 10,
        };
        let seen_at = |revision: i64| self.ledger.revisions.get(&revision).map(|(at, _)| *at);
        if let Err(violation) = check_leases(&history, &findings, seen_at, &self.disturbed, end, rules) {
            self.violated(&violation);
        }
    }

    /// Everything that clients and store did, for whoever replays.
    fn tell_history(&mut self, history: &History) {
        for (revision, changes) in &history.log {
            self.say("revision", (revision, self.ledger.revisions.get(revision).map(|(at, _)| *at), changes));
        }
        for (at, operation) in history.operations.iter().enumerate() {
            self.say("operation", (at, operation));
        }
    }

    /// Watches that were open all through the quiet end have seen everything.
    fn complete_sessions(&mut self) {
        let last = self.ledger.revisions.keys().next_back().copied().unwrap_or(1);
        let quiet_since = self.now.saturating_sub(10 * SECOND);
        for watcher in &mut self.watchers {
            let Some((open, _)) = watcher.open else { continue };
            let session = &mut watcher.sessions[open];
            if session.responses.first().is_some_and(|created| created.at < quiet_since) {
                session.complete_to = Some(last);
            }
        }
    }

    /// Judges the beginning of the history the other way too.
    fn search_beginning(&self, history: &History) -> Result<(), String> {
        let Some(cut) = history.operations.get(SEARCHED).map(|operation| operation.invoked) else { return Ok(()) };
        let mut beginning = History { operations: history.operations[..SEARCHED].to_vec(), ..History::new() };
        let mut seen = beginning.start;
        for operation in &mut beginning.operations {
            match &operation.outcome {
                Outcome::Answered(answer) if operation.returned < cut => seen = seen.max(answer.revision),
                _ if operation.returned < cut => {}
                _ => operation.outcome = Outcome::Unknown,
            }
        }
        beginning.log = history.log.range(..=seen).map(|(revision, changes)| (*revision, changes.clone())).collect();
        match search(&beginning, SEARCH_STEPS_MAX) {
            Verdict::NotLinearizable => Err(format!("no order explains the first {SEARCHED} operations")),
            Verdict::Linearizable | Verdict::GaveUp => Ok(()),
        }
    }
}
