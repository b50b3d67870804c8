//! How a store can fail.

use engine::Encoded;

/// A store could not do what was asked.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{code}: {message}")]
pub struct StoreError {
    /// What may be done about it.
    pub kind: StoreErrorKind,
    /// The code of its page in `docs/errors`.
    pub code: &'static str,
    /// What happened, where, and what to do, with the causes.
    pub message: String,
}

/// What may be done about a failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StoreErrorKind {
    /// Nothing was changed; trying again may help (busy, throttled, disk full).
    Unavailable,
    /// It may or may not have taken effect: read before writing again.
    Unknown,
    /// Trying again will not help (corrupt, read-only, a newer schema).
    Permanent,
}

/// Why a record was not appended.
#[derive(Debug, thiserror::Error)]
pub enum AppendError {
    /// The number is taken, by the record given. Reload and decide again (or see that it is one's own).
    #[error("record {} exists already", .0.seq)]
    Conflict(Box<Encoded>),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}
