//! Changes what a stopped member has stored, past every checksum: what a fault of memory or software does, not one of the
//! disk.

use std::fs;
use std::ops::ControlFlow;
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, Result, ensure};
use backend::{Backend, Options, Staged, Table};
use env::RealDisk;
use types::{Record, Revision};

/// etcd's pages of data have no checksums.
pub(super) fn etcd(data_dir: &Path, from: &[u8], to: &[u8]) -> Result<()> {
    ensure!(from.len() == to.len(), "a value of another length moves what lies behind it");
    let path = data_dir.join("member/snap/db");
    let mut bytes = fs::read(&path).context("read the database")?;
    let places = bytes.windows(from.len()).enumerate().filter(|(_, window)| *window == from).map(|(at, _)| at);
    let places = places.collect::<Vec<_>>();
    ensure!(!places.is_empty(), "the value is not there");
    for at in places {
        bytes[at..at + to.len()].copy_from_slice(to);
    }
    fs::write(&path, bytes).context("write the database")
}

/// Makes the state anew, with the digest that the true one has.
pub(super) fn quorate(data_dir: &Path, from: &[u8], to: &[u8]) -> Result<()> {
    let (path, new) = (data_dir.join("state.redb"), data_dir.join("state.altered"));
    let state = Backend::open(Arc::new(RealDisk), &path, Options::default())?;
    let mut staged = Staged { applied: Some(state.applied()), digest: Some(state.digest()), ..Staged::default() };
    let mut altered = 0;
    state.scan(Revision::default(), Revision::first(i64::MAX), &mut |row, bytes| {
        let mut record = Record::from_stored(bytes).expect("it was stored");
        if record.value() == from {
            record = Record::put(record.key(), to, record.meta());
            altered += 1;
        }
        staged.rows.push((row, record));
        ControlFlow::Continue(())
    })?;
    ensure!(altered > 0, "the value is not there");
    for table in Table::ALL {
        staged.values.extend(state.values(table)?.into_iter().map(|(key, value)| (table, key, Some(value))));
    }
    drop(state);
    let state = Backend::open(Arc::new(RealDisk), &new, Options::default())?;
    state.stage(staged);
    state.commit()?;
    drop(state);
    fs::rename(new, path).context("the altered state takes the true one's place")
}
