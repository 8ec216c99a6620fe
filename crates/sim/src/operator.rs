//! Whoever looks after the cluster: adds members as learners, promotes them, removes and replaces others.

use membership::Change;
use types::MemberId;

use crate::boot;
use crate::dice::{MS, SECOND};
use crate::world::{Event, Member, World};

#[derive(Default)]
pub(crate) struct Operator {
    /// How many were added.
    added: u64,
    /// What is being done, step by step; the first is at work.
    steps: Vec<Step>,
}

#[derive(Clone, Copy)]
enum Step {
    AddLearner(MemberId),
    Promote(MemberId),
    Remove(MemberId),
}

impl Operator {
    pub(crate) fn is_idle(&self) -> bool {
        self.steps.is_empty()
    }

    fn add(&mut self) {
        self.added += 1;
        let id = MemberId(self.added);
        self.steps.extend([Step::AddLearner(id), Step::Promote(id)]);
    }
}

impl World {
    /// Looks whether the step at work is done, and does it again if not.
    pub(crate) fn operate(&mut self) {
        if self.operator.is_idle() && !self.faults_have_ended() && self.plan.faults.membership && self.dice.percent(10)
        {
            self.begin_job();
        }
        if let (Some(step), Some(leader)) = (self.operator.steps.first().copied(), self.leader()) {
            self.work_at(step, leader);
        }
        self.schedule(2 * SECOND, Event::Operate);
    }

    fn begin_job(&mut self) {
        let there: Vec<MemberId> =
            self.members.iter().filter(|(_, member)| !member.is_gone).map(|(id, _)| *id).collect();
        let some = self.dice.pick(&there).copied();
        let may_shrink = self.plan.shrinks && self.dice.percent(50);
        match there.len() {
            2..=3 if may_shrink => self.operator.steps.extend(some.map(Step::Remove)),
            ..=3 => {
                self.operator.add();
                if self.dice.percent(60) {
                    self.operator.steps.extend(some.map(Step::Remove));
                }
            }
            4 if self.dice.percent(50) => self.operator.add(),
            _ => self.operator.steps.extend(some.map(Step::Remove)),
        }
    }

    /// A member whose data is lost is taken out, and another added.
    pub(crate) fn replace(&mut self, id: MemberId) {
        if let Some(member) = self.members.get_mut(&id) {
            member.is_gone = true;
            member.excuse = None;
        }
        let was_idle = self.operator.is_idle();
        self.operator.steps.retain(|step| !matches!(step, Step::Promote(other) if *other == id));
        self.operator.steps.insert(0, Step::Remove(id));
        self.operator.add();
        if was_idle && !self.plan.faults.membership {
            self.schedule(SECOND, Event::Operate);
        }
    }

    fn work_at(&mut self, step: Step, leader: MemberId) {
        let Some(membership) = self.members[&leader].life.as_ref().map(|life| life.machine.shared().membership())
        else {
            return;
        };
        let change = match step {
            Step::AddLearner(id) if membership.member(id).is_some() => {
                if !self.members.contains_key(&id) {
                    self.counts.fault("member added");
                    let local = self.dice.below(1000 * SECOND);
                    self.members.insert(id, Member::new(local, None));
                    self.schedule(100 * MS, Event::Restart(id));
                }
                return self.step_done();
            }
            Step::AddLearner(id) => Change::Add(boot::learner(id)),
            Step::Promote(id) => match membership.member(id) {
                Some(member) if member.is_learner => {
                    let (theirs, ours) = (self.applied(id), self.applied(leader));
                    // Nine tenths of the leader's log, as etcd has it.
                    let is_ready = theirs.zip(ours).is_some_and(|(theirs, ours)| theirs.0 * 10 >= ours.0 * 9);
                    if !is_ready {
                        return;
                    }
                    Change::Promote(id)
                }
                _ => {
                    self.counts.fault("member promoted");
                    return self.step_done();
                }
            },
            Step::Remove(id) if membership.is_removed(id) => {
                self.counts.fault("member removed");
                let after = self.dice.about(3 * SECOND);
                self.schedule(after, Event::Retire(id));
                return self.step_done();
            }
            Step::Remove(id) => Change::Remove(id),
        };
        self.note("change members", (leader.0, change.member().0));
        self.disturbed.push(self.now);
        self.with_life(leader, |world, life| {
            let request = life.take_id();
            // Refused or lost, it is asked for again.
            let _ = life.driver.propose_conf_change(machine::encode_conf_change(request, &change));
            world.turn(leader, life);
        });
    }

    fn step_done(&mut self) {
        self.operator.steps.remove(0);
    }

    /// A removed member goes for good.
    pub(crate) fn retire(&mut self, id: MemberId) {
        self.note("retire", id.0);
        self.kill(id);
        if let Some(member) = self.members.get_mut(&id) {
            member.is_gone = true;
            member.excuse = None;
        }
    }
}
