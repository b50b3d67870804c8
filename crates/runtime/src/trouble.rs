//! Scopes that were visited in vain, so that a run that cannot go on is seen.

use engine::RunId;
use engine::ScopeKey;
use parking_lot::Mutex;
use rustc_hash::FxHashMap;
use rustc_hash::FxHashSet;

/// Scopes that are counted.
const COUNTED: usize = 10_000;

/// Counts failed visits.
#[derive(Default)]
pub(crate) struct Trouble {
    kept: Mutex<Kept>,
}

#[derive(Default)]
struct Kept {
    failed: FxHashMap<ScopeKey, u32>,
    stuck: FxHashSet<RunId>,
}

impl Trouble {
    /// A visit failed; answers how many did in a row.
    pub(crate) fn failed(&self, scope: &ScopeKey) -> u32 {
        let mut kept = self.kept.lock();
        if kept.failed.len() >= COUNTED {
            kept.failed.clear();
        }
        let count = kept.failed.entry(scope.clone()).or_default();
        *count = count.saturating_add(1);
        *count
    }

    /// The run was marked.
    pub(crate) fn stuck(&self, run: &RunId) {
        self.kept.lock().stuck.insert(run.clone());
    }

    /// A visit succeeded; answers whether the run was marked before.
    pub(crate) fn went_well(&self, scope: &ScopeKey) -> bool {
        let mut kept = self.kept.lock();
        if kept.failed.is_empty() && kept.stuck.is_empty() {
            return false;
        }
        kept.failed.remove(scope);
        kept.stuck.remove(&scope.run)
    }
}
