//! Repair on visit: makes good what a parked scope's head implies. Its children are rung, have its clocks, and what
//! became of them is known to it; its deadline has a doorbell.

use std::sync::Arc;
use std::time::Duration;

use engine::Activity;
use engine::ChildEnded;
use engine::Clocks;
use engine::Error as StepError;
use engine::ForkContext;
use engine::Inherited;
use engine::Next;
use engine::Outcome;
use engine::Parent;
use engine::RunId;
use engine::ScopeKey;
use engine::ScopeStarted;
use engine::Stimulus;
use engine::Trigger;
use engine::error_type;
use expression::Value;

use crate::Runtime;
use crate::commit::Manner;
use crate::drive::ring_steps;
use crate::error::Error;
use crate::error::StartError;
use crate::extras::Before;
use crate::heads::Head;
use crate::heads::Tended;
use crate::nursery::Newborn;
use crate::open::Opened;
use crate::ports::Hint;
use crate::ports::Queue;
use crate::ports::Ring;
use crate::runtime::until;
use crate::view::StartRequest;

/// Deadlines this near are rung for at once; the sweeper sees to those further off. No home holds a doorbell back longer.
pub(crate) const NEAR: Duration = Duration::from_mins(15);
/// Tries to hand a child its parent's clocks while others write to it.
const TRIES: u32 = 30;

/// A child that its parent waits for.
struct Child {
    index: u32,
    key: ScopeKey,
    started: Box<ScopeStarted>,
    /// It began before a redrive.
    goes_on: bool,
}

/// A child as its journal says.
enum Found {
    Unborn,
    Live { in_step: bool },
    Ended { in_step: bool, seq: u64, outcome: Outcome },
}

impl Runtime {
    /// Does what a parked head implies. Answers with what the scope must be told, if that turned up; the rest is in `rings`.
    pub(crate) async fn tend(
        &self,
        head: &mut Head,
        thorough: bool,
        rings: &mut Vec<Ring>,
    ) -> Result<Option<Stimulus>, Error> {
        let found = match head.scope.activity() {
            Activity::Fork | Activity::Subworkflow | Activity::Ending => {
                match self.tend_children(head, thorough, rings).await? {
                    Some(found) => Some(found),
                    None => self.tend_child_run(head, thorough).await?,
                }
            }
            // What was sent before the waiter's entry was there must not be missed.
            Activity::Signal => self.signals(head).await?,
            _ => None,
        };
        if found.is_none() {
            self.set_alarm(head, thorough, rings).await?;
        }
        Ok(found)
    }

    /// Rings for the scope's deadline, if it is near and was not rung for.
    async fn set_alarm(&self, head: &mut Head, thorough: bool, rings: &mut Vec<Ring>) -> Result<(), Error> {
        let Some(due) = head.scope.due() else { return Ok(()) };
        let after = until(self.now(), due);
        if after <= NEAR && (thorough || head.alarm != Some(due)) {
            let queue = match head.scope.activity() {
                Activity::Backoff => Queue::Steps,
                _ => Queue::Resume,
            };
            rings.push(Ring { queue, scope: head.key().clone(), after, hint: Hint::None });
            head.alarm = Some(due);
        }
        if thorough {
            self.core.ports.catalog.ensure_due(head.key(), due, head.scope.seq()).await?;
        }
        Ok(())
    }

