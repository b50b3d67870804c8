//! What goes beside a record in its transaction: whatever lists and the sweeper must not miss.

use std::sync::Arc;
use std::time::Duration;

use engine::Activity;
use engine::ApprovalRequested;
use engine::Error;
use engine::Event;
use engine::Outcome;
use engine::Scope;
use engine::Vote;
use jiff::Timestamp;
use model::Workflow;

use crate::error::Error as RuntimeError;
use crate::heads::Head;
use crate::ports::ApprovalRow;
use crate::ports::Extra;
use crate::ports::RunStatus;
use crate::ports::RunSummary;
use crate::ports::WaiterRow;
use crate::runtime::later;

/// When the sweeper looks after a record whose writer holds no doorbell.
pub(crate) const DOORLESS: Duration = Duration::from_mins(1);
/// When the sweeper looks after a fork or a child run, and where a signal may be lost or has come.
pub(crate) const FORKED: Duration = Duration::from_mins(5);

/// What a scope was before a decision, as far as its rows are concerned.
pub(crate) struct Before {
    pub(crate) activity: Activity,
    pub(crate) status: RunStatus,
    due: Option<Timestamp>,
    pub(crate) approval: Option<Box<ApprovalRow>>,
    signal: Option<Arc<str>>,
}

impl Before {
    pub(crate) fn of(head: &Head) -> Self {
        let scope = &head.scope;
        let activity = scope.activity();
        Self {
            activity,
            status: own_status(scope),
            due: scope.due(),
            approval: matches!(activity, Activity::Approval)
                .then(|| approval_row(scope, &head.workflow))
                .flatten(),
            signal: scope.awaited_signal().map(|(name, _)| name.clone()),
        }
    }

    /// Whether people or time decided what came next: lists show it.
    pub(crate) fn was_waiting(&self) -> bool {
        is_waiting(self.activity)
    }
}

/// Whether lists show that a scope waits, and for what.
pub(crate) fn is_waiting(activity: Activity) -> bool {
    matches!(activity, Activity::Approval | Activity::Signal | Activity::Timer)
}

/// The extras of the record that `events` make. `doorless`: whoever appends it holds no doorbell of the scope. `tells`: there is
/// somebody to be told how a run ended.
pub(crate) fn extras(
    head: &Head,
    before: Before,
    events: &[Event],
    doorless: bool,
    tells: bool,
    now: Timestamp,
) -> Result<Vec<Extra>, RuntimeError> {
    let scope = &head.scope;
    let activity = scope.activity();
    let mut extras = Vec::new();

    let born = scope.seq() == 0;
    let forked = events.iter().any(|event| matches!(event, Event::Forked { .. }));
    let asked = events.iter().any(|event| matches!(event, Event::SubworkflowRequested { .. }));
    // Its children are to be told, however long nobody had to look.
    let released = events.iter().any(|event| matches!(event, Event::ChildrenReleased {}));
    let due = scope.due();
    let over = activity == Activity::Ended;
    // What it waits for may have been sent already, or has just come, long before the time of its entry if it has one at all:
    // should its doorbell be lost, somebody must look sooner.
    let awaits = activity == Activity::Signal
        && events.iter().any(|event| matches!(event, Event::SignalAwaited { .. }));
    let received = !parks(activity) && before.signal.is_some();
    // Somebody must tell the parent, or the world, that it is over; where nobody holds a doorbell, the sweeper sees to it.
    let has_parent = !scope.key().path.is_root() || scope.run().is_some_and(|run| run.parent.is_some());
    let when = if over && !(doorless && (has_parent || tells)) {
        None
    } else if doorless {
        Some(later(now, DOORLESS))
    } else if forked || asked || released || awaits || received {
        Some(later(now, FORKED))
    } else if parks(activity) && (due != before.due || !parks(before.activity)) {
        // Its children may die without a word, however far off its own deadline is.
        if waits_for_children(activity) { Some(later(now, FORKED)) } else { due }
    } else {
        None
    };
    if let Some(when) = when {
        extras.push(Extra::Due(due.map_or(when, |due| due.min(when))));
    }
    if forked
        && activity == Activity::Fork
        && let Some(context) = scope.fork_context(&head.workflow)
    {
        let body = serde_json::to_vec(&context).map_err(|error| RuntimeError::Unencodable {
            scope: scope.key().clone(),
            reason: error.to_string(),
        })?;
        extras.push(Extra::ForkContext(body.into()));
    }

    let signal = scope.awaited_signal().map(|(name, _)| name);
    if signal != before.signal.as_ref() {
        extras.push(match signal {
            Some(signal) => Extra::Waiter(WaiterRow { scope: scope.key().clone(), signal: signal.clone() }),
            None => Extra::WaiterGone,
        });
    }

    let pending = scope.approval().and_then(|_| approval_row(scope, &head.workflow));
    if let Some(mut row) = before.approval
        && pending.as_ref().is_none_or(|pending| pending.request.id != row.request.id)
    {
        for event in events {
            match event {
                Event::ApprovalVoted { vote } => row.votes.push(vote.clone()),
                Event::ApprovalDecided { output, .. } => row.decision = Some(output.clone()),
                _ => {}
            }
        }
        row.settled_at = Some(scope.at());
        extras.push(Extra::Approval(row));
    }
    let news = |event: &Event| matches!(event, Event::ApprovalRequested(_) | Event::ApprovalVoted { .. });
    if let Some(row) = pending
        && events.iter().any(news)
    {
        extras.push(Extra::Approval(row));
    }

    if scope.key().path.is_root() {
        let status = own_status(scope);
        // While there are children, the summary may show what they wait for.
        let forked_before = matches!(before.activity, Activity::Fork | Activity::Subworkflow);
        let forked_now = matches!(activity, Activity::Fork | Activity::Subworkflow);
        if (born || status != before.status || (forked_before && !forked_now))
            && let Some(summary) = summary(scope, &head.workflow, status)
        {
            extras.push(Extra::Summary(Box::new(summary)));
        }
        if over && !born && when.is_none() {
            extras.push(Extra::NoDue);
        }
    }
    Ok(extras)
}

