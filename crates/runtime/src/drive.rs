//! The loop: load, decide, append; then perform and decide again, or make good what the head implies and leave.

use std::sync::Arc;
use std::time::Duration;

use engine::Activity;
use engine::Budget;
use engine::ChildEnded;
use engine::Next;
use engine::Refusal;
use engine::ScopeKey;
use engine::Stimulus;
use jiff::Timestamp;
use model::Millis;

use crate::Runtime;
use crate::claims::Worker;
use crate::commit::Manner;
use crate::commit::PATIENCE;
use crate::desk::Seat;
use crate::desk::Told;
use crate::error::Error;
use crate::extras::Before;
use crate::extras::is_waiting;
use crate::extras::own_status;
use crate::extras::waits_for_children;
use crate::heads::Head;
use crate::notices::Untold;
use crate::open::Opened;
use crate::perform::Performed;
use crate::ports::Hint;
use crate::ports::Queue;
use crate::ports::Ring;
use crate::runtime::later;
use crate::runtime::until;
use crate::status::Own;

/// So many children of a fork tell their parent themselves, and the last of them goes on with it. Of more at a time, each would
/// fight with all others for the parent's next record: they leave word at its doorbell, where many ends make one record.
const FEW: u32 = 8;
/// Conflicts in one visit after which it is given up.
const CONFLICTS: u32 = 30;

/// For how long a worker may perform.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Turn {
    /// When it began.
    pub(crate) begun: Timestamp,
    /// From then on it begins nothing more, except the first step.
    pub(crate) yield_at: Timestamp,
    /// By then it must have ended.
    pub(crate) stop_at: Option<Timestamp>,
}

impl Turn {
    /// All the time that there was at its beginning, if it ends.
    pub(crate) fn whole(&self) -> Option<Duration> {
        self.stop_at.map(|stop| until(self.begun, stop))
    }
}

/// Whether this much is left of the whole that another try would not get more: loading takes a moment too.
pub(crate) fn is_most(left: Duration, whole: Duration) -> bool {
    left >= whole.mul_f32(0.9)
}

fn millis(duration: Duration) -> Millis {
    Millis(u64::try_from(duration.as_millis()).unwrap_or(u64::MAX))
}

/// What a visit is for.
#[derive(Default)]
pub(crate) struct Errand {
    /// Something that happened, beside the time that passed.
    pub(crate) stimulus: Option<Stimulus>,
    /// What the doorbell hinted at.
    pub(crate) hints: Vec<Hint>,
    /// The visitor's seat at the desk, where ends of children are handed in for this scope.
    pub(crate) seat: Option<Seat>,
    /// Ends of children that it has taken from there.
    pub(crate) told: Vec<Told>,
    /// Whether, and for how long, the visitor performs.
    pub(crate) turn: Option<Turn>,
    /// A scope below has had its share of the turn already.
    pub(crate) shared: bool,
    /// Until when a store that does not answer is waited for; `None`: some seconds.
    pub(crate) patient_until: Option<Timestamp>,
    /// The visitor holds no doorbell of the scope.
    pub(crate) doorless: bool,
    /// Believe nothing that was done before: ask every child.
    pub(crate) thorough: bool,
}

impl Errand {
    /// What was last gathered for a decision is stored, or is known already.
    fn taken_in(&mut self) {
        if self.told.is_empty() {
            self.hints.clear();
        } else {
            self.told.clear();
        }
    }
}

/// What came of a visit.
#[derive(Default)]
pub(crate) struct Visited {
    /// Whether there is such a scope.
    pub(crate) found: bool,
    /// Why the stimulus was not taken.
    pub(crate) refusal: Option<Refusal>,
    /// The scope has ended, and this is what its parent must know.
    pub(crate) told: Option<Told>,
    /// Whether it led to a record.
    pub(crate) appended: bool,
    /// The lists show what its run waits for.
    pub(crate) listed: bool,
}

