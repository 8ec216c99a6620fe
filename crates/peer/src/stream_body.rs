//! What a stream brings, from its socket into the buffer that its frames are read from, once HTTP is over there.
//!
//! Invariants
//! - A read asks the kernel once, takes no memory but for bytes that came, and sets no timer.
//! - What came before the end, or before something malformed, is handed on first.

use std::io;
use std::time::Duration;

use bytes::BytesMut;
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;
use tokio::time::{Instant, Interval, MissedTickBehavior, interval_at};

use crate::chunks::{ChunkError, Chunks};

/// Bytes are gathered in blocks of this size, which the entries in them then share: one alone would hold on to a whole buffer.
const BLOCK_BYTES: usize = 64 << 10;
/// With less room than this in its block, a read begins a new one.
const ROOM_BYTES_MIN: usize = 16 << 10;
/// So often is it looked whether anything came, in the time that silence may last.
const LOOKS: u32 = 5;

/// Why nothing more comes.
#[derive(Debug, thiserror::Error)]
pub(crate) enum StreamEnd {
    #[error("the stream broke off")]
    Lost(#[source] io::Error),
    #[error("nothing came for too long")]
    Silent,
    #[error("the peer ended the stream")]
    Ended,
    #[error(transparent)]
    Chunk(#[from] ChunkError),
}

pub(crate) struct StreamBody {
    socket: TcpStream,
    /// `None`: the body is all that comes until the connection ends.
    chunks: Option<Chunks>,
    /// What came with the answer's head.
    kept: BytesMut,
    end: Option<StreamEnd>,
    looks: Interval,
    /// How many looks in a row found that nothing had come.
    silent: u32,
}

impl StreamBody {
    /// A body that ends once nothing comes for `patience`, or up to a fifth longer.
    pub(crate) fn new(socket: TcpStream, kept: BytesMut, chunks: Option<Chunks>, patience: Duration) -> StreamBody {
        let period = patience / LOOKS;
        let mut looks = interval_at(Instant::now() + period, period);
        // Who was stopped itself has not listened meanwhile.
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        StreamBody { socket, chunks, kept, end: None, looks, silent: 0 }
    }

    /// A buffer to read into.
    pub(crate) fn buffer() -> BytesMut {
        BytesMut::with_capacity(BLOCK_BYTES)
    }

    /// Appends bytes of the body to `buffer`, some at least, and says how many.
    ///
    /// # Errors
    /// [`StreamEnd`], after all that came before it.
    pub(crate) async fn read(&mut self, buffer: &mut BytesMut) -> Result<usize, StreamEnd> {
        loop {
            if let Some(end) = self.end.take() {
                return Err(end);
            }
            let start = buffer.len();
            if self.kept.is_empty() {
                make_room(buffer);
                self.receive(buffer).await?;
            } else {
                buffer.extend_from_slice(&std::mem::take(&mut self.kept));
            }
            if let Some(chunks) = &mut self.chunks {
                self.end = match chunks.strip(buffer, start) {
                    Err(error) => Some(error.into()),
                    Ok(()) => chunks.is_over().then_some(StreamEnd::Ended),
                };
            }
            if buffer.len() > start {
                return Ok(buffer.len() - start);
            }
        }
    }

    async fn receive(&mut self, buffer: &mut BytesMut) -> Result<(), StreamEnd> {
        loop {
            tokio::select! {
                biased;
                read = self.socket.read_buf(buffer) => {
                    self.silent = 0;
                    return match read {
                        Ok(0) if self.chunks.is_none() => Err(StreamEnd::Ended),
                        Ok(0) => Err(StreamEnd::Lost(io::ErrorKind::UnexpectedEof.into())),
                        Ok(_) => Ok(()),
                        Err(error) => Err(StreamEnd::Lost(error)),
                    };
                }
                _ = self.looks.tick() => {
                    self.silent += 1;
                    // The first came less than a whole period after the last bytes.
                    if self.silent > LOOKS {
                        return Err(StreamEnd::Silent);
                    }
                }
            }
        }
    }
}

fn make_room(buffer: &mut BytesMut) {
    // What a long message needed goes with it.
    if buffer.len() < BLOCK_BYTES && buffer.capacity() > 2 * BLOCK_BYTES {
        let mut fresh = BytesMut::with_capacity(buffer.len() + BLOCK_BYTES);
        fresh.extend_from_slice(buffer);
        *buffer = fresh;
    }
    if buffer.capacity() - buffer.len() < ROOM_BYTES_MIN {
        buffer.reserve(BLOCK_BYTES);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_long_message_needed_goes_with_it() {
        let mut buffer = StreamBody::buffer();
        for _ in 0..1000 {
            make_room(&mut buffer);
            assert!(buffer.capacity() - buffer.len() >= ROOM_BYTES_MIN);
            buffer.extend_from_slice(&[0; ROOM_BYTES_MIN]);
        }
        assert!(buffer.capacity() <= 2 * buffer.len());
        let message = buffer.split_to(buffer.len() - 10).freeze();
        make_room(&mut buffer);
        assert!(buffer.len() == 10 && buffer.capacity() <= 2 * BLOCK_BYTES);
        drop(message);
    }
}
