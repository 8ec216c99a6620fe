//! The handle: staging, committing and reading.

use std::fmt::Display;
use std::io;
use std::ops::{Bound, ControlFlow};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use env::{Disk, OpenMode};
use parking_lot::{Mutex, RwLock};
use types::{Index, Record, Revision, RowKey, Term};

use crate::error::BackendError;
use crate::file::{self, Failures, File, contained};
use crate::overlay::{Found, Overlay, Window};
use crate::read_view::{EVERYTHING, ReadView, row_bound};
use crate::snapshot;
use crate::staged::Staged;
use crate::table::{KeyValue, Table};

/// How the file is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Options {
    /// Bytes of file pages kept in memory, at most. Current values live in `mvcc`'s memory, so this stays small.
    pub cache_size_bytes: usize,
}

impl Default for Options {
    fn default() -> Options {
        Options { cache_size_bytes: 16 << 20 }
    }
}

/// What one commit made durable.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Committed {
    /// The log entry the file now reflects.
    pub applied: (Index, Term),
    pub row_count: usize,
    pub removed_row_count: usize,
}

/// How large the file is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Size {
    /// The file's length. The file grows by doubling, up to 4 GiB a step, and what was never written in it takes no
    /// space on disk.
    pub file_bytes: u64,
    /// What the committed rows take of it, reckoned; the rest is free for new ones. Quotas go by this.
    pub in_use_bytes: u64,
}

/// A handle on the backend; clones share it. Dropping the last one closes the file; what is staged then is left to
/// the log.
#[derive(Clone)]
pub struct Backend(pub(crate) Arc<Inner>);

pub(crate) struct Inner {
    pub(crate) disk: Arc<dyn Disk>,
    pub(crate) path: PathBuf,
    pub(crate) options: Options,
    pub(crate) failures: Failures,
    pub(crate) overlay: RwLock<Overlay>,
    view: RwLock<Arc<ReadView>>,
    /// Held by whoever changes the file, over its I/O. Readers come here only to wait for a file that failed.
    pub(crate) writer: Mutex<Writer>,
    pub(crate) defragmenting: Mutex<()>,
}

#[derive(Default)]
pub(crate) struct Writer {
    /// The failure after which nothing may be written any more.
    pub(crate) stopped: Option<String>,
    /// The file can only be read until it is opened again: there was no room even for that.
    pub(crate) is_only_read: bool,
    /// Rows removed since a defragmentation took its view, while one is running.
    pub(crate) removed_meanwhile: Option<Vec<RowKey>>,
    /// How often a received state has taken the place of this one.
    pub(crate) adoptions: u64,
}

impl Backend {
    /// Whether there is a file at `path`.
    ///
    /// # Errors
    /// [`BackendError::Io`].
    pub fn exists(disk: &dyn Disk, path: &Path) -> Result<bool, BackendError> {
        match disk.open(path, OpenMode::Read) {
            Ok(_) => Ok(true),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(source) => Err(BackendError::Io { path: path.to_owned(), source }),
        }
    }

    /// Opens the file at `path`, or makes an empty one. The directory must be there, and the caller keeps other
    /// processes out of it.
    ///
    /// A disk too full to open a file that is there does not keep it from being read; commits say `NoSpace` then.
    ///
    /// A file appears under its name complete and durable or not at all: what a crash leaves of the making, or of a
    /// defragmentation, or of receiving a snapshot, is removed here. A snapshot received whole stays; what to do with it
    /// is to be decided before ([`Backend::received`]).
    ///
    /// # Errors
    /// Any [`BackendError`].
    pub fn open(disk: Arc<dyn Disk>, path: &Path, options: Options) -> Result<Backend, BackendError> {
        remove_if_there(&*disk, &temporary(path))?;
        snapshot::remove_unfinished(&*disk, path)?;
        let failures = Failures::default();
        let mut writer = Writer::default();
        let file = if Backend::exists(&*disk, path)? {
            match File::open(&*disk, path, options, &failures) {
                Err(BackendError::NoSpace { .. }) => {
                    writer.is_only_read = true;
                    File::open_to_read(&*disk, path, options, &failures)?
                }
                opened => opened?,
            }
        } else {
            let file = File::create(&*disk, &temporary(path), path, options, &failures)?;
            take_name(&*disk, path)?;
            sync_name(&*disk, path)?;
            file
        };
        let view = checked_view(&file)?;
        Ok(Backend(Arc::new(Inner {
            disk,
            path: path.to_owned(),
            options,
            failures,
            overlay: RwLock::default(),
            view: RwLock::new(Arc::new(view)),
            writer: Mutex::new(writer),
            defragmenting: Mutex::default(),
        })))
    }

