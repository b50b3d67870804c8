//! `decided-once`, and the signals' part of `answers-are-real`.

use engine::Event;
use engine::Record;
use engine::ScopePath;
use engine::Vote;
use expression::Value;
use model::Kind;
use model::OnTimeout;
use runtime::Runtime;
use runtime::ports::ApprovalRow;
use runtime::ports::Extra;

use super::Held;
use super::broken;
use super::ledger::Asked;
use super::ledger::Ledger;
use super::ledger::Moment;
use super::line::Leaf;
use super::line::Line;
use super::line::Question;

const NAME: &str = "decided-once";
const REAL: &str = "answers-are-real";

/// A question is asked once per visit, under its step's id. A vote is taken while the question is open and before its
/// deadline (a pause holds that), from somebody who is asked, is not excluded and has not voted. One rejection, or as many
/// approvals as the quorum says, decide in the record of the vote that makes it so; nothing else does, but the deadline, and
/// then as `onTimeout` says: a deadline that passed and a decision by votes never both stand.
///
/// `answers-are-real`: a signal received is the first in the run's inbox, of the name waited for, behind the last one that this
/// scope (or the fork it comes from) received, with its payload, and not sent after the deadline.
pub(super) fn check(ledger: &Ledger, moment: &Moment<'_>) -> Held {
    match moment.event {
        Event::ApprovalRequested(request) => {
            if ledger.approvals.contains_key(&(moment.line.key.run.clone(), request.id.clone())) {
                return broken(NAME, format!("{}: approval {} was asked before", moment.place(), request.id));
            }
            Ok(())
        }
        Event::ApprovalVoted { vote } => voted(moment, vote),
        Event::ApprovalDecided { approved, output } => decided(moment, *approved, output),
        Event::SignalReceived { name, number, payload } => received(ledger, moment, name, *number, payload),
        _ => Ok(()),
    }
}

fn open<'a>(moment: &Moment<'a>) -> Result<&'a Question, super::Violation> {
    match moment.line.question() {
        Some(question) => Ok(question),
        None => broken(NAME, format!("{}: no question is open", moment.place())),
    }
}

fn voted(moment: &Moment<'_>, vote: &Vote) -> Held {
    let place = moment.place();
    let Vote { approver, teams, .. } = vote;
    let question = open(moment)?;
    let request = &question.request;
    if request.excluded.as_ref() == Some(approver) {
        return broken(NAME, format!("{place}: {approver} is excluded"));
    }
    let asked = request.approvers.iter().any(|asked| asked == approver || teams.contains(asked));
    if !asked && !request.approvers.is_empty() {
        return broken(NAME, format!("{place}: {approver} is not among those asked"));
    }
    if question.votes.iter().any(|before| before.approver == *approver) {
        return broken(NAME, format!("{place}: {approver} has voted before"));
    }
    if !moment.line.is_paused() && moment.record.at >= question.deadline {
        return broken(NAME, format!("{place}: the deadline was at {}", question.deadline));
    }
    Ok(())
}

fn decided(moment: &Moment<'_>, approved: bool, output: &Value) -> Held {
    let place = moment.place();
    let approver = output.get("approver").and_then(Value::as_str);
    if output.get("approved").and_then(Value::as_bool) != Some(approved) {
        return broken(NAME, format!("{place}: its output says otherwise"));
    }
    if let Leaf::Approval(question) = &moment.line.leaf
        && question.timed_out
        && question.decided.is_none()
    {
        let rule = match moment.line.state().map(|state| &state.kind) {
            Some(Kind::Approval(approval)) => match approval.on_timeout {
                OnTimeout::Approve => Some(true),
                OnTimeout::Reject => Some(false),
                _ => None,
            },
            _ => None,
        };
        if rule != Some(approved) || approver.is_some() {
            return broken(NAME, format!("{place}: its deadline has passed, and onTimeout does not say so"));
        }
        return Ok(());
    }
    let question = open(moment)?;
    let before = moment.index.checked_sub(1).and_then(|before| moment.record.events.get(before));
    let Some(Event::ApprovalVoted { vote }) = before else {
        return broken(NAME, format!("{place}: no vote comes before it in the record"));
    };
    if vote.approve != approved || approver != Some(&*vote.approver) {
        let what = format!("{place}: {} voted, and the decision is another or another's", vote.approver);
        return broken(NAME, what);
    }
    if approved && !is_enough(question) {
        let what =
            format!("{place}: {} approvals, {} are needed", approvals(question), question.request.quorum);
        return broken(NAME, what);
    }
    Ok(())
}

fn approvals(question: &Question) -> usize {
    question.votes.iter().filter(|vote| vote.approve).count()
}

fn is_enough(question: &Question) -> bool {
    approvals(question) >= question.request.quorum as usize
}

fn received(ledger: &Ledger, moment: &Moment<'_>, name: &str, number: u64, payload: &Value) -> Held {
    let place = moment.place();
    let line = moment.line;
    let Leaf::Signal { name: awaited, deadline, over: false } = &line.leaf else {
        return broken(REAL, format!("{place}: the scope waits for no signal"));
    };
    let after = cursor(ledger, line, name);
    let sent = ledger.inbox(&line.key.run).map(|inbox| inbox.sent.as_slice()).unwrap_or_default();
    let next = (1_u64..).zip(sent).find(|(number, sent)| *number > after && *sent.name == *name);
    match next {
        _ if **awaited != *name => broken(REAL, format!("{place}: it waits for {awaited}, not for {name}")),
        Some((expected, sent)) if expected == number => {
            if sent.payload != *payload {
                return broken(REAL, format!("{place}: signal {number} carries something else"));
            }
            if deadline.is_some_and(|deadline| sent.at > deadline) {
                return broken(REAL, format!("{place}: signal {number} was sent after the deadline"));
            }
            Ok(())
        }
        Some((expected, _)) => broken(REAL, format!("{place}: signal {number}, but {expected} is the next")),
        None => broken(REAL, format!("{place}: signal {number} {name} was not sent")),
    }
}

