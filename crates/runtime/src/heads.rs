//! Scopes as they stand, kept in memory. Never truth: the conditional append makes a stale one harmless.

use std::collections::VecDeque;
use std::sync::Arc;

use engine::Encoded;
use engine::Scope;
use engine::ScopeKey;
use jiff::Timestamp;
use model::Workflow;
use parking_lot::Mutex;
use rustc_hash::FxHashMap;

/// What an empty scope takes, about.
const HEAD_BYTES: usize = 2 << 10;

/// A scope, folded up to a record of its journal.
#[derive(Debug)]
pub(crate) struct Head {
    pub(crate) scope: Scope,
    pub(crate) workflow: Arc<Workflow>,
    /// Whether it was known to be the journal's last record when it was last used.
    pub(crate) fresh: bool,
    /// What was already done for the children of its fork, or for its child run.
    pub(crate) tended: Option<Tended>,
    /// The time it was already rung for.
    pub(crate) alarm: Option<Timestamp>,
    /// Whether its children have got something of it since it was last asked.
    pub(crate) handed_down: bool,
    /// Bytes of the records since the last snapshot.
    unsaved: usize,
    /// Bytes of the last snapshot.
    saved: usize,
}

/// What was done for a fork's children.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Tended {
    /// The record that forked.
    pub(crate) fork: u64,
    /// The clocks that its children have.
    pub(crate) version: u32,
    /// Children below this index were rung.
    pub(crate) rung: u32,
}

impl Head {
    pub(crate) fn new(scope: Scope, workflow: Arc<Workflow>) -> Self {
        Self {
            scope,
            workflow,
            fresh: true,
            tended: None,
            alarm: None,
            handed_down: false,
            unsaved: 0,
            saved: 0,
        }
    }

    /// As loaded: from a snapshot of `saved` bytes and records of `unsaved` bytes.
    pub(crate) fn loaded(scope: Scope, workflow: Arc<Workflow>, saved: usize, unsaved: usize) -> Self {
        Self { unsaved, saved, ..Self::new(scope, workflow) }
    }

    /// Takes its children for rung, as its journal has them: whoever appended that has done so, or its doorbell comes again.
    /// Where pauses, cancels or redrives were handed down, they are asked all the same.
    pub(crate) fn presume_tended(&mut self) {
        self.tended = if let Some(view) = self.scope.fork(&self.workflow) {
            let rung = view.live().last().map_or(0, |index| index + 1);
            Some(Tended { fork: view.seq(), version: 0, rung }).filter(|_| view.clocks().version == 0)
        } else if let Some(view) = self.scope.subworkflow(&self.workflow) {
            Some(Tended { fork: view.seq, version: 0, rung: 1 }).filter(|_| view.clocks.version == 0)
        } else {
            None
        };
    }

    pub(crate) fn key(&self) -> &ScopeKey {
        self.scope.key()
    }

    pub(crate) fn appended(&mut self, record: &Encoded) {
        self.unsaved += record.body.len();
        self.fresh = true;
    }

    /// A snapshot is due once as many bytes were appended as the last one had: the cost stays in proportion, however large
    /// the scope's data is, and so does the cost of loading it.
    pub(crate) fn wants_snapshot(&self, least: usize) -> bool {
        self.unsaved >= least.max(self.saved) && self.scope.outcome().is_none()
    }

    pub(crate) fn snapshot_taken(&mut self, bytes: usize) {
        self.saved = bytes;
        self.unsaved = 0;
    }

    fn bytes(&self) -> usize {
        HEAD_BYTES + self.saved + self.unsaved
    }
}

/// The heads last used, bounded by number and size.
pub(crate) struct Heads {
    kept: Mutex<Kept>,
    max_entries: usize,
    max_bytes: usize,
}

#[derive(Default)]
struct Kept {
    heads: FxHashMap<ScopeKey, (u64, Box<Head>)>,
    /// In the order of use; an entry whose tick is not its head's is out of date.
    order: VecDeque<(u64, ScopeKey)>,
    tick: u64,
    bytes: usize,
}

impl Heads {
    pub(crate) fn new(max_entries: usize, max_bytes: usize) -> Self {
        Self { kept: Mutex::default(), max_entries, max_bytes }
    }

    /// Takes a head out, to work on it.
    pub(crate) fn take(&self, key: &ScopeKey) -> Option<Box<Head>> {
        let mut kept = self.kept.lock();
        let (_, mut head) = kept.heads.remove(key)?;
        kept.bytes = kept.bytes.saturating_sub(head.bytes());
        head.fresh = false;
        Some(head)
    }

