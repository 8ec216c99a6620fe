//! Reading a state in, believing nothing: it becomes a file of its own, complete or not at all.

use std::ops::Bound;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use env::Disk;
use redb::WriteTransaction;
use types::{Index, Record, RowKey, Term};

use super::format::{self, BLOCK_HEAD_LEN, CHECKSUM_LEN, HEADER_LEN, Header, Kind};
use super::{received_path, unfinished_path};
use crate::backend::{Options, checked_view, remove_if_there, rename, sync_name};
use crate::error::BackendError;
use crate::file::{FILLED_BYTES_MAX, Failures, File, change_values, contained, put_digest, put_usage, read_tally};
use crate::seal::unseal;
use crate::table::{FILE, KEY, Table};
use crate::usage::Usage;

/// Why a state was not received.
#[derive(Debug, thiserror::Error)]
pub enum ImportError {
    /// The file could not be made: the disk is full, or fails.
    #[error(transparent)]
    Backend(#[from] BackendError),

    /// The bytes are not a state that was sent whole. The sender may send it again.
    #[error("the received state is damaged at byte {offset}: {what}")]
    Malformed { offset: u64, what: String },

    /// The sender is of a later version.
    #[error("the received state has format {found}, this version reads up to {known}")]
    TooNew { found: u32, known: u32 },

    /// The stream ended early. The sender may send it again.
    #[error("the received state ends after {bytes} bytes and is not complete")]
    Incomplete { bytes: u64 },
}

/// A state that is coming in. Until [`Import::finish`] has returned there is none, and dropping this removes what there
/// is.
///
/// There is one at a time for a state.
pub struct Import {
    disk: Arc<dyn Disk>,
    /// Of the state that this is received beside.
    path: PathBuf,
    /// There until this ends.
    target: Option<Target>,
    /// What has come of the header or block at hand.
    pending: Vec<u8>,
    /// How many bytes came before `pending`.
    taken: u64,
    /// Of those.
    checksum: u32,
    part: Part,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Part {
    Header,
    Blocks,
    Ended,
    /// Something was wrong; nothing more is taken.
    Refused,
}

/// The file that is being filled.
struct Target {
    // Dropped in this order: the transaction before its file.
    transaction: Option<WriteTransaction>,
    file: Arc<File>,
    header: Option<Header>,
    usage: Usage,
    /// What `usage` was when the transaction began.
    committed_bytes: u64,
    /// What came last: blocks and keys ascend.
    kind: Kind,
    last_row: Option<RowKey>,
    last_key: Option<Vec<u8>>,
}

/// Why a part was not taken.
enum Refusal {
    Malformed(String),
    Engine(redb::Error),
}

impl From<redb::Error> for Refusal {
    fn from(error: redb::Error) -> Refusal {
        Refusal::Engine(error)
    }
}

impl Import {
    /// Begins to receive a state beside the one at `path`, whose directory is there.
    ///
    /// # Errors
    /// [`BackendError::NoSpace`]; [`BackendError::Io`], also while another is being received.
    pub fn create(disk: Arc<dyn Disk>, path: &Path, options: Options) -> Result<Import, ImportError> {
        let at = unfinished_path(path);
        let file = File::create(&*disk, &at, &at, options, &Failures::default()).inspect_err(|error| {
            if matches!(error, BackendError::NoSpace { .. }) {
                // If this fails too, the name is found and removed at the next start.
                let _ = remove_if_there(&*disk, &at);
            }
        })?;
        file.set_fills(true);
        let target = Target {
            transaction: None,
            file,
            header: None,
            usage: Usage::default(),
            committed_bytes: 0,
            kind: Kind::Rows,
            last_row: None,
            last_key: None,
        };
        Ok(Import {
            disk,
            path: path.to_owned(),
            target: Some(target),
            pending: Vec::new(),
            taken: 0,
            checksum: 0,
            part: Part::Header,
        })
    }

    /// Takes the next bytes of the stream, however it is cut. Holds no more than those of one block, and only what came.
    ///
    /// # Errors
    /// Any [`ImportError`]; nothing more is taken then.
    pub fn write(&mut self, mut bytes: &[u8]) -> Result<(), ImportError> {
        while !bytes.is_empty() {
            self.some(&mut bytes).inspect_err(|_| self.part = Part::Refused)?;
        }
        Ok(())
    }

    /// Ends the stream: the state is complete and durable under the name of a received one, in place of any that was
    /// there.
    ///
    /// # Errors
    /// Any [`ImportError`]; there is nothing then. After [`BackendError::Io`] the name may be there, complete, and not be
    /// durable.
    pub fn finish(mut self) -> Result<(Index, Term), ImportError> {
        if self.part != Part::Ended {
            return Err(ImportError::Incomplete { bytes: self.taken + self.pending.len() as u64 });
        }
        let mut target = self.target.take().expect("it is taken only here and when dropped");
        let header = target.header.expect("a stream that ended had a header");
        let written = target.complete(header).map_err(|error| target.file.explain(error).into());
        let checked = written.and_then(|()| match checked_view(&target.file)?.applied() {
            applied if applied == header.applied => Ok(()),
            (index, _) => Err(self.malformed(0, format!("its rows are of entry {index}"))),
        });
        // Closing the file writes to it: before it has its name.
        drop(target);
        let unfinished = unfinished_path(&self.path);
        let named = checked.and_then(|()| Ok(rename(&*self.disk, &unfinished, &received_path(&self.path))?));
        if let Err(error) = named {
            // If this fails too, the name is found and removed at the next start.
            let _ = remove_if_there(&*self.disk, &unfinished);
            return Err(error);
        }
        sync_name(&*self.disk, &self.path)?;
        Ok(header.applied)
    }

