//! The JSON of the API: what is sent and what is answered. Names are the PRD's.

use std::collections::BTreeMap;
use std::sync::Arc;

use engine::Error;
use engine::Parent;
use engine::RunId;
use engine::ScopePath;
use engine::Trigger;
use engine::Vote;
use expression::Value;
use jiff::Timestamp;
use runtime::Position;
use runtime::RunView;
use runtime::TimelineEntry;
use runtime::Voted;
use runtime::ports::ApprovalRow;
use runtime::ports::Definition;
use runtime::ports::Page;
use runtime::ports::RunStatus;
use runtime::ports::RunSummary;
use serde::Deserialize;
use serde::Serialize;

// What is sent.

/// `POST /workflow-runs`.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct Start {
    pub(crate) workflow_id: Arc<str>,
    pub(crate) version: Option<Arc<str>>,
    #[serde(default)]
    pub(crate) input: Value,
    /// Believed, until there is authentication.
    pub(crate) starter: Option<Arc<str>>,
}

/// `?wait=30s`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Wait {
    pub(crate) wait: Option<String>,
}

/// Behind `GET /workflow-runs`.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct ListRuns {
    pub(crate) workflow_id: Option<Arc<str>>,
    /// One, or several with commas.
    pub(crate) status: Option<String>,
    pub(crate) limit: Option<usize>,
    pub(crate) cursor: Option<String>,
}

/// Behind lists that have no filter.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Paging {
    pub(crate) limit: Option<usize>,
    pub(crate) cursor: Option<String>,
}

/// Behind `GET /workflow-approvals`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ListApprovals {
    /// `pending` (the default) or `all`.
    pub(crate) status: Option<String>,
    pub(crate) limit: Option<usize>,
    pub(crate) cursor: Option<String>,
}

/// `POST …/pause`, `…/resume`, `…/cancel`, `…/redrive`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Control {
    pub(crate) by: Option<Arc<str>>,
    pub(crate) reason: Option<Arc<str>>,
}

/// `POST …/signals`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct SendSignal {
    pub(crate) name: Arc<str>,
    #[serde(default)]
    pub(crate) payload: Value,
    pub(crate) id: Option<Arc<str>>,
    pub(crate) by: Option<Arc<str>>,
}

/// `POST …/approve` and `…/reject`. The approver and their teams are believed, until there is authentication.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Decide {
    pub(crate) approver: Option<Arc<str>>,
    #[serde(default)]
    pub(crate) teams: Vec<Arc<str>>,
    #[serde(alias = "reason")]
    pub(crate) comment: Option<Arc<str>>,
    pub(crate) form: Option<Value>,
}

/// Behind `POST` and `PUT` of `/workflows` and `/agents`.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct Register {
    #[serde(default)]
    pub(crate) new_version: bool,
    /// The name of the file it comes from, below its project's folder.
    pub(crate) file: Option<String>,
}

/// `POST /sync`.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct Sync {
    #[serde(default)]
    pub(crate) new_version: bool,
    #[serde(default)]
    pub(crate) check: bool,
}

/// Behind `GET /workflows/{id}`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Version {
    pub(crate) version: Option<String>,
}

/// Behind what takes no parameters.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Nothing {}

// What is answered.

/// A run in a list.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Summary<'a> {
    run_id: &'a RunId,
    workflow_id: &'a str,
    version: &'a str,
    status: RunStatus,
    #[serde(skip_serializing_if = "Option::is_none")]
    starter: Option<&'a Arc<str>>,
    started_at: Timestamp,
    updated_at: Timestamp,
    #[serde(skip_serializing_if = "Option::is_none")]
    ended_at: Option<Timestamp>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<&'a Error>,
    /// Why the engine cannot go on with it.
    #[serde(skip_serializing_if = "Option::is_none")]
    stuck: Option<&'a Arc<str>>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    labels: &'a BTreeMap<String, String>,
}

