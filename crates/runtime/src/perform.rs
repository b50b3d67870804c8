//! Performing one attempt: until it answers, takes too long, or is no longer wanted.

use std::time::Duration;

use engine::Error as StepError;
use engine::Failure;
use engine::ScopeKey;
use engine::Stimulus;
use engine::error_type;
use expression::Value;
use jiff::Timestamp;
use model::Action;
use model::Millis;

use crate::Runtime;
use crate::claims::Worker;
use crate::drive::Turn;
use crate::drive::idempotency_key;
use crate::drive::is_most;
use crate::error::Error;
use crate::heads::Head;
use crate::open::Opened;
use crate::ports::Call;
use crate::ports::CallError;
use crate::ports::Lease;
use crate::runtime::later;
use crate::runtime::until;

/// How long the end of an attempt may be put off to look at a scope that is paused, or whose store does not answer.
const RECHECK: Duration = Duration::from_secs(5);

/// What came of an attempt.
pub(crate) enum Performed {
    /// It answered, or took longer than its own timeout.
    Answer(Stimulus),
    /// A deadline around the step passed; it was stopped.
    Due,
    /// The claim is no longer the scope's; it was stopped.
    Lost,
    /// The turn ended before the time that the step may take; it was stopped.
    Cut,
}

/// A claim being performed.
struct Holding<'a> {
    scope: &'a ScopeKey,
    claim: u64,
    deadline: Option<Timestamp>,
}

impl Runtime {
    /// Performs the scope's claim, which is the caller's. Writes the snapshot that is due meanwhile.
    pub(crate) async fn perform(
        &self,
        head: &mut Head,
        worker: &Worker,
        turn: Option<Turn>,
    ) -> Result<Performed, Error> {
        let Some(claim) = head.scope.claim(&head.workflow) else { return Ok(Performed::Lost) };
        let now = self.now();
        let own = claim
            .state
            .timeout
            .map_or(self.core.options.step_timeout, |Millis(millis)| Duration::from_millis(millis));
        let left = turn.and_then(|turn| turn.stop_at).map(|stop| until(now, stop));
        let timeout = left.map_or(own, |left| own.min(left));
        // A step that had all the time that there ever is has had its own.
        let whole = turn.and_then(|turn| turn.whole()).unwrap_or(Duration::MAX);
        let cut = timeout < own && !is_most(timeout, own.min(whole));
        let scope = head.key().clone();
        let run = head.scope.run().ok_or_else(|| Error::RunNotFound { run: scope.run.clone() })?;
        let agent_hash = match &claim.operation.action {
            Action::Agent(name) => run.agents.get(name).cloned(),
            _ => None,
        };
        let call = Call {
            action: claim.operation.action.clone(),
            agent_hash,
            request: claim.request.clone(),
            secrets: claim.secrets.to_vec(),
            idempotency_key: idempotency_key(&scope.run, &claim.step, claim.key),
            run: scope.run.clone(),
            scope: scope.path.clone(),
            step: claim.step.clone(),
            state: claim.state.name.clone(),
            attempt: claim.attempt,
            epoch: claim.epoch,
            // Where the turn ends first, that is no answer of the action's.
            timeout: if cut { own } else { timeout },
        };
        let (state, visit, attempt, epoch) =
            (claim.state.name.clone(), claim.visit, claim.attempt, claim.epoch);
        let holding = Holding { scope: &scope, claim: claim.seq, deadline: claim.deadline };
        if let Some(stopped) = self.overtaken(&holding, claim.at).await? {
            return Ok(stopped);
        }

        let mut action = self.core.ports.agents.perform(call);
        // What answers at once needs no timer, no heartbeat and no supervision.
        let answer = match futures::poll!(action.as_mut()) {
            std::task::Poll::Ready(answer) => answer,
            std::task::Poll::Pending => {
                let snapshot = async {
                    if head.wants_snapshot(self.core.options.snapshot_bytes) {
                        self.snapshot(head).await;
                    }
                };
                let supervised = async {
                    tokio::select! {
                        biased;
                        answer = &mut action => Ok(answer),
                        () = self.core.ports.clock.sleep(timeout) => {
                            if cut { Err(Performed::Cut) } else { Ok(Err(timed_out(timeout))) }
                        }
                        stopped = self.supervise(&holding, worker) => Err(stopped),
                    }
                };
                let (answer, ()) = futures::join!(supervised, snapshot);
                match answer {
                    Ok(answer) => answer,
                    Err(stopped) => return Ok(stopped),
                }
            }
        };
        if head.wants_snapshot(self.core.options.snapshot_bytes) {
            self.snapshot(head).await;
        }
        Ok(Performed::Answer(answered(state, visit, attempt, epoch, answer)))
    }

