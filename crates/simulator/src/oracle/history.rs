//! What happened in each scope, as the reference asks for it: its moments in order, and what the world answered.

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::sync::Arc;

use engine::Event;
use engine::Record;
use engine::RunId;
use engine::ScopePath;
use expression::Value;
use jiff::Timestamp;

use super::moments;
use super::path_of;
use crate::reference::Answer;
use crate::reference::Error;
use crate::reference::Moment;
use crate::reference::Oracle;
use crate::reference::Outcome;
use crate::reference::Place;
use crate::reference::Told;
use crate::reference::Vote;

/// The histories of a run's scopes.
pub(super) struct Histories {
    scopes: BTreeMap<ScopePath, History>,
    /// The first thing that the reference says otherwise.
    pub(super) clash: Option<Clash>,
}

/// What the reference says, and what history says.
pub(super) struct Clash {
    pub(super) scope: ScopePath,
    pub(super) what: String,
    pub(super) reference: String,
    pub(super) run_says: String,
}

/// What happened in a scope.
#[derive(Default)]
pub(super) struct History {
    entries: Vec<(Timestamp, Entry)>,
    /// What the reference has been through.
    cursor: usize,
    stays: BTreeMap<(Arc<str>, u32), World>,
    /// The state entered last, with its visit.
    current: Option<(Arc<str>, u32)>,
    child_runs: Vec<(RunId, Value, (Arc<str>, u32))>,
    /// Of a child: its number, and the record of its parent that made it.
    index: Option<u32>,
    fork: Option<u64>,
    /// Paused by request, and because its parent is.
    paused: (bool, bool),
    /// It is to end; a redrive may yet send it on.
    cut: bool,
    /// Children have ended since it was paused, or since it is to end.
    held: bool,
}

/// A child run that was asked for.
pub(super) struct ChildRun {
    pub(super) run: RunId,
    pub(super) input: Value,
    /// The scope that asked for it.
    pub(super) parent: ScopePath,
    /// How that scope says it ended; not that it could not be started.
    pub(super) outcome: Option<Outcome>,
}

enum Entry {
    Moment(Moment),
    /// The scope is to end, by the will of somebody outside of it or (`own`) by its own.
    Cut {
        own: bool,
        reason: Option<Arc<str>>,
    },
    /// It goes on from where it failed.
    Redriven,
}

/// What the world said to one visit of a state.
#[derive(Default)]
struct World {
    performed: Option<Result<Value, Error>>,
    votes: Vec<Vote>,
    timed_out: bool,
    signal: Option<Value>,
    fired: bool,
    /// How the child run ended, with the number of its record; 0 if it could not be started.
    child: Option<(u64, Outcome)>,
    /// The record that forked.
    fork: Option<u64>,
    /// Children's ends, by index.
    ended: Vec<Vec<(u32, Outcome)>>,
    released: bool,
    /// Its output, once it is known.
    output: Option<Value>,
}

impl Histories {
    pub(super) fn of(scopes: &BTreeMap<ScopePath, Vec<Record>>) -> Self {
        let scopes = scopes.iter().map(|(path, records)| (path.clone(), History::of(records))).collect();
        Self { scopes, clash: None }
    }

    pub(super) fn of_scope(&self, path: &ScopePath) -> Option<&History> {
        self.scopes.get(path)
    }

    /// A scope with a journal that the reference has not been in.
    pub(super) fn unvisited(&self, told: &Told) -> Option<ScopePath> {
        let visited: BTreeSet<ScopePath> = told.scopes.keys().map(path_of).collect();
        self.scopes.keys().find(|path| !visited.contains(*path)).cloned()
    }

    /// The child runs that were asked for.
    pub(super) fn child_runs(&self) -> impl Iterator<Item = ChildRun> {
        self.scopes.iter().flat_map(|(path, history)| {
            history.child_runs.iter().map(|(run, input, stay)| ChildRun {
                run: run.clone(),
                input: input.clone(),
                parent: path.clone(),
                outcome: history.stays.get(stay).and_then(World::child_of_record),
            })
        })
    }

