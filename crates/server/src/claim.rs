//! Taking hold of a member's directories: they hold nobody else's data and serve no other process.

use env::{DirectoryLock, Disk};

use crate::boot::StartError;
use crate::layout::{LOCK_FILE, Layout, Place};

/// Holds the directories for as long as it lives.
pub(crate) type Claim = Vec<DirectoryLock>;

/// Makes and locks the directories. All of them are looked at before anything is made.
///
/// # Errors
/// [`StartError`] of those kinds that name a flag.
pub(crate) fn claim_directories(disk: &dyn Disk, layout: &Layout) -> Result<Claim, StartError> {
    let places = layout.places();
    places.iter().try_for_each(|place| check(disk, place))?;
    let foreign = layout.foreign_names(disk);
    if !foreign.is_empty() {
        return Err(StartError::ForeignData { path: layout.root.clone(), names: foreign.join(", ") });
    }
    // Those with a lock file first: if one is held, nothing has been made.
    let (used, new): (Vec<_>, Vec<_>) = places.iter().partition(|place| place.has_lock_file(disk));
    used.into_iter().chain(new).map(|place| take(disk, place)).collect()
}

fn check(disk: &dyn Disk, place: &Place) -> Result<(), StartError> {
    let Place { flag, path } = place;
    if place.holds_etcd_data(disk) {
        return Err(StartError::EtcdData { flag, path: path.clone() });
    }
    DirectoryLock::check(path).map_err(|source| StartError::Directory { flag, path: path.clone(), source })
}

fn take(disk: &dyn Disk, place: &Place) -> Result<DirectoryLock, StartError> {
    let Place { flag, path } = place;
    let directory = |source| StartError::Directory { flag, path: path.clone(), source };
    place.create(disk).map_err(directory)?;
    let lock = DirectoryLock::acquire(path, LOCK_FILE).map_err(directory)?;
    lock.ok_or_else(|| StartError::Locked { flag, path: path.clone() })
}
