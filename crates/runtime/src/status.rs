//! Where a run stands, from its journals: for whoever asks, and for the lists.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use engine::Activity;
use engine::Outcome;
use engine::RunId;
use engine::ScopeKey;
use tokio::sync::oneshot;

use crate::Runtime;
use crate::commit::Claimant;
use crate::error::Error;
use crate::extras::own_status;
use crate::extras::summary;
use crate::heads::Head;
use crate::notices::status_of_list;
use crate::ports::RunStatus;
use crate::view::Doing;
use crate::view::PendingApproval;
use crate::view::Position;
use crate::view::RunView;

/// Tries to write a projection while others write it too; the sweeper repeats it.
const PROJECTIONS: u32 = 5;
/// Runs upwards whose summaries follow that of a child run.
const ANCESTORS: u32 = 16;
/// How often a run is looked at that may end in another process: from this…
const POLL: Duration = Duration::from_millis(200);
/// …growing to this.
const POLL_AT_MOST: Duration = Duration::from_secs(1);
/// Live scopes that are looked at for one view; those beyond count as running.
const SCOPES: usize = 10_000;

/// A run's root and what its live scopes do.
struct Survey {
    view: RunView,
    parent: Option<RunId>,
}

/// How closely a survey looks.
struct Glance {
    /// The [`rank`] of a need that is not to be exceeded, as far as anybody knows.
    enough: u8,
    /// What one of the scopes is known to need.
    own: Option<RunStatus>,
}

/// One live scope, as far as a survey is concerned.
struct Sight {
    position: Position,
    children: Vec<ScopeKey>,
    /// Paused, as its root is.
    paused: bool,
    claimant: Option<Claimant>,
}

/// What one branch needs, as of its record `seq`.
pub(crate) struct Own {
    pub(crate) scope: ScopeKey,
    pub(crate) seq: u64,
    pub(crate) status: RunStatus,
}

impl Runtime {
    /// A run as it stands.
    pub async fn get(&self, run: &RunId) -> Result<RunView, Error> {
        let mut view = self.survey(run, None).await?.view;
        // Only the catalog knows that a run is stuck; a view without it is better than none.
        if !view.summary.status.is_terminal()
            && let Ok(Some(summary)) = self.core.ports.catalog.run(run).await
        {
            view.summary.stuck = summary.stuck;
            view.summary.revision = summary.revision;
        }
        Ok(view)
    }

    /// Waits for a run's end: at most so long, and then `None`. The record that ends it in this process wakes whoever waits; where
    /// others use the store too, its list entry is looked at each second.
    pub async fn wait(&self, run: &RunId, timeout: Duration) -> Result<Option<RunView>, Error> {
        let end = self.core.watchers.watch(run);
        let root = ScopeKey::root(run.clone());
        match self.look(&root, |head| head.scope.outcome().is_some()).await {
            Ok(Some(false)) => self.await_end(run, end, timeout).await,
            Ok(Some(true)) => {
                drop(end);
                self.core.watchers.sweep(run);
                self.get(run).await.map(Some)
            }
            Ok(None) => {
                drop(end);
                self.core.watchers.sweep(run);
                Err(Error::RunNotFound { run: run.clone() })
            }
            Err(error) => {
                drop(end);
                self.core.watchers.sweep(run);
                Err(error)
            }
        }
    }

    pub(crate) async fn await_end(
        &self,
        run: &RunId,
        end: oneshot::Receiver<Arc<RunView>>,
        timeout: Duration,
    ) -> Result<Option<RunView>, Error> {
        let ended = tokio::select! {
            biased;
            ended = end => ended.ok(),
            () = self.core.ports.clock.sleep(timeout) => None,
            () = self.ended_elsewhere(run) => None,
        };
        if let Some(view) = ended {
            return Ok(Some(Arc::unwrap_or_clone(view)));
        }
        self.core.watchers.sweep(run);
        // It may have ended in another process.
        let view = self.get(run).await?;
        Ok(view.summary.status.is_terminal().then_some(view))
    }

