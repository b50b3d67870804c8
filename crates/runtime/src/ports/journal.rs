//! Journals: the truth. One write primitive, *append record n+1 if it does not exist yet*.

use std::sync::Arc;

use async_trait::async_trait;
use engine::Encoded;
use engine::RunId;
use engine::ScopeKey;
use engine::ScopePath;
use jiff::Timestamp;
use serde::Deserialize;
use serde::Serialize;

use super::AppendError;
use super::ApprovalRow;
use super::RunSummary;
use super::StoreError;

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
    async fn append(&self, scope: &ScopeKey, record: &Encoded, extras: Vec<Extra>)
    -> Result<(), AppendError>;

    /// Keeps a snapshot of the scope as of record `seq`. Never truth: losing or ignoring one changes nothing.
    async fn put_snapshot(&self, scope: &ScopeKey, seq: u64, body: Arc<[u8]>) -> Result<(), StoreError>;

    /// The context stored with the fork that is record `seq` of `scope` ([`Extra::ForkContext`]).
    async fn fork_context(&self, scope: &ScopeKey, seq: u64) -> Result<Option<Arc<[u8]>>, StoreError>;

    /// Up to `limit` paths of the run's scopes that have records, above `after`, in the order of their text. May be stale:
    /// a scope whose first record is very young may be missing.
    async fn scopes(
        &self,
        run: &RunId,
        after: Option<&ScopePath>,
        limit: usize,
    ) -> Result<Vec<ScopePath>, StoreError>;

    /// The scopes of a run that wait for the signal `name` ([`Extra::Waiter`]).
    async fn waiters(&self, run: &RunId, name: &str) -> Result<Vec<WaiterRow>, StoreError>;

    /// The lease last renewed for this scope, if any.
    async fn lease(&self, scope: &ScopeKey) -> Result<Option<Lease>, StoreError>;

    /// Renews the lease, unless the one stored is for a later claim. Never decides who may write: only journals do.
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
    /// The claim it is for: the number of the record that claims.
    pub claim: u64,
    /// Until then it counts as alive.
    pub until: Timestamp,
}

/// A scope that waits for a signal.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WaiterRow {
    /// The scope.
    pub scope: ScopeKey,
    /// The signal's name.
    pub signal: Arc<str>,
}

/// What goes into the same transaction as a record.
#[derive(Clone, Debug)]
pub enum Extra {
    /// Sets the scope's due entry to this time, whatever it was, with this record's number and no visits.
    Due(Timestamp),
    /// Removes the scope's due entry: with this record nothing is left to look at. It saves the sweeper the visit, so a
    /// store where it costs something may ignore it.
    NoDue,
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
