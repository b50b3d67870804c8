//! What can have happened in a scope. Outcomes, never questions: a fold over events evaluates nothing.

use std::collections::BTreeMap;
use std::sync::Arc;

use expression::SecretSlot;
use expression::Value;
use jiff::Timestamp;
use serde::Deserialize;
use serde::Serialize;

use crate::ChildKey;
use crate::Error;
use crate::RunId;
use crate::ScopePath;

/// One thing that happened. Its time is its record's, its place its record's scope.
///
/// The names and fields are the audit format that people and `GET …/events` see: new ones may come, old ones stay.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "camelCase", rename_all_fields = "camelCase")]
#[allow(missing_docs)] // A field that its variant's line and its name explain has no line of its own.
pub enum Event {
    /// The run exists: first event of a root scope.
    RunStarted(Box<RunStarted>),
    /// A branch or iteration exists: first event of every other scope.
    ScopeStarted(Box<ScopeStarted>),

    /// The state at this address was entered; for the `visit`th time in this scope, as far as its name goes.
    StateEntered {
        state: Arc<str>,
        visit: u32,
        /// Of a composite state with `timeoutSeconds`.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        deadline: Option<Timestamp>,
    },
    /// The `if` of the state at this address was false.
    StateSkipped {
        state: Arc<str>,
        /// The address where execution goes on; without it the list of states has ended.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        next: Option<Arc<str>>,
    },
    /// A worker took an attempt of the current state's action. `request` stands in the first claim only.
    StepClaimed {
        attempt: u32,
        epoch: u32,
        /// The idempotency key's last part: rises after a definite failure only.
        key: u32,
        /// Who performs it.
        worker: Arc<str>,
        #[serde(default, deserialize_with = "some", skip_serializing_if = "Option::is_none")]
        request: Option<Value>,
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        secrets: Vec<SecretSlot>,
    },
    /// The action answered. After this it is never performed again.
    StepSucceeded { attempt: u32, epoch: u32, output: Value },
    /// The attempt failed. With `retry_at` another one follows then; without, the step has failed.
    StepFailed {
        attempt: u32,
        epoch: u32,
        error: Error,
        /// Whether the action itself answered with an error, so that the next attempt gets a new key.
        definite: bool,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        retry_at: Option<Timestamp>,
    },

    /// A timer runs until then. An `absolute` one is not moved by a pause.
    TimerStarted {
        until: Timestamp,
        #[serde(default, skip_serializing_if = "is_false")]
        absolute: bool,
    },
    /// The timer's time came.
    TimerFired {},
    /// The scope waits for a signal.
    SignalAwaited {
        name: Arc<str>,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        deadline: Option<Timestamp>,
    },
    /// The awaited signal came: number `number` of the run's inbox.
    SignalReceived { name: Arc<str>, number: u64, payload: Value },
    /// People are asked.
    ApprovalRequested(Box<ApprovalRequested>),
    /// Somebody decided. More may be needed: `ApprovalDecided` says when it is enough.
    ApprovalVoted { vote: Vote },
    /// The question is answered; `output` is the state's output.
    ApprovalDecided { approved: bool, output: Value },
    /// The deadline of an approval or a signal passed.
    WaitTimedOut {},

    /// Children were made, none launched yet. The context they share is stored beside this record.
    Forked {
        /// How many.
        children: u32,
        /// `foreach`: the items, in order.
        #[serde(default, deserialize_with = "some", skip_serializing_if = "Option::is_none")]
        items: Option<Value>,
    },
    /// Children up to (not including) this index may run.
    ChildrenLaunched {
        upto: u32,
        /// And these, which had ended before a redrive.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        again: Vec<u32>,
    },
    /// Children ended, each as said.
    ChildrenEnded {
        /// The record that forked or asked for the child run.
        fork: u64,
        ended: Vec<ChildEnded>,
    },
    /// No more children are needed: those still live are cancelled.
    ChildrenReleased {},
    /// A child run was asked for.
    SubworkflowRequested {
        run: RunId,
        workflow: Arc<str>,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        version: Option<Arc<str>>,
        input: Value,
    },

