//! One watch stream: its watchers and the responses that wait for the transport.

use std::collections::{BTreeSet, VecDeque};

use hashbrown::HashMap;

use crate::arena::Key;
use crate::hub::HubOptions;
use crate::message::Message;

#[derive(Default)]
pub(crate) struct Stream {
    pub(crate) watchers: HashMap<i64, Key>,
    /// Watchers that are no longer live, by the revision they need next.
    pub(crate) behind: BTreeSet<(i64, Key)>,
    /// How many watchers were cancelled by compaction and not yet by the client.
    pub(crate) compacted_count: usize,
    pub(crate) loading: Option<Loading>,
    /// No watcher of the stream has a higher start revision; it may be too high after a cancel.
    pub(crate) start_max: i64,
    next_id: i64,
    queue: VecDeque<Message>,
    /// The number of the first response in the queue, counted over the stream's life.
    queue_first: u64,
    held_bytes: usize,
    /// A response that is being sent in parts: how many of its events are sent.
    split: Option<(Message, usize)>,
    /// Whether the transport knows of output: it was told, or has not yet been answered "nothing more".
    pub(crate) polled: bool,
}

/// A history load that is under way.
pub(crate) struct Loading {
    pub(crate) number: u64,
    pub(crate) members: Vec<Key>,
    pub(crate) to: i64,
}

/// A queue that grew beyond this many responses gives its memory back when it is drained.
const QUEUE_KEPT_MAX: usize = 16;

impl Stream {
    /// The lowest id never chosen here before that is not in use.
    pub(crate) fn choose_id(&mut self) -> i64 {
        while self.watchers.contains_key(&self.next_id) {
            self.next_id += 1;
        }
        self.next_id += 1;
        self.next_id - 1
    }

    /// Events that wait, counted one by one.
    pub(crate) fn events_waiting(&self) -> usize {
        let in_parts = self.split.as_ref().map_or(0, |(message, sent)| message.event_count() - sent);
        in_parts + self.queue.iter().map(Message::event_count).sum::<usize>()
    }

    pub(crate) fn queue_len(&self) -> usize {
        self.queue.len()
    }

    /// Whether one more response with events may wait here. A stream that is drained always has room, whatever the
    /// options: else its watchers would go on for ever without getting anywhere.
    pub(crate) fn has_room(&self, options: &HubOptions) -> bool {
        self.queue.len() < self.responses_max(options) && self.held_bytes < options.held_bytes_max.max(1)
    }

    /// Whether so much has been sent that watchers which fell behind may go on.
    pub(crate) fn is_drained(&self, options: &HubOptions) -> bool {
        self.queue.len() <= self.responses_max(options) / 2 && self.held_bytes <= options.held_bytes_max / 2
    }

    /// Two for each watcher, however many: a change that all of them watch is no reason to fall behind, and what waits
    /// is in proportion to what the client has asked for.
    fn responses_max(&self, options: &HubOptions) -> usize {
        options.responses_max.max(2 * self.watchers.len())
    }

    /// Appends a response and returns its number.
    pub(crate) fn push(&mut self, message: Message) -> u64 {
        self.held_bytes += message.held_bytes();
        self.queue.push_back(message);
        self.queue_first + self.queue.len() as u64 - 1
    }

    /// Adds an event that holds `bytes` to the response with this number, through `add`.
    pub(crate) fn extend(&mut self, number: u64, bytes: usize, add: impl FnOnce(&mut Message)) {
        let position = (number - self.queue_first) as usize;
        add(self.queue.get_mut(position).expect("a response is extended before any is taken"));
        self.held_bytes += bytes;
    }

    /// The next message to send: a whole response, or a part of one larger than `fragment_bytes_max`.
    pub(crate) fn pop(&mut self, fragment_bytes_max: usize) -> Option<Message> {
        if self.split.is_some() {
            return self.next_part(fragment_bytes_max);
        }
        let message = self.queue.pop_front()?;
        self.queue_first += 1;
        self.held_bytes -= message.held_bytes();
        if self.queue.is_empty() && self.queue.capacity() > QUEUE_KEPT_MAX {
            self.queue = VecDeque::new();
        }
        if message.splittable && message.events_len() >= fragment_bytes_max {
            self.split = Some((message, 0));
            return self.next_part(fragment_bytes_max);
        }
        Some(message)
    }

    /// As etcd cuts: events are added while the part stays below the limit, one at least.
    fn next_part(&mut self, fragment_bytes_max: usize) -> Option<Message> {
        let (message, sent) = self.split.take()?;
        let (mut bytes, mut end) = (0, sent);
        let mut more = false;
        for event in message.events().skip(sent) {
            bytes += event.field_len(message.prev_kv);
            if end > sent && bytes >= fragment_bytes_max {
                more = true;
                break;
            }
            end += 1;
        }
        let part = message.slice(sent, end, more);
        if more {
            self.split = Some((message, end));
        }
        Some(part)
    }
}
