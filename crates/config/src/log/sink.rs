//! One output with a thread of its own, so that who logs does not wait for it.

use std::io::Write;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// What may wait for a stalled output before lines are dropped.
const WAITING_BYTES_MAX: usize = 1 << 20;

/// How long last words may take.
const FLUSH_WAIT_MAX: Duration = Duration::from_secs(1);

/// Lines on their way to one output.
#[derive(Debug)]
pub(super) struct Sink {
    state: Mutex<State>,
    work: Condvar,
    written: Condvar,
}

#[derive(Debug, Default)]
struct State {
    waiting: Vec<u8>,
    writing: bool,
    closed: bool,
    lost: u64,
}

impl Sink {
    /// Starts the thread that writes to `out`.
    pub(super) fn start(out: Box<dyn Write + Send>) -> Arc<Sink> {
        let sink = Arc::new(Sink { state: Mutex::default(), work: Condvar::new(), written: Condvar::new() });
        let owned = Arc::clone(&sink);
        let thread = std::thread::Builder::new().name("log".to_string()).spawn(move || owned.run(out));
        if thread.is_err() {
            // No thread to be had: nothing will be written, so let nobody wait for it.
            sink.lock().closed = true;
        }
        sink
    }

    /// Takes a whole line; drops it if too much waits already. `lost_line` tells how many were dropped before.
    pub(super) fn push(&self, line: &str, lost_line: impl FnOnce(u64) -> String) {
        let mut state = self.lock();
        if state.closed {
            return;
        }
        if state.waiting.len() + line.len() > WAITING_BYTES_MAX {
            state.lost += 1;
            return;
        }
        if state.lost > 0 {
            let lost = std::mem::take(&mut state.lost);
            state.waiting.extend_from_slice(lost_line(lost).as_bytes());
        }
        state.waiting.extend_from_slice(line.as_bytes());
        self.work.notify_one();
    }

    /// Waits until all is written, but not long.
    pub(super) fn flush(&self) {
        let state = self.lock();
        let busy = |state: &mut State| !state.closed && (state.writing || !state.waiting.is_empty());
        drop(self.written.wait_timeout_while(state, FLUSH_WAIT_MAX, busy));
    }

    /// Writes out what waits and ends the thread.
    pub(super) fn close(&self) {
        self.flush();
        self.lock().closed = true;
        self.work.notify_one();
    }

    fn run(&self, mut out: Box<dyn Write + Send>) {
        let mut batch = Vec::new();
        loop {
            let state = self.lock();
            let idle = |state: &mut State| state.waiting.is_empty() && !state.closed;
            let mut state = self.work.wait_while(state, idle).unwrap_or_else(PoisonError::into_inner);
            if state.waiting.is_empty() {
                return;
            }
            std::mem::swap(&mut batch, &mut state.waiting);
            state.writing = true;
            drop(state);

            // There is nobody to tell that the log cannot be written.
            let _ = out.write_all(&batch).and_then(|()| out.flush());
            batch.clear();

            self.lock().writing = false;
            self.written.notify_all();
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::sync::mpsc::{Receiver, Sender, channel};

    use super::*;

    struct ToChannel(Sender<Vec<u8>>);

    impl Write for ToChannel {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.send(bytes.to_vec()).map_err(|_| io::ErrorKind::BrokenPipe)?;
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    /// Says when it was called, and takes nothing until it is told to.
    struct Stalled {
        called: Sender<()>,
        go_on: Receiver<()>,
        taken: Sender<Vec<u8>>,
    }

    impl Write for Stalled {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let _ = self.called.send(());
            let _ = self.go_on.recv();
            let _ = self.taken.send(bytes.to_vec());
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn lost(count: u64) -> String {
        format!("lost {count}\n")
    }

    #[test]
    fn lines_arrive_in_order_and_before_flush_returns() {
        let (sender, receiver) = channel();
        let sink = Sink::start(Box::new(ToChannel(sender)));
        sink.push("a\n", lost);
        sink.push("b\n", lost);
        sink.flush();
        assert_eq!(receiver.try_iter().flatten().collect::<Vec<_>>(), b"a\nb\n");
    }

    #[test]
    fn a_broken_output_is_no_panic_and_keeps_nobody() {
        let (sender, receiver) = channel();
        drop(receiver);
        let sink = Sink::start(Box::new(ToChannel(sender)));
        sink.push("a\n", lost);
        sink.close();
        sink.push("b\n", lost);
        sink.flush();
    }

    #[test]
    fn lines_past_the_bound_are_dropped_counted_and_told() {
        let ((called, was_called), (go, go_on), (taken, receiver)) = (channel(), channel(), channel());
        let sink = Sink::start(Box::new(Stalled { called, go_on, taken }));
        sink.push("first\n", lost);
        was_called.recv().unwrap();
        let long = "x".repeat(WAITING_BYTES_MAX - 1) + "\n";
        sink.push(&long, lost);
        sink.push("dropped\n", lost);
        sink.push("dropped\n", lost);
        go.send(()).unwrap();
        was_called.recv().unwrap();
        sink.push("last\n", lost);
        drop(go);
        sink.close();
        let text: Vec<u8> = receiver.try_iter().flatten().collect();
        assert!(text.starts_with(b"first\nxxx") && text.ends_with(b"x\nlost 2\nlast\n"));
    }
}
