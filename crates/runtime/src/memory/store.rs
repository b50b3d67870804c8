//! A journal and a catalog that live as long as the process: for tests, dry runs and the simulator.

use std::collections::BTreeMap;
use std::collections::HashMap;
use std::ops::Bound;
use std::sync::Arc;

use async_trait::async_trait;
use engine::Encoded;
use engine::RunId;
use engine::ScopeKey;
use engine::ScopePath;
use jiff::Timestamp;
use parking_lot::Mutex;

use crate::ports::AppendError;
use crate::ports::ApprovalFilter;
use crate::ports::ApprovalRow;
use crate::ports::Catalog;
use crate::ports::Definition;
use crate::ports::DefinitionKind;
use crate::ports::DueMove;
use crate::ports::DueRow;
use crate::ports::Extra;
use crate::ports::Journal;
use crate::ports::Lease;
use crate::ports::Loaded;
use crate::ports::Page;
use crate::ports::PageRequest;
use crate::ports::Registered;
use crate::ports::RunFilter;
use crate::ports::RunSummary;
use crate::ports::StoreError;
use crate::ports::WaiterRow;

/// A store in memory. Clones share it.
#[derive(Clone, Debug, Default)]
pub struct Store(Arc<Mutex<Tables>>);

#[derive(Debug, Default)]
struct Tables {
    scopes: BTreeMap<RunId, BTreeMap<ScopePath, Stored>>,
    runs: BTreeMap<RunId, RunSummary>,
    approvals: BTreeMap<(Timestamp, RunId, Arc<str>), ApprovalRow>,
    due: HashMap<ScopeKey, (Timestamp, u64, u32)>,
    definitions: HashMap<(DefinitionKind, Arc<str>), Versions>,
}

#[derive(Debug, Default)]
struct Stored {
    records: Vec<Encoded>,
    snapshot: Option<(u64, Arc<[u8]>)>,
    contexts: HashMap<u64, Arc<[u8]>>,
    lease: Option<Lease>,
    waits_for: Option<Arc<str>>,
}

/// All versions of one definition, in the order of their registration, and which one is active.
#[derive(Debug, Default)]
struct Versions {
    all: Vec<Definition>,
    active: usize,
    disabled: bool,
}

impl Store {
    /// An empty store.
    pub fn new() -> Self {
        Self::default()
    }

    fn stored<R>(&self, scope: &ScopeKey, read: impl FnOnce(&Stored) -> R) -> Option<R> {
        self.0.lock().scopes.get(&scope.run)?.get(&scope.path).map(read)
    }
}

impl Tables {
    fn scope(&mut self, scope: &ScopeKey) -> &mut Stored {
        self.scopes.entry(scope.run.clone()).or_default().entry(scope.path.clone()).or_default()
    }

    fn apply(&mut self, scope: &ScopeKey, seq: u64, extra: Extra) {
        match extra {
            Extra::Due(at) => drop(self.due.insert(scope.clone(), (at, seq, 0))),
            Extra::NoDue => drop(self.due.remove(scope)),
            Extra::Summary(mut summary) => {
                let before = self.runs.get(&summary.run);
                summary.revision = before.map_or(0, |before| before.revision) + 1;
                self.runs.insert(summary.run.clone(), *summary);
            }
            Extra::Approval(row) => {
                let key = (row.requested_at, row.scope.run.clone(), row.request.id.clone());
                self.approvals.insert(key, *row);
            }
            Extra::Waiter(waiter) => self.scope(&waiter.scope).waits_for = Some(waiter.signal),
            Extra::WaiterGone => self.scope(scope).waits_for = None,
            Extra::ForkContext(context) => drop(self.scope(scope).contexts.insert(seq, context)),
        }
    }
}

#[async_trait]
impl Journal for Store {
    async fn load(&self, scope: &ScopeKey) -> Result<Loaded, StoreError> {
        let loaded = self.stored(scope, |stored| {
            let snapshot = stored.snapshot.clone();
            let after = snapshot.as_ref().map_or(0, |(seq, _)| *seq);
            let records = stored.records.iter().filter(|record| record.seq > after).cloned().collect();
            Loaded { snapshot, records }
        });
        Ok(loaded.unwrap_or_default())
    }

    async fn read(&self, scope: &ScopeKey, after: u64, limit: usize) -> Result<Vec<Encoded>, StoreError> {
        let records = self.stored(scope, |stored| {
            stored.records.iter().filter(|record| record.seq > after).take(limit).cloned().collect()
        });
        Ok(records.unwrap_or_default())
    }

