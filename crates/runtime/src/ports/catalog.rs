//! The catalog: definitions, run summaries, approvals, due times. What people list and the sweeper reads.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use engine::ApprovalRequested;
use engine::Error;
use engine::RunId;
use engine::ScopeKey;
use engine::Vote;
use expression::Value;
use jiff::Timestamp;
use serde::Deserialize;
use serde::Serialize;

use super::StoreError;

/// Definitions and lists. Lists and due times may be stale; what is read by its id is not.
#[async_trait]
pub trait Catalog: Send + Sync + 'static {
    /// Registers a definition. The same id, version and hash again changes nothing; the same id and version with another
    /// hash is refused unless `replace_version` says to make a new version (`1.0` → `1.0+2`).
    async fn register(&self, definition: Definition, new_version: bool) -> Result<Registered, StoreError>;

    /// The definition with this version, or without one the active one (the last registered, unless disabled).
    async fn definition(
        &self,
        kind: DefinitionKind,
        id: &str,
        version: Option<&str>,
    ) -> Result<Option<Definition>, StoreError>;

    /// The definition with this hash: what a run pinned.
    async fn pinned(
        &self,
        kind: DefinitionKind,
        id: &str,
        hash: &str,
    ) -> Result<Option<Definition>, StoreError>;

    /// Active definitions, by id.
    async fn definitions(
        &self,
        kind: DefinitionKind,
        page: &PageRequest,
    ) -> Result<Page<Definition>, StoreError>;

    /// All versions of one definition, the newest first.
    async fn versions(&self, kind: DefinitionKind, id: &str) -> Result<Vec<Definition>, StoreError>;

    /// Disables (or enables again) a definition: no new runs; running ones go on. False when there is none.
    async fn set_disabled(&self, kind: DefinitionKind, id: &str, disabled: bool) -> Result<bool, StoreError>;

    /// One run's summary.
    async fn run(&self, run: &RunId) -> Result<Option<RunSummary>, StoreError>;

    /// Runs, the newest first: by when they started, or by when the store first had them (which differs where clocks
    /// disagree); those that started at the same moment in any order that stays. Pages hold still: runs that begin meanwhile
    /// stand before all of them.
    async fn runs(&self, filter: &RunFilter, page: &PageRequest) -> Result<Page<RunSummary>, StoreError>;

    /// Writes a summary if its stored revision is still `summary.revision`; raises it. False when it was not, or when the
    /// stored status is terminal (only a record's own [`Extra::Summary`](super::Extra::Summary) changes that).
    async fn project(&self, summary: &RunSummary) -> Result<bool, StoreError>;

    /// Approvals, the oldest first; those asked at the same moment in any order that stays.
    async fn approvals(
        &self,
        filter: &ApprovalFilter,
        page: &PageRequest,
    ) -> Result<Page<ApprovalRow>, StoreError>;

    /// One approval of a run by its id ([`ApprovalRequested::id`]); not stale.
    async fn approval(&self, run: &RunId, id: &str) -> Result<Option<ApprovalRow>, StoreError>;

    /// Up to `limit` due entries at or before `until`, the earliest first (then by scope), above `after` (the last row of
    /// the page before; its `seq` does not matter).
    async fn due(
        &self,
        until: Timestamp,
        after: Option<&DueRow>,
        limit: usize,
    ) -> Result<Vec<DueRow>, StoreError>;

    /// Moves or removes entries, each if it still stands as given (same `seq` and same `at`); the others are left as they
    /// are. Only the sweeper calls this.
    async fn move_due(&self, moves: Vec<DueMove>) -> Result<(), StoreError>;

    /// Makes sure that the scope has an entry at `at` or before: sets one if there is none or a later one. `seq` is the number
    /// of the head that asks for it; an entry that a later record set stays as it is.
    async fn ensure_due(&self, scope: &ScopeKey, at: Timestamp, seq: u64) -> Result<(), StoreError>;

    /// Up to `limit` runs that ended before `at`, in any order; may be stale.
    async fn ended_before(&self, at: Timestamp, limit: usize) -> Result<Vec<RunId>, StoreError>;

    /// Removes a run that is over, with its journals and all else that belongs to it; a store may do a part at a time. True
    /// while there is more to do, also after a crash. A run that is not over, or is none, is left as it is.
    ///
    /// Whoever looks meanwhile finds each journal whole or, as far as [`Journal::load`](super::Journal::load) is concerned,
    /// empty: one that lacks its end would be a scope that lives, and one with a hole could not be read. The summary goes
    /// last, so that the run is listed until nothing of it is left, and its id can only then be used anew.
    async fn forget(&self, run: &RunId) -> Result<bool, StoreError>;
}

/// Workflows and agents are kept alike.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum DefinitionKind {
    /// A workflow.
    Workflow,
    /// An agent.
    Agent,
}

