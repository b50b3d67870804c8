//! What people and programs see of a run.

use std::sync::Arc;

use engine::Parent;
use engine::RunId;
use engine::ScopePath;
use engine::Trigger;
use engine::Vote;
use expression::Value;
use jiff::Timestamp;
use serde::Serialize;

use crate::ports::Definition;
use crate::ports::RunStatus;
use crate::ports::RunSummary;

/// What to start.
#[derive(Clone, Debug)]
pub struct StartRequest {
    /// The workflow's id.
    pub workflow: Arc<str>,
    /// Its version; without one, the active one.
    pub version: Option<Arc<str>>,
    /// The run's input; `null` counts as an empty object.
    pub input: Value,
    /// The client's idempotency key: the same key and input is the same run.
    pub key: Option<Arc<str>>,
    /// The run's id, where the caller has one (a schedule's tick, a sub-workflow). It works as a key.
    pub run_id: Option<RunId>,
    /// Who starts it (`user:…`).
    pub starter: Option<Arc<str>>,
    /// What starts it.
    pub trigger: Trigger,
    /// The scope that waits for it.
    pub parent: Option<Parent>,
}

impl StartRequest {
    /// A start by hand.
    pub fn new(workflow: impl Into<Arc<str>>, input: Value) -> Self {
        Self {
            workflow: workflow.into(),
            version: None,
            input,
            key: None,
            run_id: None,
            starter: None,
            trigger: Trigger::Manual,
            parent: None,
        }
    }
}

/// A run that was asked for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Started {
    /// Its id.
    pub run: RunId,
    /// False when it was there already.
    pub created: bool,
}

/// A signal to send.
#[derive(Clone, Debug)]
pub struct SignalRequest {
    /// By which a repeated one is recognised; without one, every request is a new signal.
    pub id: Option<Arc<str>>,
    /// Its name.
    pub name: Arc<str>,
    /// What it carries.
    pub payload: Value,
    /// Who sends it.
    pub by: Option<Arc<str>>,
}

/// A run as it stands.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct RunView {
    /// As lists show it, but exact: from the journals.
    #[serde(flatten)]
    pub summary: RunSummary,
    /// Its input, defaults filled in.
    pub input: Value,
    /// The root scope's data.
    pub context: Value,
    /// What it gave, once completed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub output: Option<Value>,
    /// What started it.
    pub trigger: Trigger,
    /// The scope that waits for it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub parent: Option<Parent>,
    /// Where it stands: one place for each live scope that does not only wait for its children.
    pub current: Vec<Position>,
}

/// Where one scope stands.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Position {
    /// The scope.
    pub scope: ScopePath,
    /// The state it is in.
    pub state: Option<Arc<str>>,
    /// What it does there.
    pub activity: Doing,
    /// When it entered the state.
    pub since: Option<Timestamp>,
    /// When it will be looked at next.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub due: Option<Timestamp>,
    /// The attempt in flight, from 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub attempt: Option<u32>,
    /// The approval it waits for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub approval: Option<PendingApproval>,
    /// The signal it waits for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub signal: Option<Arc<str>>,
    /// The child run it waits for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub child: Option<RunId>,
}

/// An approval that a position waits for.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct PendingApproval {
    /// By which it is decided.
    pub id: Arc<str>,
    /// What is asked.
    pub message: Arc<str>,
    /// Who may decide; empty: anyone.
    pub approvers: Vec<Arc<str>>,
    /// The decisions so far.
    pub votes: Vec<Vote>,
    /// When its time is over.
    pub deadline: Timestamp,
}

/// What a scope does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Doing {
    /// Nobody has begun with it.
    Pending,
    /// Something is to be decided next.
    Ready,
    /// A worker performs its action.
    Performing,
    /// It waits to try again.
    Backoff,
    /// It waits for a time.
    Timer,
    /// It waits for a signal.
    Signal,
    /// It waits for people.
    Approval,
    /// It waits for its children.
    Children,
    /// It waits for a child run.
    Subworkflow,
    /// Nothing new is done in it.
    Paused,
    /// It ends, once its children have.
    Ending,
    /// It has ended, and its parent does not know yet.
    Ended,
}

/// One event of a run's timeline.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct TimelineEntry {
    /// Where it happened.
    pub scope: ScopePath,
    /// The record's number in its scope.
    pub seq: u64,
    /// The event's place in its record, from 0.
    pub index: u32,
    /// When.
    pub at: Timestamp,
    /// What: an [`engine::Event`] as JSON.
    pub event: serde_json::Value,
}

/// What a vote led to.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Voted {
    /// The approval.
    pub approval: Arc<str>,
    /// False when the same person had decided the same before.
    pub changed: bool,
    /// The state's output, once the votes are enough.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub decision: Option<Value>,
    /// All votes so far.
    pub votes: Vec<Vote>,
    /// The run's status after it.
    pub status: RunStatus,
}

/// What registering did.
#[derive(Clone, Debug)]
pub struct Registration {
    /// What stands in the catalog now.
    pub definition: Definition,
    /// Whether it is new.
    pub created: bool,
    /// Warnings.
    pub issues: Vec<model::Issue>,
}
