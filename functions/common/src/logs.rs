//! Logs as JSON lines on stdout, where Lambda takes them from.

use tracing::level_filters::LevelFilter;

/// Each line has its fields beside its message, and those of the spans around it: the invocation's request id, the run and
/// the scope.
pub(crate) fn init(level: LevelFilter) {
    let set = tracing_subscriber::fmt()
        .json()
        .flatten_event(true)
        .with_current_span(true)
        .with_span_list(false)
        .with_max_level(level)
        .with_ansi(false)
        .try_init();
    if let Err(error) = set {
        tracing::warn!(%error, "logging is set up already");
    }
}
