//! Range reads.
//!
//! A read looks at a bounded number of entries while it holds the lock, then lets a waiting writer through and goes on
//! at the same revision, which it has pinned. What it collects are references; see [`RangeRows`]. Of a large plain read
//! it only counts and measures the rows: they are looked up again, a few at a time, when they are sent ([`Cursor`]).
//!
//! Filters and sorting are etcd's (`server/etcdserver/txn/range.go`): see `RangeRequest` in its API for the rules.

use std::cmp::Reverse;
use std::ops::{ControlFlow, Range};
use std::sync::Arc;

use bytes::Bytes;
use parking_lot::RwLockReadGuard;
use types::{Record, RecordMeta};

use crate::entry::{Version, without_value};
use crate::error::MvccError;
use crate::index::{Index, bounds};
use crate::pins::Pin;
use crate::query::{RangeQuery, RangeResult, SortOrder, SortTarget};
use crate::rows::{Cell, RangeRows, Source, row_len};
use crate::shared::Shared;
use crate::tree::{Bits, Child, Leaf, Tree, Visitor};

/// How many entries a reader looks at before it lets a writer through: well under a millisecond's worth.
const HOLD_ENTRIES: usize = 1024;

/// A plain answer of more rows, or of more bytes, keeps no references: what it would keep alive is what a client that
/// does not read costs.
const KEPT_ROWS_MAX: usize = 4096;
const KEPT_BYTES_MAX: u64 = 4 << 20;

/// About how much is looked up at a time for an answer that keeps no references.
const LOOKED_UP_BYTES: u64 = 64 << 10;

/// Reads from any thread.
pub(crate) fn read(shared: &Arc<Shared>, query: &RangeQuery) -> Result<RangeResult, MvccError> {
    shared.undisturbed(|| try_read(shared, query))
}

fn try_read(shared: &Arc<Shared>, query: &RangeQuery) -> Result<RangeResult, MvccError> {
    let mut index = shared.index.read();
    let at = index.readable(query.revision)?;
    let current = index.revision;
    let plan = Plan::of(query);
    if let Some(key) = plan.only_key(query) {
        let cell = find_one(&index, &plan, key, at);
        let pin = cell.as_ref().filter(|cell| cell.is_stored()).map(|_| shared.pins.pin(at));
        drop(index);
        return answer_one(shared, query, cell, pin, current);
    }
    let mut pin = None;
    let mut found = Found::default();
    let mut walk = Walk::new(query, &plan, at);
    walk.make_room(&index.tree, &plan, &mut found);
    while walk.go_on(&index.tree, &plan, HOLD_ENTRIES, &mut found).is_break() {
        pin.get_or_insert_with(|| shared.pins.pin(at));
        RwLockReadGuard::bump(&mut index);
    }
    if let Some(pin) = &pin {
        pin.check()?;
    }
    if found.is_large {
        let pin = pin.unwrap_or_else(|| shared.pins.pin(at));
        drop(index);
        return Ok(look_up_later(query, &found, at, Source::new(shared, pin), current));
    }
    if found.stored > 0 {
        pin.get_or_insert_with(|| shared.pins.pin(at));
    }
    drop(index);
    answer(shared, query, &plan, found, pin, current)
}

/// Reads at `at` inside a transaction, which holds the index for itself.
pub(crate) fn read_locked(
    shared: &Arc<Shared>,
    index: &Index,
    query: &RangeQuery,
    at: i64,
    current: i64,
) -> Result<RangeResult, MvccError> {
    let plan = Plan { may_look_up_later: false, ..Plan::of(query) };
    if let Some(key) = plan.only_key(query) {
        let cell = find_one(index, &plan, key, at).map(|cell| cell.or_unstaged(index));
        let pin = cell.as_ref().filter(|cell| cell.is_stored()).map(|_| shared.pins.pin(at));
        return answer_one(shared, query, cell, pin, current);
    }
    let mut found = Found::default();
    let mut walk = Walk::new(query, &plan, at);
    walk.make_room(&index.tree, &plan, &mut found);
    let ended = walk.go_on(&index.tree, &plan, usize::MAX, &mut found);
    debug_assert!(ended.is_continue());
    found.take_unstaged(index);
    let pin = (found.stored > 0).then(|| shared.pins.pin(at));
    answer(shared, query, &plan, found, pin, current)
}

