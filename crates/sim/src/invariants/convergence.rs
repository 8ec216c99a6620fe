//! At the end all members have the same state, and it is that of the last entry applied anywhere.

use types::MemberId;

use crate::world::World;

impl World {
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
}
