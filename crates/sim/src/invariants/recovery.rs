//! Once nothing fails any more, the cluster serves again.

use checker::{Outcome, Request};

use crate::dice::{Micros, SECOND};
use crate::world::World;

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
}
