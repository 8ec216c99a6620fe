//! Rewriting the file without its holes.
//!
//! A new file is filled beside the old one while commits go on: first everything the last commit left, then, with
//! commits held back, what came and went meanwhile. The new file is durable before it takes the old one's name, so a
//! crash finds the one or the other, both complete; a failure before that leaves the old one in service.

use std::ops::Bound;
use std::sync::Arc;

use redb::WriteTransaction;
use types::RowKey;

use crate::backend::{Backend, Inner, remove_if_there, sync_name, take_name, temporary};
use crate::error::BackendError;
use crate::file::{FILLED_BYTES_MAX, Failures, File, change_values, put_digest, put_usage, remove_rows};
use crate::read_view::ReadView;
use crate::table::{KEY, Table};
use crate::usage::Usage;

impl Backend {
    /// Gives space that compaction freed back to the disk. Needs as much free space as is in use. Readers go on, and
    /// commits wait only for the last part. Calls that come meanwhile wait and then do it again.
    ///
    /// # Errors
    /// Any [`BackendError`]; the old file stays in service. Only if the new file's name could not be made durable does
    /// this backend write nothing any more, and the member is to be stopped.
    pub fn defragment(&self) -> Result<(), BackendError> {
        let _one_at_a_time = self.0.defragmenting.lock();
        let result = self.0.rewrite();
        if result.is_err() {
            self.0.writer.lock().removed_meanwhile = None;
            remove_if_there(&*self.0.disk, &temporary(&self.0.path))?;
        }
        result
    }
}

impl Inner {
    fn rewrite(&self) -> Result<(), BackendError> {
        let (first, adoptions) = {
            let mut writer = self.writer.lock();
            self.check_running(&writer)?;
            writer.removed_meanwhile = Some(Vec::new());
            (self.current(), writer.adoptions)
        };
        // Until the new file has its name, its failures are the caller's alone.
        let failures = Failures::default();
        let target = File::create(&*self.disk, &temporary(&self.path), &self.path, self.options, &failures)?;
        target.set_fills(true);
        let mut copy = Copy { target: &target, usage: Usage::default(), last: None };
        copy.rows(&first)?;

        let mut writer = self.writer.lock();
        self.check_running(&writer)?;
        if writer.adoptions != adoptions {
            // A received state has taken the place of this one, and has no holes.
            return remove_if_there(&*self.disk, &temporary(&self.path));
        }
        let removed = writer.removed_meanwhile.take().unwrap_or_default();
        let latest = self.current();
        copy.rows(&latest)?;
        copy.finish(&latest, &removed)?;
        target.set_fills(false);
        let view = target.view().map_err(|error| target.explain(error))?;
        take_name(&*self.disk, &self.path)?;
        self.share_failures(&failures);
        latest.file().retire();
        self.publish(view);
        sync_name(&*self.disk, &self.path).inspect_err(|error| self.stop(&mut writer, error))
    }
}

struct Copy<'a> {
    target: &'a Arc<File>,
    usage: Usage,
    last: Option<RowKey>,
}

impl Copy<'_> {
    /// Copies the rows of `source` that follow the last one copied.
    fn rows(&mut self, source: &ReadView) -> Result<(), BackendError> {
        while self.some_rows(source)? {}
        Ok(())
    }

    /// Copies rows in one transaction; `false` when there are no more.
    fn some_rows(&mut self, source: &ReadView) -> Result<bool, BackendError> {
        let explain_source = |error| source.file().explain(error);
        let explain_target = |error| self.target.explain(error);
        let transaction = self.target.begin_write().map_err(explain_target)?;
        let start = self.last.map_or(Bound::Unbounded, Bound::Excluded);
        let mut rows = source.rows_within((start, Bound::Unbounded)).map_err(explain_source)?;
        let (mut usage, mut last) = (self.usage, self.last);
        let end = self.usage.bytes + FILLED_BYTES_MAX;
        {
            let mut table = transaction.open_table(KEY).map_err(|error| explain_target(error.into()))?;
            let cursor = table.upper_bound_mut(Bound::<&[u8]>::Unbounded);
            let mut cursor = cursor.map_err(|error| explain_target(error.into()))?;
            while usage.bytes < end {
                let Some(row) = rows.next().map_err(explain_source)? else { break };
                let key = row.row.encode();
                let inserted = cursor.insert_before(key.as_ref(), row.sealed());
                inserted.map_err(|error| explain_target(error.into()))?;
                usage.add(key.as_ref().len(), row.sealed());
                last = Some(row.row);
            }
            cursor.close().map_err(|error| explain_target(error.into()))?;
        }
        transaction.commit().map_err(|error| explain_target(error.into()))?;
        let copied = usage.tally.rows > self.usage.tally.rows;
        (self.usage, self.last) = (usage, last);
        Ok(copied)
    }

    /// Removes what was removed from the source meanwhile and copies the small tables.
    fn finish(mut self, source: &ReadView, removed: &[RowKey]) -> Result<(), BackendError> {
        let mut tables = Vec::new();
        for table in Table::ALL {
            tables.push((table, source.values(table)?));
        }
        let usage = &mut self.usage;
        let write = |transaction: WriteTransaction| -> Result<(), redb::Error> {
            remove_rows(&mut transaction.open_table(KEY)?, removed, usage)?;
            for (table, values) in tables {
                change_values(&transaction, table, values.iter().map(|(key, value)| (&key[..], Some(&value[..]))))?;
            }
            put_digest(&transaction, source.digest())?;
            put_usage(&transaction, *usage)?;
            Ok(transaction.commit()?)
        };
        self.target.begin_write().and_then(write).map_err(|error| self.target.explain(error))?;
        source.check_tally(self.usage.tally)
    }
}