impl<'a> From<&'a RunSummary> for Summary<'a> {
    fn from(summary: &'a RunSummary) -> Self {
        Self {
            run_id: &summary.run,
            workflow_id: &summary.workflow,
            version: &summary.version,
            status: summary.status,
            starter: summary.starter.as_ref(),
            started_at: summary.started_at,
            updated_at: summary.updated_at,
            ended_at: summary.ended_at,
            error: summary.error.as_ref(),
            stuck: summary.stuck.as_ref(),
            labels: &summary.labels,
        }
    }
}

/// A run.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Run<'a> {
    #[serde(flatten)]
    summary: Summary<'a>,
    input: &'a Value,
    #[serde(skip_serializing_if = "Option::is_none")]
    output: Option<&'a Value>,
    trigger: &'a Trigger,
    #[serde(skip_serializing_if = "Option::is_none")]
    parent: Option<&'a Parent>,
    /// Where it stands: one entry for each live scope.
    #[serde(skip_serializing_if = "<[Position]>::is_empty")]
    current: &'a [Position],
    context: &'a Value,
}

impl<'a> From<&'a RunView> for Run<'a> {
    fn from(view: &'a RunView) -> Self {
        Self {
            summary: (&view.summary).into(),
            input: &view.input,
            output: view.output.as_ref(),
            trigger: &view.trigger,
            parent: view.parent.as_ref(),
            current: &view.current,
            context: &view.context,
        }
    }
}

/// What starting a run led to: its end, where it was waited for, else where it stands.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Started<'a> {
    pub(crate) run_id: &'a RunId,
    pub(crate) workflow_id: &'a str,
    pub(crate) status: RunStatus,
    /// False when the same request had started it before.
    pub(crate) created: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) output: Option<&'a Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) error: Option<&'a Error>,
}

/// A part of a list.
#[derive(Serialize)]
pub(crate) struct List<T> {
    pub(crate) items: Vec<T>,
    /// `cursor` of the next part; absent at the end.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) next: Option<String>,
}

impl<'a, T> List<T> {
    pub(crate) fn of<R>(page: &'a Page<R>) -> Self
    where
        T: From<&'a R>,
    {
        Self { items: page.items.iter().map(T::from).collect(), next: page.next.clone() }
    }
}

/// An event of a run's timeline: where and when, then the event with its own fields.
#[derive(Serialize)]
pub(crate) struct TimelineEvent<'a> {
    scope: &'a ScopePath,
    seq: u64,
    index: u32,
    at: Timestamp,
    event: &'a serde_json::Value,
}

impl<'a> From<&'a TimelineEntry> for TimelineEvent<'a> {
    fn from(entry: &'a TimelineEntry) -> Self {
        Self { scope: &entry.scope, seq: entry.seq, index: entry.index, at: entry.at, event: &entry.event }
    }
}

/// A question to people.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
#[allow(clippy::struct_field_names)] // The API's names.
pub(crate) struct Approval<'a> {
    approval_id: &'a str,
    run_id: &'a RunId,
    workflow_id: &'a str,
    scope: &'a ScopePath,
    state: &'a str,
    /// `PENDING`, `APPROVED`, `REJECTED`, or `CLOSED`: its time was over, or the run's.
    status: &'static str,
    message: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    title: Option<&'a Arc<str>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    summary: Option<&'a Value>,
    approvers: &'a [Arc<str>],
    quorum: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    excluded: Option<&'a Arc<str>>,
    requested_at: Timestamp,
    deadline: Timestamp,
    votes: &'a [Vote],
    #[serde(skip_serializing_if = "Option::is_none")]
    settled_at: Option<Timestamp>,
    #[serde(skip_serializing_if = "Option::is_none")]
    decision: Option<&'a Value>,
}

