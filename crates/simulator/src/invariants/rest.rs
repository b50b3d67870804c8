//! `rest-is-named`.

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::time::Duration;

use engine::RunId;
use engine::ScopeKey;
use jiff::Timestamp;
use runtime::Runtime;
use runtime::ports::ApprovalFilter;
use runtime::ports::PageRequest;
use runtime::ports::RunFilter;
use runtime::ports::RunStatus;
use runtime::ports::StoreError;

use super::Held;
use super::Violation;
use super::broken;
use super::decisions;
use super::findable::doing;
use super::ledger::Ledger;
use super::line::Leaf;
use super::line::Line;
use super::line::StepPhase;
use super::promises::status_of;
use super::steps::claim_of;

const NAME: &str = "rest-is-named";
/// Rows asked for at once: few, so that pages are turned.
const PAGE: usize = 3;
/// What clocks said longer ago has passed.
const FELT: Duration = Duration::from_mins(10);
/// Within this much time whoever died begins again.
const RESTART: Duration = Duration::from_secs(5);

/// At the end, when nothing fails and nothing moves any more: each run has ended, or each of its live scopes waits for
/// something with a name: people, a signal that was not sent, a time to come (that of a retry included), a resume, or children
/// or a child run that so wait. No scope is about to do something, performs something, or waits for a time that passed more
/// than two sweeps ago.
///
/// The run's summary, as the catalog and as readers have it, says which: how it ended; PAUSED; else RUNNING between two
/// attempts, then waiting for an approval, a signal, a timer, whichever comes first; and that it is not stuck. The
/// lists of runs and of pending approvals have the same, each once. No due entry of a scope that has ended is older than two
/// sweeps. (Two sweeps are those since nothing fails any more: a history that ends sooner says nothing of either.)
///
/// A paused run in which an attempt is still in flight is PAUSING; nobody takes up one whose worker died before it is resumed,
/// and that does not count.
///
/// The limit: a run that waits for nothing but a child run that was paused by itself is shown as RUNNING.
pub(super) async fn finish(ledger: &Ledger, runtime: &Runtime) -> Held {
    let now = runtime.ports().clock.now();
    let patience = RESTART + ledger.options.sweep_interval * 2 + ledger.skew(now, FELT);
    let before = now.checked_sub(patience).unwrap_or(Timestamp::MIN);
    // Whoever had no time to sweep since all works again has missed nothing yet.
    let overdue = if ledger.calm_since.is_none_or(|calm| calm <= before) { before } else { Timestamp::MIN };
    let rest = Rest { ledger, overdue };
    let mut expected = BTreeMap::new();
    for run in ledger.runs.keys() {
        let statuses = rest.statuses(run)?;
        shown(runtime, run, &statuses).await?;
        expected.insert(run.clone(), statuses);
    }
    listed(runtime, &expected).await?;
    asked(ledger, runtime).await?;
    due(ledger, runtime, overdue).await
}

struct Rest<'a> {
    ledger: &'a Ledger,
    /// What was due by then has been looked at.
    overdue: Timestamp,
}

/// What the live scopes of a run wait for.
#[derive(Debug, Default)]
#[allow(clippy::struct_excessive_bools)] // Each is a fact of its own.
struct Needs {
    runs: bool,
    approval: bool,
    signal: bool,
    timer: bool,
    /// An attempt of a paused scope is in flight.
    performs: bool,
}

impl Rest<'_> {
    /// The statuses that a run's summary may have, or what in it is not at rest.
    fn statuses(&self, run: &RunId) -> Result<Vec<RunStatus>, Violation> {
        let Some(root) = self.ledger.root(run) else { return Ok(Vec::new()) };
        if let Some((_, outcome)) = &root.outcome {
            return Ok(vec![status_of(outcome)]);
        }
        let mut needs = Needs::default();
        self.survey(root, &mut needs)?;
        Ok(if root.is_paused() {
            vec![if needs.performs { RunStatus::Pausing } else { RunStatus::Paused }]
        } else if needs.runs {
            vec![RunStatus::Running]
        } else if needs.approval {
            vec![RunStatus::WaitingApproval]
        } else if needs.signal {
            vec![RunStatus::WaitingSignal]
        } else if needs.timer {
            vec![RunStatus::WaitingTimer]
        } else {
            vec![RunStatus::Running]
        })
    }

    fn survey(&self, line: &Line, needs: &mut Needs) -> Held {
        let moves = |why: &str| broken(NAME, format!("{} does not rest: {why}", line.key));
        if line.ending {
            return moves("it is to end, and does not");
        }
        for child in line.live_children() {
            let Some(child) = self.ledger.line(&child) else {
                return moves(&format!("nobody has begun with {child}"));
            };
            if child.is_over() && !line.is_paused() {
                return moves(&format!("{} has ended, and it does not know", child.key));
            }
            if child.key.run == line.key.run {
                self.survey(child, needs)?;
                continue;
            }
            match self.statuses(&child.key.run)?.first() {
                Some(RunStatus::WaitingApproval) => needs.approval = true,
                Some(RunStatus::WaitingSignal) => needs.signal = true,
                Some(RunStatus::WaitingTimer) => needs.timer = true,
                Some(RunStatus::Running | RunStatus::Pausing) => needs.runs = true,
                _ => {}
            }
        }
        if line.is_over() {
            return Ok(());
        }
        if line.is_paused() {
            needs.performs |= performs(self.ledger, line);
            return Ok(());
        }
        if let Some(due) = line.due().filter(|due| *due < self.overdue) {
            return moves(&format!("what was due at {due} has not happened"));
        }
        match &line.leaf {
            _ if line.failed => return moves("it failed, and has not ended"),
            Leaf::Step(step) if matches!(step.phase, StepPhase::Backoff { .. }) => needs.runs = true,
            Leaf::Timer { over: false, .. } => needs.timer = true,
            Leaf::Signal { over: false, .. } => {
                if decisions::is_signalled(self.ledger, line) {
                    return moves("the signal it waits for was sent");
                }
                needs.signal = true;
            }
            Leaf::Approval(_) if line.question().is_some() => needs.approval = true,
            Leaf::Fork(fork) if !fork.live.is_empty() => {}
            Leaf::ChildRun { ended: None, .. } => {}
            _ => return moves(&format!("it is {}", doing(line))),
        }
        Ok(())
    }
}