/// See [`View::keys_looked_at`](crate::View::keys_looked_at).
pub(crate) fn keys_looked_at(shared: &Shared, query: &RangeQuery, enough: usize) -> usize {
    let plan = Plan::of(query);
    if plan.only_key(query).is_some() {
        return 1;
    }
    let (low, high) = bounds(&query.range);
    let index = shared.index.read();
    if query.revision > 0 && query.revision < index.revision {
        // Keys that are gone now may have lived then, and even counting asks each of them.
        let mut entries = Entries { left: enough };
        let _ = index.tree.visit(&low, high.as_deref(), &mut entries);
        return enough - entries.left;
    }
    let mut counting = Count { at: i64::MAX, left: 0, count: 0, pause: None };
    let _ = index.tree.visit(&low, high.as_deref(), &mut counting);
    plan.fetch_max.min(counting.count as usize).min(enough)
}

/// How a query is carried out.
struct Plan {
    /// No more rows than this are fetched.
    fetch_max: usize,
    order: SortOrder,
    /// Whether filters or order need numbers that only records have.
    wants_meta: bool,
    /// Whether rows may be fetched without their values.
    drops_values: bool,
    /// Whether rows may be counted and measured only, if they are many: whole rows in order of keys, of which a look at
    /// the index tells how long they are.
    may_look_up_later: bool,
}

impl Plan {
    fn of(query: &RangeQuery) -> Plan {
        let by_key = query.target == SortTarget::Key;
        let is_filtered = query.min_mod_revision != 0
            || query.max_mod_revision != 0
            || query.min_create_revision != 0
            || query.max_create_revision != 0;
        let is_sorted = query.order != SortOrder::None && !(by_key && query.order == SortOrder::Ascend);
        let fetch_max = match usize::try_from(query.limit) {
            _ if query.count_only => 0,
            Ok(limit) if limit > 0 && !is_filtered && !is_sorted => limit.saturating_add(1),
            _ => usize::MAX,
        };
        Plan {
            fetch_max,
            // Sorting by something else without saying which way means upwards.
            order: if by_key || query.order != SortOrder::None { query.order } else { SortOrder::Ascend },
            wants_meta: is_filtered || !by_key,
            drops_values: query.keys_only && query.target != SortTarget::Value,
            may_look_up_later: by_key && !is_filtered && !is_sorted && !query.keys_only,
        }
    }

    /// The key, if the query is about one and there is nothing to filter: filtering takes the long way.
    fn only_key<'q>(&self, query: &'q RangeQuery) -> Option<&'q [u8]> {
        (query.range.is_single() && !self.wants_meta).then_some(&query.range.start)
    }

    fn cell(&self, version: Version<'_>) -> Cell {
        let held = if self.drops_values { version.current } else { version.resident() };
        held.map_or(Cell::Stored(version.row), |record| Cell::Held(record.clone()))
    }
}

/// What a walk has found.
#[derive(Default)]
struct Found {
    count: u64,
    /// Rows so far, kept or not.
    rows: usize,
    /// Of the whole rows.
    encoded_len: u64,
    last_row_len: u64,
    /// Rows are not kept: they are to be looked up later.
    is_large: bool,
    cells: Vec<Cell>,
    /// One for each cell if the plan wants them; `None` where the record has to be read first.
    metas: Vec<Option<RecordMeta>>,
    /// How many cells are in the backend only.
    stored: usize,
}

impl Found {
    /// Gets hold of the rows that the backend does not have yet.
    fn take_unstaged(&mut self, index: &Index) {
        if self.stored == 0 || index.unstaged.is_empty() {
            return;
        }
        for cell in &mut self.cells {
            *cell = cell.clone().or_unstaged(index);
        }
        self.stored = self.cells.iter().filter(|cell| cell.is_stored()).count();
    }

    fn push(&mut self, plan: &Plan, version: Version<'_>) {
        self.rows += 1;
        self.last_row_len = row_len(version.row.len());
        self.encoded_len += self.last_row_len;
        self.is_large = plan.may_look_up_later && (self.rows > KEPT_ROWS_MAX || self.encoded_len > KEPT_BYTES_MAX);
        if self.is_large {
            self.cells = Vec::new();
            return;
        }
        if plan.wants_meta {
            self.metas.push(version.current.map(Record::meta));
        }
        let cell = plan.cell(version);
        self.stored += usize::from(cell.is_stored());
        self.cells.push(cell);
    }
}

