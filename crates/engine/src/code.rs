//! The codes of the errors that the engine raises; each has a page in `docs/errors`.

/// A run took longer than its `timeoutSeconds`.
pub const RUN_TIMED_OUT: &str = "RUN_TIMED_OUT";
/// A composite state took longer than its `timeoutSeconds`.
pub const STATE_TIMED_OUT: &str = "STATE_TIMED_OUT";
/// Nobody decided in time.
pub const APPROVAL_TIMED_OUT: &str = "APPROVAL_TIMED_OUT";
/// An approval was rejected.
pub const APPROVAL_REJECTED: &str = "APPROVAL_REJECTED";
/// A signal did not come in time.
pub const SIGNAL_TIMED_OUT: &str = "SIGNAL_TIMED_OUT";
/// Workers died while they performed a step.
pub const STEP_INTERRUPTED: &str = "STEP_INTERRUPTED";
/// No condition of a `switch` holds.
pub const SWITCH_NO_MATCH: &str = "SWITCH_NO_MATCH";
/// A `while` went round too often.
pub const LOOP_LIMIT: &str = "LOOP_LIMIT";
/// A `dataPath`, `itemsPath`, `summaryPath` or `inputPath` leads nowhere, or to something of the wrong kind.
pub const PATH_FAILED: &str = "PATH_FAILED";
/// A result cannot be written where it should be.
pub const WRITE_FAILED: &str = "WRITE_FAILED";
/// A rendered value is not what its field takes.
pub const VALUE_UNFIT: &str = "VALUE_UNFIT";
/// A run's output does not fit `outputSchema`.
pub const OUTPUT_SCHEMA_VIOLATION: &str = "OUTPUT_SCHEMA_VIOLATION";
/// A child run was cancelled.
pub const CHILD_CANCELLED: &str = "CHILD_CANCELLED";

/// All of them.
pub const ALL: &[&str] = &[
    RUN_TIMED_OUT,
    STATE_TIMED_OUT,
    APPROVAL_TIMED_OUT,
    APPROVAL_REJECTED,
    SIGNAL_TIMED_OUT,
    STEP_INTERRUPTED,
    SWITCH_NO_MATCH,
    LOOP_LIMIT,
    PATH_FAILED,
    WRITE_FAILED,
    VALUE_UNFIT,
    OUTPUT_SCHEMA_VIOLATION,
    CHILD_CANCELLED,
    "RECORD_FORMAT_UNKNOWN",
    "RECORD_UNREADABLE",
    "JOURNAL_GAP",
    "JOURNAL_ALTERED",
];
