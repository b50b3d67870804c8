//! What is told to whoever listens outside, and when: after it is stored and whoever must work has been rung for, before the
//! doorbell is acknowledged ([`Notifier`](crate::ports::Notifier)).
//!
//! How a run ended and what people are asked is told at least once, as long as it stands: by whoever appended it; by a visit that
//! believes nothing, since a visitor that died tells nobody; and where it could not be told, or was appended by somebody without
//! a doorbell, by the sweeper, to whom a due entry leads. No run waits for that. All else is told once, or not at all.

use std::sync::Arc;
use std::time::Duration;

use engine::Activity;
use engine::Event;
use engine::RunId;
use engine::ScopeKey;

use crate::Runtime;
use crate::error::Error;
use crate::extras::Before;
use crate::extras::DOORLESS;
use crate::extras::approval_row;
use crate::extras::error;
use crate::extras::own_status;
use crate::extras::waits_for_children;
use crate::heads::Head;
use crate::ports::ApprovalRow;
use crate::ports::DueMove;
use crate::ports::DueRow;
use crate::ports::News;
use crate::ports::Notice;
use crate::ports::Place;
use crate::ports::RunStatus;
use crate::ports::RunSummary;
use crate::ports::Settled;
use crate::runtime::later;

/// Whoever could not be told is left alone for so long.
const SILENCE: Duration = Duration::from_secs(30);
/// A type of error that is told as it is has no more bytes…
const LONGEST_NAME: usize = 64;
/// …and any other is told as this.
const OTHER: &str = "custom";

/// What one visit has to tell.
#[derive(Default)]
pub(crate) struct Untold {
    pub(crate) notices: Vec<Notice>,
    /// The entry by which the sweeper would find it, and what becomes of that once it is told: its writer held no doorbell.
    pub(crate) entry: Option<DueMove>,
}

impl Untold {
    pub(crate) fn is_empty(&self) -> bool {
        self.notices.is_empty()
    }

    /// Whether any of it is to be told at least once.
    pub(crate) fn is_urgent(&self) -> bool {
        self.notices.iter().any(must_be_told)
    }

    /// Takes in what the next record has to tell.
    pub(crate) fn take_in(&mut self, next: Self) {
        self.notices.extend(next.notices);
        self.entry = next.entry.or(self.entry.take());
    }

    /// Somebody comes who believes nothing, and will tell it.
    pub(crate) fn leave_what_stands(&mut self) {
        self.notices.retain(|notice| !must_be_told(notice));
        self.entry = None;
    }

    /// Adds what a head stands at: whoever appended it may not have come to tell.
    pub(crate) fn add_standing(&mut self, head: &Head) {
        let known = |notice: &Notice| self.notices.iter().any(|known| known.id == notice.id);
        let standing = standing(head).filter(|notice| !known(notice));
        self.notices.extend(standing);
    }
}

/// What a decision has to tell, once it is recorded.
pub(crate) fn of_decision(head: &Head, before: &Before, events: &[Event]) -> Vec<Notice> {
    let scope = &head.scope;
    let mut notices = Vec::new();
    let asked_before = before.approval.as_deref();
    let pending = approval_row(scope, &head.workflow);
    let same =
        |pending: &ApprovalRow| asked_before.is_some_and(|before| before.request.id == pending.request.id);
    if let Some(row) = asked_before
        && !pending.as_deref().is_some_and(same)
    {
        notices.extend(settled(head, row, events));
    }
    if scope.key().path.is_root() {
        notices.extend(changed(head, before, events));
    }
    if let Some(row) = pending.as_deref()
        && !same(row)
    {
        notices.extend(requested(head, row));
    }
    notices
}

/// What stands, and must be told at least once: how the run ended, what is asked.
pub(crate) fn standing(head: &Head) -> Option<Notice> {
    if head.scope.outcome().is_some() {
        return head.key().path.is_root().then(|| status(head, None)).flatten();
    }
    requested(head, approval_row(&head.scope, &head.workflow)?.as_ref())
}

