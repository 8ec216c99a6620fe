//! Durable writes past the page cache: one call of the kernel, without a copy to write back and a page to look for.
//!
//! Invariants
//! - It is only a faster way. What it cannot do, or what the file system refuses, is left to the plain way: write, then
//!   sync. Once refused, it is not tried again with that file.
//! - Other descriptors of the file may read and write through the page cache meanwhile and lose nothing. Before a direct
//!   write the kernel writes back what is dirty in its range and drops it, and afterwards it drops what readers have
//!   cached since; `read` then comes from the disk. Two writers of one page at one moment would be another matter: the
//!   owner of a file does not do that.
//!
//! Source: Linux `mm/filemap.c`, `generic_file_direct_write`; `fs/iomap/direct-io.c`, `__iomap_dio_rw`; open(2) on
//! `O_DIRECT`; pwritev2(2) on `RWF_DSYNC`.

#![allow(clippy::disallowed_methods, clippy::disallowed_types, reason = "this is where files are touched")]

use std::cell::RefCell;
use std::fs::{File, OpenOptions};
use std::io::{self, IoSlice};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::fs::OFlags;
use rustix::io::{Errno, ReadWriteFlags, pwritev2, retry_on_intr};

/// What memory, offset and length must be multiples of; the blocks of nearly all disks are no larger.
const ALIGNMENT: usize = 4096;
/// More than this is written in several pieces.
const PIECE_BYTES: usize = 1 << 20;

thread_local! {
    /// Per thread and not per file: few threads write durably, and a log has many files.
    static BOUNCE: RefCell<Bounce> = const { RefCell::new(Bounce(Vec::new())) };
}

/// A second descriptor of a file, for direct writes alone.
pub(crate) struct DirectFile {
    file: File,
    is_refused: AtomicBool,
}

impl DirectFile {
    /// The file at `path`, which the caller has open already and nobody renames meanwhile; `None` if its file system has
    /// no direct writes.
    pub(crate) fn open(path: &Path) -> Option<DirectFile> {
        // Whatever is wrong, the plain way is left, and says so if it is wrong there too.
        let file = OpenOptions::new().write(true).custom_flags(OFlags::DIRECT.bits().cast_signed()).open(path).ok()?;
        Some(DirectFile::over(file))
    }

    pub(crate) fn over(file: File) -> DirectFile {
        DirectFile { file, is_refused: AtomicBool::new(false) }
    }

    /// Writes `data` at `offset`, or as much of it from its start as goes this way. Returns how much that is, and whether
    /// all of it is durable. If not, what is left must be written, and then the whole file be synced.
    ///
    /// # Errors
    /// What the system says; not to be retried. A full disk is none: the plain way finds out whether it is full for the
    /// write, which may be tried again, or for the sync, which may not. It writes every byte of the call that failed anew,
    /// so that nothing rests on what that call may have left.
    pub(crate) fn write(&self, data: &[u8], offset: u64) -> io::Result<(usize, bool)> {
        let is_aligned = data.len().is_multiple_of(ALIGNMENT) && offset.is_multiple_of(ALIGNMENT as u64);
        if !is_aligned || data.is_empty() || self.is_refused.load(Ordering::Relaxed) {
            return Ok((0, false));
        }
        // A flush for each of several pieces is too much, and one for the last is not enough: the kernel may make that
        // piece alone durable and leave the others in the disk's own cache.
        let is_one_piece = data.len() <= PIECE_BYTES;
        let flags = if is_one_piece { ReadWriteFlags::DSYNC } else { ReadWriteFlags::empty() };
        let (written, failure) = BOUNCE.with_borrow_mut(|bounce| {
            write_pieces(data, |piece, at| {
                let piece = [IoSlice::new(bounce.copy(piece))];
                retry_on_intr(|| pwritev2(&self.file, &piece, offset + at as u64, flags))
            })
        });
        match failure {
            None | Some(Errno::NOSPC | Errno::DQUOT) => {}
            // The last two from kernels and sandboxes that do not know the call.
            Some(Errno::INVAL | Errno::OPNOTSUPP | Errno::NOSYS | Errno::PERM) => {
                self.is_refused.store(true, Ordering::Relaxed);
            }
            Some(failure) => return Err(failure.into()),
        }
        Ok((written, is_one_piece && written == data.len()))
    }
}

