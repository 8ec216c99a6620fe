//! One redb file: made, checked, opened and written.

use std::fmt::Display;
use std::io::{self, ErrorKind};
use std::ops::Bound;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};

use env::{Disk, DiskFile, OpenMode};
use redb::{Database, Durability, ReadableDatabase, ReadableTable, Table as RedbTable, WriteTransaction};
use types::{Index, RowKey, Term};

use crate::backend::Options;
use crate::error::BackendError;
use crate::overlay::Layer;
use crate::read_view::{Head, ReadView};
use crate::seal::{seal, unseal};
use crate::storage::{Failure, Storage};
use crate::table::{FILE, KEY, Table};
use crate::tally::Tally;
use crate::usage::Usage;

/// The version of what `docs/backend.md` describes. There is nothing older to be read: format 1, without a digest of the
/// state, was never released.
const FORMAT: u64 = 2;
const FORMAT_KEY: &[u8] = b"format";
const DIGEST_KEY: &[u8] = b"digest";
const USAGE_KEY: &[u8] = b"usage";

/// In table `meta`, as etcd has them.
pub(crate) const CONSISTENT_INDEX_KEY: &[u8] = b"consistent_index";
pub(crate) const TERM_KEY: &[u8] = b"term";

/// A new file is filled by transactions of so many bytes: what fits beside the cache. Of larger ones redb writes pages, reads
/// them again for their checksums, and writes them once more.
pub(crate) const FILLED_BYTES_MAX: u64 = 6 << 20;

/// A table of an open write transaction.
pub(crate) type Writable<'t> = RedbTable<'t, &'static [u8], &'static [u8]>;

/// An open file.
pub(crate) struct File {
    path: PathBuf,
    storage: Storage,
    /// There until it is dropped.
    database: Option<Database>,
    was_damaged: AtomicBool,
    failures: Failures,
}

/// Who is told of failures that are to stop the member; shared by all files that a backend has, one after the other.
pub(crate) type Failures = Arc<OnceLock<Box<dyn Fn(&BackendError) + Send + Sync>>>;

impl Drop for File {
    fn drop(&mut self) {
        if self.was_damaged.load(Ordering::Relaxed) {
            self.storage.retire();
        }
        // Closing in order writes, and so meets damage that nothing has met before. Whoever opens the file next
        // is told of it.
        let database = self.database.take();
        let _ = contained(move || {
            drop(database);
            Ok(())
        });
    }
}

impl File {
    /// Opens the file at `path`, after checking that it is ours.
    pub(crate) fn open(
        disk: &dyn Disk,
        path: &Path,
        options: Options,
        failures: &Failures,
    ) -> Result<Arc<File>, BackendError> {
        File::open_at(disk, path, path, options, failures)
    }

    /// Opens the file at `at`, which will be called `path`.
    pub(crate) fn open_at(
        disk: &dyn Disk,
        at: &Path,
        path: &Path,
        options: Options,
        failures: &Failures,
    ) -> Result<Arc<File>, BackendError> {
        let io = |source| BackendError::Io { path: at.to_owned(), source };
        let handle = disk.open(at, OpenMode::Write).map_err(io)?;
        check_ours(&*handle, at)?;
        File::opened(Storage::new(handle).map_err(io)?, path, options, failures)
    }

    /// Opens the file at `path`, which is ours, to read its last commit, and leaves it as it is. For a disk too full to
    /// open it otherwise.
    pub(crate) fn open_to_read(
        disk: &dyn Disk,
        path: &Path,
        options: Options,
        failures: &Failures,
    ) -> Result<Arc<File>, BackendError> {
        let storage = disk.open(path, OpenMode::Read).and_then(Storage::set_aside);
        let storage = storage.map_err(|source| BackendError::Io { path: path.to_owned(), source })?;
        File::opened(storage, path, options, failures)
    }

    fn opened(storage: Storage, path: &Path, options: Options, failures: &Failures) -> Result<Arc<File>, BackendError> {
        let file = File::over(storage, path, options, failures)?;
        let format = contained(|| file.read_format()).map_err(|error| file.explain(error))?;
        match format {
            Some(FORMAT) => Ok(Arc::new(file)),
            Some(found) if found > FORMAT => Err(BackendError::TooNew { path: path.to_owned(), found, known: FORMAT }),
            Some(found) => Err(BackendError::TooOld { path: path.to_owned(), found, known: FORMAT }),
            None => Err(BackendError::Foreign {
                path: path.to_owned(),
                what: "it is a redb file without quorate's tables; restore it from a backup, or move it away if another \
                       program made it",
            }),
        }
    }

