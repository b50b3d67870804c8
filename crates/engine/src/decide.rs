//! What happens next: the one decision function, and what it is asked and answers.

use std::collections::BTreeMap;
use std::sync::Arc;

use expression::Value;
use jiff::Timestamp;
use model::Millis;
use model::Workflow;

use crate::Activity;
use crate::ChildEnded;
use crate::Clocks;
use crate::Error;
use crate::Event;
use crate::Inherited;
use crate::Outcome;
use crate::RunStarted;
use crate::Scope;
use crate::ScopeStarted;
use crate::Signal;
use crate::Vote;
use crate::advance;
use crate::approval;
use crate::code;
use crate::error_type;
use crate::retry;
use crate::scope::Phase;

/// Something that happened, or that somebody wants.
#[derive(Clone, Debug)]
pub enum Stimulus {
    /// A run begins: the first of a root scope.
    StartRun(Box<RunStarted>),
    /// A branch or iteration begins, under these clocks of its parent: the first of any other scope.
    StartChild {
        /// What [`ForkView::start`](crate::ForkView::start) gave.
        started: Box<ScopeStarted>,
        /// What [`ForkView::clocks`](crate::ForkView::clocks) gave.
        clocks: Clocks,
    },
    /// Nothing in particular: time may have passed, a worker may have died.
    Visit,
    /// An attempt was performed.
    Performed {
        /// The state's name.
        state: Arc<str>,
        /// Its visit.
        visit: u32,
        /// The attempt.
        attempt: u32,
        /// Its epoch.
        epoch: u32,
        /// What the action answered.
        result: Result<Value, Failure>,
    },
    /// Somebody decides.
    Vote {
        /// The approval's id.
        approval: Arc<str>,
        /// The decision.
        vote: Vote,
    },
    /// What stands in the run's inbox.
    Signals(Vec<Signal>),
    /// Children of the fork that is record `fork`, or the child run asked for in it, have ended. Repeats and what belongs to
    /// another fork are ignored.
    ChildrenEnded {
        /// See [`ForkView::seq`](crate::ForkView::seq).
        fork: u64,
        /// How they ended.
        ended: Vec<ChildEnded>,
    },
    /// The parent's clocks: the only way in which pause, cancel and redrive reach a child.
    Sync(Clocks),
    /// Nothing new is to be claimed.
    Pause {
        /// Who asks.
        by: Option<Arc<str>>,
    },
    /// Work is to go on.
    Resume {
        /// Who asks.
        by: Option<Arc<str>>,
    },
    /// The run is to end.
    Cancel {
        /// Who asks.
        by: Option<Arc<str>>,
        /// Why.
        reason: Option<Arc<str>>,
    },
    /// Failed work is to be tried again.
    Redrive {
        /// Who asks.
        by: Option<Arc<str>>,
    },
}

/// An attempt gave no output.
#[derive(Clone, Debug)]
pub struct Failure {
    /// The error as the workflow sees it.
    pub error: Error,
    /// Whether the action itself answered with it; otherwise nobody knows whether it took effect.
    pub definite: bool,
    /// No next attempt before this much time.
    pub retry_after: Option<Millis>,
}

/// The world, as far as a decision may depend on it.
#[derive(Clone, Debug)]
pub struct Env {
    /// Now. A scope's time never goes back: an earlier now than its last record's counts as that.
    pub now: Timestamp,
    /// Who would perform.
    pub worker: Arc<str>,
    /// Whether the caller performs actions (the `step` handler) or only records (all others).
    pub may_perform: bool,
    /// The time in which a step has to fit to be performed; `None`: each may be.
    pub budget: Option<Budget>,
    /// Until when the present claim's worker counts as alive; `None`: it is dead.
    pub claim_is_live_until: Option<Timestamp>,
    /// Random bits, for jitter.
    pub entropy: u64,
    /// Whether expressions get their full budget: only off the async workers.
    pub heavy: bool,
}

/// The time that is left to whoever performs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Budget {
    /// What is left.
    pub left: Millis,
    /// The limit of a step whose state gives none.
    pub untimed: Millis,
}