    /// Makes `staged` visible to readers at once, and durable with the next commit.
    ///
    /// # Panics
    /// If a row does not follow every row staged before and not yet committed.
    pub fn stage(&self, staged: Staged) {
        let bytes = staged.bytes();
        self.0.overlay.write().stage(staged, bytes);
    }

    /// What is staged and not yet durable, in bytes.
    pub fn staged_bytes(&self) -> usize {
        self.0.overlay.read().bytes()
    }

    /// Makes everything staged so far durable in one transaction, with the newest `applied` among it. Without
    /// anything staged it writes nothing. Readers see no difference at any moment.
    ///
    /// # Errors
    /// [`BackendError::NoSpace`]: what was staged stays so, and readable; a later commit tries again. After any other
    /// error this backend writes nothing any more, and the member is to be stopped.
    pub fn commit(&self) -> Result<Committed, BackendError> {
        let mut writer = self.0.writer.lock();
        self.0.check_running(&writer)?;
        let Some(layer) = self.0.overlay.write().begin_commit() else {
            return Ok(Committed { applied: self.applied(), ..Committed::default() });
        };
        if writer.is_only_read {
            self.0.reopen(&mut writer)?;
        }
        let view = self.view();
        let write = || Ok((view.file().write(&layer, view.usage())?, view.file().view()?));
        let written = contained(write);
        let (written, view) = match written {
            Ok(done) => done,
            Err(error) => {
                let error = view.file().explain(error);
                return Err(self.0.after_failure(&mut writer, error));
            }
        };
        let applied = view.applied();
        let removed_row_count = written.removed.len();
        if let Some(removed) = &mut writer.removed_meanwhile {
            removed.extend(written.removed);
        }
        self.0.publish(view);
        // Bound to a name, so that it is freed after the lock is let go.
        let dropped = self.0.overlay.write().end_commit();
        drop(dropped);
        Ok(Committed { applied, row_count: written.row_count, removed_row_count })
    }

    /// The record of a row, staged or committed. Damage to the tree above a row may hide it: if the caller knows that
    /// it must be there, `None` means damage.
    ///
    /// # Errors
    /// [`BackendError::Damaged`] or [`BackendError::Io`].
    pub fn get(&self, row: RowKey) -> Result<Option<Record>, BackendError> {
        match self.0.overlay.read().row(row) {
            Found::Present(record) => return Ok(Some(record)),
            Found::Removed => return Ok(None),
            Found::Unknown => {}
        }
        self.0.read(|view| view.row(row))
    }

    /// Visits the rows from `from` up to but without `to`, ascending, staged and committed, without the removed ones.
    /// Rows staged meanwhile may or may not be among them. The bytes are the row's record.
    ///
    /// A scan of everything (from the zero revision to [`i64::MAX`]) also checks that they are those that were committed.
    ///
    /// # Errors
    /// [`BackendError::Damaged`] or [`BackendError::Io`].
    pub fn scan(
        &self,
        from: Revision,
        to: Revision,
        visit: &mut dyn FnMut(RowKey, &[u8]) -> ControlFlow<()>,
    ) -> Result<(), BackendError> {
        let (from, to) = (row_bound(from), row_bound(to));
        if from >= to {
            return Ok(());
        }
        let everything = from.revision <= Revision::default() && to.revision.main == i64::MAX;
        let mut start = if everything { EVERYTHING.0 } else { Bound::Included(from) };
        let end = if everything { EVERYTHING.1 } else { Bound::Excluded(to) };
        let window = self.0.overlay.read().window(from, to);
        let mut staged = window.rows().peekable();
        let committed = self.0.read(|view| {
            view.scan_rows((start, end), &mut |row, record| {
                start = Bound::Excluded(row);
                while let Some((earlier, record)) = staged.next_if(|(staged, _)| *staged < row) {
                    visit_unless_removed(&window, *earlier, record.as_bytes(), visit)?;
                }
                staged.next_if(|(staged, _)| *staged == row);
                visit_unless_removed(&window, row, record, visit)
            })
        })?;
        if committed.is_break() {
            return Ok(());
        }
        for (row, record) in staged {
            if visit_unless_removed(&window, *row, record.as_bytes(), visit).is_break() {
                break;
            }
        }
        Ok(())
    }