    /// Takes as many of `bytes` as the part at hand needs.
    fn some(&mut self, bytes: &mut &[u8]) -> Result<(), ImportError> {
        let wanted = match self.part {
            Part::Header => HEADER_LEN,
            Part::Blocks => self.block_len()?,
            Part::Ended => return Err(self.malformed(0, "something follows its end")),
            Part::Refused => return Err(self.malformed(0, "what came before was refused")),
        };
        let (some, rest) = bytes.split_at(bytes.len().min(wanted - self.pending.len()));
        self.pending.extend_from_slice(some);
        *bytes = rest;
        if self.pending.len() < wanted {
            return Ok(());
        }
        match self.part {
            Part::Header => self.take_header(),
            _ if wanted == BLOCK_HEAD_LEN => Ok(()),
            _ => self.take_block(),
        }
    }

    /// Of the whole block, or of what tells its length.
    fn block_len(&self) -> Result<usize, ImportError> {
        let Some(head) = self.pending.first_chunk::<BLOCK_HEAD_LEN>() else { return Ok(BLOCK_HEAD_LEN) };
        let len = u32::from_be_bytes(*head.last_chunk().expect("a head has 5 bytes")) as usize;
        if Kind::of(head[0]).is_none() {
            return Err(self.malformed(0, format!("block of kind {}", head[0])));
        }
        if len == 0 || len > format::BLOCK_BYTES_MAX {
            return Err(self.malformed(1, format!("block of {len} bytes")));
        }
        Ok(BLOCK_HEAD_LEN + len + CHECKSUM_LEN)
    }

    fn take_header(&mut self) -> Result<(), ImportError> {
        let bytes: [u8; HEADER_LEN] = *self.pending.first_chunk().expect("a whole header has come");
        if !bytes.starts_with(format::MAGIC) {
            return Err(self.malformed(0, "it does not begin as a state does"));
        }
        let version = u32::from_be_bytes(*bytes[format::MAGIC.len()..].first_chunk().expect("the header is longer"));
        if version > format::VERSION {
            return Err(ImportError::TooNew { found: version, known: format::VERSION });
        }
        if version != format::VERSION {
            return Err(self.malformed(format::MAGIC.len(), format!("format {version}")));
        }
        self.check_sum()?;
        self.target().header = Some(Header::decode(&bytes));
        self.part = Part::Blocks;
        self.advance();
        Ok(())
    }

    fn take_block(&mut self) -> Result<(), ImportError> {
        self.check_sum()?;
        let pending = std::mem::take(&mut self.pending);
        let kind = Kind::of(pending[0]).expect("it was checked before the block came");
        let payload = &pending[BLOCK_HEAD_LEN..pending.len() - CHECKSUM_LEN];
        let target = self.target();
        let taken = contained_or_refused(|| target.take(kind, payload));
        let taken = taken.map_err(|refusal| match refusal {
            Refusal::Malformed(what) => Ok(what),
            Refusal::Engine(error) => Err(target.file.explain(error)),
        });
        self.pending = pending;
        match taken {
            Ok(()) => {}
            Err(Ok(what)) => return Err(self.malformed(0, what)),
            Err(Err(error)) => return Err(error.into()),
        }
        if kind == Kind::End {
            self.part = Part::Ended;
        }
        self.advance();
        Ok(())
    }

    /// Whether the last bytes that came are the checksum of all before.
    fn check_sum(&self) -> Result<(), ImportError> {
        let (bytes, stated) = self.pending.split_last_chunk::<CHECKSUM_LEN>().expect("a whole part has come");
        if crc32c::crc32c_append(self.checksum, bytes) != u32::from_be_bytes(*stated) {
            return Err(self.malformed(0, "its checksum is wrong"));
        }
        Ok(())
    }

    fn advance(&mut self) {
        self.checksum = crc32c::crc32c_append(self.checksum, &self.pending);
        self.taken += self.pending.len() as u64;
        // What a large row took need not be kept.
        if self.pending.capacity() > 4 * format::BLOCK_BYTES { self.pending = Vec::new() } else { self.pending.clear() }
    }

    fn target(&mut self) -> &mut Target {
        self.target.as_mut().expect("it is there until this ends")
    }