/// Calls `write` for one piece of `data` after the other, each with its place in `data`, until one is not written whole.
/// Returns how much was written, and the failure that ended it.
fn write_pieces(data: &[u8], mut write: impl FnMut(&[u8], usize) -> Result<usize, Errno>) -> (usize, Option<Errno>) {
    let mut written = 0;
    for piece in data.chunks(PIECE_BYTES) {
        let count = match write(piece, written) {
            Ok(count) => count,
            Err(failure) => return (written, Some(failure)),
        };
        written += count;
        if count < piece.len() {
            break;
        }
    }
    (written, None)
}

/// Room for an aligned copy of a piece; it grows to the largest there was.
struct Bounce(Vec<u8>);

impl Bounce {
    fn copy(&mut self, piece: &[u8]) -> &[u8] {
        let room = piece.len() + ALIGNMENT;
        if self.0.len() < room {
            self.0 = vec![0; room];
        }
        let start = self.0.as_ptr().align_offset(ALIGNMENT);
        let copy = &mut self.0[start..start + piece.len()];
        copy.copy_from_slice(piece);
        copy
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_written_whole_ends_the_pieces() {
        let data = vec![7; 2 * PIECE_BYTES + ALIGNMENT];
        let outcome = |answers: [Result<usize, Errno>; 3]| {
            let mut asked = Vec::new();
            let ended = write_pieces(&data, |piece, at| {
                asked.push((at, piece.len()));
                answers[asked.len() - 1].map(|count| count.min(piece.len()))
            });
            (ended, asked)
        };
        let places = [(0, PIECE_BYTES), (PIECE_BYTES, PIECE_BYTES), (2 * PIECE_BYTES, ALIGNMENT)];
        let whole = Ok(usize::MAX);
        assert_eq!(outcome([whole, whole, whole]), ((data.len(), None), places.to_vec()));
        assert_eq!(outcome([whole, Ok(512), whole]), ((PIECE_BYTES + 512, None), places[..2].to_vec()));
        assert_eq!(outcome([whole, Ok(0), whole]), ((PIECE_BYTES, None), places[..2].to_vec()));
        let failed = Err(Errno::INVAL);
        assert_eq!(outcome([whole, whole, failed]), ((2 * PIECE_BYTES, Some(Errno::INVAL)), places.to_vec()));
        assert_eq!(outcome([failed, whole, whole]), ((0, Some(Errno::INVAL)), places[..1].to_vec()));
    }

    #[test]
    fn what_the_file_system_refuses_is_left_to_the_plain_way_for_good() {
        // A file that the kernel does not write durably in one call.
        let file = OpenOptions::new().write(true).open("/proc/self/oom_score_adj").expect("every process has this");
        let direct = DirectFile::over(file);
        for _ in 0..2 {
            assert_eq!(direct.write(&[0; ALIGNMENT], 0).expect("refusing is no failure"), (0, false));
            assert!(direct.is_refused.load(Ordering::Relaxed));
        }
    }

    #[test]
    fn a_full_disk_and_odd_places_are_left_to_the_plain_way_and_other_failures_told() {
        let file = File::open("/proc/self/oom_score_adj").expect("every process has this");
        let direct = DirectFile::over(file);
        assert_eq!(direct.write(&[0; ALIGNMENT], 0).expect_err("it is not open for writing").raw_os_error(), Some(9));
        assert_eq!(direct.write(&[0; 512], 0).expect("too odd to be tried"), (0, false));
        assert_eq!(direct.write(&[0; ALIGNMENT], 512).expect("too odd to be tried"), (0, false));
        assert_eq!(direct.write(&[], 0).expect("nothing to be tried"), (0, false));
        let full = OpenOptions::new().write(true).open("/dev/full").expect("every system has this");
        let direct = DirectFile::over(full);
        let left = direct.write(&[0; PIECE_BYTES + ALIGNMENT], 0).expect("left to the plain way");
        assert_eq!(left, (0, false));
        assert!(!direct.is_refused.load(Ordering::Relaxed), "there may be room later");
    }

    #[test]
    fn a_copy_is_aligned_whatever_the_size() {
        let mut bounce = Bounce(Vec::new());
        for len in [ALIGNMENT, 3 * ALIGNMENT, ALIGNMENT, PIECE_BYTES] {
            let piece: Vec<u8> = (0..len).map(|at| at as u8).collect();
            let copy = bounce.copy(&piece);
            assert!(copy == piece && copy.as_ptr().align_offset(ALIGNMENT) == 0);
        }
        assert_eq!(bounce.0.len(), PIECE_BYTES + ALIGNMENT);
    }
}
