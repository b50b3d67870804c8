//! Stores and queues that wait for threads, a disk or a network, under a virtual clock.

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
use tokio::runtime::Handle;

/// A journal and a catalog that answer before anything else goes on, whatever they wait for. The virtual clock jumps when no
/// task can go on, and a task that waits for a disk cannot; one that holds its thread until the disk has answered can.
#[derive(Debug)]
pub struct AtOnce<S> {
    store: Arc<S>,
    network: Option<Handle>,
}

impl<S> Clone for AtOnce<S> {
    fn clone(&self) -> Self {
        Self { store: self.store.clone(), network: self.network.clone() }
    }
}

impl<S> AtOnce<S> {
    /// Over a store that waits for threads of its own.
    pub fn new(store: Arc<S>) -> Self {
        Self { store, network: None }
    }

    /// Over a store that waits for a network: its connections and its timeouts belong to this runtime, whose threads are others
    /// and whose time is real.
    pub fn over(store: Arc<S>, network: Handle) -> Self {
        Self { store, network: Some(network) }
    }

    fn wait<T>(&self, work: impl Future<Output = T>) -> T {
        at_once(self.network.as_ref(), work)
    }
}

/// Waits on this thread; connections and timeouts that are made meanwhile belong to `network`, if there is one. Without the
/// budget of tokio's tasks, which is not renewed while one holds its thread.
pub fn at_once<T>(network: Option<&Handle>, work: impl Future<Output = T>) -> T {
    let _inside = network.map(Handle::enter);
    futures::executor::block_on(tokio::task::unconstrained(work))
}

#[async_trait]
impl<S: Journal> Journal for AtOnce<S> {
    async fn load(&self, scope: &ScopeKey) -> Result<Loaded, StoreError> {
        self.wait(self.store.load(scope))
    }

    async fn read(&self, scope: &ScopeKey, after: u64, limit: usize) -> Result<Vec<Encoded>, StoreError> {
        self.wait(self.store.read(scope, after, limit))
    }

    async fn head(&self, scope: &ScopeKey) -> Result<Option<Encoded>, StoreError> {
        self.wait(self.store.head(scope))
    }

    async fn append(
        &self,
        scope: &ScopeKey,
        record: &Encoded,
        extras: Vec<Extra>,
    ) -> Result<(), AppendError> {
        self.wait(self.store.append(scope, record, extras))
    }

    async fn put_snapshot(&self, scope: &ScopeKey, seq: u64, body: Arc<[u8]>) -> Result<(), StoreError> {
        self.wait(self.store.put_snapshot(scope, seq, body))
    }

    async fn fork_context(&self, scope: &ScopeKey, seq: u64) -> Result<Option<Arc<[u8]>>, StoreError> {
        self.wait(self.store.fork_context(scope, seq))
    }

    async fn scopes(
        &self,
        run: &RunId,
        after: Option<&ScopePath>,
        limit: usize,
    ) -> Result<Vec<ScopePath>, StoreError> {
        self.wait(self.store.scopes(run, after, limit))
    }

    async fn waiters(&self, run: &RunId, name: &str) -> Result<Vec<WaiterRow>, StoreError> {
        self.wait(self.store.waiters(run, name))
    }

    async fn lease(&self, scope: &ScopeKey) -> Result<Option<Lease>, StoreError> {
        self.wait(self.store.lease(scope))
    }

    async fn renew(&self, scope: &ScopeKey, lease: &Lease) -> Result<(), StoreError> {
        self.wait(self.store.renew(scope, lease))
    }
}

#[async_trait]
impl<S: Catalog> Catalog for AtOnce<S> {
    async fn register(&self, definition: Definition, new_version: bool) -> Result<Registered, StoreError> {
        self.wait(self.store.register(definition, new_version))
    }

    async fn definition(
        &self,
        kind: DefinitionKind,
        id: &str,
        version: Option<&str>,
    ) -> Result<Option<Definition>, StoreError> {
        self.wait(self.store.definition(kind, id, version))
    }

    async fn pinned(
        &self,
        kind: DefinitionKind,
        id: &str,
        hash: &str,
    ) -> Result<Option<Definition>, StoreError> {
        self.wait(self.store.pinned(kind, id, hash))
    }

    async fn definitions(
        &self,
        kind: DefinitionKind,
        page: &PageRequest,
    ) -> Result<Page<Definition>, StoreError> {
        self.wait(self.store.definitions(kind, page))
    }

    async fn versions(&self, kind: DefinitionKind, id: &str) -> Result<Vec<Definition>, StoreError> {
        self.wait(self.store.versions(kind, id))
    }

    async fn set_disabled(&self, kind: DefinitionKind, id: &str, disabled: bool) -> Result<bool, StoreError> {
        self.wait(self.store.set_disabled(kind, id, disabled))
    }

    async fn run(&self, run: &RunId) -> Result<Option<RunSummary>, StoreError> {
        self.wait(self.store.run(run))
    }

    async fn runs(&self, filter: &RunFilter, page: &PageRequest) -> Result<Page<RunSummary>, StoreError> {
        self.wait(self.store.runs(filter, page))
    }

    async fn project(&self, summary: &RunSummary) -> Result<bool, StoreError> {
        self.wait(self.store.project(summary))
    }

    async fn approvals(
        &self,
        filter: &ApprovalFilter,
        page: &PageRequest,
    ) -> Result<Page<ApprovalRow>, StoreError> {
        self.wait(self.store.approvals(filter, page))
    }

    async fn approval(&self, run: &RunId, id: &str) -> Result<Option<ApprovalRow>, StoreError> {
        self.wait(self.store.approval(run, id))
    }

    async fn due(
        &self,
        until: Timestamp,
        after: Option<&DueRow>,
        limit: usize,
    ) -> Result<Vec<DueRow>, StoreError> {
        self.wait(self.store.due(until, after, limit))
    }

    async fn move_due(&self, moves: Vec<DueMove>) -> Result<(), StoreError> {
        self.wait(self.store.move_due(moves))
    }

    async fn ensure_due(&self, scope: &ScopeKey, at: Timestamp, seq: u64) -> Result<(), StoreError> {
        self.wait(self.store.ensure_due(scope, at, seq))
    }

    async fn ended_before(&self, at: Timestamp, limit: usize) -> Result<Vec<RunId>, StoreError> {
        self.wait(self.store.ended_before(at, limit))
    }

    async fn forget(&self, run: &RunId) -> Result<bool, StoreError> {
        self.wait(self.store.forget(run))
    }
}