impl Runtime {
    /// Visits a scope; and, where that ends it, its parent, and so on upwards, as long as that is not in everybody's way.
    pub(crate) async fn drive(&self, key: &ScopeKey, errand: Errand) -> Result<(), Error> {
        let (turn, mut thorough, patient_until) = (errand.turn, errand.thorough, errand.patient_until);
        let mut visited = self.visit(key, errand).await?;
        while let Some(told) = visited.told.take() {
            if turn.is_some() && !self.core.options.exclusive && told.is_one_of_many {
                let hint = Hint::ChildEnded(told.index);
                let ring = Ring { queue: Queue::Resume, scope: told.parent, after: Duration::ZERO, hint };
                return Ok(self.core.ports.doorbell.ring(vec![ring]).await?);
            }
            // A doorbell that comes again may have got as far as a parent's record when it was cut off; not where the child
            // ended only now.
            thorough &= !visited.appended;
            let parent = told.parent.clone();
            let Some(seat) = self.core.desk.enter(told) else { break };
            let seat = Some(seat);
            let errand = Errand { seat, turn, thorough, patient_until, shared: true, ..Errand::default() };
            visited = self.visit(&parent, errand).await?;
        }
        Ok(())
    }

    /// Visits one scope. When it answers, what it led to is stored, and whoever must know has been rung; except the parent
    /// of a scope that ended, which is the caller's to tell.
    pub(crate) async fn visit(&self, key: &ScopeKey, mut errand: Errand) -> Result<Visited, Error> {
        let mut visit = Visit {
            key,
            worker: None,
            conflicts: 0,
            setbacks: 0,
            thorough: errand.thorough,
            performed: errand.shared,
            appended: false,
            lists_changed: false,
            rings: Vec::new(),
            untold: Untold::default(),
        };
        let mut wish = errand.stimulus.take();
        loop {
            match self.open_and_work(&mut visit, &mut wish, &mut errand).await {
                Ok(Some(visited)) => {
                    // The head is kept by now: whoever comes next finds it.
                    let Some(seat) = &mut errand.seat else { return Ok(visited) };
                    errand.told = seat.leave();
                    if errand.told.is_empty() || visited.told.is_some() {
                        return Ok(visited);
                    }
                }
                // Another writer was first, or may have been: look again.
                Ok(None) if visit.conflicts > CONFLICTS => {
                    return Err(Error::Contended { scope: key.clone(), tries: visit.conflicts });
                }
                Ok(None) => visit.conflicts += 1,
                // What was performed and cannot be recorded would have to be performed again.
                Err(error) if matches!(wish, Some(Stimulus::Performed { .. })) && !error.is_lasting() => {
                    let Some(pause) = PATIENCE.get(visit.setbacks) else { return Err(error) };
                    if errand.patient_until.is_some_and(|end| later(self.now(), *pause) >= end) {
                        return Err(error);
                    }
                    tracing::warn!(scope = %key, %error, "an answer cannot be recorded yet; trying again");
                    visit.setbacks += 1;
                    // It may be stored all the same, and then nobody was rung or told.
                    (visit.thorough, errand.thorough) = (true, true);
                    // Meanwhile nobody else is to take the step for abandoned.
                    if let Some(worker) = visit.worker.as_ref().filter(|_| !self.core.options.exclusive) {
                        self.renew(key, worker.claim()).await;
                    }
                    self.core.ports.clock.sleep(*pause).await;
                }
                // What was asked for is stored; the rest is for whoever answers the scope's doorbell.
                Err(error) if errand.doorless && visit.appended => {
                    tracing::warn!(scope = %key, %error, "stored, but what follows is left to the next visit");
                    let ring = Ring { queue: Queue::Resume, hint: Hint::Missed, ..ring_steps(key) };
                    if let Err(error) = self.core.ports.doorbell.ring(vec![ring]).await {
                        tracing::warn!(scope = %key, %error, "the next visit must wait for the sweeper");
                    }
                    return Ok(Visited { found: true, ..Visited::default() });
                }
                Err(error) => return Err(error),
            }
        }
    }

    async fn open_and_work(
        &self,
        visit: &mut Visit<'_>,
        wish: &mut Option<Stimulus>,
        errand: &mut Errand,
    ) -> Result<Option<Visited>, Error> {
        match self.open(visit.key).await? {
            Opened::Head(head) => self.work(visit, head, None, wish, errand).await,
            Opened::Unborn(head, start) => self.work(visit, head, Some(start), wish, errand).await,
            Opened::Nothing => Ok(Some(Visited::default())),
        }
    }

