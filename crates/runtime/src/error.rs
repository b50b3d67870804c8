//! What can go wrong when somebody asks something of the runtime; each with a stable code.

use std::sync::Arc;

use engine::ReplayError;
use engine::RunId;
use engine::ScopeKey;
use engine::Vote;
use expression::Value;

use crate::ports::RunStatus;
use crate::ports::StoreError;
use crate::ports::StoreErrorKind;

/// A run, or a scope of it, could not be worked on.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// There is no such run.
    #[error("there is no run {run}; list the runs to find its id")]
    RunNotFound {
        /// The id asked for.
        run: RunId,
    },
    /// A journal is damaged, or was written by a newer engine.
    #[error(transparent)]
    Journal(#[from] ReplayError),
    /// Something that a journal refers to is missing.
    #[error("{scope}: {what} is missing from the store; the store was changed by hand or restored in part")]
    Missing {
        /// The scope that needs it.
        scope: ScopeKey,
        /// What.
        what: String,
    },
    /// The definition that a run pinned cannot be used any more.
    #[error("the definition of workflow `{workflow}` with hash {hash} {problem}")]
    Definition {
        /// The workflow.
        workflow: Arc<str>,
        /// The pinned hash.
        hash: Arc<str>,
        /// What is wrong with it.
        problem: String,
    },
    /// A record could not be written as JSON.
    #[error("the next record of {scope} cannot be encoded: {reason}")]
    Unencodable {
        /// The scope.
        scope: ScopeKey,
        /// Why.
        reason: String,
    },
    /// Other writers were first, again and again.
    #[error("{scope}: other writers were first {tries} times; try again")]
    Contended {
        /// The scope.
        scope: ScopeKey,
        /// How often it was tried.
        tries: u32,
    },
    /// Work off the async workers did not come back.
    #[error("an evaluation for {scope} was aborted")]
    Aborted {
        /// The scope.
        scope: ScopeKey,
    },
    /// A handler panicked, which is a bug.
    #[error("a handler panicked over {scope}; what it was about to do is tried again")]
    Panicked {
        /// The scope.
        scope: ScopeKey,
    },
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl Error {
    /// The code of its page in `docs/errors`.
    pub fn code(&self) -> &'static str {
        match self {
            Self::RunNotFound { .. } => "RUN_NOT_FOUND",
            Self::Journal(error) => error.code(),
            Self::Missing { .. } => "STORE_INCOMPLETE",
            Self::Definition { .. } => "DEFINITION_UNUSABLE",
            Self::Unencodable { .. } => "RECORD_UNENCODABLE",
            Self::Contended { .. } => "RUN_CONTENDED",
            Self::Aborted { .. } => "EVALUATION_ABORTED",
            Self::Panicked { .. } => "HANDLER_PANICKED",
            Self::Store(error) => error.code,
        }
    }

    /// Whether it will be the same next time: the scope cannot be loaded.
    pub(crate) fn is_lasting(&self) -> bool {
        matches!(
            self,
            Self::Journal(_) | Self::Missing { .. } | Self::Definition { .. } | Self::Unencodable { .. }
        )
    }

    /// Whether somebody has to repair something first: the scope cannot be loaded, or the store says that it is damaged or
    /// refuses.
    pub fn needs_repair(&self) -> bool {
        let refused = matches!(self, Self::Store(error) if error.kind == StoreErrorKind::Permanent);
        refused || self.is_lasting()
    }
}

/// A run could not be started.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// There is no such workflow, or not with this version.
    #[error("there is no workflow `{workflow}`{}", version.as_ref().map(|version| format!(" with version {version}")).unwrap_or_default())]
    WorkflowNotFound {
        /// Its id.
        workflow: Arc<str>,
        /// The version asked for.
        version: Option<Arc<str>>,
    },
    /// The workflow takes no new runs.
    #[error("workflow `{workflow}` is disabled; enable it to start runs")]
    WorkflowDisabled {
        /// Its id.
        workflow: Arc<str>,
    },
    /// The input does not fit `inputSchema`.
    #[error("the input of workflow `{workflow}` does not fit its inputSchema{}", violations.first().map(|first| format!(": {first}")).unwrap_or_default())]
    Input {
        /// The workflow.
        workflow: Arc<str>,
        /// Every place that does not fit.
        violations: Vec<model::Violation>,
    },
    /// A run's input is an object.
    #[error("the input of a run must be an object; this is {found}")]
    InputNotObject {
        /// What it is, with its article.
        found: &'static str,
    },
    /// The same key or id was used for another workflow or another input.
    #[error(
        "run {run} was started under the same key with another workflow or input; use a new key for a new run"
    )]
    KeyReused {
        /// The run that has the key.
        run: RunId,
    },
    /// Anything else.
    #[error(transparent)]
    Other(#[from] Error),
}