impl<'a> From<&'a ApprovalRow> for Approval<'a> {
    fn from(row: &'a ApprovalRow) -> Self {
        let approved = row.decision.as_ref().and_then(|decision| decision.get("approved")?.as_bool());
        Self {
            approval_id: &row.request.id,
            run_id: &row.scope.run,
            workflow_id: &row.workflow,
            scope: &row.scope.path,
            state: &row.state,
            status: match (row.settled_at, approved) {
                (None, _) => "PENDING",
                (Some(_), Some(true)) => "APPROVED",
                (Some(_), Some(false)) => "REJECTED",
                (Some(_), None) => "CLOSED",
            },
            message: &row.request.message,
            title: row.request.title.as_ref(),
            summary: row.request.summary.as_ref(),
            approvers: &row.request.approvers,
            quorum: row.request.quorum,
            excluded: row.request.excluded.as_ref(),
            requested_at: row.requested_at,
            deadline: row.request.deadline,
            votes: &row.votes,
            settled_at: row.settled_at,
            decision: row.decision.as_ref(),
        }
    }
}

/// What a decision led to.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Decided<'a> {
    approval_id: &'a str,
    run_id: &'a RunId,
    /// False when the same person had decided the same before.
    changed: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    decision: Option<&'a Value>,
    votes: &'a [Vote],
    /// The run's.
    status: RunStatus,
}

impl<'a> Decided<'a> {
    pub(crate) fn new(run_id: &'a RunId, voted: &'a Voted) -> Self {
        Self {
            approval_id: &voted.approval,
            run_id,
            changed: voted.changed,
            decision: voted.decision.as_ref(),
            votes: &voted.votes,
            status: voted.status,
        }
    }
}

/// A workflow in a list, or one version of it.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
#[allow(clippy::struct_field_names)] // The API's names.
pub(crate) struct Workflow<'a> {
    workflow_id: &'a str,
    version: Option<&'a Arc<str>>,
    hash: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    file: Option<&'a Arc<str>>,
    registered_at: Timestamp,
    disabled: bool,
}

impl<'a> From<&'a Definition> for Workflow<'a> {
    fn from(definition: &'a Definition) -> Self {
        Self {
            workflow_id: &definition.id,
            version: definition.version.as_ref(),
            hash: &definition.hash,
            file: definition.file.as_ref(),
            registered_at: definition.registered_at,
            disabled: definition.disabled,
        }
    }
}

/// A workflow with its definition.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct WorkflowDocument<'a> {
    #[serde(flatten)]
    pub(crate) workflow: Workflow<'a>,
    /// As registered.
    pub(crate) source: &'a str,
    /// All versions, the newest first.
    pub(crate) versions: Vec<Workflow<'a>>,
}

/// What registering a workflow did.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Registered<'a> {
    #[serde(flatten)]
    pub(crate) workflow: Workflow<'a>,
    /// False when it was there, the same.
    pub(crate) created: bool,
    /// Warnings.
    pub(crate) issues: &'a [model::Issue],
}

/// An agent in a list.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Agent<'a> {
    name: &'a str,
    version: Option<&'a Arc<str>>,
    hash: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    file: Option<&'a Arc<str>>,
    registered_at: Timestamp,
    disabled: bool,
}

impl<'a> From<&'a Definition> for Agent<'a> {
    fn from(definition: &'a Definition) -> Self {
        Self {
            name: &definition.id,
            version: definition.version.as_ref(),
            hash: &definition.hash,
            file: definition.file.as_ref(),
            registered_at: definition.registered_at,
            disabled: definition.disabled,
        }
    }
}

/// An agent with its definition.
#[derive(Serialize)]
pub(crate) struct AgentDocument<'a> {
    #[serde(flatten)]
    pub(crate) agent: Agent<'a>,
    /// As registered.
    pub(crate) source: &'a str,
}

/// What registering an agent did.
#[derive(Serialize)]
pub(crate) struct RegisteredAgent<'a> {
    #[serde(flatten)]
    pub(crate) agent: Agent<'a>,
    /// False when it was there, the same.
    pub(crate) created: bool,
    /// Warnings.
    pub(crate) issues: &'a [model::Issue],
}

/// What validating a workflow found.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Validated<'a> {
    pub(crate) valid: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) workflow_id: Option<&'a str>,
    pub(crate) issues: &'a [model::Issue],
}
