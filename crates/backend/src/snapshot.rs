//! The whole state from member to member: written out as a stream, read in beside the state, and put in its place.
//!
//! Three files: the state, `<path>.received.new` while a snapshot comes in, `<path>.received` once it is there, checked and
//! durable. Adopting it is one rename, so a crash leaves the one state or the other. `docs/snapshot.md` has the stream
//! byte by byte, and what a start does with a received file.

mod export;
mod format;
mod import;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use env::Disk;
use parking_lot::MutexGuard;
use types::{Index, Term};

pub use export::Export;
pub use import::{Import, ImportError};

use crate::backend::{Backend, Inner, Options, Writer, checked_view, remove_if_there, rename, sync_name};
use crate::error::BackendError;
use crate::file::{Failures, File};
use crate::read_view::ReadView;

/// Enough for a look at a few values.
const LOOK: Options = Options { cache_size_bytes: 1 << 20 };

/// A snapshot that was received whole, opened. It becomes the state by [`Backend::begin_adoption`].
pub struct Received {
    view: Arc<ReadView>,
    failures: Failures,
}

/// A received state that has the state's name already, and is not seen by readers yet. Nothing is committed meanwhile.
///
/// It must be [published](Adoption::publish): who cannot do that must stop for good.
#[must_use = "readers see the old state until it is published"]
pub struct Adoption<'a> {
    inner: &'a Inner,
    writer: MutexGuard<'a, Writer>,
    received: Received,
}

impl Backend {
    /// Everything of the last commit, to be sent to another member. Commits go on meanwhile.
    pub fn export(&self) -> Export {
        Export::new(self.view())
    }

    /// The log entry that a received snapshot beside the state at `path` reflects; `None` if there is none. Nothing is
    /// changed.
    ///
    /// # Errors
    /// Any [`BackendError`].
    pub fn received(disk: &dyn Disk, path: &Path) -> Result<Option<(Index, Term)>, BackendError> {
        let received = received_path(path);
        if !Backend::exists(disk, &received)? {
            return Ok(None);
        }
        let file = File::open_to_read(disk, &received, LOOK, &Failures::default())?;
        Ok(Some(checked_view(&file)?.applied()))
    }

    /// Makes a received snapshot the state at `path`, while nobody has that open. Durable on return; after a crash on the way
    /// the snapshot is the state, or is still there to be adopted.
    ///
    /// # Errors
    /// [`BackendError::Io`], also if there is none.
    pub fn adopt_at_boot(disk: &dyn Disk, path: &Path) -> Result<(), BackendError> {
        rename(disk, &received_path(path), path)?;
        sync_name(disk, path)
    }

    /// Removes a received snapshot, if there is one: the log was not restarted at it, so nothing needs it.
    ///
    /// # Errors
    /// [`BackendError::Io`].
    pub fn discard_received(disk: &dyn Disk, path: &Path) -> Result<(), BackendError> {
        remove_if_there(disk, &received_path(path))?;
        sync_name(disk, path)
    }

    /// What a start does, before anything is built from this state, with a snapshot that lies beside it: it becomes the state
    /// if the log was started anew at it, so that `first_in_log` is the entry after it; it is removed if the log still
    /// begins where this state ends, or before. One of another entry is left as it is: then entries are missing.
    ///
    /// Returns whether this backend has another state now.
    ///
    /// # Errors
    /// Any [`BackendError`]; the member must not start then.
    pub fn settle_received(&self, first_in_log: Index) -> Result<bool, BackendError> {
        let Inner { disk, path, .. } = &*self.0;
        if !Backend::exists(&**disk, &received_path(path))? {
            return Ok(false);
        }
        if first_in_log <= self.applied().0.next() {
            Backend::discard_received(&**disk, path)?;
            return Ok(false);
        }
        let received = self.open_received()?;
        if received.view().applied().0.next() != first_in_log {
            return Ok(false);
        }
        self.begin_adoption(received)?.publish();
        Ok(true)
    }

    /// Removes what an earlier [`Import`] could not remove itself, because the disk failed then. Nothing may be coming in.
    ///
    /// # Errors
    /// [`BackendError::Io`].
    pub fn discard_unfinished(disk: &dyn Disk, path: &Path) -> Result<(), BackendError> {
        remove_unfinished(disk, path)
    }

    /// Opens the snapshot that was received beside this state, to be looked at before it is adopted.
    ///
    /// # Errors
    /// Any [`BackendError`]; [`BackendError::Io`] if there is none. This state goes on.
    pub fn open_received(&self) -> Result<Received, BackendError> {
        let Inner { disk, path, options, .. } = &*self.0;
        // Until it has the state's name, its failures are the caller's alone.
        let failures = Failures::default();
        let file = File::open_at(&**disk, &received_path(path), path, *options, &failures)?;
        Ok(Received { view: Arc::new(checked_view(&file)?), failures })
    }

    /// Gives a received state this one's name, durably. Waits for a commit that is under way.
    ///
    /// # Errors
    /// [`BackendError::Io`]: this backend writes nothing any more, and the member is to be stopped.
    pub fn begin_adoption(&self, received: Received) -> Result<Adoption<'_>, BackendError> {
        let inner = &*self.0;
        let mut writer = inner.writer.lock();
        inner.check_running(&writer)?;
        if let Err(error) = Backend::adopt_at_boot(&*inner.disk, &inner.path) {
            inner.stop(&mut writer, &error);
            return Err(error);
        }
        Ok(Adoption { inner, writer, received })
    }
}

impl Received {
    /// What was received.
    pub fn view(&self) -> &Arc<ReadView> {
        &self.view
    }
}

impl Adoption<'_> {
    /// Lets readers see the received state. What was staged is dropped: the snapshot is newer than all of it. Does no I/O,
    /// so that the caller may hold a lock over it by which its own readers change over at the same moment.
    pub fn publish(self) {
        let Adoption { inner, mut writer, received } = self;
        writer.is_only_read = false;
        writer.removed_meanwhile = None;
        writer.adoptions += 1;
        inner.share_failures(&received.failures);
        inner.current().file().retire();
        // Bound to a name, so that it is freed after the lock is let go.
        let dropped = inner.overlay.write().clear();
        drop(dropped);
        inner.publish(received.view);
    }
}

/// Removes what a crash left of a snapshot that was coming in.
pub(crate) fn remove_unfinished(disk: &dyn Disk, path: &Path) -> Result<(), BackendError> {
    remove_if_there(disk, &unfinished_path(path))
}

fn received_path(path: &Path) -> PathBuf {
    with_suffix(path, ".received")
}

fn unfinished_path(path: &Path) -> PathBuf {
    with_suffix(path, ".received.new")
}

fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}