    /// A list of states inside this state was entered.
    BlockEntered { block: BlockRole },
    /// An error was caught by this clause of the innermost `try`.
    ErrorCaught { clause: u32, error: Error },
    /// The list of states that failed was left; its error is now that of the state that holds the list.
    BlockLeft {},
    /// The current state failed, or an error reached it from inside.
    ErrorRaised {
        error: Error,
        /// Of a composite state's timeout: the depth of the block that holds the state; only what lies outside may catch it.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        floor: Option<u32>,
    },
    /// The current state has its output; its `output` mapping is still to be rendered.
    StateComputed { output: Value },
    /// The current state ended with this output (absent: the step's or decision's, or for a state that passes its input on, nothing).
    StateCompleted {
        #[serde(default, deserialize_with = "some", skip_serializing_if = "Option::is_none")]
        output: Option<Value>,
        /// The keys of its `output` mapping.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        writes: Vec<(Arc<str>, Value)>,
        /// The address where execution goes on; without it the list of states has ended.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        next: Option<Arc<str>>,
    },

    /// Nothing new is claimed from here on.
    Paused {
        #[serde(default, skip_serializing_if = "Option::is_none")]
        by: Option<Arc<str>>,
        /// Because its parent is, as of this version of the parent's clocks.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        inherited: Option<u32>,
    },
    /// Work goes on; every clock of the scope is moved by `shift` milliseconds.
    Resumed {
        #[serde(default, skip_serializing_if = "Option::is_none")]
        by: Option<Arc<str>>,
        shift: u64,
        /// Because its parent was.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        inherited: Option<Inherited>,
    },
    /// The scope is to end as cancelled.
    CancelRequested {
        #[serde(default, skip_serializing_if = "Option::is_none")]
        by: Option<Arc<str>>,
        /// Because its parent no longer needs it, as of this version of the parent's clocks.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        inherited: Option<u32>,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        reason: Option<Arc<str>>,
    },
    /// The run's own timeout passed: the scope is to end as timed out.
    DeadlinePassed {},
    /// A failed or cancelled scope goes on from where it failed.
    Redriven {
        #[serde(default, skip_serializing_if = "Option::is_none")]
        by: Option<Arc<str>>,
        /// Because its parent was.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        inherited: Option<Inherited>,
    },
    /// The scope is over.
    Ended { outcome: Outcome },
    /// A result that came too late; it changed nothing.
    LateResult { step: Arc<str>, state: Arc<str>, visit: u32, attempt: u32, epoch: u32, digest: Arc<str> },
    /// A signal in the run's inbox; only there.
    SignalSent {
        id: Arc<str>,
        name: Arc<str>,
        payload: Value,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        by: Option<Arc<str>>,
    },
}

/// How a run began.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RunStarted {
    /// The run.
    pub run: RunId,
    /// The workflow's id.
    pub workflow: Arc<str>,
    /// Its version.
    pub version: Arc<str>,
    /// The definition's hash: what the run pins.
    pub hash: Arc<str>,
    /// The hash of each agent it may call: pinned too.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub agents: BTreeMap<Arc<str>, Arc<str>>,
    /// Its input, defaults filled in.
    pub input: Value,
    /// Who started it (`user:…`), as far as known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub starter: Option<Arc<str>>,
    /// What started it.
    pub trigger: Trigger,
    /// When it times out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deadline: Option<Timestamp>,
    /// The scope that waits for it, for a sub-workflow's run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parent: Option<Parent>,
}

/// What started a run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "camelCase")]
pub enum Trigger {
    /// A person or a program, by the API or the CLI.
    Manual,
    /// A tick of a schedule.
    Schedule {
        /// The `cron` state or the trigger's name.
        name: Arc<str>,
        /// The tick's time.
        tick: Timestamp,
    },
    /// A `workflow` state.
    Workflow,
    /// A signed HTTP request.
    Webhook {
        /// The webhook's name.
        name: Arc<str>,
        /// The delivery's id, by which a repeated one is known.
        delivery: Arc<str>,
    },
    /// An event of a bus.
    Event {
        /// The event's id, by which a repeated one is known.
        id: Arc<str>,
    },
}