    /// Waits until the catalog says that the run has ended: for ever, where this process is alone.
    async fn ended_elsewhere(&self, run: &RunId) {
        if self.core.options.exclusive {
            return std::future::pending().await;
        }
        let mut pause = POLL;
        loop {
            self.core.ports.clock.sleep(pause).await;
            pause = (pause * 2).min(POLL_AT_MOST);
            match self.core.ports.catalog.run(run).await {
                Ok(Some(summary)) if summary.status.is_terminal() => return,
                Ok(_) => {}
                Err(error) => {
                    tracing::warn!(%run, %error, "cannot see whether a run has ended; trying again");
                }
            }
        }
    }

    /// Tells those who wait in this process that the run has ended.
    pub(crate) fn announce(&self, head: &Head) {
        if let Some(view) = view_of(head, own_status(&head.scope), Vec::new()) {
            self.core.watchers.ended(&head.key().run, view);
        }
    }

    /// Writes to the run's summary what its branches wait for, and to those of the runs that wait for it.
    pub(crate) async fn project(&self, first: &RunId) -> Result<(), Error> {
        self.project_change(first, None).await
    }

    /// The same after a change of one branch; `None`: there may have been others too. Of as many branches as there are, it
    /// looks at no more than it takes to see that the change makes no difference.
    pub(crate) async fn project_change(&self, first: &RunId, own: Option<Own>) -> Result<(), Error> {
        let mut own = own;
        let mut next = Some(first.clone());
        for _ in 0..ANCESTORS {
            let Some(run) = next.take() else { return Ok(()) };
            next = match self.project_one(&run, own.take()).await {
                Ok(parent) => parent,
                Err(error) if run == *first => return Err(error),
                // What is wrong with a run above is not this one's fault.
                Err(error) => {
                    tracing::warn!(%run, %error, "lists may show an older status for a while");
                    return Ok(());
                }
            };
        }
        Ok(())
    }

    async fn project_one(&self, run: &RunId, own: Option<Own>) -> Result<Option<RunId>, Error> {
        let catalog = &self.core.ports.catalog;
        for _ in 0..PROJECTIONS {
            let Some(mut summary) = catalog.run(run).await? else { return Ok(None) };
            if summary.status.is_terminal() {
                return Ok(None);
            }
            let shown = rank(summary.status);
            let own = match &own {
                Some(own) if rank(own.status) > 0 && rank(own.status) == shown => return Ok(None),
                // Read after the revision: what the branch has become since then is told by whoever made it so.
                Some(own) => {
                    let seq = self.look(&own.scope, |head| head.scope.seq()).await?;
                    (seq == Some(own.seq)).then_some(own.status)
                }
                None => None,
            };
            // What it shows as needed most, the change cannot have made it need more, unless the branch itself does.
            let enough = own.map(rank).filter(|own| *own < shown).map_or(rank(RunStatus::Running), |_| shown);
            let survey = self.survey(run, Some(Glance { enough, own })).await?;
            let status = survey.view.summary.status;
            // The root's last record writes a terminal status itself.
            if status == summary.status || status.is_terminal() {
                return Ok(survey.parent);
            }
            let previous = std::mem::replace(&mut summary.status, status);
            summary.updated_at = self.now().max(summary.updated_at);
            if catalog.project(&summary).await? {
                // All else that is told of a status stands in the root's journal.
                if status == RunStatus::Paused && self.core.notifier.is_some() {
                    Box::pin(self.tell(vec![status_of_list(&summary, previous)])).await;
                }
                return Ok(survey.parent);
            }
        }
        Ok(None)
    }

