//! Children that were launched by this process and not yet begun, and what forks gave their children. With it a child
//! begins without a look at its journal or its parent's; without it, both are read.

use std::collections::VecDeque;
use std::sync::Arc;

use engine::Clocks;
use engine::ForkContext;
use engine::RunId;
use engine::ScopeKey;
use engine::ScopeStarted;
use parking_lot::Mutex;
use rustc_hash::FxHashMap;

/// Forks whose context is kept.
const FORKS: usize = 256;

/// What a child needs for its first record.
#[derive(Clone, Debug)]
pub(crate) struct Newborn {
    pub(crate) started: Box<ScopeStarted>,
    pub(crate) clocks: Clocks,
    pub(crate) base: Arc<ForkContext>,
}

/// Children to come, and their forks.
pub(crate) struct Nursery {
    kept: Mutex<Kept>,
    limit: usize,
}

#[derive(Default)]
struct Kept {
    newborns: FxHashMap<ScopeKey, Newborn>,
    forks: FxHashMap<(ScopeKey, u64), Arc<ForkContext>>,
    order: VecDeque<(ScopeKey, u64)>,
}

impl Nursery {
    pub(crate) fn new(limit: usize) -> Self {
        Self { kept: Mutex::default(), limit }
    }

    pub(crate) fn launch(&self, child: ScopeKey, newborn: Newborn) {
        let mut kept = self.kept.lock();
        if kept.newborns.len() >= self.limit {
            kept.newborns.clear();
        }
        kept.newborns.insert(child, newborn);
    }

    pub(crate) fn take(&self, child: &ScopeKey) -> Option<Newborn> {
        self.kept.lock().newborns.remove(child)
    }

    pub(crate) fn fork(&self, scope: &ScopeKey, seq: u64) -> Option<Arc<ForkContext>> {
        self.kept.lock().forks.get(&(scope.clone(), seq)).cloned()
    }

    /// The fork is over.
    pub(crate) fn forget_fork(&self, scope: &ScopeKey, seq: u64) {
        let mut kept = self.kept.lock();
        let key = (scope.clone(), seq);
        if kept.forks.remove(&key).is_some() {
            kept.order.retain(|known| *known != key);
        }
    }

    /// The run is no more; its id may come again.
    pub(crate) fn forget(&self, run: &RunId) {
        let mut kept = self.kept.lock();
        kept.forks.retain(|(scope, _), _| scope.run != *run);
        kept.order.retain(|(scope, _)| scope.run != *run);
    }

    pub(crate) fn keep_fork(&self, scope: &ScopeKey, seq: u64, context: Arc<ForkContext>) {
        let mut kept = self.kept.lock();
        let key = (scope.clone(), seq);
        if kept.forks.insert(key.clone(), context).is_none() {
            kept.order.push_back(key);
        }
        while kept.order.len() > FORKS {
            if let Some(oldest) = kept.order.pop_front() {
                kept.forks.remove(&oldest);
            }
        }
    }
}
