//! The state of one member on its way to another: the stream that ships, as bytes.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use backend::{Backend, Import, Staged};
use env::Disk;
use types::{Index, RowKey, Term};

use crate::boot;

/// All that a backend had committed.
#[derive(Clone)]
pub(crate) struct StateCopy {
    pub(crate) applied: (Index, Term),
    pub(crate) stream: Vec<u8>,
    /// A planted fault: this row is missing when the state has arrived.
    pub(crate) without: Option<RowKey>,
    /// Another: it says that it is of this entry, and is older.
    pub(crate) claims: Option<(Index, Term)>,
}

impl StateCopy {
    /// What `backend` has committed.
    pub(crate) fn of(backend: &Backend) -> Result<StateCopy, String> {
        let mut export = backend.export();
        let mut stream = Vec::new();
        while let Some(chunk) = export.next_chunk().map_err(|error| error.to_string())? {
            stream.extend(chunk);
        }
        Ok(StateCopy { applied: export.applied(), stream, without: None, claims: None })
    }

    pub(crate) fn bytes(&self) -> u64 {
        self.stream.len() as u64
    }

    /// Writes the copy beside the state, durably. It takes the state's place later.
    pub(crate) fn write(&self, disk: &Arc<dyn Disk>) -> Result<(), String> {
        let path = Path::new(boot::STATE);
        let text = |error: backend::ImportError| error.to_string();
        // As the server does: what an earlier one left behind when the disk failed would be in the way.
        Backend::discard_unfinished(disk.as_ref(), path).map_err(|error| error.to_string())?;
        let mut import = Import::create(disk.clone(), path, boot::backend_options()).map_err(text)?;
        for piece in self.stream.chunks(64 << 10) {
            import.write(piece).map_err(text)?;
        }
        import.finish().map_err(text)?;
        if self.without.is_none() && self.claims.is_none() {
            return Ok(());
        }
        let received = PathBuf::from(format!("{}.received", boot::STATE));
        let backend =
            Backend::open(disk.clone(), &received, boot::backend_options()).map_err(|error| error.to_string())?;
        let removed_rows = self.without.into_iter().collect();
        let digest = self.claims.map(|_| backend.digest());
        backend.stage(Staged { removed_rows, applied: self.claims, digest, ..Staged::default() });
        backend.commit().map(drop).map_err(|error| error.to_string())
    }
}