    /// Makes an empty file at `at`, durable but for its name. `path` is what it will be called.
    pub(crate) fn create(
        disk: &dyn Disk,
        at: &Path,
        path: &Path,
        options: Options,
        failures: &Failures,
    ) -> Result<Arc<File>, BackendError> {
        let explain = |source: io::Error| match source.kind() {
            ErrorKind::StorageFull | ErrorKind::QuotaExceeded => BackendError::NoSpace { path: at.to_owned() },
            _ => BackendError::Io { path: at.to_owned(), source },
        };
        let storage = Storage::new(disk.open(at, OpenMode::CreateNew).map_err(explain)?).map_err(explain)?;
        let file = File::over(storage, path, options, failures)?;
        file.initialize().map_err(|error| file.explain(error))?;
        Ok(Arc::new(file))
    }

    fn over(storage: Storage, path: &Path, options: Options, failures: &Failures) -> Result<File, BackendError> {
        let mut builder = Database::builder();
        builder.set_cache_size(options.cache_size_bytes);
        match contained(|| Ok(builder.create_with_backend(storage.clone())?)) {
            Ok(database) => Ok(File {
                path: path.to_owned(),
                storage,
                database: Some(database),
                was_damaged: AtomicBool::default(),
                failures: failures.clone(),
            }),
            Err(error) => Err(explain(path, &storage, error)),
        }
    }

    /// See [`Storage::set_fills`].
    pub(crate) fn set_fills(&self, fills: bool) {
        self.storage.set_fills(fills);
    }

    fn database(&self) -> &Database {
        self.database.as_ref().expect("it is taken only when dropped")
    }

    fn initialize(&self) -> Result<(), redb::Error> {
        let transaction = self.begin_write()?;
        transaction.open_table(KEY)?;
        for table in Table::ALL {
            transaction.open_table(table.definition())?;
        }
        put(&mut transaction.open_table(FILE)?, FORMAT_KEY, &FORMAT.to_be_bytes())?;
        put_digest(&transaction, 0)?;
        put_usage(&transaction, Usage::default())?;
        for table in Table::ALL {
            put(&mut transaction.open_table(FILE)?, table.name().as_bytes(), &Tally::default().encode())?;
        }
        transaction.commit()?;
        Ok(())
    }

    fn read_format(&self) -> Result<Option<u64>, redb::Error> {
        let table = match self.database().begin_read()?.open_table(FILE) {
            Err(redb::TableError::TableDoesNotExist(_) | redb::TableError::TableTypeMismatch { .. }) => {
                return Ok(None);
            }
            other => other?,
        };
        read_u64(&table, FORMAT_KEY)
    }

    /// The last committed state.
    pub(crate) fn view(self: &Arc<Self>) -> Result<ReadView, redb::Error> {
        contained(|| self.begin_read())
    }

    fn begin_read(self: &Arc<Self>) -> Result<ReadView, redb::Error> {
        let transaction = self.database().begin_read()?;
        let meta = transaction.open_table(Table::Meta.definition())?;
        let index = Index(read_u64(&meta, CONSISTENT_INDEX_KEY)?.unwrap_or_default());
        let term = Term(read_u64(&meta, TERM_KEY)?.unwrap_or_default());
        let file = transaction.open_table(FILE)?;
        let digest = read_u64(&file, DIGEST_KEY)?.ok_or_else(|| damaged("the digest of the state is missing"))?;
        let usage = read(&file, USAGE_KEY)?;
        let usage =
            usage.as_deref().and_then(Usage::decode).ok_or_else(|| damaged("the tally of table key is missing"))?;
        let rows = transaction.open_table(KEY)?;
        let head = Head { applied: (index, term), digest, usage };
        Ok(ReadView::new(rows, transaction, head, Arc::clone(self)))
    }

    /// Begins a transaction that will be durable when its commit returns. The allocator's state is saved with it,
    /// so that opening after a crash need not walk the file (`docs/backend.md` has what that costs).
    pub(crate) fn begin_write(&self) -> Result<WriteTransaction, redb::Error> {
        let mut transaction = self.database().begin_write()?;
        transaction.set_durability(Durability::Immediate)?;
        transaction.set_quick_repair(true);
        Ok(transaction)
    }

    /// Writes all of `layer` in one transaction. Writing the same layer again changes nothing.
    pub(crate) fn write(&self, layer: &Layer, mut usage: Usage) -> Result<Written, redb::Error> {
        let transaction = self.begin_write()?;
        let removed = layer.removed_rows();
        let row_count = insert_rows(&mut transaction.open_table(KEY)?, layer, &removed, &mut usage)?;
        remove_rows(&mut transaction.open_table(KEY)?, &removed, &mut usage)?;
        for table in Table::ALL {
            let changes = layer.values(table);
            change_values(&transaction, table, changes.iter().map(|(key, value)| (&key[..], value.as_deref())))?;
        }
        if let Some((index, term)) = layer.applied() {
            let (index, term) = (index.0.to_be_bytes(), term.0.to_be_bytes());
            let applied = [(CONSISTENT_INDEX_KEY, Some(&index[..])), (TERM_KEY, Some(&term[..]))];
            change_values(&transaction, Table::Meta, applied.into_iter())?;
        }
        if let Some(digest) = layer.digest() {
            put_digest(&transaction, digest)?;
        }
        put_usage(&transaction, usage)?;
        transaction.commit()?;
        Ok(Written { row_count, removed })
    }

