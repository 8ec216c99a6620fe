//! How answers come back to a network worker.
//!
//! A worker runs its requests on one thread. What they wait for is done by other threads, which put their answers
//! into the worker's [`Mailbox`]: one lock and at most one wake-up for a whole batch of answers. On the worker, a
//! task ([`Desk::sort_mail`]) hands each to the request that waits for it, without any further crossing of threads.

use std::cell::RefCell;
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use parking_lot::Mutex;
use slab::Slab;
use tokio::sync::Notify;

use crate::error::Error;

/// Where an answer of type `T` is to go.
#[derive(Debug)]
pub(crate) struct Address<T> {
    mailbox: Arc<Mailbox<T>>,
    slot: SlotId,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct SlotId {
    key: usize,
    generation: u64,
}

#[derive(Debug)]
struct Letter<T> {
    slot: SlotId,
    answer: Result<T, Error>,
}

/// The other threads' end.
#[derive(Debug)]
pub(crate) struct Mailbox<T> {
    letters: Mutex<Vec<Letter<T>>>,
    arrived: Notify,
}

/// What goes to one worker.
type Post<T> = (Arc<Mailbox<T>>, Vec<Letter<T>>);

/// Answers on their way out, gathered so that each worker is woken once.
pub(crate) struct Outgoing<T>(Vec<Post<T>>);

impl<T> Default for Outgoing<T> {
    fn default() -> Self {
        Outgoing(Vec::new())
    }
}

impl<T> Outgoing<T> {
    pub(crate) fn add(&mut self, to: Address<T>, answer: Result<T, Error>) {
        let letter = Letter { slot: to.slot, answer };
        match self.0.iter_mut().find(|(mailbox, _)| Arc::ptr_eq(mailbox, &to.mailbox)) {
            Some((_, letters)) => letters.push(letter),
            None => self.0.push((to.mailbox, vec![letter])),
        }
    }

    /// Delivers everything; the gathered buffers stay for the next batch.
    pub(crate) fn deliver(&mut self) {
        for (mailbox, letters) in &mut self.0 {
            if letters.is_empty() {
                continue;
            }
            let mut waiting = mailbox.letters.lock();
            let was_empty = waiting.is_empty();
            waiting.append(letters);
            drop(waiting);
            if was_empty {
                mailbox.arrived.notify_one();
            }
        }
    }
}

/// The worker's end: the requests that wait.
pub(crate) struct Desk<T> {
    mailbox: Arc<Mailbox<T>>,
    slots: RefCell<Slots<T>>,
}

struct Slots<T> {
    slab: Slab<Slot<T>>,
    generation: u64,
    /// Counts calls of [`Desk::turn_clock`].
    clock: u64,
}

struct Slot<T> {
    generation: u64,
    answer: Option<Result<T, Error>>,
    waker: Option<Waker>,
    /// By `Slots::clock`; the request is told that it timed out when the clock gets there.
    deadline: u64,
}

impl<T> Desk<T> {
    pub(crate) fn new() -> Rc<Desk<T>> {
        let mailbox = Arc::new(Mailbox { letters: Mutex::new(Vec::new()), arrived: Notify::new() });
        let slots = RefCell::new(Slots { slab: Slab::new(), generation: 0, clock: 0 });
        Rc::new(Desk { mailbox, slots })
    }

    /// Opens a place to wait in, for at least `turns` turns of the clock: gives the address to pass on, and the
    /// future to await. Dropping the future closes the place; an answer that comes later is thrown away.
    pub(crate) fn open(self: &Rc<Self>, turns: u64) -> (Address<T>, Waiting<T>) {
        let mut slots = self.slots.borrow_mut();
        slots.generation += 1;
        let (generation, deadline) = (slots.generation, slots.clock + turns + 1);
        let key = slots.slab.insert(Slot { generation, answer: None, waker: None, deadline });
        let slot = SlotId { key, generation };
        (Address { mailbox: self.mailbox.clone(), slot }, Waiting { desk: self.clone(), slot })
    }

    /// Hands out letters for ever; the worker runs this as one of its tasks.
    pub(crate) async fn sort_mail(self: Rc<Self>) {
        let mut letters = Vec::new();
        loop {
            self.mailbox.arrived.notified().await;
            std::mem::swap(&mut *self.mailbox.letters.lock(), &mut letters);
            for Letter { slot, answer } in letters.drain(..) {
                self.answer(slot, answer);
            }
        }
    }

    fn answer(&self, to: SlotId, answer: Result<T, Error>) {
        let mut slots = self.slots.borrow_mut();
        let waker = match slots.slab.get_mut(to.key) {
            Some(slot) if slot.generation == to.generation => {
                slot.answer = Some(answer);
                slot.waker.take()
            }
            _ => None,
        };
        drop(slots);
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    /// Lets one unit of time pass; whoever has waited out their turns is answered with `late`.
    pub(crate) fn turn_clock(&self, late: impl Fn() -> Error) {
        let mut slots = self.slots.borrow_mut();
        slots.clock += 1;
        let clock = slots.clock;
        let mut wakers = Vec::new();
        for (_, slot) in &mut slots.slab {
            if slot.deadline <= clock && slot.answer.is_none() {
                slot.answer = Some(Err(late()));
                wakers.extend(slot.waker.take());
            }
        }
        drop(slots);
        wakers.into_iter().for_each(Waker::wake);
    }
}

/// Resolves to the answer.
pub(crate) struct Waiting<T> {
    desk: Rc<Desk<T>>,
    slot: SlotId,
}

impl<T> Future for Waiting<T> {
    type Output = Result<T, Error>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let mut slots = self.desk.slots.borrow_mut();
        let slot = slots.slab.get_mut(self.slot.key).expect("the place stays open while its future lives");
        match slot.answer.take() {
            Some(answer) => Poll::Ready(answer),
            None => {
                slot.waker = Some(context.waker().clone());
                Poll::Pending
            }
        }
    }
}

impl<T> Drop for Waiting<T> {
    fn drop(&mut self) {
        self.desk.slots.borrow_mut().slab.remove(self.slot.key);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(test: impl Future<Output = ()>) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        tokio::task::LocalSet::new().block_on(&runtime, test);
    }

    #[test]
    fn an_answer_from_another_thread_reaches_its_request() {
        run(async {
            let desk = Desk::<u32>::new();
            tokio::task::spawn_local(desk.clone().sort_mail());
            let (first, first_waiting) = desk.open(10);
            let (second, second_waiting) = desk.open(10);
            std::thread::spawn(move || {
                let mut outgoing = Outgoing::default();
                outgoing.add(second, Ok(2));
                outgoing.add(first, Err(Error::Stopped));
                outgoing.deliver();
            });
            assert_eq!(second_waiting.await.unwrap(), 2);
            assert!(matches!(first_waiting.await, Err(Error::Stopped)));
        });
    }

    #[test]
    fn an_answer_to_a_request_that_went_away_reaches_nobody_else() {
        run(async {
            let desk = Desk::<u32>::new();
            let (gone, waiting) = desk.open(10);
            drop(waiting);
            let (_address, waiting) = desk.open(0);
            let mut outgoing = Outgoing::default();
            outgoing.add(gone, Ok(1));
            outgoing.deliver();
            tokio::task::spawn_local(desk.clone().sort_mail());
            tokio::task::yield_now().await;
            desk.turn_clock(|| Error::Timeout);
            assert!(matches!(waiting.await, Err(Error::Timeout)));
        });
    }
}
