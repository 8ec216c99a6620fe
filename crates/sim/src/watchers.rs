//! Clients that watch, lose their connection now and then, and go on where they were.

use checker::{Received, Response, WatchSession};
use types::{KeyRange, MemberId};
use watch::{CreateRequest, HistoryLoad, Message, Next, StreamId};

use crate::dice::{MS, SECOND};
use crate::life::{Life, OpenStream};
use crate::planted::Plant;
use crate::translate;
use crate::world::{Event, LifeEvent, World};

pub(crate) struct Watcher {
    keys: KeyRange,
    previous: bool,
    no_puts: bool,
    no_deletes: bool,
    pub(crate) sessions: Vec<WatchSession>,
    /// The session that is open, and where.
    pub(crate) open: Option<(usize, MemberId)>,
}

impl World {
    pub(crate) fn begin_watchers(&mut self) {
        for watcher in 0..self.plan.watchers as usize {
            let others = [KeyRange::prefix(b"k"), KeyRange::prefix(b"l"), KeyRange::single("k1")];
            let keys = match self.dice.pick(&others) {
                Some(keys) if watcher > 0 => keys.clone(),
                _ => KeyRange::all(),
            };
            self.watchers.push(Watcher {
                keys,
                previous: self.dice.percent(50),
                no_puts: watcher > 0 && self.dice.percent(15),
                no_deletes: watcher > 0 && self.dice.percent(15),
                sessions: Vec::new(),
                open: None,
            });
            let after = SECOND + self.dice.below(3 * SECOND);
            self.schedule(after, Event::WatchConnect { watcher });
        }
    }

    /// Opens a watch at some member, from where the last one came to.
    pub(crate) fn watch_connect(&mut self, watcher: usize) {
        let running = self.running();
        let at = self.dice.pick(&running).copied();
        let at = at.filter(|id| self.members[id].backlog.is_none());
        let Some(at) = at.filter(|_| self.watchers[watcher].open.is_none()) else {
            if self.watchers[watcher].open.is_none() {
                self.schedule(500 * MS, Event::WatchConnect { watcher });
            }
            return;
        };
        let start = self.next_start(watcher);
        let watches = &mut self.watchers[watcher];
        let session = watches.sessions.len();
        watches.sessions.push(WatchSession {
            previous: watches.previous,
            no_puts: watches.no_puts,
            no_deletes: watches.no_deletes,
            ..WatchSession::new(watches.keys.clone(), start)
        });
        watches.open = Some((session, at));
        let request = CreateRequest {
            start_revision: start,
            progress_notify: true,
            prev_kv: watches.previous,
            no_put: watches.no_puts,
            no_delete: watches.no_deletes,
            ..CreateRequest::new(watches.keys.clone())
        };
        self.note("watch", (watcher, at.0, start));
        self.with_life(at, |world, life| {
            let now = world.members[&at].clock.monotonic(world.now);
            let stream = life.hub.open_stream();
            let open = OpenStream { watcher, session, arrives: world.now, is_blocked: false };
            life.streams.insert(stream, open);
            life.hub.create(stream, &request, now);
            world.serve_streams(at, life);
        });
        let lasts = self.dice.about(40 * SECOND) + SECOND;
        self.schedule(lasts, Event::WatchLost { watcher, session });
    }

    /// After all that was seen; sometimes from the present on, as who starts anew does.
    fn next_start(&mut self, watcher: usize) -> i64 {
        let afresh = self.dice.percent(10);
        let sessions = &self.watchers[watcher].sessions;
        let last = sessions.iter().rev().find_map(WatchSession::resume_from);
        let compacted = sessions.last().and_then(|session| match session.responses.last()?.received {
            Received::Compacted(revision) => Some(revision),
            _ => None,
        });
        match (afresh, compacted.or(last)) {
            (false, Some(next)) => next,
            _ => 0,
        }
    }

    pub(crate) fn watch_lost(&mut self, watcher: usize, session: usize) {
        let Some((_, at)) = self.watchers[watcher].open.filter(|(open, _)| *open == session) else { return };
        self.watchers[watcher].open = None;
        self.note("watch lost", (watcher, session));
        self.with_life(at, |_, life| {
            let stream = life.streams.iter().find(|(_, open)| (open.watcher, open.session) == (watcher, session));
            if let Some(stream) = stream.map(|(stream, _)| *stream) {
                life.streams.remove(&stream);
                life.hub.close_stream(stream);
            }
        });
        let after = self.dice.about(SECOND);
        self.schedule(after, Event::WatchConnect { watcher });
    }