/// What a child took over from its parent's clocks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Inherited {
    /// The version of the parent's clocks.
    pub version: u32,
    /// By how much the parent's clocks had been moved then, in milliseconds.
    pub shift: u64,
    /// How often the parent had been redriven then.
    pub redrives: u32,
}

/// The scope that waits for a child run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Parent {
    /// Its run.
    pub run: RunId,
    /// Its path there.
    pub scope: ScopePath,
    /// What its clocks said when it asked for the run.
    #[serde(default)]
    pub clocks: Inherited,
}

/// How a branch or iteration began.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ScopeStarted {
    /// The number of the parent's record that forked.
    pub fork: u64,
    /// The address of the state that forked.
    pub state: Arc<str>,
    /// Which child.
    pub index: u32,
    /// Its key.
    pub key: ChildKey,
    /// An iteration's item.
    #[serde(default, deserialize_with = "some", skip_serializing_if = "Option::is_none")]
    pub item: Option<Value>,
    /// What the parent's clocks said when this scope began.
    pub clocks: Inherited,
}

/// A question to people.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ApprovalRequested {
    /// The approval's id: the step's.
    pub id: Arc<str>,
    /// What is asked.
    pub message: Arc<str>,
    /// A short title.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub title: Option<Arc<str>>,
    /// What is shown beside it.
    #[serde(default, deserialize_with = "some", skip_serializing_if = "Option::is_none")]
    pub summary: Option<Value>,
    /// Who may decide; empty: anyone.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub approvers: Vec<Arc<str>>,
    /// How many approvals it takes.
    pub quorum: u32,
    /// Who may not decide: the starter, under separation of duties.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub excluded: Option<Arc<str>>,
    /// When it times out.
    pub deadline: Timestamp,
}

/// One person's decision.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Vote {
    /// Whether it approves.
    pub approve: bool,
    /// Who decided (`user:…`).
    pub approver: Arc<str>,
    /// The teams (`team:…`) that the authenticator says they belong to.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub teams: Vec<Arc<str>>,
    /// Why.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub comment: Option<Arc<str>>,
    /// What they filled in.
    #[serde(default, deserialize_with = "some", skip_serializing_if = "Option::is_none")]
    pub form: Option<Value>,
}

/// A child and how it ended.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ChildEnded {
    /// Its index: declared order of branches, order of items. 0 for a child run.
    pub index: u32,
    /// The number of the child's record that ended it; 0 for a child run that could not be started.
    pub seq: u64,
    /// How it ended.
    pub outcome: Outcome,
}

/// How a scope ended.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "status", rename_all = "SCREAMING_SNAKE_CASE")]
pub enum Outcome {
    /// With an output.
    Completed {
        /// It.
        output: Value,
    },
    /// With an error nothing caught.
    Failed {
        /// It.
        error: Error,
    },
    /// By request, or because no one needs it any more.
    Cancelled {
        /// Why.
        reason: Option<Arc<str>>,
    },
    /// By the run's own timeout, or an approval's or signal's that nothing caught.
    TimedOut {
        /// What took too long.
        error: Error,
    },
}

/// Which list of states inside a composite state.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum BlockRole {
    /// The body of a `while`.
    While,
    /// What a `try` tries.
    Try,
    /// The `catch` clause with this index.
    Catch(u32),
    /// The `finally` of a `try`.
    Finally,
}

/// A field that is there and null is a null, not an absence.
pub(crate) fn some<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Option<Value>, D::Error> {
    Value::deserialize(deserializer).map(Some)
}

// Serde hands over references.
#[allow(clippy::trivially_copy_pass_by_ref)]
fn is_false(value: &bool) -> bool {
    !*value
}
