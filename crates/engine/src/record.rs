//! A journal's records: numbered, chained by hash, each a small batch of events.

use std::sync::Arc;

use jiff::Timestamp;
use serde::Deserialize;
use serde::Serialize;
use sha2::Digest;
use sha2::Sha256;

use crate::Event;
use crate::id::hex;

/// The format this engine writes: raised with every new event or field. It reads this and every earlier one, and refuses a
/// later one rather than guess.
pub const FORMAT: u16 = 1;

/// One record of a scope's journal.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Record {
    /// The version of the format it is written in: [`FORMAT`].
    #[serde(rename = "v")]
    pub format: u16,
    /// Its number: 1, 2, 3, …
    pub seq: u64,
    /// Random text by which a writer whose answer was lost recognises its own record.
    pub append_id: Arc<str>,
    /// The hash of the record before; empty for the first.
    pub prev: Arc<str>,
    /// When it was made; never before the record before.
    pub at: Timestamp,
    /// What happened, in order.
    pub events: Vec<Event>,
}

/// Why stored bytes are no record.
#[derive(Debug, thiserror::Error)]
pub enum Unreadable {
    /// Written by another engine.
    #[error(
        "record format {found} is unknown; this engine reads formats up to {FORMAT}: upgrade it before it touches this run"
    )]
    Format {
        /// The format it says.
        found: u64,
    },
    /// Not a record at all.
    #[error("a record of the journal cannot be read")]
    Malformed(#[source] serde_json::Error),
}

impl Record {
    /// The record as stored, and the hash by which the next one refers to it.
    pub fn encode(&self) -> Result<Encoded, Unreadable> {
        let body = serde_json::to_vec(self).map_err(Unreadable::Malformed)?;
        let hash = hash(&body);
        Ok(Encoded { seq: self.seq, at: self.at, append_id: self.append_id.clone(), body: body.into(), hash })
    }

    /// The record that was stored as `body`.
    pub fn decode(body: &[u8]) -> Result<Self, Unreadable> {
        #[derive(Deserialize)]
        struct Envelope {
            v: u64,
        }
        match serde_json::from_slice::<Self>(body) {
            Ok(record) if (1..=FORMAT).contains(&record.format) => Ok(record),
            Ok(record) => Err(Unreadable::Format { found: record.format.into() }),
            Err(error) => match serde_json::from_slice::<Envelope>(body) {
                Ok(envelope) if envelope.v > u64::from(FORMAT) => {
                    Err(Unreadable::Format { found: envelope.v })
                }
                _ => Err(Unreadable::Malformed(error)),
            },
        }
    }
}

/// A record as a journal stores it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Encoded {
    /// The record's number.
    pub seq: u64,
    /// Its time.
    pub at: Timestamp,
    /// Its writer's mark.
    pub append_id: Arc<str>,
    /// The record as JSON.
    pub body: Arc<[u8]>,
    /// SHA-256 of `body`, in hexadecimal.
    pub hash: Arc<str>,
}

/// SHA-256 of a stored record, in hexadecimal: what the next record carries as `prev`.
pub fn hash(body: &[u8]) -> Arc<str> {
    hex(Sha256::digest(body).iter()).into()
}
