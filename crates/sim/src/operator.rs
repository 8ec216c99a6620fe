//! Whoever looks after the cluster: adds members as learners, promotes them, removes and replaces others.
//!
//! One step is asked for until it is done. A fickle operator is hastier, and leaves a step where its leader was lost: then
//! a change may be left in the log of one leader, while the next is asked for another.

use membership::{Change, ConfState};
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
    /// Who was asked last for the step that is at work.
    asked: Option<MemberId>,
    /// Some were left, and may be done yet.
    pub(crate) has_left_steps: bool,
    /// Looks after the cluster from time to time.
    is_at_work: bool,
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
        let is_fickle = self.plan.fickle && !self.faults_have_ended();
        let (haste, pause) = if is_fickle { (50, 500 * MS) } else { (10, 2 * SECOND) };
        if is_fickle {
            self.leave_step();
        }
        self.retire_removed();
        self.recall_retired();
        let may_begin = self.plan.faults.membership && !self.faults_have_ended();
        if self.operator.is_idle() && may_begin && self.dice.percent(haste) {
            self.begin_job();
        }
        if let (Some(step), Some(leader)) = (self.operator.steps.first().copied(), self.leader()) {
            self.work_at(step, leader);
        }
        self.schedule(pause, Event::Operate);
    }

    /// A removal that was left may have been done all the same.
    fn retire_removed(&mut self) {
        let Some(leader) = self.leader() else { return };
        let Some(membership) = self.members[&leader].life.as_ref().map(|life| life.machine.shared().membership())
        else {
            return;
        };
        let removed = self.members.iter().filter(|(id, member)| !member.is_gone && membership.is_removed(**id));
        for id in removed.map(|(id, _)| *id).collect::<Vec<_>>() {
            self.schedule(3 * SECOND, Event::Retire(id));
        }
    }

    /// Something else is going to be done, if the one who was asked for a step leads no longer. What is lost for good has
    /// to be taken out, though.
    fn leave_step(&mut self) {
        let Some(asked) = self.operator.asked.filter(|asked| self.leader().is_some_and(|leader| leader != *asked))
        else {
            return;
        };
        let may_leave = match self.operator.steps.first() {
            Some(Step::Promote(_)) => true,
            Some(Step::Remove(id)) => self.members.get(id).is_some_and(|member| !member.is_gone),
            Some(Step::AddLearner(_)) | None => false,
        };
        if may_leave && self.dice.percent(60) {
            self.counts.fault("change of members left");
            self.note("step left", asked.0);
            self.operator.has_left_steps = true;
            self.step_done();
        }
    }

    fn begin_job(&mut self) {
        let there: Vec<MemberId> =
            self.members.iter().filter(|(_, member)| !member.is_gone).map(|(id, _)| *id).collect();
        let some = self.dice.pick(&there).copied();
        // Who may be lost goes before any other does: a minority must not become half of fewer.
        let spoilt = there.iter().copied().find(|id| self.members[id].is_spoilt());
        let some = spoilt.or(some);
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
        self.operator.steps.retain(|step| !matches!(step, Step::Promote(other) if *other == id));
        self.operator.steps.insert(0, Step::Remove(id));
        self.operator.asked = None;
        self.operator.add();
        if !self.operator.is_at_work && !self.plan.faults.membership {
            self.operator.is_at_work = true;
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
            // The other would need the vote of one who is gone, if it forgot the removal in a crash; and it gets none if the
            // leader's log is longer.
            Step::Remove(id)
                if id == leader && self.plant.is_none() && self.is_one_of_few(&membership.conf_state()) =>
            {
                return self.step_done();
            }
            Step::Remove(id) => Change::Remove(id),
        };
        self.note("change members", (leader.0, change.member().0));
        self.disturbed.push(self.now);
        self.operator.asked = Some(leader);
        if self.plan.fickle && !self.faults_have_ended() && self.dice.percent(30) {
            // The change is the first that does not get through.
            self.faults.count += 1;
            self.partition();
        }
        self.with_life(leader, |world, life| {
            let request = life.take_id();
            // Refused or lost, it is asked for again.
            let _ = life.driver.propose_conf_change(machine::encode_conf_change(request, &change));
            world.turn(leader, life);
        });
    }

    /// Whether there are two voters, or may be once a change that was left is made.
    fn is_one_of_few(&self, members: &ConfState) -> bool {
        members.voters.len() <= if self.operator.has_left_steps { 3 } else { 2 }
    }

    fn step_done(&mut self) {
        self.operator.steps.remove(0);
        self.operator.asked = None;
    }

    /// A removed member goes, if another knows that it was removed. Otherwise it is started again: of two voters, the one who
    /// is left can learn it from nobody else.
    pub(crate) fn retire(&mut self, id: MemberId) {
        self.note("retire", id.0);
        self.kill(id);
        let is_known = self.is_removal_known(id);
        let Some(member) = self.members.get_mut(&id).filter(|member| !member.is_gone) else { return };
        if is_known {
            member.is_gone = true;
            // What rotted is of no use. What else is done to it is still done when it is recalled.
            member.is_retired = member.excuse != Some("rot");
        } else {
            self.return_for_a_while(id);
        }
    }

    /// Who knew of a removal may have forgotten it in a crash; then the cluster may need the vote of who was removed.
    fn recall_retired(&mut self) {
        if self.leader().is_some() {
            return;
        }
        let retired = self.members.iter().filter(|(_, member)| member.is_retired).map(|(id, _)| *id);
        for id in retired.collect::<Vec<_>>() {
            if !self.is_removal_known(id) {
                self.note("recall", id.0);
                let member = self.members.get_mut(&id).expect("it was just found");
                member.is_gone = false;
                member.is_retired = false;
                self.return_for_a_while(id);
            }
        }
    }

    fn return_for_a_while(&mut self, id: MemberId) {
        self.schedule(SECOND, Event::Restart(id));
        self.schedule(3 * SECOND, Event::Retire(id));
    }

    /// Whether another member that runs has it that `id` was removed.
    fn is_removal_known(&self, id: MemberId) -> bool {
        let knows = |member: &Member| {
            member.life.as_ref().is_some_and(|life| life.machine.shared().membership().is_removed(id))
        };
        self.members.iter().any(|(other, member)| *other != id && knows(member))
    }
}
