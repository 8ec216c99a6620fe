//! What goes to other members and what comes as a whole from them: messages through the network, and the state apart.

use types::{MemberId, Message, MessageKind, SnapshotMeta};

use super::{ANY_LIFE, Life};
use crate::dice::{MS, SECOND};
use crate::snapshot::StateCopy;
use crate::world::{Event, LifeEvent, World};

impl World {
    pub(super) fn send(&mut self, from: MemberId, life: &Life, message: Message) {
        let (to, kind) = (message.to, message.kind);
        self.counts.messages += 1;
        if kind == MessageKind::Snapshot {
            return self.send_snapshot(from, life, message);
        }
        let arrivals = self.network.arrivals(&mut self.dice, self.now, from, to, kind);
        let is_away = self.members.get(&to).is_none_or(|member| member.life.is_none());
        if is_away || self.network.is_cut(from, to) {
            if self.dice.percent(20) {
                self.again(from, life, 10 * MS, LifeEvent::Unreachable(to));
            }
            return;
        }
        for at in arrivals {
            // Most messages die with a connection; some waited at the sender and reach the receiver's next life.
            let is_bound = self.dice.percent(70);
            let number = self.members[&to].life.as_ref().filter(|_| is_bound).map_or(ANY_LIFE, |life| life.number);
            self.schedule_at(at, Event::Life(to, number, LifeEvent::Message(Box::new(message.clone()))));
        }
    }

    /// The state follows the message. As in the server it is the newest there is, and the message says of what.
    fn send_snapshot(&mut self, from: MemberId, life: &Life, mut message: Message) {
        let to = message.to;
        let copy = life.backend.commit().map_err(|error| error.to_string()).and_then(|_| StateCopy::of(&life.backend));
        let copy = match copy {
            Ok(copy) => copy,
            Err(why) => {
                self.note("snapshot fails", (from.0, to.0, why));
                return self.again(from, life, MS, LifeEvent::SnapshotSent { to, arrived: false });
            }
        };
        let copy = self.spoil_copy(copy);
        let state = life.machine.shared().membership().conf_state();
        let (index, term) = (life.machine.applied(), copy.applied.1);
        message.snapshot = Some(SnapshotMeta { index, term, voters: state.voters, learners: state.learners });
        self.note("snapshot sent", (from.0, to.0, index.0));
        let lasts = 20 * MS + copy.bytes() / 10 + self.dice.about(SECOND);
        let is_lost = self.network.is_cut(from, to) || self.dice.percent(10);
        let receiver = self.members.get(&to).and_then(|member| Some(member.life.as_ref()?.number));
        match receiver.filter(|_| !is_lost) {
            Some(number) => {
                let event = LifeEvent::Snapshot(Box::new(message), Box::new(copy));
                self.schedule(lasts, Event::Life(to, number, event));
                // If the receiver ends meanwhile, the sender finds out.
                self.again(from, life, lasts + 10 * SECOND, LifeEvent::SnapshotSent { to, arrived: false });
            }
            None => self.again(from, life, lasts, LifeEvent::SnapshotSent { to, arrived: false }),
        }
    }

    pub(super) fn take_snapshot(&mut self, id: MemberId, life: &mut Life, message: Message, copy: &StateCopy) {
        let from = message.from;
        let written =
            if life.receives_snapshot { Err("another is being installed".to_owned()) } else { copy.write(&life.disk) };
        let arrived = written.is_ok();
        if let Err(why) = written {
            self.note("snapshot refused", (id.0, from.0, why));
        }
        let back = self.dice.between(1, 5) * MS;
        self.schedule_for(from, back, LifeEvent::SnapshotSent { to: id, arrived });
        if arrived {
            life.receives_snapshot = true;
            self.note("snapshot received", (id.0, from.0, copy.applied.0.0));
            self.take_message(id, life, message);
            // Raft may have had no use for it; then nothing waits for its place.
            life.receives_snapshot = life.is_restoring();
        }
    }
}
