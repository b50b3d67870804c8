//! The four handlers, and the sweep: plain functions over the ports. Each home only feeds them: [`Service`](crate::Service)
//! with what its doorbells say, a serverless function with one message and the time that is left of its invocation.

use std::time::Duration;

use engine::RunId;
use engine::Vote;

use crate::Runtime;
use crate::drive::Errand;
use crate::drive::Turn;
use crate::error::Error;
use crate::error::StartError;
use crate::error::VoteError;
use crate::ports::Delivery;
use crate::ports::Hint;
use crate::runtime::later;
use crate::trouble::VISITS;
use crate::view::StartRequest;
use crate::view::Started;
use crate::view::Voted;

pub use crate::sweep::Swept;
pub use crate::sweep::recover;
pub use crate::sweep::sweep;

/// What an invocation that is about to end needs to store and ring.
const RESERVE: Duration = Duration::from_secs(10);

/// A doorbell could not be answered: it is to be delivered again after this time.
#[derive(Debug, thiserror::Error)]
#[error("{error}")]
pub struct Unanswered {
    /// Why.
    #[source]
    pub error: Error,
    /// When to try again.
    pub retry_after: Duration,
}

/// Starts a run.
pub async fn start(runtime: &Runtime, request: StartRequest) -> Result<Started, StartError> {
    runtime.start(request).await
}

/// Answers a doorbell of the queue `steps`: claims, performs, commits, and goes on inline. `remaining` is the time that is left
/// of the invocation; `None` where nothing ends it. When it answers `Ok`, the doorbell may be acknowledged.
pub async fn step(
    runtime: &Runtime,
    delivery: &Delivery,
    remaining: Option<Duration>,
) -> Result<(), Unanswered> {
    let now = runtime.now();
    let inline = runtime.options().inline_limit;
    let turn = match remaining.map(|remaining| remaining.saturating_sub(RESERVE)) {
        Some(left) => Turn { yield_at: later(now, left.min(inline) / 2), stop_at: Some(later(now, left)) },
        None => Turn { yield_at: later(now, inline), stop_at: None },
    };
    answer(runtime, delivery, Some(turn)).await
}

/// Answers a doorbell of the queue `resume`: timers, decisions, signals, children's ends, control. Performs nothing.
pub async fn resume(runtime: &Runtime, delivery: &Delivery) -> Result<(), Unanswered> {
    answer(runtime, delivery, None).await
}

/// Records a person's decision.
pub async fn approval(
    runtime: &Runtime,
    run: &RunId,
    approval: &str,
    vote: Vote,
) -> Result<Voted, VoteError> {
    runtime.vote(run, approval, vote).await
}

async fn answer(runtime: &Runtime, delivery: &Delivery, turn: Option<Turn>) -> Result<(), Unanswered> {
    let scope = &delivery.scope;
    let hints =
        delivery.hints.iter().filter(|hint| !matches!(hint, Hint::None | Hint::Missed)).cloned().collect();
    let thorough = delivery.redeliveries > 0 || delivery.hints.contains(&Hint::Missed);
    let errand = Errand { hints, turn, thorough, ..Errand::default() };
    match runtime.drive(scope, errand).await {
        Ok(()) => {
            if runtime.core.trouble.went_well(scope) {
                runtime.mark(&scope.run, None).await;
            }
            Ok(())
        }
        Err(error) => {
            let visits = runtime.core.trouble.failed(scope).max(delivery.redeliveries);
            if error.is_lasting() || visits >= VISITS {
                let code = if error.is_lasting() { error.code() } else { "NO_PROGRESS" };
                runtime.mark(&scope.run, Some(code)).await;
            }
            tracing::warn!(%scope, visits, %error, "a doorbell could not be answered");
            Err(Unanswered { error, retry_after: pause(visits) })
        }
    }
}

/// From a tenth of a second, doubling to five minutes.
fn pause(visits: u32) -> Duration {
    Duration::from_millis(100).saturating_mul(1 << visits.min(12)).min(Duration::from_mins(5))
}

impl Runtime {
    /// Marks a run as stuck, or as no longer stuck. Lists show it; if that fails, the next failed visit tries again.
    pub(crate) async fn mark(&self, run: &RunId, code: Option<&'static str>) {
        let catalog = &self.core.ports.catalog;
        for _ in 0..3 {
            let Ok(Some(mut summary)) = catalog.run(run).await else { return };
            if summary.stuck.as_deref() == code || summary.status.is_terminal() {
                break;
            }
            summary.stuck = code.map(Into::into);
            summary.updated_at = self.now().max(summary.updated_at);
            match catalog.project(&summary).await {
                Ok(true) => break,
                Ok(false) => {}
                Err(error) => {
                    tracing::warn!(%run, %error, "a run could not be marked as stuck");
                    return;
                }
            }
        }
        if code.is_some() {
            self.core.trouble.stuck(run);
        }
    }
}