/// Whether a scope with this activity waits for something that a deadline may cut short.
fn parks(activity: Activity) -> bool {
    !matches!(activity, Activity::Unborn | Activity::Ready | Activity::Performing | Activity::Ended)
}

/// Whether a scope with this activity waits for children, or a child run.
pub(crate) fn waits_for_children(activity: Activity) -> bool {
    matches!(activity, Activity::Fork | Activity::Subworkflow | Activity::Ending)
}

/// The status of a root scope, its children left out of account.
pub(crate) fn own_status(scope: &Scope) -> RunStatus {
    match scope.outcome() {
        Some(Outcome::Completed { .. }) => return RunStatus::Completed,
        Some(Outcome::Failed { .. }) => return RunStatus::Failed,
        Some(Outcome::Cancelled { .. }) => return RunStatus::Cancelled,
        Some(Outcome::TimedOut { .. }) => return RunStatus::TimedOut,
        None => {}
    }
    let activity = scope.activity();
    if activity == Activity::Ending {
        return RunStatus::Cancelling;
    }
    if scope.is_paused() {
        let busy = matches!(activity, Activity::Performing | Activity::Fork | Activity::Subworkflow);
        return if busy { RunStatus::Pausing } else { RunStatus::Paused };
    }
    match activity {
        Activity::Unborn => RunStatus::Pending,
        Activity::Approval => RunStatus::WaitingApproval,
        Activity::Signal => RunStatus::WaitingSignal,
        Activity::Timer => RunStatus::WaitingTimer,
        _ => RunStatus::Running,
    }
}

/// What lists show of a run whose root this is. `None` before its first record.
pub(crate) fn summary(scope: &Scope, workflow: &Workflow, status: RunStatus) -> Option<RunSummary> {
    let run = scope.run()?;
    let at = scope.at();
    Some(RunSummary {
        run: run.run.clone(),
        workflow: run.workflow.clone(),
        version: run.version.clone(),
        status,
        starter: run.starter.clone(),
        started_at: scope.started(),
        updated_at: at,
        ended_at: status.is_terminal().then_some(at),
        error: error(scope),
        stuck: None,
        labels: workflow.labels.clone(),
        revision: 0,
    })
}

/// What a run ended with, other than its output.
pub(crate) fn error(scope: &Scope) -> Option<Error> {
    match scope.outcome()? {
        Outcome::Failed { error } | Outcome::TimedOut { error } => Some(error.clone()),
        Outcome::Cancelled { reason } => {
            let reason = reason.clone().unwrap_or_else(|| "cancelled".into());
            Some(Error::new(engine::error_type::CANCELLED, reason))
        }
        Outcome::Completed { .. } => None,
    }
}

/// The question that a scope waits on.
pub(crate) fn approval_row(scope: &Scope, workflow: &Workflow) -> Option<Box<ApprovalRow>> {
    let (request, votes, requested_at): (&ApprovalRequested, &[Vote], Timestamp) = scope.approval()?;
    let state = scope.position().and_then(|(state, ..)| workflow.state(state));
    Some(Box::new(ApprovalRow {
        scope: scope.key().clone(),
        workflow: workflow.id.clone(),
        state: state.map(|state| state.name.clone()).unwrap_or_default(),
        request: request.clone(),
        requested_at,
        votes: votes.to_vec(),
        settled_at: None,
        decision: None,
    }))
}
