//! The inboxes that this process has read, so that each look at one costs no more than what is new in it.

use std::sync::Arc;

use engine::Inbox;
use engine::RunId;
use parking_lot::Mutex;
use rustc_hash::FxHashMap;

/// Inboxes that are kept.
const LIMIT: usize = 256;

/// Inboxes as far as they were read; what came since stands in their journals.
#[derive(Default)]
pub(crate) struct Inboxes(Mutex<FxHashMap<RunId, Arc<Inbox>>>);

impl Inboxes {
    /// One as far as it was read; several may read on at once.
    pub(crate) fn get(&self, run: &RunId) -> Arc<Inbox> {
        self.0.lock().get(run).cloned().unwrap_or_else(|| Arc::new(Inbox::new(run.clone())))
    }

    /// Keeps what was read, or sent and stored.
    pub(crate) fn put(&self, inbox: Arc<Inbox>) {
        let mut kept = self.0.lock();
        let run = &inbox.key().run;
        // Somebody else may have read further meanwhile.
        if kept.get(run).is_some_and(|known| known.seq() >= inbox.seq()) {
            return;
        }
        if kept.len() >= LIMIT && !kept.contains_key(run) {
            kept.clear();
        }
        kept.insert(run.clone(), inbox);
    }

    /// The run is over, or its inbox cannot be read on.
    pub(crate) fn forget(&self, run: &RunId) {
        self.0.lock().remove(run);
    }
}