    async fn tend_children(
        &self,
        head: &mut Head,
        thorough: bool,
        rings: &mut Vec<Ring>,
    ) -> Result<Option<Stimulus>, Error> {
        let workflow = head.workflow.clone();
        let Some(view) = head.scope.fork(&workflow) else { return Ok(None) };
        let (fork, clocks) = (view.seq(), view.clocks());
        let tended = head.tended.filter(|tended| tended.fork == fork);
        let rung = tended.map_or(0, |tended| tended.rung);
        let all = thorough || tended.is_none_or(|tended| tended.version != clocks.version);
        let run = &head.key().run;
        let children: Vec<_> = view
            .live()
            .filter(|index| all || *index >= rung)
            .map(|index| Child {
                index,
                key: ScopeKey::new(run.clone(), view.path(index)),
                started: Box::new(view.start(index)),
                goes_on: view.goes_on(index),
            })
            .collect();
        // What a redrive sends on comes in the order of indices again, below those that were rung before it.
        let from = tended.filter(|tended| tended.version == clocks.version).map_or(0, |tended| tended.rung);
        let upto = children.iter().map(|child| child.index + 1).fold(from, u32::max);
        let base = if children.is_empty() { None } else { Some(self.fork_context(head.key(), fork).await?) };
        let mut ended = Vec::new();
        for (child, base) in children.into_iter().zip(std::iter::repeat(base).flatten()) {
            // Nobody can have begun with a child that this process has just launched.
            let young = !child.goes_on && (!all || (!thorough && tended.is_some() && child.index >= rung));
            if young && !clocks.cancelled && !clocks.paused {
                rings.push(ring_steps(&child.key));
                self.core.nursery.launch(child.key, Newborn { started: child.started, clocks, base });
            } else if let Some(end) =
                self.tend_child(child, clocks, base, rings, &mut head.handed_down).await?
            {
                ended.push(end);
            }
        }
        head.tended = Some(Tended { fork, version: clocks.version, rung: upto });
        Ok((!ended.is_empty()).then_some(Stimulus::ChildrenEnded { fork, ended }))
    }

    /// Sees that one child has its parent's clocks and somebody who looks after it; answers with its end, if it has ended.
    async fn tend_child(
        &self,
        child: Child,
        clocks: Clocks,
        base: Arc<ForkContext>,
        rings: &mut Vec<Ring>,
        handed_down: &mut bool,
    ) -> Result<Option<ChildEnded>, Error> {
        let found = self.find(&child.key, clocks).await?;
        let index = child.index;
        let ended = |(seq, outcome)| ChildEnded { index, seq, outcome };
        match found {
            Found::Ended { in_step: true, seq, outcome } => Ok(Some(ended((seq, outcome)))),
            Found::Live { in_step: true } => {
                // Where doorbells die with the process, those of all its descendants are lost with it. Elsewhere each has a
                // due entry or a doorbell of its own, and passing the word on would multiply it.
                let hint = if self.core.options.exclusive { Hint::Missed } else { Hint::None };
                rings.push(Ring { hint, ..ring_steps(&child.key) });
                Ok(None)
            }
            Found::Unborn if !clocks.cancelled && !clocks.paused => {
                rings.push(ring_steps(&child.key));
                self.core.nursery.launch(child.key, Newborn { started: child.started, clocks, base });
                Ok(None)
            }
            Found::Unborn | Found::Live { .. } | Found::Ended { .. } => {
                Ok(self.hand_down(&child.key, clocks, rings, handed_down).await?.map(ended))
            }
        }
    }

    async fn find(&self, child: &ScopeKey, clocks: Clocks) -> Result<Found, Error> {
        let found = self
            .look(child, |head| {
                let in_step = head.scope.has(clocks);
                match head.scope.outcome() {
                    Some(outcome) => {
                        Found::Ended { in_step, seq: head.scope.seq(), outcome: outcome.clone() }
                    }
                    None => Found::Live { in_step },
                }
            })
            .await?;
        Ok(found.unwrap_or(Found::Unborn))
    }

