//! Reads that would keep a worker's other connections waiting: they run on threads of their own, a few at a time.
//!
//! Each holds references to all it has found until it is sorted or encoded, and a processor meanwhile. So those past the
//! limit wait, in the order they came; one whose client leaves gives up its place in the queue.

use std::io;
use std::sync::Arc;

use tokio::runtime::{Builder, Runtime};
use tokio::sync::Semaphore;

use crate::error::Error;

/// How many large reads run at the same time on this member.
const LARGE_READS_MAX: usize = 4;

/// A range that looks at more keys than this is large. What it finds are references; they are encoded piece by piece.
pub(crate) const RANGE_KEYS_MAX: usize = 4096;
/// The same for a transaction, which is encoded in one go. Its operations on single keys alone do not make it large.
pub(crate) const TXN_KEYS_MAX: usize = 256;

/// The places for large reads on this member, and the threads that do them.
#[derive(Clone)]
pub struct LargeReads {
    places: Arc<Semaphore>,
    threads: Arc<Threads>,
}

/// As many as there are places, and no more: among the threads of a worker's runtime, a read that follows another before that
/// one's thread is quite done would start one more, time and again where processors are scarce.
struct Threads {
    /// `None` while it is dropped.
    runtime: Option<Runtime>,
}

impl Threads {
    fn start() -> io::Result<Threads> {
        let runtime =
            Builder::new_current_thread().max_blocking_threads(LARGE_READS_MAX).thread_name("read").build()?;
        Ok(Threads { runtime: Some(runtime) })
    }
}

impl Drop for Threads {
    /// Nobody waits for what is still read.
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

impl LargeReads {
    /// Starts no thread before there is something to read.
    ///
    /// # Errors
    /// What those threads need is not to be had.
    pub(crate) fn new() -> io::Result<LargeReads> {
        Ok(LargeReads { places: Arc::new(Semaphore::new(LARGE_READS_MAX)), threads: Arc::new(Threads::start()?) })
    }

    /// Runs `read` on a thread that may block, as soon as there is a place for it.
    ///
    /// # Errors
    /// [`Error::Internal`] if it panicked.
    pub async fn run<T: Send + 'static>(&self, read: impl FnOnce() -> T + Send + 'static) -> Result<T, Error> {
        let place = self.places.clone().acquire_owned().await.expect("the semaphore is never closed");
        let runtime = self.threads.runtime.as_ref().expect("it is there until it is dropped");
        let read = runtime.spawn_blocking(move || {
            // Kept until the work is done, also if nobody waits for it any more.
            let _place = place;
            read()
        });
        read.await.map_err(|error| Error::Internal(error.to_string()))
    }

    #[cfg(test)]
    pub(crate) async fn all_places(&self) -> tokio::sync::OwnedSemaphorePermit {
        self.places.clone().acquire_many_owned(LARGE_READS_MAX as u32).await.expect("the semaphore is never closed")
    }
}

/// Runs `work` on a thread that may block.
pub(crate) async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, Error> {
    tokio::task::spawn_blocking(work).await.map_err(|error| Error::Internal(error.to_string()))
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;
    use std::pin::pin;
    use std::sync::mpsc::channel;
    use std::task::{Context, Poll, Waker};

    use super::*;

    fn poll<T>(future: std::pin::Pin<&mut impl Future<Output = T>>) -> Poll<T> {
        future.poll(&mut Context::from_waker(Waker::noop()))
    }

    #[test]
    fn so_many_run_at_once_and_the_next_begins_when_one_ends() {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            let reads = LargeReads::new().unwrap();
            let (started, starts) = channel();
            let mut running = Vec::new();
            for number in 0..LARGE_READS_MAX {
                let (end, ended) = channel::<()>();
                let started = started.clone();
                let mut read = Box::pin(reads.run(move || {
                    started.send(number).unwrap();
                    ended.recv().unwrap();
                }));
                assert!(poll(read.as_mut()).is_pending());
                running.push((read, end));
            }
            // All of them are under way at the same time.
            assert_eq!(starts.iter().take(LARGE_READS_MAX).count(), LARGE_READS_MAX);

            let left = {
                let mut leaves = pin!(reads.run(|| unreachable!("its client left while it waited")));
                let mut next = Box::pin(reads.run(|| "next"));
                assert!(poll(leaves.as_mut()).is_pending() && poll(next.as_mut()).is_pending());
                next
            };
            // One whose client leaves keeps its place until it has ended.
            let (gone, end) = running.remove(0);
            drop(gone);
            assert_eq!(reads.places.available_permits(), 0);
            end.send(()).unwrap();
            assert_eq!(left.await.unwrap(), "next");
            for (read, end) in running {
                end.send(()).unwrap();
                read.await.unwrap();
            }
            assert_eq!(reads.run(|| "later").await.unwrap(), "later");
        });
    }

    #[test]
    fn however_many_there_are_a_few_threads_do_them() {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let threads = runtime.block_on(async {
            let reads = LargeReads::new().unwrap();
            let under_way: Vec<_> = (0..500)
                .map(|_| {
                    let reads = reads.clone();
                    tokio::spawn(async move { reads.run(|| std::thread::current().id()).await.unwrap() })
                })
                .collect();
            let mut threads = HashSet::new();
            for read in under_way {
                threads.insert(read.await.unwrap());
            }
            threads
        });
        assert!(threads.len() <= LARGE_READS_MAX, "{} threads", threads.len());
    }

    #[test]
    fn what_is_still_read_when_the_member_is_dropped_holds_nothing_up() {
        let (end, ended) = channel::<()>();
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let reads = runtime.block_on(async {
            let reads = LargeReads::new().unwrap();
            let (started, starts) = channel();
            let read = {
                let reads = reads.clone();
                tokio::spawn(async move {
                    let read = reads.run(move || {
                        started.send(()).unwrap();
                        ended.recv().unwrap();
                    });
                    read.await
                })
            };
            tokio::task::yield_now().await;
            starts.recv().unwrap();
            read.abort();
            assert!(read.await.unwrap_err().is_cancelled());
            reads
        });
        // Here as on a worker, where nobody may wait.
        runtime.block_on(async { drop(reads) });
        end.send(()).unwrap();
    }
}
