//! `gapless`, `never-backwards` and `replay`: journals as such.

use std::sync::Arc;

use engine::Encoded;
use engine::Event;
use engine::ForkContext;
use engine::Outcome;
use engine::Record;
use engine::Scope;
use engine::ScopeKey;
use model::Workflow;
use runtime::Runtime;

use super::Held;
use super::Violation;
use super::broken;
use super::is_inbox;
use super::ledger::Ledger;
use super::ledger::Moment;
use super::line::Line;
use super::run_started;

/// Each journal's records are 1, 2, 3, …; each carries the hash of the one before, is stored under what it says of itself,
/// and has an append id that no other record of the history has. Holds always.
pub(super) fn gapless(ledger: &mut Ledger, scope: &ScopeKey, stored: &Encoded) -> Result<Record, Violation> {
    const NAME: &str = "gapless";
    let seq = stored.seq;
    let record = match Record::decode(&stored.body) {
        Ok(record) => record,
        Err(error) => return broken(NAME, format!("record {seq} of {scope} cannot be read: {error}")),
    };
    let last = ledger.line(scope).and_then(|line| line.stored.last());
    let (expected, prev) = last.map_or((1, ""), |last| (last.seq + 1, last.hash.as_ref()));
    if seq != expected || record.seq != expected {
        return broken(
            NAME,
            format!("{scope} got record {seq} (it says {}); {expected} was next", record.seq),
        );
    }
    if *record.prev != *prev {
        return broken(NAME, format!("record {seq} of {scope} does not carry the hash of the one before"));
    }
    if engine::hash(&stored.body) != stored.hash
        || (stored.at, &stored.append_id) != (record.at, &record.append_id)
    {
        return broken(NAME, format!("record {seq} of {scope} is stored under what it does not say"));
    }
    if !ledger.append_ids.insert(record.append_id.clone()) {
        return broken(NAME, format!("record {seq} of {scope} has the append id of another record"));
    }
    Ok(record)
}

/// The workflow that a scope runs, by its first record.
pub(super) fn workflow_of(
    ledger: &mut Ledger,
    scope: &ScopeKey,
    first: &Record,
) -> Result<Option<Arc<Workflow>>, Violation> {
    const NAME: &str = "replay";
    if is_inbox(scope) {
        return Ok(None);
    }
    if !scope.path.is_root() {
        let known = ledger.runs.get(&scope.run).and_then(|run| run.workflow.clone());
        return match (first.events.first(), known) {
            (Some(Event::ScopeStarted(_)), Some(workflow)) => Ok(Some(workflow)),
            _ => broken(NAME, format!("the journal of {scope} does not begin as that of a child of a run")),
        };
    }
    let Some(started) = run_started(first) else {
        return broken(NAME, format!("the journal of {scope} does not begin with the run's start"));
    };
    let Some(workflow) = ledger.workflows.get(&started.hash).cloned() else {
        return broken(NAME, format!("run {} pins a definition that nobody registered", started.run));
    };
    ledger.runs.entry(scope.run.clone()).or_default().workflow = Some(workflow.clone());
    Ok(Some(workflow))
}

/// A scope's time never goes back. It ends once, and after its end comes nothing but a redrive; only what did not succeed is
/// redriven. It begins once. Each visit of a state is numbered one higher than the last, and only an entered state
/// completes. (Summaries: `promises.rs`.) Holds always.
pub(super) fn never_backwards(_ledger: &Ledger, moment: &Moment<'_>) -> Held {
    const NAME: &str = "never-backwards";
    let Moment { line, record, event, index, .. } = moment;
    if *index == 0
        && let Some(before) = line.at().filter(|before| record.at < *before)
    {
        return broken(NAME, format!("{} is of {}, the one before of {before}", moment.place(), record.at));
    }
    let begins = matches!(event, Event::RunStarted(_) | Event::ScopeStarted(_));
    if !is_inbox(&line.key) && begins != (record.seq == 1 && *index == 0) {
        return broken(NAME, format!("{}: a scope begins once, and with its beginning", moment.place()));
    }
    match (&line.outcome, event) {
        (None, Event::Redriven { .. }) => {
            return broken(NAME, format!("{}: it had not ended", moment.place()));
        }
        (Some((seq, Outcome::Completed { .. })), _) => {
            return broken(NAME, format!("{}: it completed in record {seq}", moment.place()));
        }
        (Some((seq, outcome)), event) if !matches!(event, Event::Redriven { .. }) => {
            let ended = crate::invariants::ledger::outcome_name(outcome);
            return broken(NAME, format!("{}: it ended as {ended} in record {seq}", moment.place()));
        }
        _ => {}
    }
    match event {
        Event::StateEntered { state, visit, .. } => {
            let workflow = line.workflow.as_ref();
            let Some(state) = workflow.and_then(|workflow| workflow.state_at(state)) else {
                return broken(NAME, format!("{}: there is no state {state}", moment.place()));
            };
            let before = line.visits.get(&state.name).copied().unwrap_or_default();
            if *visit != before + 1 {
                let what =
                    format!("{}: visit {visit} of {} after visit {before}", moment.place(), state.name);
                return broken(NAME, what);
            }
        }
        Event::StateCompleted { .. } if line.frames.last().is_none_or(|frame| frame.state.is_none()) => {
            return broken(NAME, format!("{}: no state is entered that could complete", moment.place()));
        }
        _ => {}
    }
    Ok(())
}

