//! Stores that wait for threads, a disk or a network, under a virtual clock.

use std::future::Future;
use std::sync::Arc;

use async_trait::async_trait;
use engine::Encoded;
use engine::RunId;
use engine::ScopeKey;
use engine::ScopePath;
use jiff::Timestamp;
use runtime::ports::AppendError;
use runtime::ports::ApprovalFilter;
use runtime::ports::ApprovalRow;
use runtime::ports::Catalog;
use runtime::ports::Definition;
use runtime::ports::DefinitionKind;
use runtime::ports::DueMove;
use runtime::ports::DueRow;
use runtime::ports::Extra;
use runtime::ports::Journal;
use runtime::ports::Lease;
use runtime::ports::Loaded;
use runtime::ports::Page;
use runtime::ports::PageRequest;
use runtime::ports::Registered;
use runtime::ports::RunFilter;
use runtime::ports::RunSummary;
use runtime::ports::StoreError;
use runtime::ports::WaiterRow;

/// A journal and a catalog that answer before anything else goes on, whatever they wait for. The virtual clock jumps when no
/// task can go on, and a task that waits for a disk cannot; one that holds its thread until the disk has answered can.
#[derive(Debug)]
pub struct AtOnce<S>(pub Arc<S>);

impl<S> Clone for AtOnce<S> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

/// Waits on this thread. Without the budget of tokio's tasks, which is not renewed while one holds its thread.
fn wait<T>(work: impl Future<Output = T>) -> T {
    futures::executor::block_on(tokio::task::unconstrained(work))
}

#[async_trait]
impl<S: Journal> Journal for AtOnce<S> {
    async fn load(&self, scope: &ScopeKey) -> Result<Loaded, StoreError> {
        wait(self.0.load(scope))
    }

    async fn read(&self, scope: &ScopeKey, after: u64, limit: usize) -> Result<Vec<Encoded>, StoreError> {
        wait(self.0.read(scope, after, limit))
    }

    async fn head(&self, scope: &ScopeKey) -> Result<Option<Encoded>, StoreError> {
        wait(self.0.head(scope))
    }

    async fn append(
        &self,
        scope: &ScopeKey,
        record: &Encoded,
        extras: Vec<Extra>,
    ) -> Result<(), AppendError> {
        wait(self.0.append(scope, record, extras))
    }

    async fn put_snapshot(&self, scope: &ScopeKey, seq: u64, body: Arc<[u8]>) -> Result<(), StoreError> {
        wait(self.0.put_snapshot(scope, seq, body))
    }

    async fn fork_context(&self, scope: &ScopeKey, seq: u64) -> Result<Option<Arc<[u8]>>, StoreError> {
        wait(self.0.fork_context(scope, seq))
    }

    async fn scopes(
        &self,
        run: &RunId,
        after: Option<&ScopePath>,
        limit: usize,
    ) -> Result<Vec<ScopePath>, StoreError> {
        wait(self.0.scopes(run, after, limit))
    }

    async fn waiters(&self, run: &RunId, name: &str) -> Result<Vec<WaiterRow>, StoreError> {
        wait(self.0.waiters(run, name))
    }

    async fn lease(&self, scope: &ScopeKey) -> Result<Option<Lease>, StoreError> {
        wait(self.0.lease(scope))
    }

    async fn renew(&self, scope: &ScopeKey, lease: &Lease) -> Result<(), StoreError> {
        wait(self.0.renew(scope, lease))
    }
}

#[async_trait]
impl<S: Catalog> Catalog for AtOnce<S> {
    async fn register(&self, definition: Definition, new_version: bool) -> Result<Registered, StoreError> {
        wait(self.0.register(definition, new_version))
    }

    async fn definition(
        &self,
        kind: DefinitionKind,
        id: &str,
        version: Option<&str>,
    ) -> Result<Option<Definition>, StoreError> {
        wait(self.0.definition(kind, id, version))
    }

    async fn pinned(
        &self,
        kind: DefinitionKind,
        id: &str,
        hash: &str,
    ) -> Result<Option<Definition>, StoreError> {
        wait(self.0.pinned(kind, id, hash))
    }

    async fn definitions(
        &self,
        kind: DefinitionKind,
        page: &PageRequest,
    ) -> Result<Page<Definition>, StoreError> {
        wait(self.0.definitions(kind, page))
    }

    async fn versions(&self, kind: DefinitionKind, id: &str) -> Result<Vec<Definition>, StoreError> {
        wait(self.0.versions(kind, id))
    }

    async fn set_disabled(&self, kind: DefinitionKind, id: &str, disabled: bool) -> Result<bool, StoreError> {
        wait(self.0.set_disabled(kind, id, disabled))
    }

    async fn run(&self, run: &RunId) -> Result<Option<RunSummary>, StoreError> {
        wait(self.0.run(run))
    }

    async fn runs(&self, filter: &RunFilter, page: &PageRequest) -> Result<Page<RunSummary>, StoreError> {
        wait(self.0.runs(filter, page))
    }

    async fn project(&self, summary: &RunSummary) -> Result<bool, StoreError> {
        wait(self.0.project(summary))
    }

    async fn approvals(
        &self,
        filter: &ApprovalFilter,
        page: &PageRequest,
    ) -> Result<Page<ApprovalRow>, StoreError> {
        wait(self.0.approvals(filter, page))
    }

    async fn approval(&self, run: &RunId, id: &str) -> Result<Option<ApprovalRow>, StoreError> {
        wait(self.0.approval(run, id))
    }

    async fn due(
        &self,
        until: Timestamp,
        after: Option<&DueRow>,
        limit: usize,
    ) -> Result<Vec<DueRow>, StoreError> {
        wait(self.0.due(until, after, limit))
    }

    async fn move_due(&self, moves: Vec<DueMove>) -> Result<(), StoreError> {
        wait(self.0.move_due(moves))
    }

    async fn ensure_due(&self, scope: &ScopeKey, at: Timestamp, seq: u64) -> Result<(), StoreError> {
        wait(self.0.ensure_due(scope, at, seq))
    }

    async fn ended_before(&self, at: Timestamp, limit: usize) -> Result<Vec<RunId>, StoreError> {
        wait(self.0.ended_before(at, limit))
    }

    async fn forget(&self, run: &RunId) -> Result<bool, StoreError> {
        wait(self.0.forget(run))
    }
}