    /// Gives a child, or a child run, its parent's clocks; answers with its end, if it has ended with it or before.
    async fn hand_down(
        &self,
        child: &ScopeKey,
        clocks: Clocks,
        rings: &mut Vec<Ring>,
        handed_down: &mut bool,
    ) -> Result<Option<(u64, Outcome)>, Error> {
        for _ in 0..TRIES {
            let (mut head, stimulus) = match self.open(child).await? {
                Opened::Head(head) => (head, Stimulus::Sync(clocks)),
                // It begins with the clocks that are handed down, not with those it was launched with; unless its parent
                // has gone on meanwhile, and those are the newer ones. Older ones than it begins with are no news to it.
                Opened::Unborn(head, Stimulus::StartChild { started, clocks: own }) => {
                    let clocks = if own.version > clocks.version { own } else { clocks };
                    (head, Stimulus::StartChild { started, clocks })
                }
                Opened::Unborn(head, start) => (head, start),
                Opened::Nothing => return Ok(None),
            };
            let before = Before::of(&head);
            let env = self.env(&head, Manner::default()).await?;
            let decision = self.decide(&mut head, stimulus, env).await?;
            if !decision.events.is_empty() {
                // Of an end its parent knows at once; should it die first, its own doorbell or due entry leads here again.
                let doorless = head.scope.outcome().is_none();
                let Some(untold) = self.commit(&mut head, before, decision.events, doorless, None).await?
                else {
                    continue;
                };
                Box::pin(self.tell_all(child, head.scope.seq(), untold)).await?;
                *handed_down = true;
                let current = head.scope.claim(&head.workflow).map(|claim| claim.seq);
                self.core.claims.stop_others(child, current);
            } else if !head.fresh {
                let last = self.core.ports.journal.head(child).await?.map_or(0, |record| record.seq);
                if last != head.scope.seq() {
                    continue;
                }
            }
            // Whatever follows in it is for its own visitors.
            match decision.next {
                Next::Ring | Next::Again { .. } | Next::Perform => rings.push(ring_steps(child)),
                Next::Park => {
                    let rest = head.scope.fork(&head.workflow).is_some()
                        || head.scope.subworkflow(&head.workflow).is_some()
                        || head.scope.activity() == Activity::Signal;
                    if rest {
                        let scope = child.clone();
                        rings.push(Ring {
                            queue: Queue::Resume,
                            scope,
                            after: Duration::ZERO,
                            hint: Hint::Missed,
                        });
                    } else {
                        self.set_alarm(&mut head, false, rings).await?;
                    }
                }
                Next::Held { .. } | Next::Done => {}
            }
            let ended = head.scope.outcome().map(|outcome| (head.scope.seq(), outcome.clone()));
            self.core.heads.put(head);
            return Ok(ended);
        }
        Err(Error::Contended { scope: child.clone(), tries: TRIES })
    }

    async fn tend_child_run(&self, head: &mut Head, thorough: bool) -> Result<Option<Stimulus>, Error> {
        let Some(view) = head.scope.subworkflow(&head.workflow).filter(|view| !view.ended) else {
            return Ok(None);
        };
        let (fork, clocks, run) = (view.seq, view.clocks, view.run.clone());
        let tended = head.tended.filter(|tended| tended.fork == fork);
        // `rung` is 1 once the child run is known to exist.
        let known = tended.is_some_and(|tended| tended.rung > 0 && tended.version == clocks.version);
        if known && !thorough {
            return Ok(None);
        }
        let request = StartRequest {
            workflow: view.workflow.clone(),
            version: view.version.cloned(),
            input: view.input.clone(),
            key: None,
            run_id: Some(run.clone()),
            starter: head.scope.run().and_then(|run| run.starter.clone()),
            trigger: Trigger::Workflow,
            parent: Some(Parent {
                run: head.key().run.clone(),
                scope: head.key().path.clone(),
                clocks: baseline(clocks),
            }),
        };
        let begins = tended.is_some_and(|tended| tended.rung == 0) && !thorough;
        let end = self.child_run(&run, request, clocks, begins, &mut head.handed_down).await?;
        if thorough && end.is_some() {
            Box::pin(self.tell_again(&run)).await?;
        }
        head.tended = Some(Tended { fork, version: clocks.version, rung: 1 });
        Ok(end.map(|(seq, outcome)| Stimulus::ChildrenEnded {
            fork,
            ended: vec![ChildEnded { index: 0, seq, outcome }],
        }))
    }

