//! The tasks of one transport: they end with it.

use std::cell::RefCell;
use std::future::Future;
use std::rc::Rc;

use tokio::task::{AbortHandle, JoinSet};

/// Starts tasks on this thread's `LocalSet`.
#[derive(Clone, Default)]
pub(crate) struct Tasks(Rc<RefCell<JoinSet<()>>>);

impl Tasks {
    pub(crate) fn spawn(&self, task: impl Future<Output = ()> + 'static) -> AbortHandle {
        let mut tasks = self.0.borrow_mut();
        while tasks.try_join_next().is_some() {}
        tasks.spawn_local(task)
    }

    /// Ends all of them once the guard goes: they hold what holds them.
    pub(crate) fn guard(&self) -> impl Drop + use<> {
        Guard(self.clone())
    }
}

struct Guard(Tasks);

impl Drop for Guard {
    fn drop(&mut self) {
        // Dropping a task may look for others, so none of them may see the set borrowed.
        let mut tasks = std::mem::take(&mut *self.0.0.borrow_mut());
        tasks.abort_all();
    }
}