impl Env {
    /// Whether a step with this timeout of its own may be begun.
    pub(crate) fn may_begin(&self, timeout: Option<Millis>) -> bool {
        let fits = |budget: Budget| timeout.unwrap_or(budget.untimed) <= budget.left;
        self.may_perform && self.budget.is_none_or(fits)
    }
}

/// What a scope made of a stimulus.
#[derive(Clone, Debug)]
pub struct Decision {
    /// What happened; already applied to the scope. Empty: nothing to append.
    pub events: Vec<Event>,
    /// What to do once it is appended.
    pub next: Next,
    /// Why the stimulus could not be taken, for whoever sent it.
    pub refusal: Option<Refusal>,
}

/// What to do next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// Perform [`Scope::claim`]: it is the caller's.
    Perform,
    /// Append what there is, then decide [`Stimulus::Visit`] again; `heavy`: with the full budget, off the async workers.
    Again {
        /// See [`Env::heavy`].
        heavy: bool,
    },
    /// Something is to be performed, but not by this caller: ring `steps`.
    Ring,
    /// A live worker has it.
    Held {
        /// Look again then.
        until: Timestamp,
    },
    /// It waits; [`Scope::activity`] says for what, [`Scope::due`] until when.
    Park,
    /// It is over.
    Done,
}

/// A request that a scope's state does not allow.
#[derive(Clone, Debug, PartialEq)]
pub enum Refusal {
    /// The scope ended before.
    Over(Box<Outcome>),
    /// It does not wait for this approval.
    NotAsked,
    /// The approver is not among those asked.
    NotAnApprover {
        /// Who may decide.
        approvers: Vec<Arc<str>>,
    },
    /// The run's starter may not decide (separation of duties).
    StarterMayNotDecide,
    /// The same person decided otherwise before.
    DecidedOtherwise(Box<Vote>),
    /// The same person decided the same before: nothing changes.
    DecidedAlready,
    /// The form does not fit its schema.
    Form(Vec<model::Violation>),
    /// It is paused already.
    Paused,
    /// It is not paused.
    NotPaused,
    /// It is being cancelled already.
    Cancelling,
    /// It has not failed, so there is nothing to redrive.
    NotFailed,
}

/// Decides what a stimulus means for a scope. The scope has the events of the answer already: append them
/// ([`Scope::seal`]) or drop the scope.
pub fn decide(scope: &mut Scope, workflow: &Workflow, stimulus: Stimulus, env: &Env) -> Decision {
    let mut decider = Decider { scope, workflow, env, events: Vec::new() };
    match decider.take(stimulus) {
        Ok(()) => {
            let next = advance::advance(&mut decider);
            Decision { events: decider.events, next, refusal: None }
        }
        Err(refusal) => {
            let next = if decider.scope.outcome.is_some() { Next::Done } else { Next::Park };
            Decision { events: decider.events, next, refusal: Some(refusal) }
        }
    }
}

/// A decision being made.
pub(crate) struct Decider<'a> {
    pub(crate) scope: &'a mut Scope,
    pub(crate) workflow: &'a Workflow,
    pub(crate) env: &'a Env,
    pub(crate) events: Vec<Event>,
}

impl<'a> Decider<'a> {
    /// The time of the record being made.
    pub(crate) fn now(&self) -> Timestamp {
        self.scope.deciding.unwrap_or_else(|| self.env.now.max(self.scope.time))
    }

    pub(crate) fn push(&mut self, event: Event) {
        let at = self.now();
        self.scope.deciding = Some(at);
        self.scope.apply(self.workflow, &event, at);
        self.events.push(event);
    }