    async fn head(&self, scope: &ScopeKey) -> Result<Option<Encoded>, StoreError> {
        Ok(self.stored(scope, |stored| stored.records.last().cloned()).flatten())
    }

    async fn append(
        &self,
        scope: &ScopeKey,
        record: &Encoded,
        extras: Vec<Extra>,
    ) -> Result<(), AppendError> {
        let mut tables = self.0.lock();
        let stored = tables.scope(scope);
        let index = usize::try_from(record.seq).unwrap_or(usize::MAX).saturating_sub(1);
        if let Some(existing) = stored.records.get(index) {
            return Err(AppendError::Conflict(Box::new(existing.clone())));
        }
        if index > stored.records.len() {
            return Err(AppendError::Store(StoreError {
                kind: crate::ports::StoreErrorKind::Permanent,
                code: "JOURNAL_GAP",
                message: format!("record {} of {scope} has no record before it", record.seq),
            }));
        }
        stored.records.push(record.clone());
        for extra in extras {
            tables.apply(scope, record.seq, extra);
        }
        Ok(())
    }

    async fn put_snapshot(&self, scope: &ScopeKey, seq: u64, body: Arc<[u8]>) -> Result<(), StoreError> {
        let mut tables = self.0.lock();
        let stored = tables.scope(scope);
        if stored.snapshot.as_ref().is_none_or(|(stored, _)| *stored < seq) {
            stored.snapshot = Some((seq, body));
        }
        Ok(())
    }

    async fn fork_context(&self, scope: &ScopeKey, seq: u64) -> Result<Option<Arc<[u8]>>, StoreError> {
        Ok(self.stored(scope, |stored| stored.contexts.get(&seq).cloned()).flatten())
    }

    async fn scopes(
        &self,
        run: &RunId,
        after: Option<&ScopePath>,
        limit: usize,
    ) -> Result<Vec<ScopePath>, StoreError> {
        let tables = self.0.lock();
        let Some(scopes) = tables.scopes.get(run) else { return Ok(Vec::new()) };
        let from = after.map_or(Bound::Unbounded, Bound::Excluded);
        let paths = scopes.range::<ScopePath, _>((from, Bound::Unbounded));
        Ok(paths
            .filter(|(_, stored)| !stored.records.is_empty())
            .map(|(path, _)| path.clone())
            .take(limit)
            .collect())
    }

    async fn waiters(&self, run: &RunId, name: &str) -> Result<Vec<WaiterRow>, StoreError> {
        let tables = self.0.lock();
        let scopes = tables.scopes.get(run).into_iter().flatten();
        let waiting = scopes.filter(|(_, stored)| stored.waits_for.as_deref() == Some(name));
        Ok(waiting
            .map(|(path, _)| WaiterRow {
                scope: ScopeKey::new(run.clone(), path.clone()),
                signal: name.into(),
            })
            .collect())
    }

    async fn lease(&self, scope: &ScopeKey) -> Result<Option<Lease>, StoreError> {
        Ok(self.stored(scope, |stored| stored.lease.clone()).flatten())
    }

    async fn renew(&self, scope: &ScopeKey, lease: &Lease) -> Result<(), StoreError> {
        let mut tables = self.0.lock();
        let stored = tables.scope(scope);
        if stored.lease.as_ref().is_none_or(|stored| stored.claim <= lease.claim) {
            stored.lease = Some(lease.clone());
        }
        Ok(())
    }
}

#[async_trait]
impl Catalog for Store {
    async fn register(
        &self,
        mut definition: Definition,
        new_version: bool,
    ) -> Result<Registered, StoreError> {
        let mut tables = self.0.lock();
        let versions = tables.definitions.entry((definition.kind, definition.id.clone())).or_default();
        let asked = definition.version.clone();
        let same = |known: &Definition| {
            known.hash == definition.hash && asked.as_ref().is_none_or(|asked| is_version(known, asked))
        };
        if let Some((index, known)) = versions.all.iter().enumerate().rfind(|(_, known)| same(known)) {
            let known = known.clone();
            versions.active = index;
            versions.disabled = false;
            return Ok(Registered::Unchanged(known));
        }
        let taken =
            |version: &str| versions.all.iter().find(|known| known.version.as_deref() == Some(version));
        let version = match asked {
            None => (1..u64::MAX).map(|n| n.to_string()).find(|version| taken(version).is_none()),
            Some(version) => match taken(&version) {
                None => Some(version.to_string()),
                Some(known) if !new_version => return Ok(Registered::VersionTaken(versions.shown(known))),
                Some(_) => {
                    (2..u64::MAX).map(|n| format!("{version}+{n}")).find(|version| taken(version).is_none())
                }
            },
        };
        definition.version = version.map(Into::into);
        definition.disabled = false;
        versions.active = versions.all.len();
        versions.disabled = false;
        versions.all.push(definition.clone());
        Ok(Registered::Created(definition))
    }

