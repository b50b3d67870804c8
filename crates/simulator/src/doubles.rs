//! Agents that answer twice under one idempotency key: to a worker that cannot reach the store, and so is overtaken or dies, and
//! to whoever asks after it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use engine::Error;
use engine::ScopeKey;
use expression::Value;
use runtime::ports::CallError;
use tokio::time::Instant;

use crate::flow::Behaviour;
use crate::observation::ProcessId;

/// For so long a worker may be cut off.
pub(crate) const CUT_OFF: Duration = Duration::from_mins(8);

/// The agents that answer twice, by key.
#[derive(Default)]
pub(crate) struct Doubles {
    said: BTreeMap<Arc<str>, (Said, u32)>,
    cut_off: Vec<CutOff>,
}

/// What whoever asks again is told.
#[derive(Clone)]
pub(crate) enum Said {
    /// The first answer, as soon as there is one.
    Same { at: Instant, answer: Result<Value, CallError> },
    /// That it was done already.
    Otherwise,
}

/// A worker that, while it waits for this call, cannot reach its scope in the store; not for so long that whoever asks it for
/// something gives up.
pub(crate) struct CutOff {
    pub(crate) call: u64,
    pub(crate) by: ProcessId,
    pub(crate) scope: ScopeKey,
    pub(crate) until: Instant,
}

impl Doubles {
    pub(crate) fn put(&mut self, key: &Arc<str>, said: Said, cut_off: CutOff) {
        self.said.insert(key.clone(), (said, 0));
        self.cut_off.push(cut_off);
    }

    pub(crate) fn said(&self, key: &str) -> Option<Said> {
        self.said.get(key).map(|(said, _)| said.clone())
    }

    /// An answer reached a caller; whether it is the second one.
    pub(crate) fn heard(&mut self, key: &str) -> bool {
        self.said.get_mut(key).is_some_and(|(_, heard)| {
            *heard += 1;
            *heard == 2
        })
    }

    /// Nobody waits for this call any more.
    pub(crate) fn over(&mut self, call: u64) {
        self.cut_off.retain(|cut_off| cut_off.call != call);
    }

    pub(crate) fn is_cut_off(&self, by: ProcessId, scope: &ScopeKey) -> bool {
        let now = Instant::now();
        let is = |cut_off: &CutOff| cut_off.by == by && cut_off.scope == *scope && cut_off.until > now;
        self.cut_off.iter().any(is)
    }
}

impl Said {
    /// This is what the agent says now.
    pub(crate) fn to(self, behaviour: &mut Behaviour) {
        match self {
            Self::Same { at, answer } => {
                behaviour.takes = at.saturating_duration_since(Instant::now());
                behaviour.answer = answer;
            }
            Self::Otherwise => {
                let error = Error::new("already_done", "it was asked for under this key before");
                behaviour.answer = Err(CallError { error, definite: true, retry_after: None });
            }
        }
    }
}