    fn take(&mut self, stimulus: Stimulus) -> Result<(), Refusal> {
        match stimulus {
            Stimulus::StartRun(started) => {
                if self.scope.activity() == Activity::Unborn {
                    self.push(Event::RunStarted(started));
                }
            }
            Stimulus::StartChild { started, clocks } => {
                if self.scope.activity() == Activity::Unborn {
                    self.push(Event::ScopeStarted(started));
                }
                // The clocks it began with are the baseline for shifts and redrives, not for a pause or an end.
                if self.scope.control.parent.version == clocks.version && (clocks.paused || clocks.cancelled)
                {
                    self.take_over(clocks);
                } else {
                    self.sync(clocks);
                }
            }
            Stimulus::Visit => {}
            Stimulus::Performed { state, visit, attempt, epoch, result } => {
                self.performed(&state, visit, (attempt, epoch), result);
            }
            Stimulus::Vote { approval, vote } => approval::vote(self, &approval, vote)?,
            Stimulus::Signals(signals) => self.signals(signals),
            Stimulus::ChildrenEnded { fork, ended } => self.children_ended(fork, ended),
            Stimulus::Sync(clocks) => self.sync(clocks),
            Stimulus::Pause { by } => {
                self.refuse_if_over()?;
                if self.scope.ending.is_some() {
                    return Err(Refusal::Cancelling);
                }
                if self.scope.control.paused.is_some() {
                    return Err(Refusal::Paused);
                }
                self.push(Event::Paused { by, inherited: None });
            }
            Stimulus::Resume { by } => {
                self.refuse_if_over()?;
                if self.scope.control.paused.is_none() {
                    return Err(Refusal::NotPaused);
                }
                let shift = if self.scope.control.paused_by_parent { 0 } else { self.since_stopped() };
                self.push(Event::Resumed { by, shift, inherited: None });
            }
            Stimulus::Cancel { by, reason } => {
                self.refuse_if_over()?;
                if self.scope.ending.is_some() {
                    return Err(Refusal::Cancelling);
                }
                self.push(Event::CancelRequested { by, reason, inherited: None });
            }
            Stimulus::Redrive { by } => match &self.scope.outcome {
                None | Some(Outcome::Completed { .. }) => return Err(Refusal::NotFailed),
                Some(_) => self.push(Event::Redriven { by, inherited: None }),
            },
        }
        Ok(())
    }

    fn refuse_if_over(&self) -> Result<(), Refusal> {
        self.scope.outcome.as_ref().map_or(Ok(()), |outcome| Err(Refusal::Over(Box::new(outcome.clone()))))
    }

    fn since_stopped(&self) -> u64 {
        let Some(stopped) = self.scope.control.stopped else { return 0 };
        u64::try_from(self.now().duration_since(stopped).as_millis()).unwrap_or_default()
    }

    fn performed(
        &mut self,
        state: &str,
        visit: u32,
        (attempt, epoch): (u32, u32),
        result: Result<Value, Failure>,
    ) {
        let current = self.scope.claim(self.workflow).is_some_and(|claim| {
            (claim.state.name.as_ref(), claim.visit, claim.attempt, claim.epoch)
                == (state, visit, attempt, epoch)
        });
        if current {
            match result {
                Ok(output) => self.push(Event::StepSucceeded { attempt, epoch, output }),
                Err(failure) => {
                    let event = retry::failed(self, failure);
                    self.push(event);
                }
            }
        } else if self.scope.outcome.is_none() {
            let answer = match &result {
                Ok(output) => output.to_string(),
                Err(failure) => failure.error.to_string(),
            };
            self.push(Event::LateResult {
                step: self.scope.step_id(state, visit).as_str().into(),
                state: state.into(),
                visit,
                attempt,
                epoch,
                digest: crate::hash(answer.as_bytes()),
            });
        }
    }

    fn signals(&mut self, signals: Vec<Signal>) {
        let Some(frame) = self.scope.top() else { return };
        let Phase::Signal { name, deadline } = &frame.phase else { return };
        let received = self.scope.signals.get(name).copied().unwrap_or_default();
        let in_time = |signal: &Signal| deadline.is_none_or(|deadline| signal.at <= deadline);
        let next = signals
            .into_iter()
            .filter(|signal| signal.name == *name && signal.number > received && in_time(signal))
            .min_by_key(|signal| signal.number);
        if let (Some(signal), None, None) = (next, &self.scope.ending, &self.scope.outcome) {
            self.push(Event::SignalReceived {
                name: signal.name,
                number: signal.number,
                payload: signal.payload,
            });
        }
    }

