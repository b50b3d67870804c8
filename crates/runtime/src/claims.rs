//! Which steps this process performs at the moment, so that a cancelled one stops at once and a visitor knows it is alive.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;

use engine::ScopeKey;
use parking_lot::Mutex;
use rustc_hash::FxHashMap;
use tokio::sync::Notify;

/// The workers of this process, by scope.
#[derive(Default)]
pub(crate) struct Claims {
    running: Arc<Mutex<FxHashMap<ScopeKey, Vec<Arc<Running>>>>>,
}

/// One worker in one scope.
#[derive(Default)]
struct Running {
    /// The number of the record by which it claimed what it performs; 0 between steps.
    claim: AtomicU64,
    /// The number of the record that is to claim the next, while it is being appended.
    next: AtomicU64,
    stop: Notify,
}

impl Claims {
    /// A worker begins in a scope. It is known until the answer is dropped, however its work ends.
    pub(crate) fn enter(&self, scope: &ScopeKey) -> Worker {
        let running = Arc::new(Running::default());
        self.running.lock().entry(scope.clone()).or_default().push(running.clone());
        Worker { scope: scope.clone(), running, registry: self.running.clone() }
    }

    /// Whether the claim that is record `claim` of this scope is being performed here.
    pub(crate) fn is_running(&self, scope: &ScopeKey, claim: u64) -> bool {
        let running = self.running.lock();
        running.get(scope).is_some_and(|workers| workers.iter().any(|worker| worker.holds(claim)))
    }

    /// Tells those who perform anything but the claim that is record `current` to look whether they still should.
    pub(crate) fn stop_others(&self, scope: &ScopeKey, current: Option<u64>) {
        let running = self.running.lock();
        for worker in running.get(scope).into_iter().flatten() {
            let claim = worker.claim.load(Ordering::Acquire);
            if claim != 0 && Some(claim) != current && current != Some(worker.next.load(Ordering::Acquire)) {
                worker.stop.notify_one();
            }
        }
    }
}

impl Running {
    fn holds(&self, claim: u64) -> bool {
        self.claim.load(Ordering::Acquire) == claim || self.next.load(Ordering::Acquire) == claim
    }
}

/// A worker's entry in [`Claims`].
pub(crate) struct Worker {
    scope: ScopeKey,
    running: Arc<Running>,
    registry: Arc<Mutex<FxHashMap<ScopeKey, Vec<Arc<Running>>>>>,
}

impl Worker {
    /// It is about to append record `claim`, by which it claims the next step. Until then it holds on to the one before.
    pub(crate) fn claiming(&self, claim: u64) {
        self.running.next.store(claim, Ordering::Release);
    }

    /// The append succeeded, and the claim is what it performs; or did not, and nothing changed.
    pub(crate) fn claimed(&self, succeeded: bool) {
        if succeeded {
            self.running.claim.store(self.running.next.load(Ordering::Acquire), Ordering::Release);
        }
        self.running.next.store(0, Ordering::Release);
    }

    /// The number of the record by which it claimed what it performs; 0 between steps.
    pub(crate) fn claim(&self) -> u64 {
        self.running.claim.load(Ordering::Acquire)
    }

    /// It performs nothing any more.
    pub(crate) fn let_go(&self) {
        self.running.claim.store(0, Ordering::Release);
    }

    /// Waits until somebody says that the claim may be over.
    pub(crate) async fn stopped(&self) {
        self.running.stop.notified().await;
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        let mut registry = self.registry.lock();
        if let Some(workers) = registry.get_mut(&self.scope) {
            workers.retain(|worker| !Arc::ptr_eq(worker, &self.running));
            if workers.is_empty() {
                registry.remove(&self.scope);
            }
        }
    }
}
