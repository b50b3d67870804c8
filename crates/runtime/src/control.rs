//! Control of runs, signals and decisions: what people and programs ask for while a run is under way.

use std::sync::Arc;
use std::time::Duration;

use engine::Inbox;
use engine::Outcome;
use engine::Refusal;
use engine::RunId;
use engine::ScopeKey;
use engine::Stimulus;
use engine::Vote;
use jiff::Timestamp;

use crate::Runtime;
use crate::drive::Errand;
use crate::drive::Visited;
use crate::error::ControlError;
use crate::error::Error;
use crate::error::VoteError;
use crate::extras::DOORLESS;
use crate::heads::Head;
use crate::ports::ApprovalRow;
use crate::ports::Extra;
use crate::ports::Hint;
use crate::ports::Queue;
use crate::ports::Ring;
use crate::ports::RunStatus;
use crate::runtime::later;
use crate::view::RunView;
use crate::view::SignalRequest;
use crate::view::Voted;

/// Tries to send a signal while others send to the same run.
const TRIES: u32 = 30;
/// Records of an inbox read at once.
const PAGE: usize = 1000;

impl Runtime {
    /// Nothing new is begun in the run from now on; what is in flight may finish.
    pub async fn pause(&self, run: &RunId, by: Option<Arc<str>>) -> Result<RunView, ControlError> {
        self.control(run, Stimulus::Pause { by }).await
    }

    /// The run goes on; its clocks stood still meanwhile.
    pub async fn resume(&self, run: &RunId, by: Option<Arc<str>>) -> Result<RunView, ControlError> {
        self.control(run, Stimulus::Resume { by }).await
    }

    /// The run ends as cancelled; what this process performs for it is stopped.
    pub async fn cancel(
        &self,
        run: &RunId,
        by: Option<Arc<str>>,
        reason: Option<Arc<str>>,
    ) -> Result<RunView, ControlError> {
        self.control(run, Stimulus::Cancel { by, reason }).await
    }

    /// A run that failed, timed out or was cancelled goes on from where that happened.
    pub async fn redrive(&self, run: &RunId, by: Option<Arc<str>>) -> Result<RunView, ControlError> {
        self.control(run, Stimulus::Redrive { by }).await
    }

    async fn control(&self, run: &RunId, stimulus: Stimulus) -> Result<RunView, ControlError> {
        let root = ScopeKey::root(run.clone());
        let visited = self.ask(&root, stimulus).await?;
        if !visited.found {
            return Err(Error::RunNotFound { run: run.clone() }.into());
        }
        let Some(refusal) = visited.refusal else {
            // Its branches have it too by now, as a rule; lists show it when they have.
            if !visited.listed
                && let Err(error) = self.project(run).await
            {
                tracing::warn!(%run, %error, "lists may show an older status for a while");
            }
            return Ok(self.get(run).await?);
        };
        let status = self.get(run).await?.summary.status;
        let run = run.clone();
        Err(match refusal {
            Refusal::Over(outcome) => ControlError::Over { run, status: status_of(&outcome) },
            Refusal::Paused => ControlError::Paused { run, status },
            Refusal::NotPaused => ControlError::NotPaused { run, status },
            Refusal::Cancelling => ControlError::Cancelling { run, status },
            _ => ControlError::NotFailed { run, status },
        })
    }

    /// A visit without a doorbell: once what is asked for is stored, the answer is yes.
    async fn ask(&self, key: &ScopeKey, stimulus: Stimulus) -> Result<Visited, Error> {
        let errand = Errand { stimulus: Some(stimulus), doorless: true, ..Errand::default() };
        let mut visited = self.visit(key, errand).await?;
        if let Some(told) = visited.told.take() {
            let hint = Hint::ChildEnded(told.index);
            let ring = Ring { queue: Queue::Resume, scope: told.parent, after: Duration::ZERO, hint };
            if let Err(error) = self.core.ports.doorbell.ring(vec![ring]).await {
                tracing::warn!(scope = %key, %error, "stored, but its parent must wait for the sweeper");
            }
        }
        Ok(visited)
    }

