//! Telling clients how far they have got when there is nothing else to tell.

use env::Monotonic;

use super::{Hub, NO_WATCHER, StreamId};
use crate::arena::Key;
use crate::message::Message;
use crate::watcher::State;

impl Hub {
    /// Answers a client's progress request, with `watch_id` -1, if every watcher of the stream is live and has reached
    /// its start revision; otherwise, and without watchers, there is no answer and the client asks again.
    ///
    /// A watcher that was cancelled by compaction counts as not live until the client cancels it, as in etcd.
    pub fn request_progress(&mut self, stream: StreamId) {
        self.advance();
        let current = self.current();
        let Some(held) = self.streams.get_mut(stream.0) else { return };
        let all_live = held.behind.is_empty() && held.compacted_count == 0;
        if held.watchers.is_empty() || !all_live {
            return;
        }
        if held.start_max > current {
            let starts = held.watchers.values().filter_map(|&key| self.watchers.get(key)).map(|watcher| watcher.start);
            held.start_max = starts.max().unwrap_or(0);
            if held.start_max > current {
                return;
            }
        }
        self.queue(stream.0, Message { watch_id: NO_WATCHER, revision: current, ..Message::default() });
    }

    /// When [`Hub::tick`] is to be called next; `None` if no watcher waits for a notice.
    pub fn next_tick(&self) -> Option<Monotonic> {
        self.progress_due.first().map(|&(due, _)| due)
    }

    /// Queues a progress notice for every watcher that asked for them and had no event for the last interval.
    pub fn tick(&mut self, now: Monotonic) {
        if self.next_tick().is_none_or(|due| due > now) {
            return;
        }
        self.advance();
        while let Some(&(due, key)) = self.progress_due.first() {
            if due > now {
                return;
            }
            self.notify_progress(key);
            self.arm_progress(key, now);
        }
    }

    /// Sets the watcher's next notice one interval after `now`.
    pub(super) fn arm_progress(&mut self, key: Key, now: Monotonic) {
        let Some(watcher) = self.watchers.get_mut(key) else { return };
        if let Some(due) = watcher.progress_due {
            self.progress_due.remove(&(due, key));
        }
        let due = now.plus(self.options.progress_notify_interval);
        watcher.progress_due = Some(due);
        self.progress_due.insert((due, key));
    }

    fn notify_progress(&mut self, key: Key) {
        let current = self.current();
        let Some(watcher) = self.watchers.get_mut(key) else { return };
        let was_active = std::mem::take(&mut watcher.active);
        let is_live = matches!(watcher.state, State::Live { .. });
        if was_active || !is_live || watcher.start > current {
            return;
        }
        let (stream, watch_id) = (watcher.stream, watcher.id);
        if self.streams.get(stream).is_some_and(|held| held.has_room(&self.options)) {
            self.queue(stream, Message { watch_id, revision: current, ..Message::default() });
        }
    }
}