    pub(crate) fn watch_told(&mut self, watcher: usize, session: usize, response: Response) {
        if self.watchers[watcher].open.is_none_or(|(open, _)| open != session) {
            return;
        }
        if let Received::Events { events, .. } = &response.received {
            self.counts.watch_events += events.len() as u64;
        }
        self.note("told", (watcher, session, response.revision));
        let has_ended = matches!(response.received, Received::Compacted(_) | Received::Cancelled);
        let session_of = &mut self.watchers[watcher].sessions[session];
        session_of.responses.push(Response { at: self.now, ..response });
        if has_ended {
            self.watch_lost(watcher, session);
        }
    }

    /// Takes out of the hub whatever the streams can take.
    pub(crate) fn serve_streams(&mut self, id: MemberId, life: &mut Life) {
        let mut ready = Vec::new();
        life.hub.take_ready(&mut ready);
        for stream in ready {
            self.serve_stream(id, life, stream);
        }
    }

    fn serve_stream(&mut self, id: MemberId, life: &mut Life, stream: StreamId) {
        if life.streams.get(&stream).is_none_or(|open| open.is_blocked) {
            return;
        }
        if !self.is_ending && self.dice.percent(1) {
            // The client does not read for a while.
            let after = self.dice.between(100 * MS, 8 * SECOND);
            if let Some(open) = life.streams.get_mut(&stream) {
                open.is_blocked = true;
                let watcher = open.watcher;
                let number = life.number;
                self.schedule(after, Event::Life(id, number, LifeEvent::Unblock { watcher }));
            }
            return;
        }
        loop {
            match life.hub.next_message(stream) {
                Next::Message(message) => self.forward(life, stream, &message),
                Next::Load(load) => {
                    let after = self.dice.between(100, 20_000);
                    self.schedule(after, Event::Life(id, life.number, LifeEvent::Loaded(load)));
                }
                Next::Idle => return,
            }
        }
    }

    pub(crate) fn unblock(&mut self, id: MemberId, life: &mut Life, watcher: usize) {
        let blocked = life.streams.iter_mut().filter(|(_, open)| open.watcher == watcher && open.is_blocked);
        let streams: Vec<StreamId> = blocked
            .map(|(stream, open)| {
                open.is_blocked = false;
                *stream
            })
            .collect();
        for stream in streams {
            if self.dice.percent(30) {
                life.hub.request_progress(stream);
            }
            self.serve_stream(id, life, stream);
        }
        self.serve_streams(id, life);
    }

    fn forward(&mut self, life: &mut Life, stream: StreamId, message: &Message) {
        let Some(open) = life.streams.get_mut(&stream) else { return };
        let received = if message.canceled && message.compact_revision > 0 {
            Received::Compacted(message.compact_revision)
        } else if message.canceled {
            Received::Cancelled
        } else if message.created {
            Received::Created
        } else {
            let events: Vec<_> = message.events().map(|event| translate::event(event, message.prev_kv)).collect();
            match events.is_empty() {
                true => Received::Progress,
                false => Received::Events { events, is_fragment: message.fragment },
            }
        };
        let (watcher, session) = (open.watcher, open.session);
        let at = (self.now + self.dice.between(50, 3000)).max(open.arrives + 1);
        open.arrives = at;
        let mut response = Response { at, revision: message.revision, received };
        if !self.spoil_response(watcher, &mut response) {
            return;
        }
        self.schedule_at(at, Event::WatchTold { watcher, session, response });
    }

    /// Plants faults of watches; returns whether the response is sent at all.
    fn spoil_response(&mut self, watcher: usize, response: &mut Response) -> bool {
        let is_struck = watcher == 0 && self.now > 20 * SECOND && self.dice.percent(2);
        let Some(plant) = self.plant.filter(|_| is_struck) else { return true };
        match (&mut response.received, plant) {
            (Received::Events { events, .. }, Plant::DropWatchEvent) => {
                self.planted += 1;
                events.pop();
                !events.is_empty()
            }
            (Received::Events { events, .. }, Plant::RepeatWatchEvent) => {
                self.planted += 1;
                events.extend(events.last().cloned());
                true
            }
            (Received::Events { events, .. }, Plant::ReorderWatchEvents) if events.len() > 1 => {
                self.planted += 1;
                events.reverse();
                true
            }
            (Received::Events { events, .. }, Plant::WrongPrevious) => {
                self.planted += 1;
                if let Some(last) = events.last_mut() {
                    last.previous = Some(last.kv.clone());
                }
                true
            }
            (Received::Progress, Plant::ProgressAhead) => {
                self.planted += 1;
                response.revision += 1;
                true
            }
            _ => true,
        }
    }

    pub(crate) fn history_loaded(&mut self, id: MemberId, life: &mut Life, load: &HistoryLoad) {
        let history = server::read_history(life.machine.shared().view(), load);
        life.hub.history_loaded(load.ticket, history);
        self.serve_streams(id, life);
    }
}