    /// How the parent of this scope says that it ended, if it still counted.
    pub(super) fn end_seen(&self, place: &Place) -> Option<&Outcome> {
        let (below, forks) = place.0.split_last()?;
        let index = self.scopes.get(&path_of(place))?.index?;
        let parent = self.scopes.get(&path_of(&Place(forks.to_vec())))?;
        let mut stays = parent.stays.iter();
        let (_, world) = stays.find(|((_, visit), world)| {
            *visit == below.visit && world.fork == self.scopes.get(&path_of(place)).and_then(|own| own.fork)
        })?;
        world.ended.iter().flatten().find(|(child, _)| *child == index).map(|(_, outcome)| outcome)
    }

    fn world(&self, scope: &Place, state: &str, visit: u32) -> Option<&World> {
        self.scopes.get(&path_of(scope))?.stays.get(&(Arc::from(state), visit))
    }
}

impl History {
    fn of(records: &[Record]) -> Self {
        let mut history = Self::default();
        for record in records {
            for event in &record.events {
                history.take(record, event);
            }
        }
        history
    }

    fn take(&mut self, record: &Record, event: &Event) {
        if let Some(moment) = moments::of(event, self.output(event)) {
            if let Moment::Entered { state, visit, .. } = &moment {
                self.current = Some((state.clone(), *visit));
            }
            self.entries.push((record.at, Entry::Moment(moment)));
        }
        match event {
            Event::ScopeStarted(started) => {
                self.index = Some(started.index);
                self.fork = Some(started.fork);
            }
            Event::CancelRequested { inherited, reason, .. } => {
                self.cut = true;
                let cut = Entry::Cut { own: inherited.is_none(), reason: reason.clone() };
                self.entries.push((record.at, cut));
            }
            Event::DeadlinePassed {} => {
                self.cut = true;
                self.entries.push((record.at, Entry::Cut { own: false, reason: None }));
            }
            Event::Redriven { inherited, .. } => {
                self.paused.1 &= inherited.is_none();
                self.cut = false;
                self.held &= self.is_paused();
                self.redriven(record.at);
            }
            Event::Paused { inherited, .. } => match inherited {
                None => self.paused.0 = true,
                Some(_) => self.paused.1 = true,
            },
            Event::Resumed { inherited, .. } => {
                match inherited {
                    None => self.paused.0 = false,
                    Some(_) => self.paused.1 = false,
                }
                self.held &= self.is_paused();
            }
            Event::SubworkflowRequested { run, input, .. } => {
                if let Some(stay) = self.current.clone() {
                    self.child_runs.push((run.clone(), input.clone(), stay));
                }
            }
            _ => {}
        }
        let Some(current) = self.current.clone() else { return };
        let stands_still = self.is_paused() || self.cut;
        let world = self.stays.entry(current).or_default();
        match event {
            Event::StepSucceeded { output, .. } => {
                world.performed = Some(Ok(output.clone()));
                world.output = Some(output.clone());
            }
            Event::StepFailed { error, retry_at: None, .. } => {
                world.performed = Some(Err(moments::error(error)));
            }
            Event::ApprovalVoted { vote } => world.votes.push(Vote {
                approve: vote.approve,
                approver: vote.approver.clone(),
                comment: vote.comment.clone(),
                form: vote.form.clone(),
            }),
            Event::ApprovalDecided { output, .. } | Event::StateComputed { output } => {
                world.output = Some(output.clone());
            }
            Event::WaitTimedOut {} => world.timed_out = true,
            Event::SignalReceived { payload, .. } => {
                world.signal = Some(payload.clone());
                world.output = Some(payload.clone());
            }
            Event::TimerFired {} => world.fired = true,
            Event::Forked { .. } => world.fork = Some(record.seq),
            Event::ChildrenReleased {} => world.released = true,
            Event::ChildrenEnded { fork, ended } => {
                if world.fork != Some(*fork) {
                    world.child = ended.first().map(|child| (child.seq, moments::outcome(&child.outcome)));
                } else if !world.released {
                    let ends = ended.iter().map(|child| (child.index, moments::outcome(&child.outcome)));
                    // A join waits for the resume or the redrive: whoever ends before that counts, as if all had ended at once.
                    match world.ended.last_mut().filter(|_| self.held) {
                        Some(batch) => batch.extend(ends),
                        None => world.ended.push(ends.collect()),
                    }
                    self.held = stands_still;
                }
            }
            _ => {}
        }
    }

