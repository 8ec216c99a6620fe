//! A panic in a destructor that runs because of another: nothing can catch it, and the process aborts.
//!
//! redb 4.4 does that on a state file that rotted in its list of free pages: a member would abort, which is one of the
//! ways to stop that rot excuses. The simulator, which is all members in one process, cannot go on with that run.

use std::cell::Cell;

thread_local! {
    static HAS_ROT: Cell<bool> = const { Cell::new(false) };
}

/// A run begins on this thread.
pub(crate) fn begin_run() {
    HAS_ROT.set(false);
}

/// A bit of a member's disk has flipped, in the run on this thread.
pub(crate) fn note_rot() {
    HAS_ROT.set(true);
}

/// Whether the run on this thread may end by a panic that nothing catches: only if something rotted in it.
pub fn is_abort_excused() -> bool {
    HAS_ROT.get()
}
