//! Decisions of people: who may, when it is enough, what comes of it.

use std::sync::Arc;

use expression::Object;
use expression::Value;
use jiff::Timestamp;
use model::Kind;
use model::OnReject;
use model::OnTimeout;

use crate::Event;
use crate::Next;
use crate::Refusal;
use crate::Vote;
use crate::code;
use crate::decide::Decider;
use crate::error_type;
use crate::scope::Phase;

/// Takes a decision, if it is one's to take. One rejection rejects; the quorum approves.
pub(crate) fn vote(decider: &mut Decider<'_>, id: &str, vote: Vote) -> Result<(), Refusal> {
    if let Some(outcome) = &decider.scope.outcome {
        return Err(Refusal::Over(Box::new(outcome.clone())));
    }
    if decider.scope.ending.is_some() {
        return Err(Refusal::Cancelling);
    }
    let Some(Phase::Approval { request, votes }) = decider.scope.top().map(|frame| &frame.phase) else {
        return Err(Refusal::NotAsked);
    };
    // Also when the time of this scope or of a state around is over, and nobody has seen it yet: the vote would change nothing.
    let late = decider.scope.due().is_some_and(|due| decider.now() >= due);
    if request.id.as_ref() != id || late {
        return Err(Refusal::NotAsked);
    }
    if request.excluded.as_ref() == Some(&vote.approver) {
        return Err(Refusal::StarterMayNotDecide);
    }
    let asked = |approver: &Arc<str>| *approver == vote.approver || vote.teams.contains(approver);
    if !request.approvers.is_empty() && !request.approvers.iter().any(asked) {
        return Err(Refusal::NotAnApprover { approvers: request.approvers.clone() });
    }
    if let Some(before) = votes.iter().find(|before| before.approver == vote.approver) {
        return Err(if before.approve == vote.approve {
            Refusal::DecidedAlready
        } else {
            Refusal::DecidedOtherwise(Box::new(before.clone()))
        });
    }
    if let Some(Kind::Approval(approval)) = decider.here().map(|state| &state.kind)
        && let Some(schema) = &approval.form_schema
        && vote.approve
    {
        let violations = schema.validate(vote.form.as_ref().unwrap_or(&Value::Null));
        if !violations.is_empty() {
            return Err(Refusal::Form(violations));
        }
    }
    let approvals = votes.iter().filter(|before| before.approve).count() + usize::from(vote.approve);
    let enough = approvals >= request.quorum as usize;
    let settled = (!vote.approve || enough).then(|| output(Some(&vote), vote.approve, decider.now()));
    let approved = vote.approve;
    decider.push(Event::ApprovalVoted { vote });
    if let Some(output) = settled {
        decider.push(Event::ApprovalDecided { approved, output });
    }
    Ok(())
}

/// What follows a decision that stands: the next state, or an error.
pub(crate) fn decided(decider: &mut Decider<'_>, output: &Value) -> Option<Next> {
    let Some(Kind::Approval(approval)) = decider.here().map(|state| &state.kind) else {
        return Some(Next::Park);
    };
    let approved = output.get("approved").and_then(Value::as_bool).unwrap_or_default();
    if approved {
        return crate::advance::complete(decider, None);
    }
    match approval.on_reject {
        OnReject::Goto(target) => return crate::advance::complete_to(decider, None, Some(target)),
        on_reject => {
            let who = output.get("approver").and_then(Value::as_str).unwrap_or("nobody");
            let reason = output.get("reason").and_then(Value::as_str);
            let message = match reason {
                Some(reason) => format!("rejected by {who}: {reason}"),
                None => format!("rejected by {who}"),
            };
            if on_reject == OnReject::Cancel {
                decider.push(Event::CancelRequested {
                    by: None,
                    reason: Some(message.into()),
                    inherited: None,
                });
            } else {
                let error =
                    decider.error_here(error_type::REJECTED, message).with_code(code::APPROVAL_REJECTED);
                decider.raise(error);
            }
        }
    }
    None
}

/// What follows a deadline that passed.
pub(crate) fn timed_out(decider: &mut Decider<'_>) -> Option<Next> {
    let Some(Kind::Approval(approval)) = decider.here().map(|state| &state.kind) else {
        return Some(Next::Park);
    };
    let now = decider.now();
    match approval.on_timeout {
        OnTimeout::Fail => {
            let error = decider.timeout_error("nobody decided in time", Some(code::APPROVAL_TIMED_OUT));
            decider.raise(error);
        }
        OnTimeout::Approve => {
            decider.push(Event::ApprovalDecided { approved: true, output: output(None, true, now) });
        }
        OnTimeout::Reject => {
            decider.push(Event::ApprovalDecided { approved: false, output: output(None, false, now) });
        }
        OnTimeout::Goto(target) => {
            let mut output = output(None, false, now);
            if let Some(output) = output.object_mut() {
                output.insert("decision", "timeout");
            }
            return crate::advance::complete_to(decider, Some(output), Some(target));
        }
    }
    None
}

/// An approval's output (LANGUAGE §3); without a vote, the deadline decided.
fn output(vote: Option<&Vote>, approved: bool, at: Timestamp) -> Value {
    let text = |text: Option<&Arc<str>>| text.map_or(Value::Null, |text| Value::from(text.as_ref()));
    let comment = match vote {
        Some(vote) => text(vote.comment.as_ref()),
        None => Value::from("nobody decided in time"),
    };
    let mut output = Object::new();
    output.insert("approved", Value::Bool(approved));
    output.insert("decision", if approved { "approve" } else { "reject" });
    output.insert("approver", text(vote.map(|vote| &vote.approver)));
    output.insert("comment", comment.clone());
    output.insert("reason", comment);
    output.insert("form", vote.and_then(|vote| vote.form.clone()).unwrap_or_default());
    output.insert("decidedAt", at.to_string());
    Value::from(output)
}