    fn malformed(&self, at: usize, what: impl Into<String>) -> ImportError {
        ImportError::Malformed { offset: self.taken + at as u64, what: what.into() }
    }
}

impl Drop for Import {
    fn drop(&mut self) {
        if let Some(target) = self.target.take() {
            target.file.retire();
            drop(target);
            // If this fails, the name is found and removed at the next start.
            let _ = remove_if_there(&*self.disk, &unfinished_path(&self.path));
        }
    }
}

/// Runs what asks the engine; where that panics, it becomes an error.
fn contained_or_refused(op: impl FnOnce() -> Result<(), Refusal>) -> Result<(), Refusal> {
    let mut refused = None;
    let done = contained(|| match op() {
        Err(Refusal::Engine(error)) => Err(error),
        Err(refusal) => {
            refused = Some(refusal);
            Ok(())
        }
        Ok(()) => Ok(()),
    });
    done?;
    refused.map_or(Ok(()), Err)
}

impl Target {
    fn take(&mut self, kind: Kind, payload: &[u8]) -> Result<(), Refusal> {
        if kind < self.kind {
            return malformed("a block stands behind one that comes after it");
        }
        if kind != self.kind {
            (self.kind, self.last_key) = (kind, None);
        }
        if self.transaction.is_none() {
            self.transaction = Some(self.file.begin_write()?);
            self.committed_bytes = self.usage.bytes;
        }
        match kind {
            Kind::Rows => self.take_rows(payload)?,
            Kind::Values(table) => self.take_values(table, payload)?,
            Kind::End => return self.check_tallies(payload),
        }
        if self.usage.bytes - self.committed_bytes >= FILLED_BYTES_MAX
            && let Some(transaction) = self.transaction.take()
        {
            transaction.commit().map_err(redb::Error::from)?;
        }
        Ok(())
    }

    fn transaction(&self) -> &WriteTransaction {
        self.transaction.as_ref().expect("it was begun for this block")
    }

    fn take_rows(&mut self, mut payload: &[u8]) -> Result<(), Refusal> {
        let (mut usage, mut last) = (self.usage, self.last_row);
        let mut table = self.transaction().open_table(KEY).map_err(redb::Error::from)?;
        let mut cursor = table.upper_bound_mut(Bound::<&[u8]>::Unbounded).map_err(redb::Error::from)?;
        while !payload.is_empty() {
            let Some((key, sealed)) = format::take_row(&mut payload) else { return malformed("a row is cut short") };
            let Ok(row) = RowKey::decode(key) else { return malformed("a row's key is none") };
            if row.revision.main < 0 || row.revision.sub < 0 || last.is_some_and(|last| last >= row) {
                return malformed(format!("row {} stands where it cannot", row.revision));
            }
            // An empty record stands for a revision, not for a key.
            let is_sound = unseal(key, sealed).is_some_and(|record| record.is_empty() || is_record(record));
            if !is_sound {
                return malformed(format!("row {} is damaged", row.revision));
            }
            cursor.insert_before(key, sealed).map_err(redb::Error::from)?;
            usage.add(key.len(), sealed);
            last = Some(row);
        }
        cursor.close().map_err(redb::Error::from)?;
        drop(table);
        (self.usage, self.last_row) = (usage, last);
        Ok(())
    }

    fn take_values(&mut self, table: Table, mut payload: &[u8]) -> Result<(), Refusal> {
        let mut values = Vec::new();
        let mut last = self.last_key.take();
        while !payload.is_empty() {
            let Some((key, sealed)) = format::take_row(&mut payload) else { return malformed("a value is cut short") };
            if last.as_deref().is_some_and(|last| last >= key) {
                return malformed(format!("{} in table {} stands where it cannot", key.escape_ascii(), table.name()));
            }
            let Some(value) = unseal(key, sealed) else {
                return malformed(format!("{} in table {} is damaged", key.escape_ascii(), table.name()));
            };
            values.push((key, Some(value)));
            last = Some(key.to_vec());
        }
        self.last_key = last;
        Ok(change_values(self.transaction(), table, values.into_iter())?)
    }

    /// Whether as much came as was sent.
    fn check_tallies(&self, payload: &[u8]) -> Result<(), Refusal> {
        let mut came = vec![self.usage.tally];
        {
            let file = self.transaction().open_table(FILE).map_err(redb::Error::from)?;
            for table in Table::ALL {
                came.push(read_tally(&file, table)?);
            }
        }
        match format::decode_tallies(payload) {
            Some(sent) if sent == came => Ok(()),
            Some(_) => malformed("what came is not all that was sent"),
            None => malformed("its end is cut short"),
        }
    }

    /// Makes it durable, but for the name.
    fn complete(&mut self, header: Header) -> Result<(), redb::Error> {
        let transaction = self.transaction.take().expect("the last block began one");
        let usage = self.usage;
        contained(|| {
            put_digest(&transaction, header.digest)?;
            put_usage(&transaction, usage)?;
            Ok(transaction.commit()?)
        })
    }
}

fn is_record(bytes: &[u8]) -> bool {
    Record::from_stored(bytes).is_some()
}

fn malformed<T>(what: impl Into<String>) -> Result<T, Refusal> {
    Err(Refusal::Malformed(what.into()))
}
