//! Which threads may wait.

use rustix::process::setpriority_process;

/// A ninth of the usual share where there are not enough processors for all.
const NICE: i32 = 10;

/// Lets the calling thread from here on give way to all others: for long work that nobody waits for while requests are
/// served. A hint: where the system does not take it, all goes on as before. There is no way back, so call it on a thread that
/// does nothing else.
pub fn give_way() {
    // On Linux, of all the process only this thread.
    let _ = setpriority_process(None, NICE);
}

#[cfg(test)]
mod tests {
    use rustix::process::getpriority_process;

    use super::*;

    #[test]
    fn only_the_thread_that_asks_gives_way() {
        let before = getpriority_process(None).unwrap();
        let seen = std::thread::spawn(|| {
            give_way();
            getpriority_process(None).unwrap()
        });
        assert_eq!(seen.join().unwrap(), before.max(NICE));
        assert_eq!(getpriority_process(None).unwrap(), before);
    }
}