/// The row of the only key that is asked for.
fn find_one(index: &Index, plan: &Plan, key: &[u8], at: i64) -> Option<Cell> {
    let (leaf, place) = index.tree.find(key)?;
    leaf.mark_referenced(place);
    leaf.entries[place].at(at).map(|version| plan.cell(version))
}

/// The answer that consists of one row or none, with nothing to filter.
fn answer_one(
    shared: &Arc<Shared>,
    query: &RangeQuery,
    cell: Option<Cell>,
    pin: Option<Pin>,
    current: i64,
) -> Result<RangeResult, MvccError> {
    let count = i64::from(cell.is_some());
    let rows = match cell.filter(|_| !query.count_only) {
        None => RangeRows::none(),
        Some(Cell::Stored(row)) if query.keys_only => {
            RangeRows::one(Cell::Held(without_value(&shared.load(row, pinned(&pin))?)), true, None)
        }
        Some(cell) => RangeRows::one(cell, query.keys_only, pin.map(|pin| Source::new(shared, pin))),
    };
    Ok(RangeResult { revision: current, count, more: false, rows })
}

/// What the query's limit comes to.
fn rows_max(query: &RangeQuery) -> usize {
    usize::try_from(query.limit).ok().filter(|&limit| limit > 0).unwrap_or(usize::MAX)
}

/// The answer whose rows are looked up while it is sent.
fn look_up_later(query: &RangeQuery, found: &Found, at: i64, source: Source, current: i64) -> RangeResult {
    let limit = rows_max(query);
    let &Found { count, mut rows, mut encoded_len, last_row_len, .. } = found;
    let more = rows > limit;
    if more {
        rows -= 1;
        encoded_len -= last_row_len;
    }
    let plan = Plan { fetch_max: usize::MAX, may_look_up_later: false, ..Plan::of(query) };
    let cursor = Cursor { walk: Walk::new(query, &plan, at), plan, rows_left: rows };
    RangeResult { revision: current, count: count as i64, more, rows: RangeRows::later(cursor, encoded_len, source) }
}

/// Rows at a pinned revision that are still to be looked up.
pub(crate) struct Cursor {
    walk: Walk,
    plan: Plan,
    rows_left: usize,
}

impl Cursor {
    pub(crate) fn rows_left(&self) -> usize {
        self.rows_left
    }

    /// The next rows, at least one; all that are left have `bytes_left` bytes.
    pub(crate) fn look_up(&mut self, source: &Source, bytes_left: u64) -> Result<Vec<Cell>, MvccError> {
        let row_bytes = (bytes_left / self.rows_left as u64).max(1);
        let entries =
            usize::try_from(LOOKED_UP_BYTES / row_bytes).map_or(HOLD_ENTRIES, |rows| rows.clamp(1, HOLD_ENTRIES));
        let mut found = Found::default();
        let mut ended = ControlFlow::Break(());
        while found.cells.is_empty() {
            assert!(ended.is_break(), "the rows of a pinned revision stay");
            let index = source.shared().index.read();
            ended = self.walk.go_on(&index.tree, &self.plan, entries, &mut found);
            // Asked under the lock: rows go under the writer's, and after the pin is broken.
            source.check()?;
        }
        found.cells.truncate(self.rows_left);
        self.rows_left -= found.cells.len();
        Ok(found.cells)
    }
}

/// A read on its way through the key space: it collects rows until it has enough, then counts the rest.
struct Walk {
    at: i64,
    /// Where to go on.
    low: Bytes,
    high: Option<Bytes>,
    start: Bytes,
    is_collecting: bool,
}

impl Walk {
    fn new(query: &RangeQuery, plan: &Plan, at: i64) -> Walk {
        let (low, high) = bounds(&query.range);
        Walk { at, start: low.clone(), low, high, is_collecting: plan.fetch_max > 0 }
    }

    /// Makes room for about as many rows as there will be, so that a long list is not moved as it grows.
    fn make_room(&self, tree: &Tree, plan: &Plan, found: &mut Found) {
        let mut counting = Count { at: i64::MAX, left: 0, count: 0, pause: None };
        if plan.fetch_max > 0 {
            let _ = tree.visit(&self.low, self.high.as_deref(), &mut counting);
        }
        let kept_max = if plan.may_look_up_later { KEPT_ROWS_MAX } else { usize::MAX };
        found.cells.reserve_exact(plan.fetch_max.min(counting.count as usize).min(kept_max));
    }

