//! What watchers that are behind the log of events read instead: the rows of the store.

use mvcc::{EventLimits, MvccError, View};
use watch::{Event, History, HistoryError, HistoryLoad, RevisionEvents};

use crate::error::Error;

/// Reads what `load` asks for. May take long: not for a worker's own thread.
///
/// # Errors
/// [`HistoryError::Compacted`] if it is there no more, [`HistoryError::Failed`] if it cannot be read.
pub fn read_history(view: &View, load: &HistoryLoad) -> Result<History, HistoryError> {
    let limits = EventLimits { rows: load.revisions_max, bytes: load.bytes_max };
    let failed = |error| match error {
        MvccError::Compacted => HistoryError::Compacted(view.compacted()),
        other => HistoryError::Failed(Error::from(other).to_string()),
    };
    let chunk = view.events(&load.range, load.from, load.to, limits).map_err(failed)?;
    let mut events = Vec::with_capacity(chunk.events.len());
    for (row, record) in chunk.events {
        let previous = match load.prev_kv {
            true => view.get_at(record.key(), row.revision.main - 1).map_err(failed)?,
            false => None,
        };
        events.push(Event { row, record, previous });
    }
    Ok(History { events: RevisionEvents::group(events), next: chunk.next })
}