/// One version of a workflow or an agent, as registered.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Definition {
    /// Which of both.
    pub kind: DefinitionKind,
    /// Its id (an agent's name).
    pub id: Arc<str>,
    /// Its version; given without one, the catalog makes `1`, `2`, ….
    pub version: Option<Arc<str>>,
    /// The hash of its content.
    pub hash: Arc<str>,
    /// Its text as registered: parsing it again gives the same hash.
    pub source: Arc<str>,
    /// The file it came from, for errors; it decides the format of an agent.
    pub file: Option<Arc<str>>,
    /// When it was registered.
    pub registered_at: Timestamp,
    /// No new runs.
    pub disabled: bool,
}

/// What registering did.
#[derive(Clone, Debug, PartialEq)]
pub enum Registered {
    /// It is new.
    Created(Definition),
    /// It was there, the same; an older version so registered again is the active one again.
    Unchanged(Definition),
    /// The version exists with other content.
    VersionTaken(Definition),
}

/// A run as lists show it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RunSummary {
    /// The run.
    pub run: RunId,
    /// Its workflow.
    pub workflow: Arc<str>,
    /// The version it runs.
    pub version: Arc<str>,
    /// Where it stands.
    pub status: RunStatus,
    /// Who started it.
    pub starter: Option<Arc<str>>,
    /// When.
    pub started_at: Timestamp,
    /// When this summary last changed.
    pub updated_at: Timestamp,
    /// When it ended.
    pub ended_at: Option<Timestamp>,
    /// What it failed with.
    pub error: Option<Error>,
    /// Why the engine cannot go on with it, if so: a coded reason.
    pub stuck: Option<Arc<str>>,
    /// The workflow's labels.
    pub labels: BTreeMap<String, String>,
    /// Counts the writes of this summary.
    pub revision: u64,
}

/// Where a run stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
#[allow(missing_docs)] // The standard names, LANGUAGE §6.
pub enum RunStatus {
    Pending,
    Running,
    WaitingApproval,
    WaitingSignal,
    WaitingTimer,
    Pausing,
    Paused,
    Cancelling,
    Completed,
    Failed,
    Cancelled,
    TimedOut,
}

impl RunStatus {
    /// All of them.
    pub const ALL: [Self; 12] = [
        Self::Pending,
        Self::Running,
        Self::WaitingApproval,
        Self::WaitingSignal,
        Self::WaitingTimer,
        Self::Pausing,
        Self::Paused,
        Self::Cancelling,
        Self::Completed,
        Self::Failed,
        Self::Cancelled,
        Self::TimedOut,
    ];

    /// Whether the run is over.
    pub fn is_terminal(self) -> bool {
        matches!(self, Self::Completed | Self::Failed | Self::Cancelled | Self::TimedOut)
    }
}

impl fmt::Display for RunStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Pending => "PENDING",
            Self::Running => "RUNNING",
            Self::WaitingApproval => "WAITING_APPROVAL",
            Self::WaitingSignal => "WAITING_SIGNAL",
            Self::WaitingTimer => "WAITING_TIMER",
            Self::Pausing => "PAUSING",
            Self::Paused => "PAUSED",
            Self::Cancelling => "CANCELLING",
            Self::Completed => "COMPLETED",
            Self::Failed => "FAILED",
            Self::Cancelled => "CANCELLED",
            Self::TimedOut => "TIMED_OUT",
        })
    }
}

/// Which runs.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct RunFilter {
    /// Only of this workflow.
    pub workflow: Option<Arc<str>>,
    /// Only with one of these statuses; empty: any.
    pub statuses: Vec<RunStatus>,
}

/// Which approvals.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ApprovalFilter {
    /// Only of this run.
    pub run: Option<RunId>,
    /// Only undecided ones.
    pub pending: bool,
}

/// An approval as lists show it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ApprovalRow {
    /// The scope that asks.
    pub scope: ScopeKey,
    /// The workflow, for lists.
    pub workflow: Arc<str>,
    /// The state that asks.
    pub state: Arc<str>,
    /// The question.
    pub request: ApprovalRequested,
    /// When it was asked.
    pub requested_at: Timestamp,
    /// The decisions so far.
    pub votes: Vec<Vote>,
    /// When it was settled (decided, timed out or cancelled); pending until then.
    pub settled_at: Option<Timestamp>,
    /// The state's output, once decided.
    pub decision: Option<Value>,
}

/// When a scope is to be looked at. Ordered by time, then scope.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct DueRow {
    /// When.
    pub at: Timestamp,
    /// Which.
    pub scope: ScopeKey,
    /// The number of the record that set the entry.
    pub seq: u64,
    /// How often the sweeper has looked since, in vain.
    pub visits: u32,
}

/// What becomes of a due entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DueMove {
    /// The entry as it was read.
    pub row: DueRow,
    /// Its new time; `None` removes it.
    pub to: Option<Timestamp>,
    /// Its new count of visits.
    pub visits: u32,
}

/// Which part of a list.
#[derive(Clone, Debug)]
pub struct PageRequest {
    /// How many rows at most.
    pub limit: usize,
    /// Where the page before ended; opaque.
    pub cursor: Option<String>,
}

/// A part of a list.
#[derive(Clone, Debug)]
pub struct Page<T> {
    /// Its rows.
    pub items: Vec<T>,
    /// Where the next one begins; `None` at the end.
    pub next: Option<String>,
}
