//! Where rot of a log must be seen, by what `docs/wal.md` says of its bytes, not by the reader that ships.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use env::{Disk, SimDisk};

use crate::boot;

const SECTOR: usize = 512;
const FIRST_FRAME: usize = 4096;
const FRAME_HEADER: usize = 48;
const SEGMENT_HEADER: usize = 128;

/// What a flipped bit means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Rot {
    /// The member must not start.
    Seen,
    /// Nothing depends on it: the member must start.
    Harmless,
    /// It may look like a write that was torn: no sound disk's rot is tried there.
    LikeTorn,
}

/// A segment of a log at rest.
pub(crate) struct Segment {
    pub(crate) path: PathBuf,
    bytes: Vec<u8>,
    /// Bytes that a checksum of the log covers, and that are known to have been durable.
    covered: Vec<(usize, usize)>,
    /// What follows may have been torn.
    certain_end: usize,
    pub(crate) flipped: BTreeSet<usize>,
}

impl Segment {
    pub(crate) fn len(&self) -> usize {
        self.bytes.len()
    }

    pub(crate) fn rot_at(&self, offset: usize) -> Rot {
        if offset >= self.certain_end {
            return Rot::LikeTorn;
        }
        let is_covered = self.covered.iter().any(|(from, to)| (*from..*to).contains(&offset));
        if is_covered { Rot::Seen } else { Rot::Harmless }
    }
}

/// The segments of a member's log, oldest first.
pub(crate) fn segments(disk: &SimDisk) -> Vec<Segment> {
    let dir = Path::new(boot::LOG);
    let names = disk.list(dir).map(|entries| entries.into_iter().map(|entry| entry.name)).into_iter().flatten();
    let paths = names.filter(|name| name.ends_with(".wal")).map(|name| dir.join(name));
    let files: Vec<(PathBuf, Vec<u8>)> =
        paths.filter_map(|path| disk.contents(&path).ok().map(|bytes| (path, bytes))).collect();
    let starts_anew = |bytes: &[u8]| bytes.get(12).is_some_and(|flags| flags & 1 != 0);
    let start = files.iter().rposition(|(_, bytes)| starts_anew(bytes)).unwrap_or(0);
    let last = files.len().saturating_sub(1);
    let segment = |(number, (path, bytes)): (usize, (PathBuf, Vec<u8>))| {
        let mut covered = vec![(0, SEGMENT_HEADER.min(bytes.len()))];
        let certain_end = if number == last { durable_end(&bytes) } else { bytes.len() };
        if number >= start {
            covered.extend(frames(&bytes).into_iter().filter(|(from, _)| *from < certain_end));
        }
        Segment { path, bytes, covered, certain_end, flipped: BTreeSet::new() }
    };
    files.into_iter().enumerate().map(segment).collect()
}

/// From where to where the frames of the chain go, without what fills them up.
fn frames(bytes: &[u8]) -> Vec<(usize, usize)> {
    let mut frames = Vec::new();
    let (mut at, mut chain) = (FIRST_FRAME, number(bytes, SEGMENT_HEADER - 4, 4));
    while let Some(len) = header_at(bytes, at) {
        let end = at + FRAME_HEADER + len;
        let Some(payload) = bytes.get(at + FRAME_HEADER..end) else { break };
        let is_next = number(bytes, at + 40, 4) == chain;
        if !is_next || number(bytes, at + 36, 4) != u64::from(crc32c::crc32c(payload)) {
            break;
        }
        frames.push((at, end));
        chain = number(bytes, at + 4, 4);
        at = end.next_multiple_of(SECTOR);
    }
    frames
}

/// The greatest durable end that any frame of the segment states.
fn durable_end(bytes: &[u8]) -> usize {
    let sectors = (FIRST_FRAME..bytes.len()).step_by(SECTOR);
    let stated = sectors.filter(|at| header_at(bytes, *at).is_some()).map(|at| number(bytes, at + 24, 8) as usize);
    stated.max().unwrap_or(FIRST_FRAME)
}

/// The length of the payload of the frame whose header is at `at`, if there is one that belongs there.
fn header_at(bytes: &[u8], at: usize) -> Option<usize> {
    let header = bytes.get(at..at + FRAME_HEADER)?;
    let is_sound = header.starts_with(b"QWFR")
        && number(header, 4, 4) == u64::from(crc32c::crc32c(&header[8..]))
        && number(header, 8, 8) == number(bytes, 16, 8)
        && number(header, 16, 8) == at as u64;
    is_sound.then(|| number(header, 32, 4) as usize)
}

fn number(bytes: &[u8], at: usize, len: usize) -> u64 {
    bytes[at..at + len].iter().rev().fold(0, |number, byte| number << 8 | u64::from(*byte))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use env::Survival;
    use types::{ClusterId, EntryKind, HardState, Index, LogEntry, MemberId, Term};
    use wal::{Wal, WalError, WalMeta, WalOptions};

    use super::*;

    const OPTIONS: WalOptions = WalOptions { segment_size_bytes: 16 << 10 };

    fn open(disk: &SimDisk) -> Result<(), WalError> {
        Wal::open(Arc::new(disk.clone()), Path::new(boot::LOG), OPTIONS, Index(0), Index(1)).map(drop)
    }

    #[test]
    fn the_log_refuses_what_must_be_seen_and_takes_what_is_harmless() {
        let disk = SimDisk::new();
        disk.create_dir_all(Path::new("m")).unwrap();
        let meta = WalMeta { cluster: ClusterId(1), member: MemberId(2) };
        let mut wal = Wal::create(Arc::new(disk.clone()), Path::new(boot::LOG), meta, OPTIONS).unwrap();
        for index in 1..40 {
            let data = vec![index as u8; 100 + 17 * index as usize].into();
            let entry = LogEntry { term: Term(1), index: Index(index), kind: EntryKind::Normal, data };
            let hard_state = HardState { term: Term(1), vote: MemberId(2), commit: Index(index - 1) };
            wal.append(&[entry], Some(hard_state)).unwrap();
            wal.sync().unwrap();
        }
        drop(wal);
        let segments = segments(&disk);
        assert!(segments.len() >= 3, "{}", segments.len());
        let (mut seen, mut harmless) = (0, 0);
        for segment in &segments {
            for offset in (0..segment.len()).step_by(23) {
                let copy = disk.crash(Survival::All);
                copy.flip_bit(&segment.path, offset as u64, 3).unwrap();
                match (segment.rot_at(offset), open(&copy)) {
                    (Rot::Seen, Err(WalError::Damaged { path, .. })) if path == segment.path => seen += 1,
                    (Rot::Harmless, Ok(())) => harmless += 1,
                    (Rot::LikeTorn, _) => {}
                    (rot, opened) => panic!("{rot:?} at {offset} of {}: {opened:?}", segment.path.display()),
                }
            }
        }
        assert!(seen > 500 && harmless > 200, "{seen} {harmless}");
    }
}