    fn is_paused(&self) -> bool {
        self.paused.0 || self.paused.1
    }

    /// The output with which the current state completes, where the event does not say it.
    fn output(&mut self, event: &Event) -> Option<Value> {
        match event {
            Event::StateCompleted { output: None, .. } => {
                let world = self.current.as_ref().and_then(|current| self.stays.get_mut(current))?;
                world.output.take()
            }
            _ => None,
        }
    }

    /// What failed did not happen, and its children's failures did not either.
    fn redriven(&mut self, at: Timestamp) {
        let void = |entry: &Entry| {
            matches!(entry, Entry::Cut { .. } | Entry::Moment(Moment::Ended(_) | Moment::Failed { .. }))
        };
        while self.entries.pop_if(|(_, entry)| void(entry)).is_some() {}
        // After a state that was left, and in a block that was only just entered, what failed is the state around: what was
        // answered before that stays.
        let left = |entry: &Entry| {
            use Moment::{Block, Caught, Completed, Skipped};
            matches!(entry, Entry::Moment(Skipped { .. } | Completed { .. } | Block(_) | Caught { .. }))
        };
        let around = self.entries.last().is_some_and(|(_, entry)| left(entry));
        self.entries.push((at, Entry::Redriven));
        if around {
            return;
        }
        let Some(world) = self.current.as_ref().and_then(|current| self.stays.get_mut(current)) else {
            return;
        };
        world.performed.take_if(|performed| performed.is_err());
        world.child.take_if(|(_, outcome)| !matches!(outcome, Outcome::Completed(_)));
        world.released = false;
        for batch in &mut world.ended {
            batch.retain(|(_, outcome)| matches!(outcome, Outcome::Completed(_)));
        }
    }

    /// The state entered last before the cursor.
    fn current_at_cursor(&self) -> Option<(Arc<str>, u32)> {
        self.entries.iter().take(self.cursor).rev().find_map(|(_, entry)| match entry {
            Entry::Moment(Moment::Entered { state, visit, .. }) => Some((state.clone(), *visit)),
            _ => None,
        })
    }

    /// The next moment, if the scope went on after it was sent on again.
    fn next(&self) -> Option<&(Timestamp, Entry)> {
        self.entries.iter().skip(self.cursor).find(|(_, entry)| !matches!(entry, Entry::Redriven))
    }

    /// Whether failed work was sent on again, and the state it was in begins anew.
    fn is_again(&self) -> bool {
        matches!(self.entries.get(self.cursor), Some((_, Entry::Redriven)))
            && matches!(
                self.next(),
                Some((_, Entry::Moment(Moment::Entered { .. } | Moment::Skipped { .. })))
            )
    }

    fn skip_redrives(&mut self) {
        while matches!(self.entries.get(self.cursor), Some((_, Entry::Redriven))) {
            self.cursor += 1;
        }
    }

    /// Whether somebody outside of it ended it.
    pub(super) fn is_cut(&self) -> bool {
        matches!(self.entries.last(), Some((_, Entry::Cut { .. })))
            || matches!(
                self.entries.as_slice(),
                [.., (_, Entry::Cut { .. }), (_, Entry::Moment(Moment::Ended(_)))]
            )
    }

    /// What happened that the reference does not know of; that it was ended from outside is no such thing.
    pub(super) fn rest(&self) -> Option<String> {
        let rest: Vec<&Entry> = self
            .entries
            .iter()
            .skip(self.cursor)
            .map(|(_, entry)| entry)
            .skip_while(|entry| matches!(entry, Entry::Redriven))
            .collect();
        match rest.as_slice() {
            []
            | [Entry::Cut { .. }]
            | [
                Entry::Cut { .. },
                Entry::Moment(Moment::Ended(Outcome::Cancelled(_) | Outcome::TimedOut(_))),
            ] => None,
            [Entry::Moment(moment), ..] | [Entry::Cut { .. }, Entry::Moment(moment), ..] => {
                Some(format!("next was: {}", moments::shown(moment)))
            }
            _ => Some("it was cancelled more than once".to_owned()),
        }
    }
}

impl World {
    /// How the child run ended, if it ever began.
    fn child_of_record(&self) -> Option<Outcome> {
        self.child.as_ref().filter(|(seq, _)| *seq > 0).map(|(_, outcome)| outcome.clone())
    }
}

