//! A member that was done nothing to does not stop by itself. Others may, if they say why.

use types::MemberId;

use crate::dice::SECOND;
use crate::world::World;

/// How a member says that its files are not what they were: `docs/wal.md`, `server::StartError`.
const REFUSALS: [&str; 2] = ["is damaged", "do not belong together"];

impl World {
    /// A member has stopped by itself. Whoever was done nothing to must not.
    pub(crate) fn stopped(&mut self, id: MemberId, why: &str) {
        self.note("stopped", (id.0, why));
        let Some(member) = self.members.get(&id) else { return };
        match member.excuse {
            // After a sync that failed nobody knows what is on disk; that a member says so later, by name, is all that can be
            // asked of it.
            _ if member.is_doubtful && REFUSALS.iter().any(|refusal| why.contains(refusal)) => {
                self.counts.fault("member refused its doubtful data");
                self.replace(id);
            }
            None => self.fail("UnexpectedStop", format!("member {id} stopped: {why}")),
            Some("rot") => {
                // Refused by name, as it should be. An operator takes it out and adds another.
                self.counts.fault("member refused its rotten data");
                self.replace(id);
            }
            Some(_) => {
                // Some operators restart the machine, some only the process.
                if self.dice.percent(50) {
                    let seed = self.dice.next();
                    if let Some(member) = self.members.get_mut(&id) {
                        let capacity_is_gone = member.disk.crash(env::Survival::Random(seed));
                        member.disk = capacity_is_gone;
                    }
                }
                self.restart_after(id, 5 * SECOND);
            }
        }
    }
}
