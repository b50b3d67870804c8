//! The four handlers, and the sweep: plain functions over the ports. Each home only feeds them: [`Service`](crate::Service)
//! with what its doorbells say, a serverless function with one message and the time that is left of its invocation.

use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::time::Duration;

use engine::RunId;
use engine::ScopeKey;
use engine::Vote;
use futures::FutureExt as _;
use futures::future::Either;
use jiff::Timestamp;
use tracing::Instrument as _;

use crate::Runtime;
use crate::drive::Errand;
use crate::drive::Turn;
use crate::error::Error;
use crate::error::StartError;
use crate::error::VoteError;
use crate::notices::of_summary;
use crate::ports::Delivery;
use crate::ports::Hint;
use crate::ports::News;
use crate::runtime::later;
use crate::view::StartRequest;
use crate::view::Started;
use crate::view::Voted;

pub use crate::schedule::Ticked;
pub use crate::schedule::tick;
pub use crate::sweep::Swept;
pub use crate::sweep::recover;
pub use crate::sweep::sweep;

/// What an invocation that is about to end needs to store and ring.
pub(crate) const RESERVE: Duration = Duration::from_secs(10);
/// A pause after what should not happen has happened.
const SETBACK: Duration = Duration::from_secs(1);

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
        Some(left) => {
            Turn { begun: now, yield_at: later(now, left.min(inline) / 2), stop_at: Some(later(now, left)) }
        }
        None => Turn { begun: now, yield_at: later(now, inline), stop_at: None },
    };
    answer(runtime, delivery, Some(turn), patient_until(now, remaining)).await
}

/// Answers a doorbell of the queue `resume`: timers, decisions, signals, children's ends, control. Performs nothing.
/// `remaining` as for [`step`].
pub async fn resume(
    runtime: &Runtime,
    delivery: &Delivery,
    remaining: Option<Duration>,
) -> Result<(), Unanswered> {
    answer(runtime, delivery, None, patient_until(runtime.now(), remaining)).await
}

/// Answers many doorbells of the queue `resume`, those of one scope with one visit. Answers with each visit's doorbells and what
/// came of it; a panic is that of one visit.
pub async fn resume_all(
    runtime: &Runtime,
    deliveries: Vec<Delivery>,
    remaining: Option<Duration>,
) -> Vec<(Vec<Delivery>, Result<(), Unanswered>)> {
    let mut groups: Vec<Vec<Delivery>> = Vec::new();
    for delivery in deliveries {
        let same =
            |group: &&mut Vec<Delivery>| group.first().is_some_and(|first| first.scope == delivery.scope);
        match groups.iter_mut().find(same) {
            Some(group) => group.push(delivery),
            None => groups.push(vec![delivery]),
        }
    }
    let visits = groups.into_iter().map(async |group| {
        let Some(merged) = merge(&group) else { return (group, Ok(())) };
        // There at every level, or lines would lack it where less is logged.
        let span = tracing::error_span!("resume", run = %merged.scope.run, scope = %merged.scope.path);
        let result = guarded(&merged.scope, resume(runtime, &merged, remaining)).instrument(span).await;
        (group, result)
    });
    futures::future::join_all(visits).await
}

/// One delivery that stands for all of these, which are of one scope.
fn merge(group: &[Delivery]) -> Option<Delivery> {
    let mut merged = group.first()?.clone();
    for delivery in group.iter().skip(1) {
        merged.redeliveries = merged.redeliveries.max(delivery.redeliveries);
        for hint in &delivery.hints {
            if !merged.hints.contains(hint) {
                merged.hints.push(hint.clone());
            }
        }
    }
    Some(merged)
}

/// Works while its doorbells are kept from ringing again: each lease, until the work is done. Where doorbells live and die with
/// the process, none has to be kept.
pub async fn held<T>(runtime: &Runtime, deliveries: &[Delivery], work: impl Future<Output = T> + Unpin) -> T {
    let options = runtime.options();
    if options.exclusive {
        return work.await;
    }
    let beats = async {
        loop {
            runtime.core.ports.clock.sleep(options.lease).await;
            // Failing that, it may ring again too early, and finds a live claim.
            if let Err(error) = runtime.core.ports.doorbell.extend(deliveries, options.lease * 2).await {
                tracing::warn!(%error, "doorbells that are being answered could not be kept from ringing again");
            }
        }
    };
    match futures::future::select(work, std::pin::pin!(beats)).await {
        Either::Left((done, _)) => done,
        Either::Right((never, _)) => never,
    }
}

/// A panic in this work is a bug, but it is to take nothing else with it: neither its worker nor other doorbells.
pub fn guarded(
    scope: &ScopeKey,
    work: impl Future<Output = Result<(), Unanswered>>,
) -> impl Future<Output = Result<(), Unanswered>> {
    AssertUnwindSafe(work).catch_unwind().map(move |finished| {
        finished.unwrap_or_else(|_| {
            tracing::error!(%scope, "a handler panicked");
            Err(Unanswered { error: Error::Panicked { scope: scope.clone() }, retry_after: SETBACK })
        })
    })
}

/// Until when a store that does not answer is waited for: what is left then is enough to say so.
fn patient_until(now: Timestamp, remaining: Option<Duration>) -> Option<Timestamp> {
    remaining.map(|remaining| later(now, remaining.saturating_sub(RESERVE / 2)))
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

async fn answer(
    runtime: &Runtime,
    delivery: &Delivery,
    turn: Option<Turn>,
    patient_until: Option<Timestamp>,
) -> Result<(), Unanswered> {
    let scope = &delivery.scope;
    let hints =
        delivery.hints.iter().filter(|hint| !matches!(hint, Hint::None | Hint::Missed)).cloned().collect();
    let thorough = delivery.redeliveries > 0 || delivery.hints.contains(&Hint::Missed);
    let errand = Errand { hints, turn, patient_until, thorough, ..Errand::default() };
    match runtime.drive(scope, errand).await {
        Ok(()) => {
            // Another process may have marked it, after visits that failed; this one came again because of them.
            let elsewhere = thorough && !runtime.options().exclusive;
            if runtime.core.trouble.went_well(scope) || elsewhere {
                runtime.mark(&scope.run, None).await;
            }
            Ok(())
        }
        Err(error) => {
            let visits = runtime.core.trouble.failed(scope).max(delivery.redeliveries);
            if error.needs_repair() || visits >= runtime.options().visits {
                let code = if error.needs_repair() { error.code() } else { "NO_PROGRESS" };
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
                Ok(true) => {
                    if let Some(code) = &summary.stuck {
                        let news = News::Stuck { code: code.clone() };
                        Box::pin(self.tell(vec![of_summary(&summary, news)])).await;
                    }
                    break;
                }
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