    /// Looks at up to `entries` entries. `Break` means that there is more to do.
    fn go_on(&mut self, tree: &Tree, plan: &Plan, entries: usize, found: &mut Found) -> ControlFlow<()> {
        let mut left = entries;
        if self.is_collecting {
            let mut collect = Collect { plan, at: self.at, left, found, stop: None };
            let _ = tree.visit(&self.low, self.high.as_deref(), &mut collect);
            left = collect.left;
            match collect.stop {
                None => {
                    found.count = found.rows as u64;
                    return ControlFlow::Continue(());
                }
                Some(Stop::Pause(key)) => {
                    self.low = key;
                    return ControlFlow::Break(());
                }
                Some(Stop::Enough) => {
                    self.is_collecting = false;
                    self.low = self.start.clone();
                }
            }
        }
        let mut counting = Count { at: self.at, left, count: 0, pause: None };
        let _ = tree.visit(&self.low, self.high.as_deref(), &mut counting);
        found.count += counting.count;
        match counting.pause {
            None => ControlFlow::Continue(()),
            Some(key) => {
                self.low = key;
                ControlFlow::Break(())
            }
        }
    }
}

/// Why a collection ended before its range.
enum Stop {
    /// At this key, which is still to be looked at.
    Pause(Bytes),
    Enough,
}

struct Collect<'a> {
    plan: &'a Plan,
    at: i64,
    left: usize,
    found: &'a mut Found,
    stop: Option<Stop>,
}

impl Visitor for Collect<'_> {
    fn passes(&mut self, child: &Child) -> bool {
        child.live == 0 && child.newest <= self.at
    }

    fn leaf(&mut self, leaf: &Leaf, inside: Range<usize>, newest: i64) -> ControlFlow<()> {
        let candidates = if newest <= self.at { leaf.live } else { Bits::ALL };
        for at in candidates.within(&inside).places() {
            let entry = &leaf.entries[at];
            if self.left == 0 {
                self.stop = Some(Stop::Pause(Bytes::copy_from_slice(entry.key())));
                return ControlFlow::Break(());
            }
            self.left -= 1;
            let Some(version) = entry.at(self.at) else { continue };
            self.found.push(self.plan, version);
            if self.found.rows == self.plan.fetch_max {
                self.stop = Some(Stop::Enough);
                return ControlFlow::Break(());
            }
        }
        ControlFlow::Continue(())
    }
}

/// Counts, by subtree where nothing is newer than the revision.
struct Count {
    at: i64,
    left: usize,
    count: u64,
    pause: Option<Bytes>,
}

impl Visitor for Count {
    fn passes(&mut self, child: &Child) -> bool {
        let passes = child.newest <= self.at;
        if passes {
            self.count += child.live;
        }
        passes
    }

    fn leaf(&mut self, leaf: &Leaf, inside: Range<usize>, newest: i64) -> ControlFlow<()> {
        if newest <= self.at {
            self.count += u64::from(leaf.live.within(&inside).count());
            return ControlFlow::Continue(());
        }
        if self.left == 0 {
            self.pause = Some(Bytes::copy_from_slice(leaf.entries[inside.start].key()));
            return ControlFlow::Break(());
        }
        self.left = self.left.saturating_sub(inside.len());
        let entries = &leaf.entries[inside];
        self.count += entries.iter().filter(|entry| entry.at(self.at).is_some()).count() as u64;
        ControlFlow::Continue(())
    }
}

/// Counts entries, whether or not their keys live, until there were enough.
struct Entries {
    left: usize,
}

impl Visitor for Entries {
    fn passes(&mut self, _: &Child) -> bool {
        false
    }

    fn leaf(&mut self, _: &Leaf, inside: Range<usize>, _: i64) -> ControlFlow<()> {
        self.left = self.left.saturating_sub(inside.len());
        if self.left == 0 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    }
}