    /// Works on a head until there is nothing more to do with it; `None` when it turned out not to be the last.
    async fn work(
        &self,
        visit: &mut Visit<'_>,
        mut head: Box<Head>,
        start: Option<Stimulus>,
        wish: &mut Option<Stimulus>,
        errand: &mut Errand,
    ) -> Result<Option<Visited>, Error> {
        let mut stimulus = start;
        let mut heavy = false;
        let mut thorough = errand.thorough;
        let mut tended = false;
        loop {
            let given = stimulus.take().or_else(|| wish.clone());
            let gathered = given.is_none();
            let next = match given {
                Some(next) => next,
                None => self.gather(&head, errand).await?,
            };
            let may_perform = errand.turn.is_some() && (!visit.performed || self.may_go_on(errand.turn));
            let budget = errand.turn.filter(|_| visit.performed).and_then(|turn| self.budget(turn));
            let manner = Manner { may_perform, budget, heavy };
            let before = Before::of(&head);
            let env = self.env(&head, manner).await?;
            let decision = self.decide(&mut head, next, env).await?;
            heavy = false;
            let changed = !decision.events.is_empty();
            if changed {
                if decision.next == Next::Perform {
                    // Known before it is appended: whoever sees the claim must see that it is alive.
                    let worker = visit.worker.get_or_insert_with(|| self.core.claims.enter(visit.key));
                    worker.claiming(head.scope.seq() + 1);
                }
                let was_waiting = before.was_waiting();
                let appended = self
                    .commit(&mut head, before, decision.events, errand.doorless, errand.patient_until)
                    .await;
                if let (Next::Perform, Some(worker)) = (decision.next, &visit.worker) {
                    worker.claimed(matches!(appended, Ok(Some(_))));
                }
                let Some(untold) = appended? else { return Ok(None) };
                visit.untold.take_in(untold);
                visit.appended = true;
                visit.conflicts = 0;
                visit.setbacks = 0;
                let shown = was_waiting || is_waiting(head.scope.activity()) || head.scope.is_paused();
                visit.lists_changed |= shown;
                if visit.worker.is_none() {
                    let current = head.scope.claim(&head.workflow).map(|claim| claim.seq);
                    self.core.claims.stop_others(visit.key, current);
                }
            } else {
                if !head.fresh && !self.is_last(&head).await? {
                    return Ok(None);
                }
                head.fresh = true;
            }
            // What was found by tending and changed nothing (it came too late) would be found again and again.
            let futile = std::mem::take(&mut tended) && !changed;
            *wish = None;
            if gathered {
                errand.taken_in();
            }
            if decision.refusal.is_some() {
                self.core.heads.put(head);
                let refusal = decision.refusal;
                return Ok(Some(Visited { found: true, refusal, ..Visited::default() }));
            }
            match decision.next {
                Next::Perform => {
                    visit.performed = true;
                    // Its fork is behind it: what is handed in now is of no interest.
                    drop(errand.seat.take());
                    // It may take long; and whatever had to be told at least once no longer stands.
                    let untold = std::mem::take(&mut visit.untold);
                    if !untold.is_empty() {
                        Box::pin(self.tell(untold.notices)).await;
                    }
                    let Some(worker) = &visit.worker else { return Ok(None) };
                    match self.perform(&mut head, worker, errand.turn).await? {
                        Performed::Answer(answer) => {
                            *wish = Some(answer);
                            continue;
                        }
                        Performed::Due | Performed::Lost => {
                            worker.let_go();
                            return Ok(None);
                        }
                        // Whoever has more time takes it over, once this worker counts as dead.
                        Performed::Cut => {
                            worker.let_go();
                            let after = self.core.options.lease;
                            visit.rings.push(Ring { after, ..ring_steps(visit.key) });
                        }
                    }
                }
                // However long states that perform nothing follow each other, others have their turn.
                Next::Again { heavy: false } if visit.appended && !self.may_go_on(errand.turn) => {
                    visit.rings.push(ring_steps(visit.key));
                }
                Next::Again { heavy: full } => {
                    tokio::task::yield_now().await;
                    heavy = full;
                    stimulus = Some(Stimulus::Visit);
                    continue;
                }
                Next::Ring => visit.rings.push(ring_steps(visit.key)),
                Next::Held { until } => {
                    if !self.core.options.exclusive {
                        self.core.ports.catalog.ensure_due(visit.key, until, head.scope.seq()).await?;
                    }
                }
                Next::Park if futile => {}
                Next::Park => {
                    if let Some(found) = self.tend(&mut head, thorough, &mut visit.rings).await? {
                        thorough = false;
                        tended = true;
                        stimulus = Some(found);
                        continue;
                    }
                }
                Next::Done => {}
            }
            return self.leave(visit, head).await.map(Some);
        }
    }