impl Oracle for Histories {
    fn begun(&mut self, scope: &Place) -> bool {
        self.scopes.get(&path_of(scope)).is_some_and(|history| history.index.is_some())
    }

    fn time(&mut self, scope: &Place) -> Option<Timestamp> {
        match self.scopes.get(&path_of(scope))?.next()? {
            (at, Entry::Moment(_)) => Some(*at),
            _ => None,
        }
    }

    fn happened(&mut self, scope: &Place, moment: &Moment) -> Answer {
        let path = path_of(scope);
        if self.clash.is_some() {
            return Answer::No;
        }
        let Some(history) = self.scopes.get_mut(&path) else { return Answer::No };
        if history.is_again() && !matches!(moment, Moment::Entered { .. } | Moment::Skipped { .. }) {
            history.skip_redrives();
            return Answer::Again;
        }
        history.skip_redrives();
        let recorded = match history.entries.get(history.cursor) {
            None | Some((_, Entry::Redriven)) => return Answer::No,
            Some((_, Entry::Cut { own, reason })) => match (moment, own) {
                (Moment::Cancels { reason: words }, true)
                    if words
                        .as_ref()
                        .is_none_or(|words| words.allow(reason.as_deref().unwrap_or_default())) =>
                {
                    history.cursor += 1;
                    return Answer::Yes(reason.clone());
                }
                _ => return Answer::No,
            },
            Some((_, Entry::Moment(recorded))) => recorded,
        };
        let same_floor =
            |floor: &u32| matches!(moment, Moment::Failed { floor: Some(other), .. } if other == floor);
        if let Moment::Failed { floor: Some(floor), .. } = recorded
            && !same_floor(floor)
        {
            return Answer::Expired(*floor);
        }
        match moments::agree(moment, recorded) {
            Ok(words) => {
                history.cursor += 1;
                Answer::Yes(words)
            }
            Err((reference, run_says)) => {
                let what = match &history.current_at_cursor() {
                    Some((state, visit)) => {
                        format!("moment {} (visit {visit} of {state})", history.cursor + 1)
                    }
                    None => format!("moment {}", history.cursor + 1),
                };
                self.clash = Some(Clash { scope: path, what, reference, run_says });
                Answer::No
            }
        }
    }

    fn interrupted(&mut self, scope: &Place) -> Answer {
        if self.clash.is_some() {
            return Answer::No;
        }
        let Some(history) = self.scopes.get_mut(&path_of(scope)) else { return Answer::No };
        if history.is_again() {
            history.skip_redrives();
            return Answer::Again;
        }
        match history.next() {
            Some((_, Entry::Moment(Moment::Failed { floor: Some(floor), .. }))) => Answer::Expired(*floor),
            _ => Answer::No,
        }
    }

    fn performed(&mut self, scope: &Place, state: &str, visit: u32) -> Option<Result<Value, Error>> {
        self.world(scope, state, visit)?.performed.clone()
    }

    fn votes(&mut self, scope: &Place, state: &str, visit: u32) -> Vec<Vote> {
        self.world(scope, state, visit).map_or_else(Vec::new, |world| world.votes.clone())
    }

    fn timed_out(&mut self, scope: &Place, state: &str, visit: u32) -> bool {
        self.world(scope, state, visit).is_some_and(|world| world.timed_out)
    }

    fn signal(&mut self, scope: &Place, state: &str, visit: u32) -> Option<Value> {
        self.world(scope, state, visit)?.signal.clone()
    }

    fn fired(&mut self, scope: &Place, state: &str, visit: u32) -> bool {
        self.world(scope, state, visit).is_some_and(|world| world.fired)
    }

    fn child(&mut self, scope: &Place, state: &str, visit: u32) -> Option<Outcome> {
        self.world(scope, state, visit)?.child.as_ref().map(|(_, outcome)| outcome.clone())
    }

    fn ended(&mut self, scope: &Place, state: &str, visit: u32) -> Vec<Vec<u32>> {
        let batches = self.world(scope, state, visit).map(|world| world.ended.iter());
        batches.into_iter().flatten().map(|batch| batch.iter().map(|(index, _)| *index).collect()).collect()
    }
}
