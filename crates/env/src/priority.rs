//! Which threads may wait.

use std::io;
use std::panic::resume_unwind;

use rustix::process::setpriority_process;

/// A ninth of the usual share where there are not enough processors for all.
const NICE: i32 = 10;

/// Does `work` on a thread of its own called `name`, which gives way to all others: for long work that nobody waits for while
/// requests are served. Returns when it is done; a panic in it goes on here. Giving way is a hint: where the system does not
/// take it, the work is done as any other.
///
/// # Errors
/// The thread cannot be started; nothing was done then.
pub fn give_way<T: Send>(name: &str, work: impl FnOnce() -> T + Send) -> io::Result<T> {
    // There is no way back for a thread without privileges, and this one is not kept.
    let work = || {
        // On Linux, of all the process only this thread.
        let _ = setpriority_process(None, NICE);
        work()
    };
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new().name(name.to_owned()).spawn_scoped(scope, work)?;
        Ok(thread.join().unwrap_or_else(|panic| resume_unwind(panic)))
    })
}

#[cfg(test)]
mod tests {
    use rustix::process::getpriority_process;

    use super::*;

    #[test]
    fn the_work_gives_way_and_whoever_waits_for_it_does_not() {
        let before = getpriority_process(None).unwrap();
        let own = std::thread::current().id();
        let seen = || (getpriority_process(None).unwrap(), std::thread::current().id());
        let (nice, thread) = give_way("aside", seen).unwrap();
        assert_eq!(nice, before.max(NICE));
        assert_ne!(thread, own);
        assert_eq!(getpriority_process(None).unwrap(), before);
    }

    #[test]
    fn a_panic_of_the_work_goes_on() {
        let panic = crate::catch_panic(|| give_way("aside", || panic!("no use")));
        assert_eq!(panic.map(drop), Err("no use".to_owned()));
    }
}
