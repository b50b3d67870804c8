//! Who waits for a run's end in this process.

use std::sync::Arc;

use engine::RunId;
use parking_lot::Mutex;
use rustc_hash::FxHashMap;
use tokio::sync::oneshot;

use crate::view::RunView;

/// All that wait, by run.
#[derive(Default)]
pub(crate) struct Watchers {
    waiting: Mutex<FxHashMap<RunId, Vec<oneshot::Sender<Arc<RunView>>>>>,
}

impl Watchers {
    /// Waits for this run's end from now on.
    pub(crate) fn watch(&self, run: &RunId) -> oneshot::Receiver<Arc<RunView>> {
        let (sender, receiver) = oneshot::channel();
        self.waiting.lock().entry(run.clone()).or_default().push(sender);
        receiver
    }

    /// Whether anybody waits for this run.
    pub(crate) fn is_watched(&self, run: &RunId) -> bool {
        self.waiting.lock().contains_key(run)
    }

    /// The run has ended like this.
    pub(crate) fn ended(&self, run: &RunId, view: RunView) {
        let waiting = self.waiting.lock().remove(run).unwrap_or_default();
        let view = Arc::new(view);
        for sender in waiting {
            // Whoever no longer waits does not mind.
            let _ = sender.send(view.clone());
        }
    }

    /// Forgets those that gave up.
    pub(crate) fn sweep(&self, run: &RunId) {
        let mut waiting = self.waiting.lock();
        if let Some(senders) = waiting.get_mut(run) {
            senders.retain(|sender| !sender.is_closed());
            if senders.is_empty() {
                waiting.remove(run);
            }
        }
    }
}