    fn children_ended(&mut self, seq: u64, ended: Vec<ChildEnded>) {
        let news: Vec<_> = match self.scope.top().map(|frame| &frame.phase) {
            _ if self.scope.outcome.is_some() => return,
            Some(Phase::Fork(fork)) if fork.seq == seq => ended
                .into_iter()
                .filter(|child| {
                    fork.live.contains(&child.index)
                        && (matches!(child.outcome, Outcome::Completed { .. })
                            || fork.stale.get(&child.index).is_none_or(|stale| child.seq > *stale))
                })
                .collect(),
            Some(Phase::Subworkflow(child)) if child.seq == seq && child.ended.is_none() => ended
                .into_iter()
                .filter(|ended| {
                    matches!(ended.outcome, Outcome::Completed { .. })
                        || child.stale.is_none_or(|stale| ended.seq > stale)
                })
                .take(1)
                .collect(),
            _ => return,
        };
        let news = each_once(news);
        if !news.is_empty() {
            self.push(Event::ChildrenEnded { fork: seq, ended: news });
        }
    }

    fn sync(&mut self, clocks: Clocks) {
        if self.scope.control.parent.version < clocks.version {
            self.take_over(clocks);
        }
    }

    /// Makes the parent's clocks this scope's own.
    fn take_over(&mut self, clocks: Clocks) {
        let inherited = Inherited { version: clocks.version, shift: clocks.shift, redrives: clocks.redrives };
        let parent = self.scope.control.parent;
        match &self.scope.outcome {
            // Whoever has succeeded has nothing to make good; whoever failed goes on after a redrive, and after nothing else.
            // Also when it is to end at once: its parent waits for an end that is news.
            Some(Outcome::Completed { .. }) => return,
            Some(_) if clocks.redrives > parent.redrives => {
                self.push(Event::Redriven { by: None, inherited: Some(inherited) });
            }
            Some(_) => return,
            None => {}
        }
        if clocks.cancelled {
            if self.scope.ending.is_none() {
                self.push(Event::CancelRequested { by: None, reason: None, inherited: Some(clocks.version) });
            }
            return;
        }
        let moved = clocks.shift.saturating_sub(self.scope.control.parent.shift);
        if moved > 0 || (self.scope.control.paused_by_parent && !clocks.paused) {
            let shift = match (self.scope.control.paused.is_some(), self.scope.control.mixed) {
                (true, _) => 0,
                (false, true) => self.since_stopped(),
                (false, false) => moved,
            };
            self.push(Event::Resumed { by: None, shift, inherited: Some(inherited) });
        }
        if clocks.paused && !self.scope.control.paused_by_parent {
            self.push(Event::Paused { by: None, inherited: Some(clocks.version) });
        }
    }

    /// The current state fails.
    pub(crate) fn raise(&mut self, error: Error) {
        self.push(Event::ErrorRaised { error, floor: None });
    }

    /// An error of this type, raised by the current state.
    pub(crate) fn error_here(&self, kind: &str, message: impl Into<Arc<str>>) -> Error {
        let mut error = Error::new(kind, message);
        error.state = self.here().map(|state| state.name.clone());
        error
    }

    /// The state the scope is in.
    pub(crate) fn here(&self) -> Option<&'a model::State> {
        self.scope.top().and_then(|frame| self.workflow.state(frame.cursor))
    }

    /// The error of a composite state, or of a wait, that took too long.
    pub(crate) fn timeout_error(&self, what: &str, code: Option<&str>) -> Error {
        let error = self.error_here(error_type::TIMEOUT, what);
        match code {
            Some(code) => error.with_code(code),
            None => error.with_code(code::STATE_TIMED_OUT),
        }
    }
}

/// A child that several saw end is told of once; as it ended last, should it have been redriven in between.
fn each_once(ended: Vec<ChildEnded>) -> Vec<ChildEnded> {
    let mut once: Vec<ChildEnded> = Vec::with_capacity(ended.len());
    let mut places = BTreeMap::new();
    for child in ended {
        let place = *places.entry(child.index).or_insert(once.len());
        match once.get_mut(place) {
            None => once.push(child),
            Some(known) if known.seq < child.seq => *known = child,
            Some(_) => {}
        }
    }
    once
}
