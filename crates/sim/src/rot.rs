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
