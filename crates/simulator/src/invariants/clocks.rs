//! What the processes' clocks said, and when.

use std::time::Duration;

use jiff::SignedDuration;
use jiff::Timestamp;

use crate::observation::ProcessId;

/// The clocks of a history: by how much each was off, until when.
#[derive(Debug, Default)]
pub(super) struct Clocks {
    spans: Vec<Span>,
}

#[derive(Debug)]
struct Span {
    process: ProcessId,
    off: SignedDuration,
    /// `None`: it still is.
    until: Option<Timestamp>,
}

impl Clocks {
    /// A process began, or its clock jumped: this is what it says from now on.
    pub(super) fn set(&mut self, process: ProcessId, at: Timestamp, clock: Timestamp) {
        self.stopped(process, at);
        self.spans.push(Span { process, off: clock.duration_since(at), until: None });
    }

    /// A process is no more.
    pub(super) fn stopped(&mut self, process: ProcessId, at: Timestamp) {
        let goes = |span: &&mut Span| span.process == process && span.until.is_none();
        self.spans.iter_mut().filter(goes).for_each(|span| span.until = Some(at));
    }

    /// By how much a clock may have been ahead of the world's at any time since then.
    pub(super) fn ahead(&self, since: Timestamp) -> Duration {
        let ahead = self.since(since).max().unwrap_or_default();
        Duration::try_from(ahead).unwrap_or_default()
    }

    /// By how much two clocks, the world's among them, may have differed since then.
    pub(super) fn spread(&self, since: Timestamp) -> Duration {
        let least = self.since(since).min().unwrap_or_default().min(SignedDuration::ZERO);
        let most = self.since(since).max().unwrap_or_default().max(SignedDuration::ZERO);
        Duration::try_from(most - least).unwrap_or_default()
    }

    fn since(&self, since: Timestamp) -> impl Iterator<Item = SignedDuration> {
        let went = move |span: &&Span| span.until.is_none_or(|until| until >= since);
        self.spans.iter().filter(went).map(|span| span.off)
    }
}
