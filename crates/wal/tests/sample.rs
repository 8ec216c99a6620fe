//! The sample of `docs/wal.md`: the checked-in bytes are what the log writes, and it still reads them.

mod support;

use env::{Disk, OpenMode, SimDisk};
use support::{create, dir, disk, entry, hard_state, open, segment, small, write};
use types::{EntryKind, Index, LogEntry};

/// Each line: an offset, then bytes, all in hex; what is not listed is zero. Lines without an offset are remarks.
const SAMPLE: &str = include_str!("sample.txt");
const PAGE: &str = include_str!("../../../docs/wal.md");

fn sample_bytes() -> Vec<u8> {
    let mut bytes = vec![0; 16 << 10];
    for line in SAMPLE.lines() {
        let mut words = line.split_whitespace();
        let Some(offset) = words.next().and_then(|word| usize::from_str_radix(word, 16).ok()) else { continue };
        let row = words.map(|word| u8::from_str_radix(word, 16).expect("a byte in hex"));
        for (at, byte) in row.enumerate() {
            bytes[offset + at] = byte;
        }
    }
    bytes
}

/// The log of the sample: two syncs.
fn written() -> SimDisk {
    let disk = disk();
    let mut wal = create(&disk, small());
    write(&mut wal, &[entry(1, 2, ""), entry(2, 2, "put k v")], Some(hard_state(2, 0x3e, 0)));
    let change = LogEntry { kind: EntryKind::ConfChangeV2, ..entry(3, 2, "") };
    write(&mut wal, &[change], Some(hard_state(2, 0x3e, 2)));
    disk
}

fn as_text(bytes: &[u8]) -> String {
    let mut text = String::new();
    for (row, chunk) in bytes.chunks(16).enumerate().filter(|(_, chunk)| chunk.iter().any(|&byte| byte != 0)) {
        let hex: Vec<String> = chunk.iter().map(|byte| format!("{byte:02x}")).collect();
        text += &format!("{:04x}  {}\n", row * 16, hex.join(" "));
    }
    text
}

#[test]
fn the_sample_is_what_is_written() {
    let bytes = written().contents(&segment(1)).expect("the log was just made");
    assert!(bytes == sample_bytes(), "the log now writes:\n{}", as_text(&bytes));
}

#[test]
fn the_sample_is_read() {
    let disk = disk();
    disk.create_dir_all(dir()).expect("an empty disk takes a directory");
    let file = disk.open(&segment(1), OpenMode::CreateNew).expect("the directory is empty");
    file.write_at(&sample_bytes(), 0).expect("the disk has room");
    let (_, recovered) = open(&disk, small()).expect("the sample is sound");
    let change = LogEntry { kind: EntryKind::ConfChangeV2, ..entry(3, 2, "") };
    assert_eq!(recovered.entries, [entry(1, 2, ""), entry(2, 2, "put k v"), change]);
    assert_eq!((recovered.hard_state, recovered.first), (hard_state(2, 0x3e, 2), Index(1)));
    assert_eq!((recovered.meta, recovered.torn_tail), (support::META, None));
}

#[test]
fn the_page_shows_the_sample() {
    for line in SAMPLE.lines().filter(|line| !line.starts_with('#')) {
        assert!(PAGE.contains(line), "docs/wal.md lacks: {line}");
    }
}