impl StartError {
    /// The code of its page in `docs/errors`.
    pub fn code(&self) -> &'static str {
        match self {
            Self::WorkflowNotFound { .. } => "WORKFLOW_NOT_FOUND",
            Self::WorkflowDisabled { .. } => "WORKFLOW_DISABLED",
            Self::Input { .. } => "INPUT_SCHEMA_VIOLATION",
            Self::InputNotObject { .. } => "INPUT_NOT_AN_OBJECT",
            Self::KeyReused { .. } => "KEY_REUSED",
            Self::Other(error) => error.code(),
        }
    }
}

impl From<StoreError> for StartError {
    fn from(error: StoreError) -> Self {
        Self::Other(error.into())
    }
}

/// A run cannot be paused, resumed, cancelled, redriven or sent a signal as it stands.
#[derive(Debug, thiserror::Error)]
pub enum ControlError {
    /// The run is over.
    #[error("run {run} is over: {status}")]
    Over {
        /// The run.
        run: RunId,
        /// How it ended.
        status: RunStatus,
    },
    /// It is paused already.
    #[error("run {run} is paused already")]
    Paused {
        /// The run.
        run: RunId,
        /// Its status.
        status: RunStatus,
    },
    /// Only a paused run can be resumed.
    #[error("run {run} is not paused: {status}")]
    NotPaused {
        /// The run.
        run: RunId,
        /// Its status.
        status: RunStatus,
    },
    /// It is being cancelled already.
    #[error("run {run} is being cancelled already")]
    Cancelling {
        /// The run.
        run: RunId,
        /// Its status.
        status: RunStatus,
    },
    /// Only a run that failed, timed out or was cancelled can be redriven.
    #[error("run {run} has not failed, so there is nothing to redrive: {status}")]
    NotFailed {
        /// The run.
        run: RunId,
        /// Its status.
        status: RunStatus,
    },
    /// Anything else.
    #[error(transparent)]
    Other(#[from] Error),
}

impl ControlError {
    /// The code of its page in `docs/errors`.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Over { .. } => "RUN_OVER",
            Self::Paused { .. } => "RUN_PAUSED",
            Self::NotPaused { .. } => "RUN_NOT_PAUSED",
            Self::Cancelling { .. } => "RUN_CANCELLING",
            Self::NotFailed { .. } => "RUN_NOT_FAILED",
            Self::Other(error) => error.code(),
        }
    }

    /// The status that stands in the way.
    pub fn status(&self) -> Option<RunStatus> {
        match self {
            Self::Over { status, .. }
            | Self::Paused { status, .. }
            | Self::NotPaused { status, .. }
            | Self::Cancelling { status, .. }
            | Self::NotFailed { status, .. } => Some(*status),
            Self::Other(_) => None,
        }
    }
}

impl From<StoreError> for ControlError {
    fn from(error: StoreError) -> Self {
        Self::Other(error.into())
    }
}

/// A decision could not be taken.
#[derive(Debug, thiserror::Error)]
pub enum VoteError {
    /// The run has no such approval.
    #[error("run {run} has no approval {approval}")]
    NotFound {
        /// The run.
        run: RunId,
        /// The approval asked for.
        approval: Arc<str>,
    },
    /// It was settled before.
    #[error("approval {approval} is settled already")]
    Settled {
        /// The approval.
        approval: Arc<str>,
        /// The decision that stands; `None` when the deadline, a cancel or the run's end settled it.
        decision: Option<Value>,
        /// The run's status.
        status: RunStatus,
    },
    /// This person decided otherwise before.
    #[error("{} has decided approval {approval} otherwise before", vote.approver)]
    DecidedOtherwise {
        /// The approval.
        approval: Arc<str>,
        /// The vote that stands.
        vote: Box<Vote>,
    },
    /// This person was not asked.
    #[error("{approver} may not decide approval {approval}: it asks {}", approvers.join(", "))]
    NotAnApprover {
        /// The approval.
        approval: Arc<str>,
        /// Who tried.
        approver: Arc<str>,
        /// Who may.
        approvers: Vec<Arc<str>>,
    },
    /// Separation of duties.
    #[error("{approver} started the run and may not decide approval {approval} (separation of duties)")]
    StarterMayNotDecide {
        /// The approval.
        approval: Arc<str>,
        /// Who tried.
        approver: Arc<str>,
    },
    /// The form does not fit `formSchema`.
    #[error("the form does not fit the approval's formSchema{}", violations.first().map(|first| format!(": {first}")).unwrap_or_default())]
    Form {
        /// Every place that does not fit.
        violations: Vec<model::Violation>,
    },
    /// Anything else.
    #[error(transparent)]
    Other(#[from] Error),
}

impl VoteError {
    /// The code of its page in `docs/errors`.
    pub fn code(&self) -> &'static str {
        match self {
            Self::NotFound { .. } => "APPROVAL_NOT_FOUND",
            Self::Settled { .. } | Self::DecidedOtherwise { .. } => "APPROVAL_SETTLED",
            Self::NotAnApprover { .. } => "NOT_AN_APPROVER",
            Self::StarterMayNotDecide { .. } => "STARTER_MAY_NOT_DECIDE",
            Self::Form { .. } => "FORM_SCHEMA_VIOLATION",
            Self::Other(error) => error.code(),
        }
    }
}