    async fn definition(
        &self,
        kind: DefinitionKind,
        id: &str,
        version: Option<&str>,
    ) -> Result<Option<Definition>, StoreError> {
        let tables = self.0.lock();
        let Some(versions) = tables.definitions.get(&(kind, id.into())) else { return Ok(None) };
        let found = match version {
            None if versions.disabled => None,
            None => versions.all.get(versions.active),
            Some(version) => versions.all.iter().find(|known| known.version.as_deref() == Some(version)),
        };
        Ok(found.map(|known| versions.shown(known)))
    }

    async fn pinned(
        &self,
        kind: DefinitionKind,
        id: &str,
        hash: &str,
    ) -> Result<Option<Definition>, StoreError> {
        let tables = self.0.lock();
        let Some(versions) = tables.definitions.get(&(kind, id.into())) else { return Ok(None) };
        Ok(versions.all.iter().rfind(|known| &*known.hash == hash).map(|known| versions.shown(known)))
    }

    async fn definitions(
        &self,
        kind: DefinitionKind,
        page: &PageRequest,
    ) -> Result<Page<Definition>, StoreError> {
        let tables = self.0.lock();
        let mut active: Vec<_> = tables
            .definitions
            .iter()
            .filter(|((known, _), versions)| *known == kind && !versions.disabled)
            .filter_map(|(_, versions)| Some(versions.shown(versions.all.get(versions.active)?)))
            .collect();
        active.sort_by(|left, right| left.id.cmp(&right.id));
        Ok(paged(active, page, |definition| definition.id.to_string(), |key, cursor| key > cursor))
    }

    async fn versions(&self, kind: DefinitionKind, id: &str) -> Result<Vec<Definition>, StoreError> {
        let tables = self.0.lock();
        let Some(versions) = tables.definitions.get(&(kind, id.into())) else { return Ok(Vec::new()) };
        Ok(versions.all.iter().rev().map(|known| versions.shown(known)).collect())
    }

    async fn set_disabled(&self, kind: DefinitionKind, id: &str, disabled: bool) -> Result<bool, StoreError> {
        let mut tables = self.0.lock();
        let Some(versions) = tables.definitions.get_mut(&(kind, id.into())) else { return Ok(false) };
        versions.disabled = disabled;
        Ok(true)
    }

    async fn run(&self, run: &RunId) -> Result<Option<RunSummary>, StoreError> {
        Ok(self.0.lock().runs.get(run).cloned())
    }

    async fn runs(&self, filter: &RunFilter, page: &PageRequest) -> Result<Page<RunSummary>, StoreError> {
        let tables = self.0.lock();
        let mut runs: Vec<_> = tables
            .runs
            .values()
            .filter(|run| filter.workflow.as_ref().is_none_or(|workflow| *workflow == run.workflow))
            .filter(|run| filter.statuses.is_empty() || filter.statuses.contains(&run.status))
            .cloned()
            .collect();
        runs.sort_by(|left, right| (right.started_at, &right.run).cmp(&(left.started_at, &left.run)));
        Ok(paged(runs, page, |run| key(run.started_at, run.run.as_str()), |key, cursor| key < cursor))
    }

    async fn project(&self, summary: &RunSummary) -> Result<bool, StoreError> {
        let mut tables = self.0.lock();
        let Some(stored) = tables.runs.get_mut(&summary.run) else { return Ok(false) };
        if stored.revision != summary.revision || stored.status.is_terminal() {
            return Ok(false);
        }
        *stored = RunSummary { revision: summary.revision + 1, ..summary.clone() };
        Ok(true)
    }

    async fn approvals(
        &self,
        filter: &ApprovalFilter,
        page: &PageRequest,
    ) -> Result<Page<ApprovalRow>, StoreError> {
        let tables = self.0.lock();
        let rows = tables
            .approvals
            .values()
            .filter(|row| filter.run.as_ref().is_none_or(|run| *run == row.scope.run))
            .filter(|row| !filter.pending || row.settled_at.is_none())
            .cloned()
            .collect();
        let key_of =
            |row: &ApprovalRow| key(row.requested_at, &format!("{} {}", row.scope.run, row.request.id));
        Ok(paged(rows, page, key_of, |key, cursor| key > cursor))
    }

