//! A run's inbox: the journal of the signals sent to it.

use std::collections::HashMap;
use std::sync::Arc;

use expression::Value;
use jiff::Timestamp;

use crate::Encoded;
use crate::Event;
use crate::FORMAT;
use crate::Record;
use crate::ReplayError;
use crate::RunId;
use crate::ScopeKey;
use crate::ScopePath;
use crate::Unreadable;
use crate::scope::following;

/// A signal as it stands in an inbox.
#[derive(Clone, Debug, PartialEq)]
pub struct Signal {
    /// Its number, from 1.
    pub number: u64,
    /// Its name.
    pub name: Arc<str>,
    /// What it carries.
    pub payload: Value,
    /// When it was stored.
    pub at: Timestamp,
}

/// The fold of a run's inbox.
#[derive(Clone, Debug)]
pub struct Inbox {
    key: ScopeKey,
    seq: u64,
    hash: Arc<str>,
    time: Timestamp,
    ids: HashMap<Arc<str>, u64>,
    /// By name, each in order: a long inbox is not searched for one signal.
    signals: HashMap<Arc<str>, Vec<Signal>>,
}

impl Inbox {
    /// The inbox of `run` before its first record.
    pub fn new(run: RunId) -> Self {
        Self {
            key: ScopeKey::new(run, ScopePath::inbox()),
            seq: 0,
            hash: "".into(),
            time: Timestamp::UNIX_EPOCH,
            ids: HashMap::new(),
            signals: HashMap::new(),
        }
    }

    /// Folds the next stored record.
    pub fn replay(&mut self, stored: &Encoded) -> Result<(), ReplayError> {
        let record = following(stored, &self.key, self.seq, &self.hash)?;
        self.apply(record.events, record.at);
        self.seq = record.seq;
        self.time = record.at;
        self.hash = stored.hash.clone();
        Ok(())
    }

    /// Takes a signal: the record to append, or `None` if one with this id is there already. If the append fails, drop the
    /// inbox and load it again.
    pub fn send(
        &mut self,
        id: Arc<str>,
        name: Arc<str>,
        payload: Value,
        by: Option<Arc<str>>,
        append_id: Arc<str>,
        now: Timestamp,
    ) -> Result<Option<Encoded>, Unreadable> {
        if self.ids.contains_key(&id) {
            return Ok(None);
        }
        let at = now.max(self.time);
        let events = vec![Event::SignalSent { id, name, payload, by }];
        let record =
            Record { format: FORMAT, seq: self.seq + 1, append_id, prev: self.hash.clone(), at, events };
        let encoded = record.encode()?;
        self.apply(record.events, at);
        self.seq = encoded.seq;
        self.time = at;
        self.hash = encoded.hash.clone();
        Ok(Some(encoded))
    }

    fn apply(&mut self, events: Vec<Event>, at: Timestamp) {
        for event in events {
            if let Event::SignalSent { id, name, payload, .. } = event {
                let number = self.ids.len() as u64 + 1;
                self.ids.insert(id, number);
                self.signals.entry(name.clone()).or_default().push(Signal { number, name, payload, at });
            }
        }
    }

    /// Which journal it is.
    pub fn key(&self) -> &ScopeKey {
        &self.key
    }

    /// How many records it has.
    pub fn seq(&self) -> u64 {
        self.seq
    }

    /// The number of the signal with this id.
    pub fn number(&self, id: &str) -> Option<u64> {
        self.ids.get(id).copied()
    }

    /// The first signal called `name` with a number above `after`.
    pub fn next(&self, name: &str, after: u64) -> Option<&Signal> {
        let signals = self.signals.get(name)?;
        signals.get(signals.partition_point(|signal| signal.number <= after))
    }
}
