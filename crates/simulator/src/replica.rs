//! What lists may still show: a store to which the same was done, some time later.

use std::collections::VecDeque;
use std::time::Duration;

use engine::Encoded;
use engine::ScopeKey;
use jiff::Timestamp;
use parking_lot::Mutex;
use runtime::memory;
use runtime::ports::Catalog as _;
use runtime::ports::Definition;
use runtime::ports::DefinitionKind;
use runtime::ports::DueMove;
use runtime::ports::Extra;
use runtime::ports::Journal as _;
use runtime::ports::RunSummary;
use tokio::time::Instant;

/// A store that lags behind.
#[derive(Default)]
pub(crate) struct Replica {
    pub(crate) store: memory::Store,
    behind: Mutex<VecDeque<(Instant, Change)>>,
}

/// What was done to the store.
pub(crate) enum Change {
    Register(Box<Definition>, bool),
    Disable(DefinitionKind, String, bool),
    Append(ScopeKey, Encoded, Vec<Extra>),
    Project(Box<RunSummary>),
    Move(Vec<DueMove>),
    Ensure(ScopeKey, Timestamp, u64),
}

impl Replica {
    pub(crate) fn note(&self, change: Change) {
        self.behind.lock().push_back((Instant::now(), change));
    }

    /// The store as it was so long ago, at least as far as it was seen before.
    pub(crate) async fn as_of(&self, millis: u64) -> &memory::Store {
        let now = Instant::now();
        let past = now.checked_sub(Duration::from_millis(millis)).unwrap_or(now);
        loop {
            let Some(change) = self.next(past) else { return &self.store };
            // What the first one took, this one takes: both are the same store.
            match change {
                Change::Register(definition, new_version) => {
                    drop(self.store.register(*definition, new_version).await);
                }
                Change::Disable(kind, id, disabled) => {
                    drop(self.store.set_disabled(kind, &id, disabled).await);
                }
                Change::Append(scope, record, extras) => {
                    drop(self.store.append(&scope, &record, extras).await);
                }
                Change::Project(summary) => drop(self.store.project(&summary).await),
                Change::Move(moves) => drop(self.store.move_due(moves).await),
                Change::Ensure(scope, at, seq) => drop(self.store.ensure_due(&scope, at, seq).await),
            }
        }
    }

    fn next(&self, past: Instant) -> Option<Change> {
        let mut behind = self.behind.lock();
        if behind.front().is_some_and(|(at, _)| *at <= past) {
            behind.pop_front().map(|(_, change)| change)
        } else {
            None
        }
    }
}
