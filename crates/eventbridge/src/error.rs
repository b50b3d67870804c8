//! What can go wrong, as runtime's `StoreError` with the code of its page.

use runtime::ports::StoreError;
use runtime::ports::StoreErrorKind;

/// The bus cannot be reached, asks for less, or refuses what it is told.
pub(crate) const BUS_UNAVAILABLE: &str = "BUS_UNAVAILABLE";

/// The codes of this crate's errors; each has its page in `docs/errors`.
pub const CODES: &[(&str, &str)] =
    &[(BUS_UNAVAILABLE, "an event bus cannot be reached, or does not take what it is told")];

/// Whatever it was, it is told again later: nobody waits for it, and who looks after the bus may give a right that is missing.
pub(crate) fn unavailable(message: String) -> StoreError {
    StoreError { kind: StoreErrorKind::Unavailable, code: BUS_UNAVAILABLE, message }
}