    /// Records a person's decision. The same one again changes nothing.
    pub async fn vote(&self, run: &RunId, approval: &str, vote: Vote) -> Result<Voted, VoteError> {
        let id: Arc<str> = approval.into();
        let not_found = || VoteError::NotFound { run: run.clone(), approval: approval.into() };
        let row = self.core.ports.catalog.approval(run, approval).await?.ok_or_else(not_found)?;
        if row.settled_at.is_some() {
            return self.voted_before(row, &vote).await;
        }
        if self.is_too_late(&row.scope).await? {
            return self.voted_before(row, &vote).await;
        }
        let stimulus = Stimulus::Vote { approval: id.clone(), vote: vote.clone() };
        let visited = self.ask(&row.scope, stimulus).await?;
        if !visited.found {
            return Err(not_found());
        }
        let approver = vote.approver.clone();
        match visited.refusal {
            None => self.voted(run, id, true).await,
            Some(Refusal::DecidedAlready) => self.voted(run, id, false).await,
            Some(Refusal::DecidedOtherwise(vote)) => Err(VoteError::DecidedOtherwise { approval: id, vote }),
            Some(Refusal::NotAnApprover { approvers }) => {
                Err(VoteError::NotAnApprover { approval: id, approver, approvers })
            }
            Some(Refusal::StarterMayNotDecide) => {
                Err(VoteError::StarterMayNotDecide { approval: id, approver })
            }
            Some(Refusal::Form(violations)) => Err(VoteError::Form { violations }),
            // Settled since the row was read, or its time is over.
            Some(_) => {
                let row = self.core.ports.catalog.approval(run, approval).await?.ok_or_else(not_found)?;
                self.voted_before(row, &vote).await
            }
        }
    }

    /// Whether the time of a scope above this one is over, or nobody up there waits for it any more; whoever is to notice may
    /// not have come yet. What is decided in it would come to nothing.
    async fn is_too_late(&self, scope: &ScopeKey) -> Result<bool, Error> {
        let mut below = scope.clone();
        loop {
            let parent = match below.path.parent() {
                Some((parent, _)) => Some(ScopeKey::new(below.run.clone(), parent)),
                None => self.look(&below, parent_run).await?.flatten(),
            };
            let Some(parent) = parent else { return Ok(false) };
            let now = self.now();
            if self.look(&parent, |head| is_past(head, now)).await?.unwrap_or_default() {
                return Ok(true);
            }
            below = parent;
        }
    }

    async fn voted(&self, run: &RunId, approval: Arc<str>, changed: bool) -> Result<Voted, VoteError> {
        let row = self.core.ports.catalog.approval(run, &approval).await?;
        let status = self.get(run).await?.summary.status;
        let (votes, decision) = row.map(|row| (row.votes, row.decision)).unwrap_or_default();
        Ok(Voted { approval, changed, decision, votes, status })
    }

    /// The approval is settled: fine if this person decided just so, else the decision that stands is in the way.
    async fn voted_before(&self, row: ApprovalRow, vote: &Vote) -> Result<Voted, VoteError> {
        let status = self.get(&row.scope.run).await?.summary.status;
        let approval = row.request.id.clone();
        let before = row.votes.iter().find(|before| before.approver == vote.approver);
        if before.is_some_and(|before| before.approve == vote.approve) {
            return Ok(Voted { approval, changed: false, decision: row.decision, votes: row.votes, status });
        }
        Err(VoteError::Settled { approval, decision: row.decision, status })
    }