    /// Looks at every live scope; at a glance, at no more than it takes to find one that needs enough. The last to be
    /// launched are looked at first then: they are the least likely to wait yet.
    async fn survey(&self, run: &RunId, glance: Option<Glance>) -> Result<Survey, Error> {
        let root = ScopeKey::root(run.clone());
        let found = self
            .look(&root, |head| (view_of(head, own_status(&head.scope), Vec::new()), sight(head)))
            .await?;
        let Some((Some(mut view), sight)) = found else {
            return Err(Error::RunNotFound { run: run.clone() });
        };
        let parent = view.parent.as_ref().map(|parent| parent.run.clone());
        if view.summary.status.is_terminal() {
            return Ok(Survey { view, parent });
        }
        let mut needs = Needs::default();
        let root_paused = sight.paused;
        if let Some(own) = glance.as_ref().and_then(|glance| glance.own).filter(|own| rank(*own) > 0) {
            needs.count(own);
        }
        let mut pending = VecDeque::new();
        self.take_in(&mut view, &mut needs, &mut pending, sight).await?;
        let mut seen = 0;
        loop {
            let decided = glance.as_ref().is_some_and(|glance| {
                if root_paused {
                    !needs.is_idle()
                } else {
                    needs.status().is_some_and(|status| rank(status) >= glance.enough)
                }
            });
            let next = if glance.is_some() { pending.pop_back() } else { pending.pop_front() };
            let Some(scope) = next.filter(|_| !decided) else { break };
            seen += 1;
            if seen > SCOPES {
                needs.runs = true;
                break;
            }
            if let Some(sight) = self.look(&scope, self::sight).await? {
                self.take_in(&mut view, &mut needs, &mut pending, sight).await?;
            } else {
                // It may still begin with the clocks it was launched with.
                needs.runs |= !root_paused;
                needs.unpaused = true;
                view.current.push(unborn(scope));
            }
        }
        view.summary.status = match view.summary.status {
            RunStatus::Cancelling => RunStatus::Cancelling,
            _ if root_paused && needs.is_idle() => RunStatus::Paused,
            _ if root_paused => RunStatus::Pausing,
            own => needs.status().unwrap_or(own),
        };
        Ok(Survey { view, parent })
    }

    /// Counts one scope in.
    async fn take_in(
        &self,
        view: &mut RunView,
        needs: &mut Needs,
        pending: &mut VecDeque<ScopeKey>,
        sight: Sight,
    ) -> Result<(), Error> {
        let mut position = sight.position;
        // What its dead worker began, nobody takes over before it is resumed.
        if let Some(claimant) = sight.claimant.filter(|_| sight.paused) {
            let scope = ScopeKey::new(view.summary.run.clone(), position.scope.clone());
            if self.worker_alive_until(&scope, &claimant, self.now()).await?.is_none() {
                position.activity = Doing::Paused;
            }
        }
        match position.activity {
            Doing::Performing => {
                needs.runs = true;
                needs.performs = true;
            }
            Doing::Approval => needs.approval = true,
            Doing::Signal => needs.signal = true,
            Doing::Timer => needs.timer = true,
            Doing::Paused | Doing::Children | Doing::Ending | Doing::Ended => {}
            Doing::Subworkflow => {
                // Its own summary says it; it may be a moment old.
                let mut summary = None;
                if let Some(child) = &position.child {
                    summary = self.core.ports.catalog.run(child).await?;
                }
                let status = summary.map_or(RunStatus::Running, |summary| summary.status);
                needs.unpaused |= status != RunStatus::Paused && !status.is_terminal();
                needs.count(status);
            }
            Doing::Pending | Doing::Ready | Doing::Backoff => needs.runs = true,
        }
        needs.unpaused |= !sight.paused && position.activity != Doing::Ended;
        if position.activity != Doing::Children {
            view.current.push(position);
        }
        pending.extend(sight.children);
        Ok(())
    }
}

/// What the live scopes of a run need.
#[derive(Default)]
#[allow(clippy::struct_excessive_bools)] // Each is a fact of its own.
struct Needs {
    runs: bool,
    performs: bool,
    approval: bool,
    signal: bool,
    timer: bool,
    unpaused: bool,
}