    /// What an error of the engine means to the caller. A file that is damaged is not written to in closing.
    pub(crate) fn explain(&self, error: redb::Error) -> BackendError {
        let error = explain(&self.path, &self.storage, error);
        if matches!(error, BackendError::Damaged { .. }) {
            self.was_damaged.store(true, Ordering::Relaxed);
        }
        if !matches!(error, BackendError::NoSpace { .. })
            && let Some(tell) = self.failures.get()
        {
            tell(&error);
        }
        error
    }

    /// Whether it was given up because the disk is full.
    pub(crate) fn found_no_space(&self) -> bool {
        matches!(self.storage.failure(), Some(Failure::NoSpace))
    }

    /// See [`Storage::supersede`].
    pub(crate) fn supersede(&self) {
        self.storage.supersede();
    }

    /// See [`Storage::retire`].
    pub(crate) fn retire(&self) {
        self.storage.retire();
    }

    pub(crate) fn len(&self) -> u64 {
        self.storage.known_len()
    }

    /// See [`Storage::taken_bytes`].
    pub(crate) fn taken_bytes(&self) -> u64 {
        self.storage.taken_bytes()
    }
}

/// What [`File::write`] did.
pub(crate) struct Written {
    pub(crate) row_count: usize,
    /// Ascending.
    pub(crate) removed: Vec<RowKey>,
}

/// Rows nearly always follow all that the table holds; then a cursor at its end takes them in a third of the time.
fn insert_rows(
    table: &mut Writable<'_>,
    layer: &Layer,
    removed: &[RowKey],
    usage: &mut Usage,
) -> Result<usize, redb::Error> {
    let Some(first) = layer.first_row() else { return Ok(0) };
    let last = table.last()?.map(|(key, _)| key.value() < first.encode().as_ref());
    let mut sealed = Vec::new();
    let mut inserted = 0;
    let rows = layer.rows().filter(|(row, _)| removed.binary_search(row).is_err());
    if last.unwrap_or(true) {
        let mut cursor = table.upper_bound_mut(Bound::<&[u8]>::Unbounded)?;
        for (row, record) in rows {
            let key = row.encode();
            seal(key.as_ref(), record.as_bytes(), &mut sealed);
            cursor.insert_before(key.as_ref(), sealed.as_slice())?;
            usage.add(key.as_ref().len(), &sealed);
            inserted += 1;
        }
        cursor.close()?;
        return Ok(inserted);
    }
    for (row, record) in rows {
        let key = row.encode();
        seal(key.as_ref(), record.as_bytes(), &mut sealed);
        if let Some(replaced) = table.insert(key.as_ref(), sealed.as_slice())? {
            usage.subtract(key.as_ref().len(), replaced.value());
        }
        usage.add(key.as_ref().len(), &sealed);
        inserted += 1;
    }
    Ok(inserted)
}

pub(crate) fn remove_rows(table: &mut Writable<'_>, rows: &[RowKey], usage: &mut Usage) -> Result<(), redb::Error> {
    for row in rows {
        let key = row.encode();
        if let Some(removed) = table.remove(key.as_ref())? {
            usage.subtract(key.as_ref().len(), removed.value());
        }
    }
    Ok(())
}

/// Puts and removes values of a small table, and keeps its tally.
pub(crate) fn change_values<'a>(
    transaction: &WriteTransaction,
    table: Table,
    changes: impl Iterator<Item = (&'a [u8], Option<&'a [u8]>)>,
) -> Result<(), redb::Error> {
    let mut changes = changes.peekable();
    if changes.peek().is_none() {
        return Ok(());
    }
    let mut tallies = transaction.open_table(FILE)?;
    let mut tally = read_tally(&tallies, table)?;
    let mut rows = transaction.open_table(table.definition())?;
    let mut sealed = Vec::new();
    for (key, value) in changes {
        let replaced = match value {
            Some(value) => {
                seal(key, value, &mut sealed);
                tally.add(&sealed);
                rows.insert(key, sealed.as_slice())?
            }
            None => rows.remove(key)?,
        };
        if let Some(replaced) = replaced {
            tally.subtract(replaced.value());
        }
    }
    put(&mut tallies, table.name().as_bytes(), &tally.encode())
}

