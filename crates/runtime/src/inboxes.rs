//! The inboxes that this process has read, so that each look at one costs no more than what is new in it.

use engine::Inbox;
use engine::RunId;
use parking_lot::Mutex;
use rustc_hash::FxHashMap;

/// Inboxes that are kept.
const LIMIT: usize = 256;

/// Inboxes as far as they were read; what came since stands in their journals.
#[derive(Default)]
pub(crate) struct Inboxes(Mutex<FxHashMap<RunId, Inbox>>);

impl Inboxes {
    /// Takes one out, to read on or to send to. It is not to be put back when what it was given was not stored.
    pub(crate) fn take(&self, run: &RunId) -> Inbox {
        self.0.lock().remove(run).unwrap_or_else(|| Inbox::new(run.clone()))
    }

    pub(crate) fn put(&self, inbox: Inbox) {
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

    /// The run is over.
    pub(crate) fn forget(&self, run: &RunId) {
        self.0.lock().remove(run);
    }
}