impl Needs {
    fn count(&mut self, child: RunStatus) {
        match child {
            RunStatus::WaitingApproval => self.approval = true,
            RunStatus::WaitingSignal => self.signal = true,
            RunStatus::WaitingTimer => self.timer = true,
            RunStatus::Paused => {}
            _ => self.runs = true,
        }
    }

    /// LANGUAGE §6: what it most needs.
    fn status(&self) -> Option<RunStatus> {
        let by_need = [
            (self.runs, RunStatus::Running),
            (self.approval, RunStatus::WaitingApproval),
            (self.signal, RunStatus::WaitingSignal),
            (self.timer, RunStatus::WaitingTimer),
        ];
        by_need.into_iter().find_map(|(needed, status)| needed.then_some(status))
    }

    /// Nothing is in flight and every live scope is paused.
    fn is_idle(&self) -> bool {
        !self.performs && !self.unpaused
    }
}

/// How much a status says is needed (LANGUAGE §6): the order of [`Needs::status`].
fn rank(status: RunStatus) -> u8 {
    match status {
        RunStatus::Running => 4,
        RunStatus::WaitingApproval => 3,
        RunStatus::WaitingSignal => 2,
        RunStatus::WaitingTimer => 1,
        _ => 0,
    }
}

fn view_of(head: &Head, status: RunStatus, current: Vec<Position>) -> Option<RunView> {
    let run = head.scope.run()?;
    let output = match head.scope.outcome() {
        Some(Outcome::Completed { output }) => Some(output.clone()),
        _ => None,
    };
    Some(RunView {
        summary: summary(&head.scope, &head.workflow, status)?,
        input: run.input.clone(),
        context: head.scope.context().clone(),
        output,
        trigger: run.trigger.clone(),
        parent: run.parent.clone(),
        current,
    })
}

fn sight(head: &Head) -> Sight {
    let scope = &head.scope;
    let fork = scope.fork(&head.workflow);
    let children = fork.iter().flat_map(|view| view.live().map(|index| view.path(index)));
    let children = children.map(|path| ScopeKey::new(head.key().run.clone(), path)).collect();
    // One that has ended, or could not be started, is not waited for, though a pause may keep the scope where it is.
    let child = scope.subworkflow(&head.workflow).filter(|child| !child.ended);
    let paused = scope.is_paused();
    let activity = match scope.activity() {
        Activity::Unborn => Doing::Pending,
        Activity::Performing => Doing::Performing,
        Activity::Fork => Doing::Children,
        Activity::Ending => Doing::Ending,
        Activity::Ended => Doing::Ended,
        Activity::Subworkflow if child.is_some() => Doing::Subworkflow,
        _ if paused => Doing::Paused,
        Activity::Ready | Activity::Subworkflow => Doing::Ready,
        Activity::Backoff => Doing::Backoff,
        Activity::Timer => Doing::Timer,
        Activity::Signal => Doing::Signal,
        Activity::Approval => Doing::Approval,
    };
    let place = scope.position();
    let approval = scope.approval().map(|(request, votes, _)| PendingApproval {
        id: request.id.clone(),
        message: request.message.clone(),
        approvers: request.approvers.clone(),
        votes: votes.to_vec(),
        deadline: request.deadline,
    });
    let position = Position {
        scope: scope.key().path.clone(),
        state: place.and_then(|(state, ..)| head.workflow.state(state)).map(|state| state.name.clone()),
        activity,
        since: place.map(|(_, _, since)| since),
        due: scope.due(),
        attempt: scope.claim(&head.workflow).map(|claim| claim.attempt),
        approval,
        signal: scope.awaited_signal().map(|(name, _)| name.clone()),
        child: child.map(|child| child.run.clone()),
    };
    Sight { position, children, paused, claimant: Claimant::of(head) }
}

fn unborn(scope: ScopeKey) -> Position {
    Position {
        scope: scope.path,
        state: None,
        activity: Doing::Pending,
        since: None,
        due: None,
        attempt: None,
        approval: None,
        signal: None,
        child: None,
    }
}
