//! What is the adapter's own: groups, files, failures. What every store must do stands in runtime's conformance suites.

mod crash;
mod failures;
mod files;
mod groups;
mod lists;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use engine::Encoded;
use engine::RunId;
use engine::ScopeKey;
use engine::ScopePath;
use jiff::Timestamp;
use runtime::ports::AppendError;
use runtime::ports::RunStatus;
use runtime::ports::RunSummary;
use tempfile::TempDir;

use crate::Options;
use crate::Store;

/// A store in a folder that goes with it.
fn store() -> (TempDir, Store) {
    let folder = tempfile::tempdir().unwrap();
    let store = open(&folder);
    (folder, store)
}

fn file(folder: &TempDir) -> PathBuf {
    folder.path().join("stepwell.db")
}

fn open(folder: &TempDir) -> Store {
    Store::open(file(folder), &Options::default()).unwrap()
}

fn scope(run: &str) -> ScopeKey {
    ScopeKey::root(RunId::new(run))
}

fn child(run: &str, path: &str) -> ScopeKey {
    ScopeKey::new(RunId::new(run), ScopePath::from_stored(path))
}

/// Record `seq` with this body; to the adapter a body is bytes.
fn record(seq: u64, body: impl AsRef<[u8]>) -> Encoded {
    let body: Arc<[u8]> = body.as_ref().into();
    let hash = engine::hash(&body);
    Encoded { seq, at: time(seq), append_id: format!("by-{hash:.12}").into(), body, hash }
}

fn time(second: u64) -> Timestamp {
    Timestamp::new(1_700_000_000 + i64::try_from(second).unwrap(), 123_456_789).unwrap()
}

fn summary(run: &str, status: RunStatus) -> RunSummary {
    RunSummary {
        run: RunId::new(run),
        workflow: "w".into(),
        version: "1".into(),
        status,
        starter: None,
        started_at: time(0),
        updated_at: time(0),
        ended_at: None,
        error: None,
        stuck: None,
        labels: BTreeMap::new(),
        revision: 0,
    }
}

fn standing(result: Result<(), AppendError>) -> Encoded {
    match result {
        Err(AppendError::Conflict(standing)) => *standing,
        other => panic!("a conflict was expected, not {other:?}"),
    }
}