    /// Sends a signal to a run: to whoever in it waits for it, now or later. One with an id that was sent before changes
    /// nothing, even when the run is over by now; answers whether it is new.
    pub async fn signal(&self, run: &RunId, request: SignalRequest) -> Result<bool, ControlError> {
        let root = ScopeKey::root(run.clone());
        let status = self.look(&root, |head| crate::extras::own_status(&head.scope)).await?;
        let status = status.ok_or_else(|| Error::RunNotFound { run: run.clone() })?;
        if status.is_terminal() {
            // Whoever did not hear the answer asks again, and the signal itself may have ended the run.
            let sent = match &request.id {
                Some(id) => self.inbox(run).await?.number(id).is_some(),
                None => false,
            };
            return if sent { Ok(false) } else { Err(ControlError::Over { run: run.clone(), status }) };
        }
        let id = request.id.unwrap_or_else(|| self.core.ports.ids.append());
        for _ in 0..TRIES {
            let mut inbox = Arc::unwrap_or_clone(self.inbox(run).await?);
            let append_id = self.core.ports.ids.append();
            let (name, payload, by) = (request.name.clone(), request.payload.clone(), request.by.clone());
            let now = self.now();
            let key = inbox.key().clone();
            let record = inbox
                .send(id.clone(), name, payload, by, append_id, now)
                .map_err(|error| Error::Unencodable { scope: key.clone(), reason: error.to_string() })?;
            let Some(record) = record else { return Ok(false) };
            if self.append(&key, &record, vec![Extra::Due(later(now, DOORLESS))], None).await? {
                self.core.inboxes.put(Arc::new(inbox));
                // Stored; and whoever does not hear of it now is rung by the sweeper.
                if let Err(error) = self.ring_waiters(run, &request.name).await {
                    tracing::warn!(%run, %error, "a signal is stored, but those who wait for it must wait for the sweeper");
                }
                return Ok(true);
            }
        }
        Err(Error::Contended { scope: root, tries: TRIES }.into())
    }

    pub(crate) async fn ring_waiters(&self, run: &RunId, name: &str) -> Result<(), Error> {
        let waiters = self.core.ports.journal.waiters(run, name).await?;
        let ring = |scope| Ring { queue: Queue::Resume, scope, after: Duration::ZERO, hint: Hint::Signal };
        let rings: Vec<_> = waiters.into_iter().map(|waiter| ring(waiter.scope)).collect();
        if !rings.is_empty() {
            self.core.ports.doorbell.ring(rings).await?;
        }
        Ok(())
    }

    /// The run's inbox as its journal says.
    pub(crate) async fn inbox(&self, run: &RunId) -> Result<Arc<Inbox>, Error> {
        let mut inbox = self.core.inboxes.get(run);
        loop {
            let records = self.core.ports.journal.read(inbox.key(), inbox.seq(), PAGE).await?;
            if records.is_empty() {
                return Ok(inbox);
            }
            let mut further = Arc::unwrap_or_clone(inbox);
            for record in &records {
                // What was kept may be what does not fit.
                further.replay(record).inspect_err(|_| self.core.inboxes.forget(run))?;
            }
            inbox = Arc::new(further);
            self.core.inboxes.put(inbox.clone());
            if records.len() < PAGE {
                return Ok(inbox);
            }
        }
    }

    /// Whether a signal of this name stands in the run's inbox behind the one with this number.
    pub(crate) async fn is_sent(&self, run: &RunId, name: &str, received: u64) -> Result<bool, Error> {
        Ok(self.inbox(run).await?.next(name, received).is_some())
    }

    /// What stands in the inbox for a scope that waits for a signal.
    pub(crate) async fn signals(&self, head: &Head) -> Result<Option<Stimulus>, Error> {
        let Some((name, received)) = head.scope.awaited_signal() else { return Ok(None) };
        if head.scope.is_paused() {
            return Ok(None);
        }
        let inbox = self.inbox(&head.key().run).await?;
        let next = inbox.next(name, received).cloned();
        Ok(next.map(|signal| Stimulus::Signals(vec![signal])))
    }
}

/// The scope that waits for a run.
fn parent_run(head: &Head) -> Option<ScopeKey> {
    let parent = head.scope.run()?.parent.as_ref()?;
    Some(ScopeKey::new(parent.run.clone(), parent.scope.clone()))
}

/// Whether a scope needs its children no longer. While it is paused its time stands still.
fn is_past(head: &Head, now: Timestamp) -> bool {
    let scope = &head.scope;
    let released = scope.fork(&head.workflow).is_some_and(|view| view.clocks().cancelled)
        || scope.subworkflow(&head.workflow).is_some_and(|view| view.clocks.cancelled);
    released || scope.outcome().is_some() || scope.due().is_some_and(|due| due <= now)
}

fn status_of(outcome: &Outcome) -> RunStatus {
    match outcome {
        Outcome::Completed { .. } => RunStatus::Completed,
        Outcome::Failed { .. } => RunStatus::Failed,
        Outcome::Cancelled { .. } => RunStatus::Cancelled,
        Outcome::TimedOut { .. } => RunStatus::TimedOut,
    }
}
