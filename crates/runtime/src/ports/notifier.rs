//! Who is told outside of what happened to runs: a bus, for whoever listens there.

use std::sync::Arc;

use async_trait::async_trait;
use engine::RunId;
use engine::ScopePath;
use jiff::Timestamp;

use super::RunStatus;
use super::StoreError;

/// Tells the world. A home in which nobody listens has none.
#[async_trait]
pub trait Notifier: Send + Sync + 'static {
    /// Tells all of these, in any order; or else fails, and some may have been told all the same. It gives up within seconds,
    /// since whoever tells has other work to do: what must not be lost is told again.
    async fn notify(&self, notices: Vec<Notice>) -> Result<(), StoreError>;
}

/// Something that happened to a run: what stands in its journal by now, without any of its values.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Notice {
    /// The same whenever the same is told again, and unlike that of anything else.
    pub id: Arc<str>,
    /// When it happened.
    pub at: Timestamp,
    /// The run.
    pub run: RunId,
    /// Its workflow.
    pub workflow: Arc<str>,
    /// The version it runs.
    pub version: Arc<str>,
    /// What happened.
    pub news: News,
}

/// What happened to a run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum News {
    /// It was started, paused, resumed, cancelled or redriven, or has ended. What it waits for in between is not told.
    Status {
        /// Where it stands.
        status: RunStatus,
        /// Where it stood before, if that is known; `None` also of a run that was started.
        previous: Option<RunStatus>,
        /// When it was started.
        started_at: Timestamp,
        /// What it failed with, timed out with or was cancelled for: the error's type, and its code.
        error: Option<(Arc<str>, Option<Arc<str>>)>,
    },
    /// People are asked.
    ApprovalRequested {
        /// Where.
        approval: Place,
        /// Until when they may answer.
        deadline: Timestamp,
    },
    /// Nobody is asked any more.
    ApprovalSettled {
        /// Where.
        approval: Place,
        /// Why.
        settled: Settled,
    },
    /// The engine cannot go on with it.
    Stuck {
        /// Why: a code that has a page.
        code: Arc<str>,
    },
}

/// Where in a run people are asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// The approval's id.
    pub approval: Arc<str>,
    /// The state that asks.
    pub state: Arc<str>,
    /// Its scope.
    pub scope: ScopePath,
}

/// What became of an approval.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Settled {
    /// Enough people were for it.
    Approved,
    /// Somebody was against it.
    Rejected,
    /// Not enough answered in time.
    TimedOut,
    /// Nobody needs the answer any more.
    Withdrawn,
}
