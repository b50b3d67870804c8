//! What every adapter of a port must do, as tests that adapters call with a fresh instance. They panic where it does not.
// They are tests.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::missing_panics_doc
)]

mod agents;
mod catalog;
mod clock;
mod differential;
mod doorbell;
mod journal;

pub use agents::agents_suite;
pub use catalog::catalog_suite;
pub use clock::clock_suite;
pub use clock::ids_suite;
pub use differential::Pair;
pub use differential::differential;
pub use doorbell::Manners;
pub use doorbell::doorbell_suite;
pub use journal::journal_suite;

use std::sync::Arc;

use engine::Encoded;
use engine::RunId;
use engine::ScopeKey;
use engine::ScopePath;
use jiff::SignedDuration;
use jiff::Timestamp;

use crate::ports::RunStatus;
use crate::ports::RunSummary;

/// A record as an adapter sees it: bytes with a number, a time and a mark.
pub(crate) fn record(seq: u64, mark: &str, body: &[u8]) -> Encoded {
    Encoded { seq, at: at(seq), append_id: mark.into(), body: body.into(), hash: engine::hash(body) }
}

/// So many seconds after a fixed time.
pub(crate) fn at(seconds: u64) -> Timestamp {
    let start: Timestamp = "2026-01-31T09:00:00Z".parse().unwrap();
    start + SignedDuration::from_secs(i64::try_from(seconds).unwrap())
}

pub(crate) fn scope(run: &str, path: &str) -> ScopeKey {
    ScopeKey::new(RunId::new(run), ScopePath::from_stored(path))
}

pub(crate) fn bytes(text: &str) -> Arc<[u8]> {
    text.as_bytes().into()
}

pub(crate) fn summary(run: &str, workflow: &str, status: RunStatus, started: u64) -> RunSummary {
    RunSummary {
        run: RunId::new(run),
        workflow: workflow.into(),
        version: "1.10".into(),
        status,
        starter: Some("user:a".into()),
        started_at: at(started),
        updated_at: at(started),
        ended_at: status.is_terminal().then(|| at(started + 1)),
        error: None,
        stuck: None,
        labels: [("team".to_owned(), "sre".to_owned())].into(),
        revision: 0,
    }
}
