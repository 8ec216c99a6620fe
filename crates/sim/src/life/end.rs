//! The end of a life: by the power, by a signal, or by itself.

use checker::{Outcome, Request};
use env::{Fault, Survival};
use types::MemberId;

use super::Life;
use super::state::Commit;
use crate::dice::MS;
use crate::world::{Event, LifeEvent, World};

impl World {
    /// Those who waited learn that the connection is gone.
    pub(crate) fn bury(&mut self, id: MemberId, life: &Life) {
        for waiter in life.waiters.values() {
            let after = self.dice.between(1, 20) * MS;
            self.schedule(after, Event::Tell { operation: waiter.operation, outcome: Outcome::Unknown });
        }
        let reads = life.reads.iter().chain(life.rounds.values().flatten());
        let awaiting = life.awaiting_apply.iter().flat_map(|(_, reads)| reads);
        for &operation in reads.chain(awaiting).chain(life.held.iter().map(|(operation, _)| operation)) {
            let outcome = match self.operations[operation].request {
                Request::KeepAlive(_) => Outcome::Unknown,
                _ => Outcome::Failed,
            };
            let after = self.dice.between(1, 20) * MS;
            self.schedule(after, Event::Tell { operation, outcome });
        }
        for stream in life.streams.values() {
            let after = self.dice.between(1, 20) * MS;
            self.schedule(after, Event::WatchLost { watcher: stream.watcher, session: stream.session });
        }
        for other in self.running() {
            if other != id && !self.network.is_cut(id, other) {
                let after = self.dice.between(100, 5000);
                self.schedule_for(other, after, LifeEvent::Gone(id));
            }
        }
    }

    /// The power goes, in the middle of whatever the disk is at.
    pub(crate) fn crash(&mut self, id: MemberId) {
        let Some(member) = self.members.get_mut(&id) else { return };
        member.backlog = None;
        let Some(mut life) = member.life.take() else { return };
        self.note("crash", id.0);
        let cut = Fault {
            operation: None,
            path_contains: String::new(),
            skip: self.dice.below(12),
            times: u64::MAX,
            error: std::io::ErrorKind::Other,
        };
        let seed = self.dice.next();
        let member = self.members.get_mut(&id).expect("it just lived");
        let disk = member.disk.clone();
        disk.inject(cut);
        // How far either comes is up to the fault; whatever it says, nobody hears it any more.
        if life.is_writing {
            let _ = life.write_log();
        }
        if life.commit == Commit::Running {
            let _ = life.backend.commit();
        }
        let survival = match seed % 8 {
            0 => Survival::None,
            1 => Survival::All,
            _ => Survival::Random(seed),
        };
        member.disk = disk.crash(survival);
        self.bury(id, &life);
    }

    /// The process is killed; the machine, and so what was written, stays.
    pub(crate) fn kill(&mut self, id: MemberId) {
        let Some(member) = self.members.get_mut(&id) else { return };
        member.backlog = None;
        let Some(life) = member.life.take() else { return };
        self.note("kill", id.0);
        self.bury(id, &life);
    }
}