    /// Whether this turn is not over yet. Who has none leaves the rest to those who have.
    fn may_go_on(&self, turn: Option<Turn>) -> bool {
        turn.is_some_and(|turn| self.now() < turn.yield_at && !self.is_draining())
    }

    /// The time that a step has to fit in which is begun in the middle of this turn; `None` where it has as much as it would
    /// at the beginning of another, or no end at all.
    fn budget(&self, turn: Turn) -> Option<Budget> {
        let stop = turn.stop_at?;
        let left = until(self.now(), stop);
        if is_most(left, turn.whole()?) {
            return None;
        }
        Some(Budget { left: millis(left), untimed: millis(self.core.options.step_timeout) })
    }

    /// The visit is over: keeps the head, rings whom it must.
    async fn leave(&self, visit: &mut Visit<'_>, mut head: Box<Head>) -> Result<Visited, Error> {
        let told = tell(&head);
        // What its children have got of it, they show too.
        let handed_down = std::mem::take(&mut head.handed_down);
        let lists = match (visit.lists_changed || handed_down, visit.key.path.is_root()) {
            // Whoever wrote the last record may not have come to tell the lists what branches wait for.
            (_, true) if visit.thorough && !visit.appended => Some(visit.key.run.clone()),
            (false, _) => None,
            (true, false) => Some(visit.key.run.clone()),
            (true, true)
                if (handed_down || head.scope.is_paused()) && waits_for_children(head.scope.activity()) =>
            {
                Some(visit.key.run.clone())
            }
            (true, true) => {
                head.scope.run().and_then(|run| run.parent.as_ref()).map(|parent| parent.run.clone())
            }
        };
        // What it waits for through its children, they say.
        let own = (!handed_down && !visit.key.path.is_root())
            .then(|| Own { scope: visit.key.clone(), seq: head.scope.seq(), status: own_status(&head.scope) })
            .filter(|_| !waits_for_children(head.scope.activity()));
        if head.wants_snapshot(self.core.options.snapshot_bytes) {
            self.snapshot(&mut head).await;
        }
        // Kept before anybody is rung, so that whoever comes finds it.
        if visit.thorough && self.core.notifier.is_some() {
            visit.untold.add_standing(&head);
        }
        let seq = head.scope.seq();
        self.core.heads.put(head);
        if !visit.rings.is_empty() {
            self.core.ports.doorbell.ring(std::mem::take(&mut visit.rings)).await?;
        }
        if !visit.untold.is_empty() {
            // Boxed, as it is rare.
            Box::pin(self.tell_all(visit.key, seq, std::mem::take(&mut visit.untold))).await?;
        }
        if let Some(run) = &lists {
            self.project_change(run, own).await?;
        }
        let listed = lists.as_ref() == Some(&visit.key.run);
        Ok(Visited { found: true, refusal: None, told, appended: visit.appended, listed })
    }

    /// What there is to tell a scope beside the time: the ends of its children, the signals it waits for.
    async fn gather(&self, head: &Head, errand: &mut Errand) -> Result<Stimulus, Error> {
        let found = match head.scope.activity() {
            Activity::Fork | Activity::Subworkflow | Activity::Ending => match take_in(head, errand) {
                Some(found) => Some(found),
                None => self.hinted(head, &errand.hints).await?,
            },
            Activity::Signal => self.signals(head).await?,
            _ => None,
        };
        Ok(found.unwrap_or(Stimulus::Visit))
    }