    /// The value of a key of a small table, staged or committed. `consistent_index` and `term` of [`Table::Meta`]
    /// are those of the last commit.
    ///
    /// # Errors
    /// [`BackendError::Damaged`] or [`BackendError::Io`].
    pub fn value(&self, table: Table, key: &[u8]) -> Result<Option<Vec<u8>>, BackendError> {
        match self.0.overlay.read().value(table, key) {
            Found::Present(value) => return Ok(Some(value)),
            Found::Removed => return Ok(None),
            Found::Unknown => {}
        }
        self.0.read(|view| view.value(table, key))
    }

    /// All of a small table in key order, staged and committed.
    ///
    /// # Errors
    /// [`BackendError::Damaged`] or [`BackendError::Io`].
    pub fn values(&self, table: Table) -> Result<Vec<KeyValue>, BackendError> {
        let staged = self.0.overlay.read().values(table);
        let mut values = self.0.read(|view| view.read_values(table))?;
        for (key, value) in staged {
            match value {
                Some(value) => drop(values.insert(key, value)),
                None => drop(values.remove(&key)),
            }
        }
        Ok(values.into_iter().collect())
    }

    /// The log entry whose effects, and those of all before it, are durable here: of the last commit, or found at
    /// opening. Zero in a new file.
    pub fn applied(&self) -> (Index, Term) {
        self.view().applied()
    }

    /// The machine's digest of that state; 0 before the first entry.
    pub fn digest(&self) -> u64 {
        self.view().digest()
    }

    /// Calls `tell` with every failure from now on that is to stop the member: all but a full disk. Whichever thread
    /// meets the failure calls it, and hands the error to its own caller too. Only the first call of this counts.
    pub fn on_failure(&self, tell: impl Fn(&BackendError) + Send + Sync + 'static) {
        let _ = self.0.failures.set(Box::new(tell));
    }

    /// The error for contents that the caller knows cannot be right, though their checksums are.
    pub fn damaged(&self, what: impl Display) -> BackendError {
        self.view().file().explain(file::damaged(what))
    }

    /// The state of the last commit, to be read at leisure.
    pub fn view(&self) -> Arc<ReadView> {
        self.0.current()
    }

    /// How much of the disk the file takes. Asks the system.
    pub fn taken_bytes(&self) -> u64 {
        self.view().file().taken_bytes()
    }

    /// How large the file is; costs nothing.
    pub fn size(&self) -> Size {
        let view = self.view();
        Size { file_bytes: view.file().len(), in_use_bytes: view.usage().bytes }
    }
}

impl Inner {
    pub(crate) fn current(&self) -> Arc<ReadView> {
        Arc::clone(&self.view.read())
    }

    pub(crate) fn publish(&self, view: impl Into<Arc<ReadView>>) {
        let view = view.into();
        let replaced = std::mem::replace(&mut *self.view.write(), view);
        drop(replaced);
    }

    /// Reads the committed state. If the file fails under the reader because a commit found the disk full, waits
    /// until it is open again and reads once more; `op` must be able to go on.
    fn read<T>(&self, mut op: impl FnMut(&ReadView) -> Result<T, redb::Error>) -> Result<T, BackendError> {
        loop {
            let view = self.current();
            let error = match op(&view) {
                Ok(done) => return Ok(done),
                Err(error) => error,
            };
            if view.file().found_no_space() {
                drop(self.writer.lock());
                if !Arc::ptr_eq(&view, &self.current()) {
                    continue;
                }
            }
            return Err(view.file().explain(error));
        }
    }

    /// A file that has taken this backend's name tells its failures to whoever is told of this backend's.
    pub(crate) fn share_failures(&self, with: &Failures) {
        let told = self.failures.clone();
        let _ = with.set(Box::new(move |error| told.get().into_iter().for_each(|tell| tell(error))));
    }

