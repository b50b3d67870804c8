//! What can go wrong, as runtime's `StoreError` with the code of its page.

use runtime::ports::StoreError;
use runtime::ports::StoreErrorKind;

/// The codes of this crate's errors; each has its page in `docs/errors`.
pub mod code {
    /// The table answers that it cannot take more at the moment.
    pub const THROTTLED: &str = "TABLE_THROTTLED";
    /// The table does not answer, or not in time.
    pub const UNREACHABLE: &str = "TABLE_UNREACHABLE";
    /// The table refuses what it is asked: it is not there, not ours, or made otherwise.
    pub const REFUSED: &str = "TABLE_REFUSED";
    /// An item does not hold what was written.
    pub const DAMAGED: &str = "TABLE_DAMAGED";
    /// The bucket of large values does not answer, or refuses.
    pub const BLOBS: &str = "BLOBS_FAILED";
    /// A large value is not in its bucket.
    pub const BLOB_MISSING: &str = "BLOB_MISSING";
    /// A record is appended that does not follow the last one.
    pub const JOURNAL_GAP: &str = "JOURNAL_GAP";
    /// A list is to be continued at a place that it never gave.
    pub const CURSOR_INVALID: &str = "CURSOR_INVALID";
}

/// Every code with one line for an index of errors.
pub const CODES: &[(&str, &str)] = &[
    (code::THROTTLED, "the table cannot take more requests at the moment"),
    (code::UNREACHABLE, "the table does not answer"),
    (code::REFUSED, "the table refuses what it is asked"),
    (code::DAMAGED, "an item of the table does not hold what was written"),
    (code::BLOBS, "the bucket of large values cannot be used"),
    (code::BLOB_MISSING, "a large value is not in its bucket"),
    (code::JOURNAL_GAP, "a record does not follow the last one of its journal"),
    (code::CURSOR_INVALID, "the cursor of a list is not one that it gave"),
];

pub(crate) fn permanent(code: &'static str, message: impl Into<String>) -> StoreError {
    StoreError { kind: StoreErrorKind::Permanent, code, message: message.into() }
}

pub(crate) fn unavailable(code: &'static str, message: impl Into<String>) -> StoreError {
    StoreError { kind: StoreErrorKind::Unavailable, code, message: message.into() }
}

pub(crate) fn unknown(code: &'static str, message: impl Into<String>) -> StoreError {
    StoreError { kind: StoreErrorKind::Unknown, code, message: message.into() }
}

pub(crate) fn damaged(message: impl Into<String>) -> StoreError {
    let message = message.into();
    permanent(
        code::DAMAGED,
        format!("{message}; something else wrote to the table: restore it from a backup"),
    )
}

pub(crate) fn no_such_cursor(cursor: &str) -> StoreError {
    let shown: String = cursor.chars().take(80).collect();
    permanent(code::CURSOR_INVALID, format!("`{shown}` is no cursor of this list: begin without one"))
}