/// Whether there is no more than that to look at in a scope whose last record has a due entry.
fn rests(head: &Head) -> bool {
    match head.scope.activity() {
        Activity::Approval => true,
        // A parent, if there is one, may have yet to hear of it.
        Activity::Ended => {
            head.key().path.is_root() && head.scope.run().is_some_and(|run| run.parent.is_none())
        }
        _ => false,
    }
}

/// A root's status, where it is told.
fn changed(head: &Head, before: &Before, events: &[Event]) -> Option<Notice> {
    use RunStatus::Cancelling;
    use RunStatus::Paused;
    use RunStatus::Pausing;

    let (old, new) = (before.status, own_status(&head.scope));
    if old == RunStatus::Pending {
        return status(head, None);
    }
    let held = |status: RunStatus| status.is_terminal() || matches!(status, Pausing | Paused | Cancelling);
    // What it waited for through its children, only they know.
    let known = !waits_for_children(before.activity);
    // Redriven, it may end the same way at once.
    let ends = events.iter().any(|event| matches!(event, Event::Ended { .. }));
    ((old != new || ends) && (held(old) || held(new)))
        .then(|| status(head, Some(old).filter(|_| known)))
        .flatten()
}

fn status(head: &Head, previous: Option<RunStatus>) -> Option<Notice> {
    let scope = &head.scope;
    let now = own_status(scope);
    let what = if now.is_terminal() {
        // Whatever is appended behind an end, it stays the same end.
        format!("end/{}", scope.redrives())
    } else if scope.seq() == 0 {
        "start".to_owned()
    } else {
        // The number of the record to come.
        format!("status/{}", scope.seq() + 1)
    };
    let error = error(scope).map(|error| (plain(error.kind), error.code.map(plain)));
    notice(
        head,
        &what,
        scope.at(),
        News::Status { status: now, previous, started_at: scope.started(), error },
    )
}

/// The type of an error, unless that is text of a workflow's or an agent's own, which may hold anything.
fn plain(name: Arc<str>) -> Arc<str> {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'.');
    if name.len() <= LONGEST_NAME && name.bytes().all(is_plain) { name } else { OTHER.into() }
}

fn requested(head: &Head, row: &ApprovalRow) -> Option<Notice> {
    let what = format!("approval/{}/{}/requested", row.request.id, head.scope.redrives());
    let news = News::ApprovalRequested { approval: place(row), deadline: row.request.deadline };
    notice(head, &what, row.requested_at, news)
}

fn settled(head: &Head, row: &ApprovalRow, events: &[Event]) -> Option<Notice> {
    let settled = events.iter().find_map(|event| match event {
        Event::ApprovalDecided { approved: true, .. } => Some(Settled::Approved),
        Event::ApprovalDecided { approved: false, .. } => Some(Settled::Rejected),
        Event::WaitTimedOut {} => Some(Settled::TimedOut),
        _ => None,
    });
    let what = format!("approval/{}/{}/settled", row.request.id, head.scope.redrives());
    let news = News::ApprovalSettled { approval: place(row), settled: settled.unwrap_or(Settled::Withdrawn) };
    notice(head, &what, head.scope.at(), news)
}

fn place(row: &ApprovalRow) -> Place {
    Place { approval: row.request.id.clone(), state: row.state.clone(), scope: row.scope.path.clone() }
}

fn notice(head: &Head, what: &str, at: jiff::Timestamp, news: News) -> Option<Notice> {
    let run = head.scope.run()?;
    Some(Notice {
        id: format!("{}/{what}", head.key().run).into(),
        at,
        run: head.key().run.clone(),
        workflow: run.workflow.clone(),
        version: run.version.clone(),
        news,
    })
}

/// What is only in the lists: that everything in a run is paused by now, or that it is stuck.
pub(crate) fn of_summary(summary: &RunSummary, news: News) -> Notice {
    let what = match &news {
        News::Stuck { code } => format!("stuck/{code}"),
        _ => "status".to_owned(),
    };
    Notice {
        id: format!("{}/{what}/list/{}", summary.run, summary.revision).into(),
        at: summary.updated_at,
        run: summary.run.clone(),
        workflow: summary.workflow.clone(),
        version: summary.version.clone(),
        news,
    }
}