impl From<StoreError> for VoteError {
    fn from(error: StoreError) -> Self {
        Self::Other(error.into())
    }
}

/// A definition was not registered.
#[derive(Debug, thiserror::Error)]
pub enum RegisterError {
    /// It has errors; warnings stand beside them.
    #[error("the definition has {} errors", issues.iter().filter(|issue| issue.is_error()).count())]
    Invalid {
        /// Everything that was found.
        issues: Vec<model::Issue>,
    },
    /// The same id and version exists with other content.
    #[error(
        "version {version} of `{id}` exists with other content; give it another version, or ask for a new one"
    )]
    VersionTaken {
        /// Its id.
        id: Arc<str>,
        /// The version.
        version: Arc<str>,
    },
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl RegisterError {
    /// The code of its page in `docs/errors`.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Invalid { .. } => "DEFINITION_INVALID",
            Self::VersionTaken { .. } => "VERSION_TAKEN",
            Self::Store(error) => error.code,
        }
    }
}

/// Every code of this crate with one line of what it means; each has a page in `docs/errors`. Stores add theirs.
pub const CODES: &[(&str, &str)] = &[
    ("RUN_NOT_FOUND", "There is no run with this id."),
    ("STORE_INCOMPLETE", "Something that a journal refers to is missing from the store."),
    ("DEFINITION_UNUSABLE", "The definition that a run pinned is missing or cannot be read by this engine."),
    ("RECORD_UNENCODABLE", "A record could not be written as JSON."),
    ("RUN_CONTENDED", "Other writers were first, again and again; try again."),
    ("EVALUATION_ABORTED", "A long evaluation was aborted, because the process is ending or it panicked."),
    ("HANDLER_PANICKED", "A handler panicked, which is a bug; the doorbell it was to answer comes again."),
    ("WORKFLOW_NOT_FOUND", "There is no workflow with this id and version."),
    ("WORKFLOW_DISABLED", "The workflow takes no new runs."),
    ("INPUT_SCHEMA_VIOLATION", "The input does not fit the workflow's inputSchema."),
    ("INPUT_NOT_AN_OBJECT", "The input of a run is not an object."),
    ("KEY_REUSED", "The same key was used for another workflow or another input."),
    ("RUN_OVER", "The run is over, so it cannot be changed."),
    ("RUN_PAUSED", "The run is paused already."),
    ("RUN_NOT_PAUSED", "Only a paused run can be resumed."),
    ("RUN_CANCELLING", "The run is being cancelled already."),
    ("RUN_NOT_FAILED", "Only a run that failed, timed out or was cancelled can be redriven."),
    ("APPROVAL_NOT_FOUND", "The run has no such approval."),
    ("APPROVAL_SETTLED", "The approval was decided before, or its time is over."),
    ("NOT_AN_APPROVER", "This person is not among those asked."),
    ("STARTER_MAY_NOT_DECIDE", "Separation of duties: who started the run may not decide."),
    ("FORM_SCHEMA_VIOLATION", "The form does not fit the approval's formSchema."),
    ("DEFINITION_INVALID", "The definition has errors."),
    ("VERSION_TAKEN", "The same id and version exists with other content."),
    ("STEP_TIMED_OUT", "An attempt took longer than its timeout; nobody knows whether it took effect."),
    ("NO_PROGRESS", "A scope was visited again and again and could not go on."),
];
