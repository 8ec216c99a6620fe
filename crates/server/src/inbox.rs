//! A thread's inbox: many send, one takes all that waits.
//!
//! The taker is woken only if it sleeps, and once for everything that arrived meanwhile, so that the cost of a
//! wake-up is shared by a batch. Bounds are the senders' business: each kind of item is limited where it is made
//! (requests in flight, uncommitted bytes), so a full inbox cannot stop a thread that others wait for.

use std::task::{Context, Poll, Waker};
use std::time::Duration;

use parking_lot::{Condvar, Mutex};

pub(crate) struct Inbox<T> {
    state: Mutex<State<T>>,
    arrived: Condvar,
}

struct State<T> {
    items: Vec<T>,
    taker_sleeps: bool,
    /// Of a taker that waits for other things, too.
    taker: Option<Waker>,
}

impl<T> Inbox<T> {
    pub(crate) fn new() -> Inbox<T> {
        Inbox {
            state: Mutex::new(State { items: Vec::new(), taker_sleeps: false, taker: None }),
            arrived: Condvar::new(),
        }
    }

    pub(crate) fn send(&self, item: T) {
        self.push(item);
        self.wake();
    }

    /// Leaves an item without waking the taker.
    pub(crate) fn push(&self, item: T) {
        self.state.lock().items.push(item);
    }

    /// Wakes the taker if something waits for it.
    pub(crate) fn wake(&self) {
        let mut state = self.state.lock();
        if state.items.is_empty() {
            return;
        }
        let (sleeps, taker) = (std::mem::take(&mut state.taker_sleeps), state.taker.take());
        drop(state);
        if sleeps {
            self.arrived.notify_one();
        }
        if let Some(taker) = taker {
            taker.wake();
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.state.lock().items.is_empty()
    }

    /// Ready if something is there, which is left there.
    pub(crate) fn poll_filled(&self, context: &mut Context<'_>) -> Poll<()> {
        let mut state = self.state.lock();
        if !state.items.is_empty() {
            return Poll::Ready(());
        }
        match &mut state.taker {
            Some(taker) => taker.clone_from(context.waker()),
            None => state.taker = Some(context.waker().clone()),
        }
        Poll::Pending
    }

    /// Waits until something is there, and leaves it there.
    pub(crate) fn wait_filled(&self) {
        let mut state = self.state.lock();
        while state.items.is_empty() {
            state.taker_sleeps = true;
            self.arrived.wait(&mut state);
        }
    }

    /// Swaps all that waits into `into`, which must be empty, if there is anything and `is_wanted`; returns whether.
    pub(crate) fn take_all_if(&self, into: &mut Vec<T>, is_wanted: impl FnOnce(&[T]) -> bool) -> bool {
        debug_assert!(into.is_empty());
        let mut state = self.state.lock();
        let takes = !state.items.is_empty() && is_wanted(&state.items);
        if takes {
            std::mem::swap(&mut state.items, into);
        }
        takes
    }

    /// Waits until something is there, at most `timeout`, and swaps all of it into `into`, which must be empty.
    pub(crate) fn take_all(&self, into: &mut Vec<T>, timeout: Option<Duration>) {
        debug_assert!(into.is_empty());
        let mut state = self.state.lock();
        while state.items.is_empty() {
            state.taker_sleeps = true;
            match timeout {
                None => self.arrived.wait(&mut state),
                Some(timeout) => {
                    if self.arrived.wait_for(&mut state, timeout).timed_out() {
                        state.taker_sleeps = false;
                        break;
                    }
                }
            }
        }
        std::mem::swap(&mut state.items, into);
    }

    /// Waits until something is there that `is_wanted`, at most `timeout`, and moves all such into `into`. The rest stays
    /// as it is, for [`Inbox::take_all`].
    pub(crate) fn take_wanted(&self, into: &mut Vec<T>, timeout: Duration, is_wanted: impl Fn(&T) -> bool) {
        let mut state = self.state.lock();
        let nothing_wanted = |state: &mut State<T>| {
            state.taker_sleeps = true;
            !state.items.iter().any(&is_wanted)
        };
        self.arrived.wait_while_for(&mut state, nothing_wanted, timeout);
        state.taker_sleeps = false;
        into.extend(state.items.extract_if(.., |item| is_wanted(item)));
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    #[test]
    fn takes_all_that_waits_in_order() {
        let inbox = Inbox::new();
        inbox.send(1);
        inbox.send(2);
        inbox.send(3);
        let mut taken = vec![];
        inbox.take_all(&mut taken, None);
        assert_eq!(taken, [1, 2, 3]);
    }

    #[test]
    fn gives_up_after_the_timeout() {
        let inbox = Inbox::<u8>::new();
        let mut taken = vec![];
        inbox.take_all(&mut taken, Some(Duration::from_millis(1)));
        assert!(taken.is_empty());
    }

    #[test]
    fn a_taker_that_waits_for_other_things_too_is_woken() {
        let inbox = Arc::new(Inbox::new());
        let sender = inbox.clone();
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let sending = std::thread::spawn(move || (0..1000).for_each(|number| sender.send(number)));
        let (mut all, mut taken) = (vec![], vec![]);
        while all.len() < 1000 {
            runtime.block_on(std::future::poll_fn(|context| inbox.poll_filled(context)));
            inbox.take_all(&mut taken, Some(Duration::ZERO));
            all.append(&mut taken);
        }
        sending.join().unwrap();
        assert_eq!(all, (0..1000).collect::<Vec<_>>());
    }

    #[test]
    fn what_is_wanted_is_taken_out_of_the_midst() {
        let inbox = Arc::new(Inbox::new());
        (1..=4).for_each(|number| inbox.send(number));
        let mut taken = vec![];
        inbox.take_wanted(&mut taken, Duration::MAX, |number| number % 2 == 0);
        assert_eq!(taken, [2, 4]);
        taken.clear();
        let sender = inbox.clone();
        let sending = std::thread::spawn(move || [5, 6, 7].into_iter().for_each(|number| sender.send(number)));
        inbox.take_wanted(&mut taken, Duration::MAX, |number| number % 2 == 0);
        assert_eq!(taken, [6]);
        sending.join().unwrap();
        taken.clear();
        inbox.take_wanted(&mut taken, Duration::ZERO, |number| number % 2 == 0);
        assert!(taken.is_empty());
        inbox.take_all(&mut taken, None);
        assert_eq!(taken, [1, 3, 5, 7]);
    }

    #[test]
    fn nothing_is_lost_between_threads() {
        let inbox = Arc::new(Inbox::new());
        let senders = (0..4).map(|sender| {
            let inbox = inbox.clone();
            std::thread::spawn(move || (0..1000).for_each(|number| inbox.send(sender * 1000 + number)))
        });
        let senders = senders.collect::<Vec<_>>();
        let (mut all, mut taken) = (vec![], vec![]);
        while all.len() < 4000 {
            inbox.take_all(&mut taken, None);
            all.append(&mut taken);
        }
        senders.into_iter().for_each(|sender| sender.join().unwrap());
        all.sort_unstable();
        assert_eq!(all, (0..4000).collect::<Vec<_>>());
    }
}