/// Whether a notice is to be told at least once.
fn must_be_told(notice: &Notice) -> bool {
    match &notice.news {
        News::Status { status, .. } => status.is_terminal(),
        News::ApprovalRequested { .. } => true,
        News::ApprovalSettled { .. } | News::Stuck { .. } => false,
    }
}

impl Runtime {
    /// What a decision has to tell, once it is recorded.
    pub(crate) fn to_tell(&self, head: &Head, before: &Before, events: &[Event]) -> Untold {
        let listened = self.core.notifier.is_some();
        Untold { notices: if listened { of_decision(head, before, events) } else { Vec::new() }, entry: None }
    }

    /// Tells; what must be told and cannot be, the sweeper tells. Fails only if not even that could be stored.
    pub(crate) async fn tell_all(&self, scope: &ScopeKey, seq: u64, untold: Untold) -> Result<(), Error> {
        if untold.is_empty() {
            return Ok(());
        }
        let must = untold.is_urgent();
        let Untold { notices, entry } = untold;
        if self.tell(notices).await {
            if let Some(entry) = entry {
                let moved = self.core.ports.catalog.move_due(vec![entry]).await;
                if let Err(error) = moved {
                    tracing::warn!(%scope, %error, "what was told may be told again");
                }
            }
        } else if must && entry.is_none() {
            let soon = later(self.now(), DOORLESS);
            self.core.ports.catalog.ensure_due(scope, soon, seq).await?;
        }
        Ok(())
    }

    /// Tells; false if that failed, or failed a moment ago: each try takes seconds, and there may be many to make.
    pub(crate) async fn tell(&self, notices: Vec<Notice>) -> bool {
        let Some(notifier) = &self.core.notifier else { return true };
        let first = notices.first().map(|notice| notice.id.clone()).unwrap_or_default();
        let count = notices.len();
        if self.core.silent_until.lock().is_some_and(|until| self.now() < until) {
            tracing::warn!(
                count,
                first = &*first,
                "what happened to a run is not told yet: nobody could be told of late"
            );
            return false;
        }
        let told = notifier.notify(notices).await;
        *self.core.silent_until.lock() = told.is_err().then(|| later(self.now(), SILENCE));
        if let Err(error) = &told {
            tracing::warn!(count, first = &*first, %error, "what happened to a run could not be told");
        }
        told.is_ok()
    }

    /// Tells of a run that was ended from outside by somebody who may have died over it.
    pub(crate) async fn tell_again(&self, run: &RunId) -> Result<(), Error> {
        if self.core.notifier.is_none() {
            return Ok(());
        }
        let root = ScopeKey::root(run.clone());
        let found = self.look(&root, |head| standing(head).map(|notice| (head.scope.seq(), notice))).await?;
        let Some((seq, notice)) = found.flatten() else { return Ok(()) };
        self.tell_all(&root, seq, Untold { notices: vec![notice], entry: None }).await
    }

    /// What the sweeper is to tell of a scope to which a due entry led: it is there because nobody may have told it.
    pub(crate) fn late_notice(&self, head: &Head, row: &DueRow) -> Option<Notice> {
        self.core.notifier.as_ref()?;
        // The entry at an approval's own deadline is there for that alone.
        let for_that = head.scope.due() != Some(row.at);
        for_that.then(|| standing(head)).flatten()
    }

    /// The due entry that goes with what is to be told, and what becomes of it then.
    pub(crate) fn entry_of(&self, head: &Head, at: jiff::Timestamp) -> Option<DueMove> {
        self.core.notifier.as_ref()?;
        let row = DueRow { at, scope: head.key().clone(), seq: head.scope.seq(), visits: 0 };
        rests(head).then(|| DueMove { row, to: head.scope.due(), visits: 0 })
    }
}

/// A name for whoever is told of a run that the lists show as this.
pub(crate) fn status_of_list(summary: &RunSummary, previous: RunStatus) -> Notice {
    let news = News::Status {
        status: summary.status,
        previous: Some(previous),
        started_at: summary.started_at,
        error: None::<(Arc<str>, Option<Arc<str>>)>,
    };
    of_summary(summary, news)
}