    /// Whether the head's last record is its journal's.
    async fn is_last(&self, head: &Head) -> Result<bool, Error> {
        let last = self.core.ports.journal.head(head.key()).await?;
        Ok(last.map_or(0, |record| record.seq) == head.scope.seq())
    }

    /// Writes a snapshot. It is never truth, so its failure is nobody's.
    pub(crate) async fn snapshot(&self, head: &mut Head) {
        let Ok(body) = head.scope.snapshot() else { return };
        let (key, seq, bytes) = (head.key().clone(), head.scope.seq(), body.len());
        if let Err(error) = self.core.ports.journal.put_snapshot(&key, seq, body).await {
            tracing::warn!(scope = %key, seq, %error, "a snapshot was not stored");
        }
        head.snapshot_taken(bytes);
    }
}

/// One visit, whatever heads it needs.
#[allow(clippy::struct_excessive_bools)] // Each is a fact of its own.
struct Visit<'a> {
    key: &'a ScopeKey,
    worker: Option<Worker>,
    conflicts: u32,
    /// Tries in vain to record what was performed.
    setbacks: usize,
    /// Nothing that was done before is believed.
    thorough: bool,
    performed: bool,
    appended: bool,
    lists_changed: bool,
    /// Whom to ring at its end, whatever conflicts there were in between.
    rings: Vec<Ring>,
    /// What to tell the world then.
    untold: Untold,
}

/// What was handed in for this scope and still concerns it. It stays with the errand until it is stored: whoever finds that
/// another writer was first has to say it again, and what does not concern the head in memory may concern the journal's.
fn take_in(head: &Head, errand: &mut Errand) -> Option<Stimulus> {
    errand.told.extend(errand.seat.iter().flat_map(Seat::collect));
    ended(head, &errand.told)
}

/// The ends that concern the fork or child run that the scope waits for.
fn ended(head: &Head, told: &[Told]) -> Option<Stimulus> {
    let (fork, ended) = if let Some(view) = head.scope.fork(&head.workflow) {
        let fork = view.seq();
        let ours = told.iter().filter(|told| told.fork == Some(fork));
        (fork, ours.map(child_ended).collect::<Vec<_>>())
    } else {
        let view = head.scope.subworkflow(&head.workflow)?;
        let ours = told.iter().filter(|told| told.fork.is_none() && told.child.run == *view.run);
        (view.seq, ours.map(child_ended).collect())
    };
    (!ended.is_empty()).then_some(Stimulus::ChildrenEnded { fork, ended })
}

fn child_ended(told: &Told) -> ChildEnded {
    ChildEnded { index: told.index, seq: told.seq, outcome: told.outcome.clone() }
}

/// What the parent of a scope that has ended must know.
pub(crate) fn tell(head: &Head) -> Option<Told> {
    let outcome = head.scope.outcome()?.clone();
    let child = head.key().clone();
    let seq = head.scope.seq();
    if let Some((parent, _)) = child.path.parent() {
        let origin = head.scope.origin()?;
        let parent = ScopeKey::new(child.run.clone(), parent);
        let at_once = match &head.workflow.state_at(&origin.state)?.kind {
            model::Kind::Foreach(each) => each.max_concurrency,
            _ => u32::MAX,
        };
        let is_one_of_many = origin.index.min(at_once.saturating_sub(1)) >= FEW;
        let (fork, index) = (Some(origin.fork), origin.index);
        return Some(Told { parent, child, fork, index, seq, outcome, is_one_of_many });
    }
    let parent = head.scope.run()?.parent.as_ref()?;
    let parent = ScopeKey::new(parent.run.clone(), parent.scope.clone());
    Some(Told { parent, child, fork: None, index: 0, seq, outcome, is_one_of_many: false })
}

/// A doorbell for the `step` handler, now.
pub(crate) fn ring_steps(scope: &ScopeKey) -> Ring {
    Ring { queue: Queue::Steps, scope: scope.clone(), after: Duration::ZERO, hint: Hint::None }
}

/// The parts of an idempotency key.
pub(crate) fn idempotency_key(run: &engine::RunId, step: &engine::StepId, key: u32) -> Arc<str> {
    format!("{run}/{step}/{key}").into()
}