/// Whether somebody performs the attempt that the scope has claimed.
fn performs(ledger: &Ledger, line: &Line) -> bool {
    let claim = line.claimed().and_then(|step| claim_of(ledger, &step.id, (step.attempt, step.epoch)));
    let call = claim.and_then(|claim| claim.call).and_then(|call| ledger.calls.get(&call));
    call.is_some_and(|call| !call.over)
}

fn unreadable(error: &StoreError) -> Violation {
    Violation { invariant: NAME, what: format!("a list cannot be read: {error}") }
}

/// The run's summary says so, wherever it is read.
async fn shown(runtime: &Runtime, run: &RunId, statuses: &[RunStatus]) -> Held {
    let summary = match runtime.ports().catalog.run(run).await {
        Ok(Some(summary)) => summary,
        Ok(None) => return broken(NAME, format!("run {run} has no summary")),
        Err(error) => return Err(unreadable(&error)),
    };
    let view = match runtime.get(run).await {
        Ok(view) => view.summary.status,
        Err(error) => return broken(NAME, format!("run {run} cannot be read: {error}")),
    };
    for (who, status) in [("summary", summary.status), ("view", view)] {
        if !statuses.contains(&status) {
            return broken(NAME, format!("the {who} of run {run} says {status}; it is {statuses:?}"));
        }
    }
    match summary.stuck {
        Some(stuck) if !summary.status.is_terminal() => {
            broken(NAME, format!("run {run} is marked as stuck ({stuck}), and rests"))
        }
        _ => Ok(()),
    }
}

/// The list of runs has each once, with its status, and only it under that status.
async fn listed(runtime: &Runtime, expected: &BTreeMap<RunId, Vec<RunStatus>>) -> Held {
    let mut filters: Vec<Vec<RunStatus>> = vec![Vec::new()];
    for status in expected.values().flatten() {
        if !filters.contains(&vec![*status]) {
            filters.push(vec![*status]);
        }
    }
    for statuses in filters {
        let filter = RunFilter { workflow: None, statuses };
        let mut page = PageRequest { limit: PAGE, cursor: None };
        let mut found = BTreeSet::new();
        loop {
            let rows = match runtime.ports().catalog.runs(&filter, &page).await {
                Ok(rows) => rows,
                Err(error) => return Err(unreadable(&error)),
            };
            for row in rows.items {
                let right = expected.get(&row.run).is_some_and(|statuses| statuses.contains(&row.status));
                if !right || !found.insert(row.run.clone()) {
                    return broken(NAME, format!("run {} is listed as {}, or twice", row.run, row.status));
                }
            }
            match rows.next {
                Some(next) => page.cursor = Some(next),
                None => break,
            }
        }
        let belongs = |statuses: &Vec<RunStatus>| {
            filter.statuses.is_empty() || statuses.iter().all(|status| filter.statuses.contains(status))
        };
        let missing = expected.iter().find(|(run, statuses)| belongs(statuses) && !found.contains(*run));
        if let Some((run, statuses)) = missing {
            return broken(NAME, format!("run {run} is not listed; it is {statuses:?}"));
        }
    }
    Ok(())
}

/// The list of pending approvals has what is asked, and nothing else.
async fn asked(ledger: &Ledger, runtime: &Runtime) -> Held {
    let open = ledger.lines.values().filter_map(|line| {
        let question = line.question()?;
        Some((line.key.clone(), question.request.id.clone()))
    });
    let mut open: BTreeSet<_> = open.collect();
    let filter = ApprovalFilter { run: None, pending: true };
    let mut page = PageRequest { limit: PAGE, cursor: None };
    loop {
        let rows = match runtime.ports().catalog.approvals(&filter, &page).await {
            Ok(rows) => rows,
            Err(error) => return Err(unreadable(&error)),
        };
        for row in rows.items {
            if !open.remove(&(row.scope.clone(), row.request.id.clone())) {
                let what = format!("approval {} of {} is listed, and not pending", row.request.id, row.scope);
                return broken(NAME, what);
            }
        }
        match rows.next {
            Some(next) => page.cursor = Some(next),
            None => break,
        }
    }
    match open.first() {
        Some((scope, id)) => broken(NAME, format!("approval {id} of {scope} is pending, and not listed")),
        None => Ok(()),
    }
}

/// What has ended is looked at once more, and then no more.
async fn due(ledger: &Ledger, runtime: &Runtime, overdue: Timestamp) -> Held {
    let rows = match runtime.ports().catalog.due(overdue, None, usize::MAX).await {
        Ok(rows) => rows,
        Err(error) => return Err(unreadable(&error)),
    };
    let is_over = |scope: &ScopeKey| ledger.line(scope).is_none_or(Line::is_over);
    match rows.iter().find(|row| is_over(&row.scope)) {
        Some(row) => {
            broken(NAME, format!("{} has ended, and its due entry of {} is still there", row.scope, row.at))
        }
        None => Ok(()),
    }
}
