//! How values stand in columns and cursors.

use jiff::Timestamp;
use runtime::ports::RunStatus;
use runtime::ports::StoreError;

use crate::error::code;
use crate::error::permanent;

/// Nanoseconds since 1970. What lies beyond a column's range (the years 1677 and 2262) becomes its end: a due time that
/// far away is looked at then and found not to be due yet; a record's own time stands in its body.
pub(crate) fn time(at: Timestamp) -> i64 {
    i64::try_from(at.as_nanosecond()).unwrap_or(if at < Timestamp::UNIX_EPOCH { i64::MIN } else { i64::MAX })
}

pub(crate) fn to_time(column: i64) -> Timestamp {
    // Every such number of nanoseconds is a time that jiff can express.
    Timestamp::from_nanosecond(i128::from(column)).unwrap_or(Timestamp::UNIX_EPOCH)
}

/// A count or number as a column. Beyond the range only by a mistake that no journal can grow into.
pub(crate) fn number(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

pub(crate) fn to_number(column: i64) -> u64 {
    u64::try_from(column).unwrap_or(0)
}

pub(crate) fn limit(rows: usize) -> i64 {
    i64::try_from(rows).unwrap_or(i64::MAX)
}

/// The first eight bytes of a hash in hexadecimal; 0 for what is none.
pub(crate) fn digest(hash: &str) -> i64 {
    hash.get(..16).and_then(|head| u64::from_str_radix(head, 16).ok()).unwrap_or(0).cast_signed()
}

/// The columns' numbers of statuses. They stand in files: new ones are added, none changes.
pub(crate) fn status(status: RunStatus) -> i64 {
    match status {
        RunStatus::Pending => 0,
        RunStatus::Running => 1,
        RunStatus::WaitingApproval => 2,
        RunStatus::WaitingSignal => 3,
        RunStatus::WaitingTimer => 4,
        RunStatus::Pausing => 5,
        RunStatus::Paused => 6,
        RunStatus::Cancelling => 7,
        RunStatus::Completed => 8,
        RunStatus::Failed => 9,
        RunStatus::Cancelled => 10,
        RunStatus::TimedOut => 11,
    }
}

pub(crate) fn to_status(column: i64) -> Option<RunStatus> {
    RunStatus::ALL.into_iter().find(|known| status(*known) == column)
}

/// A place in the list `list`, opaque to whoever holds it.
pub(crate) fn cursor(list: char, place: &str) -> String {
    let mut text = String::with_capacity(1 + 2 * place.len());
    text.push(list);
    for byte in place.bytes() {
        for nibble in [byte >> 4, byte & 15] {
            text.push(char::from_digit(u32::from(nibble), 16).unwrap_or('0'));
        }
    }
    text
}

/// The place that a cursor of the list `list` names.
pub(crate) fn to_place(list: char, cursor: &str) -> Result<String, StoreError> {
    let invalid = || {
        let shown: String = cursor.chars().take(80).collect();
        permanent(code::CURSOR_INVALID, format!("`{shown}` is no cursor of this list: begin without one"))
    };
    let digits = cursor.strip_prefix(list).ok_or_else(invalid)?.as_bytes();
    let bytes = digits
        .chunks(2)
        .map(|pair| {
            u8::from_str_radix(std::str::from_utf8(pair).ok().filter(|pair| pair.len() == 2)?, 16).ok()
        })
        .collect::<Option<Vec<u8>>>()
        .ok_or_else(invalid)?;
    String::from_utf8(bytes).map_err(|_| invalid())
}

/// The row id that a cursor of the list `list` names.
pub(crate) fn to_row(list: char, cursor: &str) -> Result<i64, StoreError> {
    to_place(list, cursor)?.parse().map_err(|_| no_such_place())
}

pub(crate) fn no_such_place() -> StoreError {
    permanent(code::CURSOR_INVALID, "this is no cursor of this list: begin without one")
}
