//! Journals: the truth. One write primitive, *append record n+1 if it does not exist yet*.

use std::sync::Arc;

use async_trait::async_trait;
use engine::Encoded;
use engine::RunId;
use engine::ScopeKey;
use engine::ScopePath;
use jiff::Timestamp;

use super::AppendError;
use super::ApprovalRow;
use super::RunSummary;
use super::StoreError;
use super::WaiterRow;

/// Reads and appends scopes' journals. Linearizable: a read sees every append that was answered before it began.
#[async_trait]
pub trait Journal: Send + Sync + 'static {
    /// The last snapshot, if any, and every record after it, in order. Empty for a scope without records.
    async fn load(&self, scope: &ScopeKey) -> Result<Loaded, StoreError>;

    /// Up to `limit` records with a number above `after`, in order.
    async fn read(&self, scope: &ScopeKey, after: u64, limit: usize) -> Result<Vec<Encoded>, StoreError>;

    /// The last record.
    async fn head(&self, scope: &ScopeKey) -> Result<Option<Encoded>, StoreError>;

    /// Appends `record` if the scope has exactly `record.seq - 1` records, and does the `extras` in the same
    /// transaction: all or nothing, durable when it answers.
    async fn append(&self, scope: &ScopeKey, record: &Encoded, extras: Vec<Extra>) -> Result<(), AppendError>;

    /// Keeps a snapshot of the scope as of record `seq`. Never truth: losing or ignoring one changes nothing.
    async fn put_snapshot(&self, scope: &ScopeKey, seq: u64, body: Arc<[u8]>) -> Result<(), StoreError>;

    /// The context stored with the fork that is record `seq` of `scope` ([`Extra::ForkContext`]).
    async fn fork_context(&self, scope: &ScopeKey, seq: u64) -> Result<Option<Arc<[u8]>>, StoreError>;

    /// Up to `limit` paths of the run's scopes that have records, above `after`, in the order of their text.
    async fn scopes(&self, run: &RunId, after: Option<&ScopePath>, limit: usize) -> Result<Vec<ScopePath>, StoreError>;

    /// The lease last renewed for this scope, if any.
    async fn lease(&self, scope: &ScopeKey) -> Result<Option<Lease>, StoreError>;

    /// Renews (or takes) the lease. Never decides who may write: only journals do.
    async fn renew(&self, scope: &ScopeKey, lease: &Lease) -> Result<(), StoreError>;
}

/// A scope as stored.
#[derive(Clone, Debug, Default)]
pub struct Loaded {
    /// The number of the record that the snapshot was made after, and its body.
    pub snapshot: Option<(u64, Arc<[u8]>)>,
    /// The records after it (all, without one).
    pub records: Vec<Encoded>,
}

/// A sign of life of the worker that performs a step.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lease {
    /// Who.
    pub worker: Arc<str>,
    /// The attempt and epoch of the claim it is for.
    pub attempt: u32,
    /// See `attempt`.
    pub epoch: u32,
    /// Until then it counts as alive.
    pub until: Timestamp,
}

/// What goes into the same transaction as a record.
#[derive(Clone, Debug)]
pub enum Extra {
    /// Sets the scope's due entry; an earlier one that exists stays (only the sweeper moves one later).
    Due(Timestamp),
    /// Writes the run's summary, whatever its revision, and raises the revision.
    Summary(Box<RunSummary>),
    /// Writes a pending approval, or its decision.
    Approval(Box<ApprovalRow>),
    /// The scope waits for a signal.
    Waiter(WaiterRow),
    /// It no longer does.
    WaiterGone,
    /// The context that the children of this record's fork share.
    ForkContext(Arc<[u8]>),
}
