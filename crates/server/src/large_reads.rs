//! Reads that would keep a worker's other connections waiting: they run on threads of their own, a few at a time.
//!
//! Each holds references to all it has found until it is sorted or encoded, and a processor meanwhile. So those past the
//! limit wait, in the order they came; one whose client leaves gives up its place in the queue.

use std::sync::Arc;

use tokio::sync::Semaphore;

use crate::error::Error;

/// How many large reads run at the same time on this member.
const LARGE_READS_MAX: usize = 4;

/// A range that looks at more keys than this is large. What it finds are references; they are encoded piece by piece.
pub(crate) const RANGE_KEYS_MAX: usize = 4096;
/// The same for a transaction, which is encoded in one go. Its operations on single keys alone do not make it large.
pub(crate) const TXN_KEYS_MAX: usize = 256;

/// The places for large reads on this member.
#[derive(Clone)]
pub struct LargeReads {
    places: Arc<Semaphore>,
}

impl LargeReads {
    pub(crate) fn new() -> LargeReads {
        LargeReads { places: Arc::new(Semaphore::new(LARGE_READS_MAX)) }
    }

    /// Runs `read` on a thread that may block, as soon as there is a place for it.
    ///
    /// # Errors
    /// [`Error::Internal`] if it panicked.
    pub async fn run<T: Send + 'static>(&self, read: impl FnOnce() -> T + Send + 'static) -> Result<T, Error> {
        let place = self.places.clone().acquire_owned().await.expect("the semaphore is never closed");
        blocking(move || {
            // Kept until the work is done, also if nobody waits for it any more.
            let _place = place;
            read()
        })
        .await
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
            let reads = LargeReads::new();
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
}
