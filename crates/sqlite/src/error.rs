//! What can go wrong, as runtime's `StoreError` with the code of its page.

use std::path::Path;

use runtime::ports::StoreError;
use runtime::ports::StoreErrorKind;
use rusqlite::ErrorCode;
use rusqlite::ffi;

/// The codes of this crate's errors; each has its page in `docs/errors`.
pub mod code {
    /// Another process holds the store.
    pub const LOCKED: &str = "STORE_LOCKED";
    /// The file was written by a newer version.
    pub const NEWER_SCHEMA: &str = "STORE_NEWER_SCHEMA";
    /// The file is no Stepwell store.
    pub const NOT_A_STORE: &str = "STORE_NOT_A_STORE";
    /// The path cannot be opened: a folder is missing, or it is one.
    pub const PATH: &str = "STORE_PATH";
    /// The file or its folder cannot be written.
    pub const READ_ONLY: &str = "STORE_READ_ONLY";
    /// No space is left.
    pub const FULL: &str = "STORE_FULL";
    /// The file is damaged.
    pub const CORRUPT: &str = "STORE_CORRUPT";
    /// The system failed to read or write.
    pub const IO: &str = "STORE_IO";
    /// Another program holds a lock inside the file.
    pub const BUSY: &str = "STORE_BUSY";
    /// A value is larger than a row can be.
    pub const TOO_BIG: &str = "STORE_TOO_BIG";
    /// The store has been closed.
    pub const CLOSED: &str = "STORE_CLOSED";
    /// Anything else SQLite reports.
    pub const FAILED: &str = "STORE_FAILED";
    /// A record is appended that does not follow the last one.
    pub const JOURNAL_GAP: &str = "JOURNAL_GAP";
    /// A list is to be continued at a place that it never gave.
    pub const CURSOR_INVALID: &str = "CURSOR_INVALID";
}

/// Every code with one line for an index of errors.
pub const CODES: &[(&str, &str)] = &[
    (code::LOCKED, "another process holds the store"),
    (code::NEWER_SCHEMA, "the store was written by a newer version of stepwell"),
    (code::NOT_A_STORE, "the file is not a Stepwell store"),
    (code::PATH, "the store's path cannot be opened"),
    (code::READ_ONLY, "the store or its folder cannot be written"),
    (code::FULL, "no space is left for the store"),
    (code::CORRUPT, "the store's file is damaged"),
    (code::IO, "the system failed to read or write the store"),
    (code::BUSY, "another program keeps the store's file locked"),
    (code::TOO_BIG, "a value is larger than the store can hold"),
    (code::CLOSED, "the store has been closed"),
    (code::FAILED, "SQLite reported an unexpected failure"),
    (code::JOURNAL_GAP, "a record does not follow the last one of its journal"),
    (code::CURSOR_INVALID, "the cursor of a list is not one that it gave"),
];

pub(crate) fn permanent(code: &'static str, message: impl Into<String>) -> StoreError {
    StoreError { kind: StoreErrorKind::Permanent, code, message: message.into() }
}

pub(crate) fn unavailable(code: &'static str, message: impl Into<String>) -> StoreError {
    StoreError { kind: StoreErrorKind::Unavailable, code, message: message.into() }
}

pub(crate) fn closed() -> StoreError {
    unavailable(code::CLOSED, "the store has been closed; nothing was written")
}

/// The writer went away before it answered.
pub(crate) fn unanswered() -> StoreError {
    StoreError {
        kind: StoreErrorKind::Unknown,
        code: code::CLOSED,
        message: "the store closed before it answered".into(),
    }
}

pub(crate) fn corrupt(message: impl Into<String>) -> StoreError {
    permanent(
        code::CORRUPT,
        format!("{}; stop stepwell, keep a copy of the file and restore it from a backup", message.into()),
    )
}

/// Whether a commit that failed with this may have taken effect all the same: only a failing disk leaves that open.
pub(crate) fn is_ambiguous(error: &rusqlite::Error) -> bool {
    error.sqlite_error_code() == Some(ErrorCode::SystemIoFailure)
}

/// What SQLite's failure at doing something to the file at `path` means.
pub(crate) fn from_sqlite(error: &rusqlite::Error, path: &Path) -> StoreError {
    let file = path.display();
    match error {
        rusqlite::Error::SqliteFailure(ffi::Error { code, .. }, _) => match code {
            ErrorCode::DiskFull => unavailable(
                code::FULL,
                format!(
                    "no space is left for {file}: nothing was written; free some space and it goes on ({error})"
                ),
            ),
            ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase => {
                corrupt(format!("{file} is damaged ({error})"))
            }
            ErrorCode::ReadOnly | ErrorCode::PermissionDenied => permanent(
                code::READ_ONLY,
                format!("{file} cannot be written: let this user write the file and its folder ({error})"),
            ),
            ErrorCode::CannotOpen => permanent(
                code::PATH,
                format!("{file} cannot be opened: check the path and its permissions ({error})"),
            ),
            ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked | ErrorCode::FileLockingProtocolFailed => {
                unavailable(
                    code::BUSY,
                    format!("another program keeps {file} locked: close it and it goes on ({error})"),
                )
            }
            ErrorCode::SystemIoFailure => unavailable(
                code::IO,
                format!(
                    "the system failed to read or write {file}: look at the disk and the system's log ({error})"
                ),
            ),
            ErrorCode::TooBig => permanent(
                code::TOO_BIG,
                format!("a value is larger than {file} can hold: nothing was written ({error})"),
            ),
            // A constraint that fails or a statement that does not fit the tables: not our tables any more.
            ErrorCode::ConstraintViolation | ErrorCode::TypeMismatch | ErrorCode::Unknown => {
                corrupt(format!("{file} does not hold what it should ({error})"))
            }
            _ => permanent(code::FAILED, format!("SQLite failed on {file} ({error})")),
        },
        // A statement of ours that SQLite does not understand: these are not our tables.
        rusqlite::Error::SqlInputError { .. }
        | rusqlite::Error::FromSqlConversionFailure(..)
        | rusqlite::Error::IntegralValueOutOfRange(..)
        | rusqlite::Error::InvalidColumnType(..)
        | rusqlite::Error::QueryReturnedNoRows
        | rusqlite::Error::Utf8Error(..) => {
            corrupt(format!("{file} holds a value that cannot be read ({error})"))
        }
        _ => permanent(code::FAILED, format!("SQLite failed on {file} ({error})")),
    }
}
