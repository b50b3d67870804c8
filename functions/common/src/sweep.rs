//! Each minute: what is due, and what is scheduled.

use std::time::Duration;

use runtime::Runtime;
use runtime::handlers;

/// Ticks this old are looked at by each sweep, so that one that fails is made good by the next.
const WINDOW: Duration = Duration::from_mins(3);

/// Sweeps, then fires schedules. Each is done also if the other fails; what is left undone the next sweep does.
pub(crate) async fn sweep(runtime: &Runtime, remaining: Duration) -> Result<(), lambda_runtime::Error> {
    let swept = handlers::sweep(runtime, Some(remaining)).await;
    let ticked = handlers::tick(runtime, WINDOW).await;
    let swept = swept?;
    let ticked = ticked?;
    tracing::info!(
        looked_at = swept.looked_at,
        rung = swept.rung,
        removed = swept.removed,
        started = ticked.started,
        "swept"
    );
    if ticked.failed > 0 {
        return Err(format!("{} runs that are scheduled could not be started yet", ticked.failed).into());
    }
    Ok(())
}