    /// Sees that a child run exists and has its parent's clocks; answers with its end, if it has ended.
    async fn child_run(
        &self,
        run: &RunId,
        request: StartRequest,
        clocks: Clocks,
        begins: bool,
        handed_down: &mut bool,
    ) -> Result<Option<(u64, Outcome)>, Error> {
        let root = ScopeKey::root(run.clone());
        let mut found = if begins { Found::Unborn } else { self.find(&root, clocks).await? };
        let created = matches!(found, Found::Unborn);
        if created {
            match self.create(request).await {
                Ok(_) => {}
                Err(StartError::Other(error)) => return Err(error),
                Err(refused) => {
                    let error =
                        StepError::new(error_type::VALIDATION, refused.to_string()).with_code(refused.code());
                    // Distinct after each redrive, so that a later failure is not taken for the one before.
                    return Ok(Some((clocks.redrives.into(), Outcome::Failed { error })));
                }
            }
            found = self.find(&root, clocks).await?;
        }
        match found {
            Found::Ended { in_step: true, seq, outcome } => Ok(Some((seq, outcome))),
            Found::Live { in_step: true } | Found::Unborn => {
                // Whoever created it before may have died before it rang.
                if !created {
                    self.core.ports.doorbell.ring(vec![ring_steps(&root)]).await?;
                }
                Ok(None)
            }
            Found::Live { .. } | Found::Ended { .. } => {
                let mut rings = Vec::new();
                let ended = self.hand_down(&root, clocks, &mut rings, handed_down).await?;
                self.core.ports.doorbell.ring(rings).await?;
                Ok(ended)
            }
        }
    }

    /// The ends that a doorbell hinted at, as the children's journals say.
    pub(crate) async fn hinted(&self, head: &Head, hints: &[Hint]) -> Result<Option<Stimulus>, Error> {
        if hints.is_empty() {
            return Ok(None);
        }
        if let Some(view) = head.scope.fork(&head.workflow) {
            let run = &head.key().run;
            let (fork, clocks) = (view.seq(), view.clocks());
            let children: Vec<_> = hints
                .iter()
                .filter_map(|hint| match hint {
                    Hint::ChildEnded(index) if view.is_live(*index) => {
                        Some((*index, ScopeKey::new(run.clone(), view.path(*index))))
                    }
                    _ => None,
                })
                .collect();
            let mut ended = Vec::new();
            for (index, child) in children {
                if let Found::Ended { seq, outcome, .. } = self.find(&child, clocks).await? {
                    ended.push(ChildEnded { index, seq, outcome });
                }
            }
            return Ok((!ended.is_empty()).then_some(Stimulus::ChildrenEnded { fork, ended }));
        }
        let Some(view) = head.scope.subworkflow(&head.workflow) else { return Ok(None) };
        let (fork, root) = (view.seq, ScopeKey::root(view.run.clone()));
        match self.find(&root, view.clocks).await? {
            Found::Ended { seq, outcome, .. } => {
                Ok(Some(Stimulus::ChildrenEnded { fork, ended: vec![ChildEnded { index: 0, seq, outcome }] }))
            }
            _ => Ok(None),
        }
    }
}

/// The clocks that a child run begins with: what its parent went through before is not its own. A pause or an end it has yet
/// to be told.
fn baseline(clocks: Clocks) -> Inherited {
    let to_tell = u32::from(clocks.paused || clocks.cancelled);
    Inherited {
        version: clocks.version.saturating_sub(to_tell),
        shift: clocks.shift,
        redrives: clocks.redrives,
    }
}

/// A value for a run's input: nothing counts as an empty object.
pub(crate) fn input_or_empty(input: Value) -> Value {
    if input.is_null() { Value::object() } else { input }
}