/// The number of the signal of this name that a scope received last, by itself or by inheritance.
pub(super) fn cursor(ledger: &Ledger, line: &Line, name: &str) -> u64 {
    let own = line.received.get(name).copied();
    if line.origin.is_none() {
        return own.unwrap_or_default();
    }
    own.or_else(|| {
        let parent = line.parent.as_ref().and_then(|parent| ledger.line(parent))?;
        Some(cursor(ledger, parent, name))
    })
    .unwrap_or_default()
}

/// Notes what is asked and answered.
pub(super) fn note(ledger: &mut Ledger, moment: &Moment<'_>) {
    let line = moment.line;
    let run = line.key.run.clone();
    let id = match (moment.event, &line.leaf) {
        (Event::ApprovalRequested(request), _) => request.id.clone(),
        (Event::ApprovalVoted { .. } | Event::ApprovalDecided { .. }, Leaf::Approval(question)) => {
            question.request.id.clone()
        }
        _ => return,
    };
    let asked = ledger.approvals.entry((run, id)).or_insert_with(|| Asked {
        scope: line.key.clone(),
        votes: Vec::new(),
        decision: None,
        row: None,
    });
    match moment.event {
        Event::ApprovalVoted { vote } => asked.votes.push((vote.approver.clone(), vote.approve)),
        Event::ApprovalDecided { output, .. } => asked.decision = Some(output.clone()),
        _ => {}
    }
}

/// What must be decided is decided in the record that makes it so. After the record.
pub(super) fn recorded(line: &Line, record: &Record, was_open: bool) -> Held {
    let Some(question) = line.question() else { return Ok(()) };
    let rejected = question.votes.iter().any(|vote| !vote.approve);
    if was_open && (rejected || is_enough(question)) {
        let what = format!("record {} of {}: the votes are enough, nothing is decided", record.seq, line.key);
        return broken(NAME, what);
    }
    Ok(())
}

/// An approval's row, written with a record, says what the journal says after it: who voted, whether the question is still
/// open, and what was decided. Once it is settled it is never written otherwise.
pub(super) fn rows(ledger: &mut Ledger, line: &Line, extras: &[Extra]) -> Held {
    for extra in extras {
        let Extra::Approval(row) = extra else { continue };
        let id = &row.request.id;
        let place = format!("the row of approval {id} of {}", line.key);
        let pending = line.question().is_some_and(|question| question.request.id == *id);
        let Some(asked) = ledger.approvals.get_mut(&(line.key.run.clone(), id.clone())) else {
            return broken(NAME, format!("{place}: nobody asked"));
        };
        if row.scope != asked.scope {
            return broken(NAME, format!("{place}: it names {}, which did not ask", row.scope));
        }
        if let Some(before) = asked.row.as_ref().filter(|before| before.settled_at.is_some()) {
            let same = (before.settled_at, &before.decision, &before.votes)
                == (row.settled_at, &row.decision, &row.votes);
            if !same {
                return broken(NAME, format!("{place}: it was settled before, and is changed"));
            }
        }
        as_recorded(asked, row, pending, &place)?;
        asked.row = Some((**row).clone());
    }
    Ok(())
}

fn as_recorded(asked: &Asked, row: &ApprovalRow, pending: bool, place: &str) -> Held {
    if row.settled_at.is_none() != pending {
        let says = if pending { "is open" } else { "is not open any more" };
        return broken(NAME, format!("{place}: the question {says}, settled at {:?}", row.settled_at));
    }
    let votes = row.votes.iter().map(|vote| (&vote.approver, vote.approve));
    if !votes.eq(asked.votes.iter().map(|(approver, approve)| (approver, *approve))) {
        return broken(NAME, format!("{place}: it has other votes than the journal"));
    }
    if row.decision != asked.decision {
        return broken(NAME, format!("{place}: it has another decision than the journal"));
    }
    Ok(())
}

/// At the end the catalog has a row for every question, as the journals say; the list of pending approvals has the open ones
/// and no other.
pub(super) async fn finish(ledger: &Ledger, runtime: &Runtime) -> Held {
    let catalog = &runtime.ports().catalog;
    for ((run, id), asked) in &ledger.approvals {
        let place = format!("the row of approval {id} of {}", asked.scope);
        let row = match catalog.approval(run, id).await {
            Ok(Some(row)) => row,
            Ok(None) => return broken(NAME, format!("{place}: there is none")),
            Err(error) => return broken(NAME, format!("{place}: {error}")),
        };
        let pending = ledger
            .line(&asked.scope)
            .and_then(Line::question)
            .is_some_and(|question| question.request.id == *id);
        as_recorded(asked, &row, pending, &place)?;
    }
    Ok(())
}

/// The signals in a run's inbox that this scope would receive now.
pub(super) fn is_signalled(ledger: &Ledger, line: &Line) -> bool {
    let Leaf::Signal { name, deadline, over: false } = &line.leaf else { return false };
    let after = cursor(ledger, line, name);
    let inbox = engine::ScopeKey::new(line.key.run.clone(), ScopePath::inbox());
    let sent = ledger.line(&inbox).map(|inbox| inbox.sent.as_slice()).unwrap_or_default();
    (1_u64..).zip(sent).any(|(number, sent)| {
        number > after && sent.name == *name && deadline.is_none_or(|deadline| sent.at <= deadline)
    })
}