    /// Nothing may be written any more; whoever is told of failures is.
    pub(crate) fn stop(&self, writer: &mut Writer, error: &BackendError) {
        writer.stopped = Some(error.to_string());
        if let Some(tell) = self.failures.get() {
            tell(error);
        }
    }

    pub(crate) fn check_running(&self, writer: &Writer) -> Result<(), BackendError> {
        let Some(failure) = &writer.stopped else { return Ok(()) };
        let source = io::Error::other(format!("stopped by an earlier failure: {failure}"));
        Err(BackendError::Io { path: self.path.clone(), source })
    }

    /// Decides what a failed change of the file leaves possible. Gives the error back.
    pub(crate) fn after_failure(&self, writer: &mut Writer, error: BackendError) -> BackendError {
        if !matches!(error, BackendError::NoSpace { .. }) {
            writer.stopped = Some(error.to_string());
            return error;
        }
        // redb refuses all work after an I/O error; the file itself still holds the last commit.
        match self.reopen(writer) {
            Ok(()) | Err(BackendError::NoSpace { .. }) => error,
            Err(worse) => worse,
        }
    }

    /// Opens the file again; if there is no room for that either, so that it can at least be read.
    fn reopen(&self, writer: &mut Writer) -> Result<(), BackendError> {
        writer.is_only_read = true;
        self.current().file().supersede();
        let opened = match self.view_of(File::open) {
            Ok(view) => {
                self.publish(view);
                writer.is_only_read = false;
                return Ok(());
            }
            Err(no_space @ BackendError::NoSpace { .. }) => {
                self.view_of(File::open_to_read).map(|view| self.publish(view)).and(Err(no_space))
            }
            Err(error) => Err(error),
        };
        opened.inspect_err(|error| {
            if !matches!(error, BackendError::NoSpace { .. }) {
                writer.stopped = Some(error.to_string());
            }
        })
    }

    fn view_of(
        &self,
        open: impl Fn(&dyn Disk, &Path, Options, &Failures) -> Result<Arc<File>, BackendError>,
    ) -> Result<ReadView, BackendError> {
        let file = open(&*self.disk, &self.path, self.options, &self.failures)?;
        file.view().map_err(|error| file.explain(error))
    }
}

fn visit_unless_removed(
    window: &Window,
    row: RowKey,
    record: &[u8],
    visit: &mut dyn FnMut(RowKey, &[u8]) -> ControlFlow<()>,
) -> ControlFlow<()> {
    if window.removes(row) { ControlFlow::Continue(()) } else { visit(row, record) }
}

/// The file's last state. Single values, the consistent index among them, are trusted from here on. Rows are for who reads
/// them all.
pub(crate) fn checked_view(file: &Arc<File>) -> Result<ReadView, BackendError> {
    let view = file.view().map_err(|error| file.explain(error))?;
    for table in Table::ALL {
        view.values(table)?;
    }
    Ok(view)
}

/// Where a file is made before it takes its name.
pub(crate) fn temporary(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".new");
    name.into()
}

pub(crate) fn remove_if_there(disk: &dyn Disk, path: &Path) -> Result<(), BackendError> {
    match disk.remove(path) {
        Err(source) if source.kind() != io::ErrorKind::NotFound => {
            Err(BackendError::Io { path: path.to_owned(), source })
        }
        _ => Ok(()),
    }
}

/// Gives the complete and synced temporary file its name.
pub(crate) fn take_name(disk: &dyn Disk, path: &Path) -> Result<(), BackendError> {
    rename(disk, &temporary(path), path)
}

pub(crate) fn rename(disk: &dyn Disk, from: &Path, to: &Path) -> Result<(), BackendError> {
    disk.rename(from, to).map_err(|source| BackendError::Io { path: to.to_owned(), source })
}

/// Makes durable which files in the directory of `path` have which names.
pub(crate) fn sync_name(disk: &dyn Disk, path: &Path) -> Result<(), BackendError> {
    let directory = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    disk.sync_dir(directory).map_err(|source| BackendError::Io { path: directory.to_owned(), source })
}