    async fn approval(&self, run: &RunId, id: &str) -> Result<Option<ApprovalRow>, StoreError> {
        let tables = self.0.lock();
        Ok(tables.approvals.values().find(|row| row.scope.run == *run && &*row.request.id == id).cloned())
    }

    async fn due(
        &self,
        until: Timestamp,
        after: Option<&DueRow>,
        limit: usize,
    ) -> Result<Vec<DueRow>, StoreError> {
        let tables = self.0.lock();
        let mut rows: Vec<_> = tables
            .due
            .iter()
            .filter(|(_, (at, ..))| *at <= until)
            .map(|(scope, (at, seq, visits))| DueRow {
                at: *at,
                scope: scope.clone(),
                seq: *seq,
                visits: *visits,
            })
            .collect();
        rows.sort_by(|left, right| (left.at, &left.scope).cmp(&(right.at, &right.scope)));
        if let Some(after) = after {
            rows.retain(|row| (row.at, &row.scope) > (after.at, &after.scope));
        }
        rows.truncate(limit);
        Ok(rows)
    }

    async fn move_due(&self, moves: Vec<DueMove>) -> Result<(), StoreError> {
        let mut tables = self.0.lock();
        for DueMove { row, to, visits } in moves {
            let stands =
                tables.due.get(&row.scope).is_some_and(|(at, seq, _)| (*at, *seq) == (row.at, row.seq));
            match to {
                _ if !stands => {}
                Some(at) => drop(tables.due.insert(row.scope, (at, row.seq, visits))),
                None => drop(tables.due.remove(&row.scope)),
            }
        }
        Ok(())
    }

    async fn ensure_due(&self, scope: &ScopeKey, at: Timestamp, seq: u64) -> Result<(), StoreError> {
        let mut tables = self.0.lock();
        match tables.due.get_mut(scope) {
            Some((_, stored, _)) if *stored > seq => {}
            Some((stored, ..)) if *stored <= at => {}
            Some(entry) => *entry = (at, seq, 0),
            None => drop(tables.due.insert(scope.clone(), (at, seq, 0))),
        }
        Ok(())
    }

    async fn ended_before(&self, at: Timestamp, limit: usize) -> Result<Vec<RunId>, StoreError> {
        let tables = self.0.lock();
        let ended = tables
            .runs
            .values()
            .filter(|run| run.status.is_terminal() && run.ended_at.is_some_and(|ended| ended < at));
        Ok(ended.map(|run| run.run.clone()).take(limit).collect())
    }

    async fn forget(&self, run: &RunId) -> Result<bool, StoreError> {
        let mut tables = self.0.lock();
        if tables.runs.get(run).is_some_and(|stored| stored.status.is_terminal()) {
            tables.scopes.remove(run);
            tables.runs.remove(run);
            tables.approvals.retain(|(_, of, _), _| of != run);
            tables.due.retain(|scope, _| scope.run != *run);
        }
        Ok(false)
    }
}

impl Versions {
    fn shown(&self, known: &Definition) -> Definition {
        Definition { disabled: self.disabled, ..known.clone() }
    }
}

/// Whether a definition was registered as the version `asked`: that itself, or one made beside it (`1.0+2`).
fn is_version(known: &Definition, asked: &str) -> bool {
    let made = |rest: &str| rest.strip_prefix('+').is_some_and(|count| count.parse::<u64>().is_ok());
    known
        .version
        .as_deref()
        .and_then(|version| version.strip_prefix(asked))
        .is_some_and(|rest| rest.is_empty() || made(rest))
}

/// A sort key in which times compare as text.
fn key(at: Timestamp, rest: &str) -> String {
    format!("{:020} {rest}", at.as_millisecond())
}

fn paged<T>(
    rows: Vec<T>,
    page: &PageRequest,
    key: impl Fn(&T) -> String,
    behind: impl Fn(&str, &str) -> bool,
) -> Page<T> {
    let mut items: Vec<T> = match &page.cursor {
        Some(cursor) => rows.into_iter().filter(|row| behind(&key(row), cursor)).collect(),
        None => rows,
    };
    let more = items.len() > page.limit;
    items.truncate(page.limit);
    let next = if more { items.last().map(key) } else { None };
    Page { items, next }
}