/// Filters, sorts and cuts what was found.
fn answer(
    shared: &Arc<Shared>,
    query: &RangeQuery,
    plan: &Plan,
    found: Found,
    pin: Option<Pin>,
    current: i64,
) -> Result<RangeResult, MvccError> {
    let Found { count, mut cells, metas, .. } = found;
    if plan.wants_meta {
        cells = arrange(shared, query, plan, cells, metas, &pin)?;
    } else if plan.order == SortOrder::Descend {
        cells.reverse();
    }
    let limit = rows_max(query);
    let more = cells.len() > limit;
    cells.truncate(limit);
    if query.keys_only {
        for cell in &mut cells {
            if let Cell::Stored(row) = *cell {
                *cell = Cell::Held(without_value(&shared.load(row, pinned(&pin))?));
            }
        }
    }
    // Only from here on a client decides how long it takes.
    let source = pin.filter(|_| cells.iter().any(Cell::is_stored)).map(|pin| Source::new(shared, pin));
    let rows = match cells.len() {
        0 => RangeRows::none(),
        1 => RangeRows::one(cells.remove(0), query.keys_only, source),
        _ => RangeRows::many(cells, query.keys_only, source),
    };
    Ok(RangeResult { revision: current, count: count as i64, more, rows })
}

/// The pin that holds rows which are in the backend only.
fn pinned(pin: &Option<Pin>) -> &Pin {
    pin.as_ref().expect("stored rows come with a pin")
}

/// Filters and sorts by what is in the records.
fn arrange(
    shared: &Shared,
    query: &RangeQuery,
    plan: &Plan,
    cells: Vec<Cell>,
    metas: Vec<Option<RecordMeta>>,
    pin: &Option<Pin>,
) -> Result<Vec<Cell>, MvccError> {
    let mut kept = Vec::with_capacity(cells.len());
    for (mut cell, meta) in cells.into_iter().zip(metas) {
        let meta = match (meta, &cell) {
            (Some(meta), _) => meta,
            (None, Cell::Held(record)) => record.meta(),
            (None, Cell::Stored(row)) => shared.load(*row, pinned(pin))?.meta(),
        };
        if !passes_filters(query, &meta) {
            continue;
        }
        if let (SortTarget::Value, Cell::Stored(row)) = (query.target, &cell) {
            cell = Cell::Held(shared.load(*row, pinned(pin))?);
        }
        kept.push((meta, cell));
    }
    let number = |meta: &RecordMeta| match query.target {
        SortTarget::Version => meta.version,
        SortTarget::CreateRevision => meta.create_revision,
        SortTarget::ModRevision => meta.mod_revision,
        SortTarget::Key | SortTarget::Value => 0,
    };
    match (query.target, plan.order) {
        (SortTarget::Key, SortOrder::Descend) => kept.reverse(),
        (SortTarget::Key, _) => {}
        (SortTarget::Value, SortOrder::Descend) => kept.sort_by(|a, b| value(&b.1).cmp(value(&a.1))),
        (SortTarget::Value, _) => kept.sort_by(|a, b| value(&a.1).cmp(value(&b.1))),
        (_, SortOrder::Descend) => kept.sort_by_key(|(meta, _)| Reverse(number(meta))),
        (_, _) => kept.sort_by_key(|(meta, _)| number(meta)),
    }
    Ok(kept.into_iter().map(|(_, cell)| cell).collect())
}

fn passes_filters(query: &RangeQuery, meta: &RecordMeta) -> bool {
    let within = |number: i64, min: i64, max: i64| (min == 0 || number >= min) && (max == 0 || number <= max);
    within(meta.mod_revision, query.min_mod_revision, query.max_mod_revision)
        && within(meta.create_revision, query.min_create_revision, query.max_create_revision)
}

fn value(cell: &Cell) -> &[u8] {
    match cell {
        Cell::Held(record) => record.value(),
        Cell::Stored(_) => unreachable!("rows sorted by value have been loaded"),
    }
}

/// See [`View::get_at`](crate::View::get_at).
pub(crate) fn get_at(shared: &Shared, key: &[u8], revision: i64) -> Result<Option<Record>, MvccError> {
    shared.undisturbed(|| try_get_at(shared, key, revision))
}

fn try_get_at(shared: &Shared, key: &[u8], revision: i64) -> Result<Option<Record>, MvccError> {
    let index = shared.index.read();
    if revision < index.compacted || revision > index.revision {
        return Ok(None);
    }
    let Some(version) = index.tree.get(key).and_then(|entry| entry.at(revision)) else { return Ok(None) };
    if let Some(record) = version.resident() {
        return Ok(Some(record.clone()));
    }
    let row = version.row;
    let pin = shared.pins.pin(revision);
    drop(index);
    shared.load(row, &pin).map(Some)
}
