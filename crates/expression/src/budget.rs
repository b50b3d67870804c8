//! What one evaluation may use.

/// How much an evaluation may still use. What it used is taken off, so that several can share one budget.
///
/// The numbers are exact and do not depend on the machine: the same expression on the same data always
/// uses the same.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Budget {
    /// Steps: about one for each operation, and one for each 32 bytes that are looked at or copied.
    pub fuel: u64,
    /// Bytes the program may allocate in all, whether it still needs them or not.
    pub bytes: u64,
    /// Bytes its result may have, as compact JSON.
    pub result_bytes: u64,
}

impl Budget {
    /// What an expression may use in all: up to about a second of work.
    pub fn full() -> Self {
        Self { fuel: 10_000_000, bytes: 64 << 20, result_bytes: 16 << 20 }
    }

    /// About a millisecond of work, for a first try where nothing may block. What does not fit fails with
    /// [`FuelExhausted`](crate::EvalErrorKind::FuelExhausted) and is repeated with [`Budget::full`] elsewhere.
    pub fn quick() -> Self {
        Self { fuel: 20_000, ..Self::full() }
    }
}

impl Default for Budget {
    fn default() -> Self {
        Self::full()
    }
}