    /// Looks again before a claim is performed that took so long to be stored that another worker may have taken over, and
    /// may even have finished: what has succeeded must not begin again.
    async fn overtaken(&self, holding: &Holding<'_>, claimed: Timestamp) -> Result<Option<Performed>, Error> {
        let options = &self.core.options;
        if options.exclusive {
            return Ok(None);
        }
        let mut known = claimed;
        while self.now() >= later(known, options.lease / 2) {
            known = self.now();
            self.renew(holding.scope, holding.claim).await;
            match self.still_wanted(holding, holding.deadline).await? {
                Wanted::Until(_) => {}
                Wanted::Due => return Ok(Some(Performed::Due)),
                Wanted::No => return Ok(Some(Performed::Lost)),
            }
        }
        Ok(None)
    }

    /// Keeps the claim alive, and answers when it is no longer wanted.
    async fn supervise(&self, holding: &Holding<'_>, worker: &Worker) -> Performed {
        let options = &self.core.options;
        let clock = &self.core.ports.clock;
        let third = options.lease / 3;
        let mut deadline = holding.deadline;
        let mut beat = later(self.now(), third);
        loop {
            let now = self.now();
            let wake = match (deadline, options.exclusive) {
                (deadline, false) => Some(deadline.map_or(beat, |deadline| deadline.min(beat))),
                (deadline, true) => deadline,
            };
            let timer = async {
                match wake {
                    Some(wake) => clock.sleep(until(now, wake)).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                biased;
                () = worker.stopped() => {}
                () = timer => {}
            }
            let now = self.now();
            if !options.exclusive && now >= beat {
                self.renew(holding.scope, holding.claim).await;
                beat = later(self.now(), third);
            }
            match self.still_wanted(holding, deadline).await {
                Ok(Wanted::Until(next)) => deadline = next,
                Ok(Wanted::Due) => return Performed::Due,
                Ok(Wanted::No) => return Performed::Lost,
                Err(error) => {
                    tracing::warn!(scope = %holding.scope, %error, "cannot see whether a step is still wanted");
                    deadline = deadline.map(|deadline| deadline.max(later(now, RECHECK)));
                }
            }
        }
    }

    /// Says that the worker of this claim is alive.
    pub(crate) async fn renew(&self, scope: &ScopeKey, claim: u64) {
        let options = &self.core.options;
        let until = later(self.now(), options.lease);
        let lease = Lease { worker: options.worker.clone(), claim, until };
        if let Err(error) = self.core.ports.journal.renew(scope, &lease).await {
            tracing::warn!(%scope, %error, "a lease was not renewed");
        }
    }

    /// Whether the journal still says that this claim is to be performed.
    async fn still_wanted(
        &self,
        holding: &Holding<'_>,
        deadline: Option<Timestamp>,
    ) -> Result<Wanted, Error> {
        let now = self.now();
        let passed = deadline.is_some_and(|deadline| deadline <= now);
        let last = self.core.ports.journal.head(holding.scope).await?;
        if last.is_some_and(|record| record.seq == holding.claim) && !passed {
            return Ok(Wanted::Until(deadline));
        }
        let Opened::Head(head) = self.load(holding.scope).await? else { return Ok(Wanted::No) };
        match head.scope.claim(&head.workflow) {
            Some(claim) if claim.seq == holding.claim => Ok(match claim.deadline {
                Some(deadline) if deadline <= now => Wanted::Due,
                deadline => Wanted::Until(deadline),
            }),
            _ => Ok(Wanted::No),
        }
    }
}

enum Wanted {
    Until(Option<Timestamp>),
    Due,
    No,
}

fn answered(
    state: std::sync::Arc<str>,
    visit: u32,
    attempt: u32,
    epoch: u32,
    answer: Result<Value, CallError>,
) -> Stimulus {
    let result = answer.map_err(|error| Failure {
        error: error.error,
        definite: error.definite,
        retry_after: error
            .retry_after
            .map(|after| Millis(u64::try_from(after.as_millis()).unwrap_or(u64::MAX))),
    });
    Stimulus::Performed { state, visit, attempt, epoch, result }
}

fn timed_out(timeout: Duration) -> CallError {
    let message = format!("no answer within {timeout:?}");
    CallError {
        error: StepError::new(error_type::TIMEOUT, message).with_code("STEP_TIMED_OUT"),
        definite: false,
        retry_after: None,
    }
}
