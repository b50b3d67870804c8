//! `the-world-is-told`: what a bus hears of runs.

use engine::Event;
use jiff::Timestamp;
use runtime::Runtime;
use runtime::ports::DueRow;
use runtime::ports::News;
use runtime::ports::Notice;
use runtime::ports::RunStatus;
use runtime::ports::Settled;

use super::Held;
use super::broken;
use super::ledger::Ledger;
use super::ledger::Moment;
use super::promises::status_of;

const NAME: &str = "the-world-is-told";

/// Notes each end of a run.
pub(super) fn note(ledger: &mut Ledger, moment: &Moment<'_>) {
    if let Event::Ended { outcome } = moment.event
        && moment.line.key.path.is_root()
    {
        ledger.ends.insert((moment.line.key.run.clone(), status_of(outcome).to_string()));
    }
}

/// What is told stands in a journal by then: an end in the root's, a question or its answer in that of a scope of the run. The
/// same id is always the same news.
pub(super) fn told(ledger: &mut Ledger, notice: &Notice) -> Held {
    let Notice { id, run, news, .. } = notice;
    if ledger.root(run).is_none() {
        return broken(NAME, format!("{id} is told of run {run}, which has no journal"));
    }
    let happened = match news {
        News::Status { status, .. } if status.is_terminal() => {
            ledger.ends.contains(&(run.clone(), status.to_string()))
        }
        News::Status { .. } | News::Stuck { .. } => true,
        News::ApprovalRequested { approval, .. } => {
            let asked = ledger.approvals.get(&(run.clone(), approval.approval.clone()));
            asked.is_some_and(|asked| asked.scope.path == approval.scope)
        }
        News::ApprovalSettled { approval, settled } => {
            let asked = ledger.approvals.get(&(run.clone(), approval.approval.clone()));
            let decision = asked.map(|asked| asked.decision.is_some());
            match settled {
                Settled::Approved | Settled::Rejected => decision == Some(true),
                Settled::TimedOut | Settled::Withdrawn => decision.is_some(),
            }
        }
    };
    if !happened {
        return broken(NAME, format!("{id} is told, and did not happen: {news:?}"));
    }
    if let Some(before) = ledger.notices.insert(id.clone(), news.clone())
        && !same(&before, news)
    {
        return broken(NAME, format!("{id} is told of {news:?} after {before:?}"));
    }
    Ok(())
}

/// A later visitor need not know what was before.
fn same(one: &News, other: &News) -> bool {
    match (one, other) {
        (News::Status { status: one, error: why, .. }, News::Status { status: other, error: reason, .. }) => {
            (one, why) == (other, reason)
        }
        // A pause moves it.
        (News::ApprovalRequested { approval: one, .. }, News::ApprovalRequested { approval: other, .. }) => {
            one == other
        }
        (one, other) => one == other,
    }
}

/// How a run ended and what is still asked was told, or a due entry leads the sweeper there.
///
/// The limits: where doorbells live in memory nobody listens; and where one was lost for good, he who was to tell may never come.
pub(super) async fn finish(ledger: &Ledger, runtime: &Runtime) -> Held {
    if ledger.options.exclusive || ledger.lost {
        return Ok(());
    }
    let due = runtime.ports().catalog.due(Timestamp::MAX, None, usize::MAX).await.unwrap_or_default();
    for line in ledger.lines.values() {
        let entry = |row: &&DueRow| row.scope == line.key;
        let entry = due.iter().find(entry).map(|row| row.at);
        let run = &line.key.run;
        if let Some((_, outcome)) = &line.outcome {
            let id = format!("{run}/end/{}", line.redrives);
            let told = ledger.notices.get(&*id).is_some_and(|news| is_end(news, status_of(outcome)));
            if line.key.path.is_root() && entry.is_none() && !told {
                return broken(
                    NAME,
                    format!("{run} ended as {}, and {id} was never told", status_of(outcome)),
                );
            }
        } else if let Some(question) = line.question() {
            let is = |news: &News| match news {
                News::ApprovalRequested { approval, .. } => approval.approval == question.request.id,
                _ => false,
            };
            let of_run = ledger.notices.iter().filter(|(id, _)| id.starts_with(run.as_str()));
            let led = entry.is_some_and(|at| at != question.deadline);
            if !led && !of_run.map(|(_, news)| news).any(is) {
                return broken(
                    NAME,
                    format!("{} asks {}, and nobody was told", line.key, question.request.id),
                );
            }
        }
    }
    Ok(())
}

fn is_end(news: &News, ended: RunStatus) -> bool {
    matches!(news, News::Status { status, .. } if *status == ended)
}