/// Folding a journal's records one by one never fails; the result says of the scope what the checker's own reading says; the
/// store's snapshot with the records after it folds to the very same; a record of late results alone changes nothing; and
/// [`Runtime::get`] shows the root so. At the end, when no read fails.
pub(super) async fn replay(ledger: &Ledger, runtime: &Runtime) -> Held {
    for line in ledger.lines.values() {
        let Some(workflow) = &line.workflow else { continue };
        let scope = fold(ledger, line, workflow)?;
        as_read(line, &scope)?;
        as_stored(line, &scope, workflow, runtime).await?;
        if line.key.path.is_root() {
            as_shown(line, &scope, runtime).await?;
        }
    }
    Ok(())
}

const REPLAY: &str = "replay";

fn blank(ledger: &Ledger, line: &Line) -> Result<Scope, Violation> {
    let Some((fork, _)) = line.origin else { return Ok(Scope::root(line.key.run.clone())) };
    let context = line
        .parent
        .clone()
        .and_then(|parent| ledger.contexts.get(&(parent, fork)))
        .and_then(|body| serde_json::from_slice::<ForkContext>(body).ok());
    match context {
        Some(context) => Ok(Scope::child(line.key.clone(), Arc::new(context))),
        None => broken(REPLAY, format!("{} began with a fork of which nothing was stored", line.key)),
    }
}

fn fold(ledger: &Ledger, line: &Line, workflow: &Workflow) -> Result<Scope, Violation> {
    let mut scope = blank(ledger, line)?;
    for (stored, record) in line.stored.iter().zip(&line.records) {
        let is_late = |event: &Event| matches!(event, Event::LateResult { .. });
        let before = record.events.iter().all(is_late).then(|| scope.clone());
        if let Err(error) = scope.replay(workflow, stored) {
            return broken(
                REPLAY,
                format!("record {} of {} cannot be folded: {error}", record.seq, line.key),
            );
        }
        if let Some(before) = before {
            let unchanged = before.activity() == scope.activity()
                && before.context() == scope.context()
                && before.position() == scope.position()
                && before.due() == scope.due()
                && before.outcome() == scope.outcome();
            if !unchanged {
                let what = format!("record {} of {} changed the scope", record.seq, line.key);
                return broken("late-changes-nothing", what);
            }
        }
    }
    Ok(scope)
}

/// The fold says what the checker read.
fn as_read(line: &Line, scope: &Scope) -> Held {
    let differs = |what: &str, fold: String, read: String| {
        broken(REPLAY, format!("{}: the fold says {what} {fold}, the records say {read}", line.key))
    };
    let ended = line.outcome.as_ref().map(|(_, outcome)| outcome);
    if scope.outcome() != ended {
        return differs("outcome", format!("{:?}", scope.outcome()), format!("{ended:?}"));
    }
    if scope.is_paused() != line.is_paused() {
        return differs("paused", scope.is_paused().to_string(), line.is_paused().to_string());
    }
    if scope.due() != line.due() {
        return differs("due", format!("{:?}", scope.due()), format!("{:?}", line.due()));
    }
    Ok(())
}

/// The store has the records observed, and its snapshot leads to the same scope.
async fn as_stored(line: &Line, scope: &Scope, workflow: &Workflow, runtime: &Runtime) -> Held {
    let loaded = match runtime.ports().journal.load(&line.key).await {
        Ok(loaded) => loaded,
        Err(error) => return broken(REPLAY, format!("{} cannot be loaded: {error}", line.key)),
    };
    let after = loaded.snapshot.as_ref().map_or(0, |(seq, _)| *seq);
    let rest = usize::try_from(after).ok().and_then(|after| line.stored.get(after..));
    if rest != Some(loaded.records.as_slice()) {
        return broken(REPLAY, format!("{}: the store has other records than were appended", line.key));
    }
    let Some((seq, body)) = loaded.snapshot else { return Ok(()) };
    // One that this engine cannot read is no use and no harm.
    let Some(mut snapshot) = Scope::from_snapshot(&body) else { return Ok(()) };
    for stored in &loaded.records {
        if let Err(error) = snapshot.replay(workflow, stored) {
            let what =
                format!("record {} of {} does not follow snapshot {seq}: {error}", stored.seq, line.key);
            return broken(REPLAY, what);
        }
    }
    if snapshot.snapshot().ok() == scope.snapshot().ok() {
        Ok(())
    } else {
        broken(REPLAY, format!("{}: snapshot {seq} and the records after it give another scope", line.key))
    }
}

/// Readers are shown the root as its journal has it.
async fn as_shown(line: &Line, scope: &Scope, runtime: &Runtime) -> Held {
    let run = &line.key.run;
    let view = match runtime.get(run).await {
        Ok(view) => view,
        Err(error) => return broken(REPLAY, format!("run {run} cannot be read: {error}")),
    };
    let output = match scope.outcome() {
        Some(Outcome::Completed { output }) => Some(output),
        _ => None,
    };
    if view.context != *scope.context() || view.output.as_ref() != output {
        return broken(
            REPLAY,
            format!("run {run} is shown with another context or output than its journal's"),
        );
    }
    let ended = scope.outcome().map(super::promises::status_of);
    if ended.is_some_and(|ended| ended != view.summary.status)
        || view.summary.status.is_terminal() != ended.is_some()
    {
        let what = format!("run {run} is shown as {}, its journal says {ended:?}", view.summary.status);
        return broken(REPLAY, what);
    }
    Ok(())
}