/// What the small `table` must come to.
pub(crate) fn read_tally(
    file: &impl ReadableTable<&'static [u8], &'static [u8]>,
    table: Table,
) -> Result<Tally, redb::Error> {
    let tally = read(file, table.name().as_bytes())?;
    let tally = tally.as_deref().and_then(Tally::decode);
    tally.ok_or_else(|| damaged(format_args!("the tally of table {} is missing", table.name())))
}

pub(crate) fn put_usage(transaction: &WriteTransaction, usage: Usage) -> Result<(), redb::Error> {
    put(&mut transaction.open_table(FILE)?, USAGE_KEY, &usage.encode())
}

pub(crate) fn put_digest(transaction: &WriteTransaction, digest: u64) -> Result<(), redb::Error> {
    put(&mut transaction.open_table(FILE)?, DIGEST_KEY, &digest.to_be_bytes())
}

pub(crate) fn put(table: &mut Writable<'_>, key: &[u8], value: &[u8]) -> Result<(), redb::Error> {
    let mut sealed = Vec::new();
    seal(key, value, &mut sealed);
    table.insert(key, sealed.as_slice())?;
    Ok(())
}

/// The value of `key`, its seal checked.
pub(crate) fn read(
    table: &impl ReadableTable<&'static [u8], &'static [u8]>,
    key: &[u8],
) -> Result<Option<Vec<u8>>, redb::Error> {
    let Some(stored) = table.get(key)? else { return Ok(None) };
    match unseal(key, stored.value()) {
        Some(value) => Ok(Some(value.to_vec())),
        None => Err(damaged(format_args!("the value of {} fails its checksum", key.escape_ascii()))),
    }
}

fn read_u64(table: &impl ReadableTable<&'static [u8], &'static [u8]>, key: &[u8]) -> Result<Option<u64>, redb::Error> {
    let Some(value) = read(table, key)? else { return Ok(None) };
    match <[u8; 8]>::try_from(value.as_slice()) {
        Ok(bytes) => Ok(Some(u64::from_be_bytes(bytes))),
        Err(_) => Err(damaged(format_args!("{} has {} bytes instead of 8", key.escape_ascii(), value.len()))),
    }
}

/// Runs `op` of the engine. redb has checks that panic where a damaged page contradicts itself; where panics unwind,
/// they become errors that name the file.
pub(crate) fn contained<T>(op: impl FnOnce() -> Result<T, redb::Error>) -> Result<T, redb::Error> {
    let gave_up = |text| Err(damaged(format_args!("the storage engine gave up on it: {text}")));
    env::catch_panic(op).unwrap_or_else(gave_up)
}

/// An error for contents that cannot be right.
pub(crate) fn damaged(what: impl Display) -> redb::Error {
    redb::Error::Corrupted(what.to_string())
}

fn explain(path: &Path, storage: &Storage, error: redb::Error) -> BackendError {
    let path = path.to_owned();
    match (storage.failure(), error) {
        (Some(Failure::NoSpace), _) => BackendError::NoSpace { path },
        (Some(Failure::Io { kind: ErrorKind::UnexpectedEof, text }), _) => BackendError::Damaged { path, what: text },
        (Some(Failure::Io { kind, text }), _) => BackendError::Io { path, source: io::Error::new(kind, text) },
        (None, redb::Error::Corrupted(what)) => BackendError::Damaged { path, what },
        (None, error) => BackendError::Damaged { path, what: error.to_string() },
    }
}

/// Recognises other files by their first bytes.
fn check_ours(file: &dyn DiskFile, path: &Path) -> Result<(), BackendError> {
    const REDB_MAGIC: &[u8] = b"redb\x1a\x0a\xa9\x0d\x0a";
    const BBOLT_MAGIC: &[u8] = &0xED0C_DAED_u32.to_le_bytes();
    const BBOLT_MAGIC_AT: usize = 16;
    let foreign = |what| Err(BackendError::Foreign { path: path.to_owned(), what });
    let mut head = [0; 32];
    match file.read_at(&mut head, 0) {
        Ok(()) if head.starts_with(REDB_MAGIC) => Ok(()),
        Ok(()) if head[BBOLT_MAGIC_AT..].starts_with(BBOLT_MAGIC) => {
            foreign("it is an etcd database (bbolt); convert it with `quorateutl migrate`")
        }
        Ok(()) => foreign("its first bytes are not those of one; restore it from a backup, or move it away"),
        Err(error) if error.kind() == ErrorKind::UnexpectedEof => {
            foreign("it is too short for one; restore it from a backup, or move it away")
        }
        Err(source) => Err(BackendError::Io { path: path.to_owned(), source }),
    }
}