    /// Looks at a head without taking it.
    pub(crate) fn peek<R>(&self, key: &ScopeKey, look: impl FnOnce(&Head) -> R) -> Option<R> {
        self.kept.lock().heads.get(key).map(|(_, head)| look(head))
    }

    /// Keeps a head, unless a later one is kept already.
    pub(crate) fn put(&self, head: Box<Head>) {
        let bytes = head.bytes();
        let key = head.key().clone();
        let mut kept = self.kept.lock();
        let kept = &mut *kept;
        // What is over is rarely looked at again; what is too large would drive out all others.
        if head.scope.outcome().is_some() || bytes > self.max_bytes / 4 {
            if let Some((_, before)) = kept.heads.remove(&key) {
                kept.bytes = kept.bytes.saturating_sub(before.bytes());
            }
            return;
        }
        kept.tick += 1;
        let tick = kept.tick;
        match kept.heads.entry(key.clone()) {
            std::collections::hash_map::Entry::Occupied(mut entry) => {
                let (_, before) = entry.get();
                let older = before.scope.seq() > head.scope.seq();
                let knows_less = before.scope.seq() == head.scope.seq()
                    && before.tended.is_some()
                    && head.tended.is_none();
                if older || knows_less {
                    return;
                }
                let (_, before) = entry.insert((tick, head));
                kept.bytes = kept.bytes.saturating_sub(before.bytes());
            }
            std::collections::hash_map::Entry::Vacant(entry) => {
                entry.insert((tick, head));
            }
        }
        kept.bytes += bytes;
        kept.order.push_back((tick, key));
        while let Some((tick, key)) = kept.order.front() {
            let current = kept.heads.get(key).is_some_and(|(used, _)| used == tick);
            let full = kept.heads.len() > self.max_entries || kept.bytes > self.max_bytes;
            if current && !full {
                // What is out of date further back is dropped before it can outgrow what is kept.
                if kept.order.len() > 64 + 2 * kept.heads.len() {
                    let heads = &kept.heads;
                    kept.order.retain(|(tick, key)| heads.get(key).is_some_and(|(used, _)| used == tick));
                }
                break;
            }
            if let Some((_, key)) = kept.order.pop_front()
                && current
                && let Some((_, head)) = kept.heads.remove(&key)
            {
                kept.bytes = kept.bytes.saturating_sub(head.bytes());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use engine::Encoded;
    use engine::RunId;

    use super::*;

    fn head(name: &str, bytes: usize) -> Box<Head> {
        let source = "id: w\nstates:\n  - {id: a, type: succeed}\n";
        let options = model::Options { file: "w.yaml", agents: None, workflows: None };
        let workflow = model::parse(source, &options).workflow.expect("it is valid");
        let mut head = Head::new(Scope::root(RunId::new(name)), Arc::new(workflow));
        head.appended(&Encoded {
            seq: 1,
            at: jiff::Timestamp::UNIX_EPOCH,
            append_id: "".into(),
            body: vec![0; bytes].into(),
            hash: "".into(),
        });
        Box::new(head)
    }

    #[test]
    fn what_was_used_last_is_kept_within_both_bounds() {
        let heads = Heads::new(3, 100 << 10);
        let key = |name: &str| ScopeKey::root(RunId::new(name));
        for name in ["a", "b", "c", "d"] {
            heads.put(head(name, 1));
        }
        assert!(heads.peek(&key("a"), |_| ()).is_none(), "too many: the oldest goes");
        let again = heads.take(&key("b")).expect("kept");
        heads.put(again);
        heads.put(head("e", 1));
        assert!(
            heads.peek(&key("c"), |_| ()).is_none() && heads.peek(&key("b"), |_| ()).is_some(),
            "used is young"
        );
        for name in ["f", "g", "h"] {
            heads.put(head(name, 22 << 10));
        }
        for _ in 0..10 {
            heads.put(head("i", 22 << 10));
        }
        let kept = heads.kept.lock();
        let bytes: usize = kept.heads.values().map(|(_, head)| head.bytes()).sum();
        assert_eq!((kept.bytes, kept.heads.len()), (bytes, 3));
        assert!(bytes <= 100 << 10 && kept.order.len() < 100);
        drop(kept);
        heads.put(head("huge", 50 << 10));
        assert!(heads.peek(&key("huge"), |_| ()).is_none(), "what would drive out the others is not kept");
    }
}
