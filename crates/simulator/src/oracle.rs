//! The world as a run's journals have it, and whether the run came to what the [`mod@reference`] says.
//!
//! [`compare`] goes through a run and its child runs: for every scope the moments it went through (states entered and
//! skipped, what was asked of the world, outputs, errors, the way on), its context, and how it ended. The journals say what
//! came from outside; all else the reference says by itself. The first thing in which both differ is the [`Difference`].

mod contexts;
mod history;
mod moments;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use engine::Encoded;
use engine::Event;
use engine::Record;
use engine::RunId;
use engine::ScopeKey;
use engine::ScopePath;
use expression::Value;
use model::Workflow;

use crate::reference;
use crate::reference::End;
use crate::reference::Place;
use history::ChildRun;
use history::Histories;

/// Workflows by their hash.
pub type Workflows = BTreeMap<Arc<str>, Arc<Workflow>>;

/// The records of scopes, in order.
pub type Journals = BTreeMap<ScopeKey, Vec<Encoded>>;

/// A run came to what the reference says.
#[derive(Clone, Debug, PartialEq)]
pub enum Verdict {
    /// It did, as far as it got.
    Agrees(Agreement),
    /// The two cannot be held against each other.
    NotComparable(String),
}

/// What was held against the reference, child runs included.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Agreement {
    /// Scopes.
    pub scopes: usize,
    /// Moments in them.
    pub moments: usize,
    /// Whether the run is over.
    pub over: bool,
    /// Scopes that nothing ended, and that could go on although the world owes them no answer: paused ones, and those whose
    /// worker has just died.
    pub behind: Vec<String>,
}

/// The first thing in which a run is not what the reference says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference {
    /// The run.
    pub run: RunId,
    /// The scope in it.
    pub scope: String,
    /// What differs, and where.
    pub what: String,
    /// What the reference says.
    pub reference: String,
    /// What the run says.
    pub run_says: String,
}

/// Holds a run, its scopes and its child runs against the reference.
pub fn compare(workflows: &Workflows, journals: &Journals, run: &RunId) -> Result<Verdict, Box<Difference>> {
    let mut agreement = Agreement::default();
    let mut runs = vec![(run.clone(), None)];
    while let Some((id, asked)) = runs.pop() {
        match compare_one(workflows, journals, &id, asked.as_ref(), &mut agreement)? {
            Ok(children) => {
                runs.extend(children.into_iter().map(|child| (child.run.clone(), Some((id.clone(), child)))));
            }
            Err(reason) => return Ok(Verdict::NotComparable(format!("run {id}: {reason}"))),
        }
    }
    agreement.over = is_over(journals, run);
    Ok(Verdict::Agrees(agreement))
}

fn is_over(journals: &Journals, run: &RunId) -> bool {
    let last = journals.get(&ScopeKey::root(run.clone())).and_then(|records| records.last());
    let events = last.and_then(|record| Record::decode(&record.body).ok()).map(|record| record.events);
    events.is_some_and(|events| events.iter().any(|event| matches!(event, Event::Ended { .. })))
}

/// The child runs that were asked for, or why nothing can be said.
type Compared = Result<Vec<ChildRun>, String>;

fn compare_one(
    workflows: &Workflows,
    journals: &Journals,
    run: &RunId,
    asked: Option<&(RunId, ChildRun)>,
    agreement: &mut Agreement,
) -> Result<Compared, Box<Difference>> {
    let scopes = match decode(journals, run) {
        Ok(scopes) => scopes,
        Err(reason) => return Ok(Err(reason)),
    };
    let Some(first) = scopes.get(&ScopePath::root()).and_then(|records| records.first()) else {
        return Ok(Ok(Vec::new()));
    };
    let Some(Event::RunStarted(started)) = first.events.first() else {
        return Ok(Err("its first event is not its start".into()));
    };
    let Some(workflow) = workflows.get(&started.hash) else {
        return Ok(Err(format!("there is no workflow with the hash {}", started.hash)));
    };
    let start = reference::Start {
        run: run.as_str().into(),
        workflow: started.workflow.clone(),
        version: started.version.clone(),
        input: started.input.clone(),
        started_at: first.at,
        starter: started.starter.clone(),
        tick: match &started.trigger {
            engine::Trigger::Schedule { tick, .. } => Some(*tick),
            _ => None,
        },
    };
    let differs = |scope: &ScopePath, what: &str, reference: String, run_says: String| {
        Box::new(Difference {
            run: run.clone(),
            scope: scope.to_string(),
            what: what.to_owned(),
            reference,
            run_says,
        })
    };
    if let Some(before) = until_redriven(&scopes) {
        let mut histories = Histories::of(&before);
        let told = reference::interpret(workflow, &start, &mut histories);
        if let Some(clash) = histories.clash.take() {
            return Err(differs(&clash.scope, &clash.what, clash.reference, clash.run_says));
        }
        for (place, scope) in &told.scopes {
            let path = path_of(place);
            if let Some(rest) = histories.of_scope(&path).and_then(history::History::rest) {
                return Err(differs(&path, "the way on, before a redrive", shown_end(&scope.end), rest));
            }
        }
    }
    let mut histories = Histories::of(&scopes);
    let told = reference::interpret(workflow, &start, &mut histories);
    if let Some(clash) = histories.clash.take() {
        return Err(differs(&clash.scope, &clash.what, clash.reference, clash.run_says));
    }
    let contexts = match contexts::of(workflow, journals, run, scopes.keys()) {
        Ok(contexts) => contexts,
        Err(reason) => return Ok(Err(reason)),
    };
    for (place, scope) in &told.scopes {
        let path = path_of(place);
        let history = histories.of_scope(&path);
        if let Some(rest) = history.and_then(history::History::rest) {
            return Err(differs(&path, "the way on", shown_end(&scope.end), rest));
        }
        let is_cut = history.is_some_and(history::History::is_cut);
        if let (End::Before(moment), false) = (&scope.end, is_cut) {
            agreement.behind.push(format!("{run}{path} before {}", moments::shown(moment)));
        }
        if let Some(context) = contexts.get(&path)
            && let Some((at, left, right)) = value_difference("", &scope.context, context)
        {
            return Err(differs(&path, &format!("the context{at}"), left, right));
        }
        if let (End::Over(own), Some(seen)) = (&scope.end, histories.end_seen(place))
            && !moments::same_outcome(own, seen)
        {
            let (own, seen) = (moments::shown_outcome(own), moments::shown_outcome(seen));
            return Err(differs(&path, "the end that its parent saw", own, seen));
        }
        agreement.scopes += 1;
        agreement.moments += scope.trail.len();
    }
    if let Some(path) = histories.unvisited(&told) {
        return Err(differs(&path, "the scope", "it never began".into(), "it has a journal".into()));
    }
    if let Some((parent, asked)) = asked {
        as_asked(parent, asked, workflow, &start, &told)?;
    }
    Ok(Ok(histories.child_runs().collect()))
}

/// Whether a child run had the input that was asked for, and ended as its parent says.
fn as_asked(
    parent: &RunId,
    asked: &ChildRun,
    workflow: &Workflow,
    start: &reference::Start,
    told: &reference::Told,
) -> Result<(), Box<Difference>> {
    let differs = |what: &str, reference: String, run_says: String| {
        let (run, scope) = (parent.clone(), asked.parent.to_string());
        Err(Box::new(Difference {
            run,
            scope,
            what: format!("the {what} of the child run {}", asked.run),
            reference,
            run_says,
        }))
    };
    // Nothing counts as an empty object.
    let mut input = if asked.input.is_null() { Value::object() } else { asked.input.clone() };
    if let Some(schema) = &workflow.input_schema {
        schema.fill_defaults(&mut input);
    }
    if input != start.input {
        return differs("input", input.to_string(), start.input.to_string());
    }
    match (told.scopes.get(&Place::default()).map(|root| &root.end), &asked.outcome) {
        (Some(End::Over(own)), Some(seen)) if !moments::same_outcome(own, seen) => {
            differs("end", moments::shown_outcome(own), moments::shown_outcome(seen))
        }
        _ => Ok(()),
    }
}

fn decode(journals: &Journals, run: &RunId) -> Result<BTreeMap<ScopePath, Vec<Record>>, String> {
    let from = ScopeKey::new(run.clone(), ScopePath::from_stored(""));
    let mut scopes = BTreeMap::new();
    for (key, stored) in journals.range(from..).take_while(|(key, _)| key.run == *run) {
        if key.path == ScopePath::inbox() {
            continue;
        }
        let records: Result<Vec<_>, _> = stored.iter().map(|record| Record::decode(&record.body)).collect();
        scopes.insert(key.path.clone(), records.map_err(|error| format!("{key}: {error}"))?);
    }
    Ok(scopes)
}

/// The journals up to where failed work was first sent on again, if it was: from there on its failures do not count.
fn until_redriven(scopes: &BTreeMap<ScopePath, Vec<Record>>) -> Option<BTreeMap<ScopePath, Vec<Record>>> {
    let redriven =
        |record: &Record| record.events.iter().any(|event| matches!(event, Event::Redriven { .. }));
    scopes.values().flatten().any(redriven).then(|| {
        let before =
            |records: &Vec<Record>| records.iter().take_while(|record| !redriven(record)).cloned().collect();
        scopes.iter().map(|(path, records)| (path.clone(), before(records))).collect()
    })
}

pub(crate) fn path_of(place: &Place) -> ScopePath {
    place.0.iter().fold(ScopePath::root(), |path, below| {
        let key = match &below.child {
            reference::Child::Branch(name) => engine::ChildKey::Branch(name.clone()),
            reference::Child::Item(index) => engine::ChildKey::Index(*index),
        };
        path.child(&below.state, below.visit, &key)
    })
}

fn shown_end(end: &End) -> String {
    match end {
        End::Over(outcome) => format!("over: {}", moments::shown_outcome(outcome)),
        End::Waits(state, visit) => format!("visit {visit} of {state} waits for the world"),
        End::Before(moment) => format!("next would be: {}", moments::shown(moment)),
    }
}

/// The first place where two values differ, with both.
fn value_difference(at: &str, left: &Value, right: &Value) -> Option<(String, String, String)> {
    if left == right {
        return None;
    }
    if let (Value::Object(a), Value::Object(b)) = (left, right) {
        for (key, value) in a.iter() {
            match b.get(key) {
                Some(other) => {
                    if let Some(found) = value_difference(&format!("{at} > {key}"), value, other) {
                        return Some(found);
                    }
                }
                None => return Some((format!("{at} > {key}"), value.to_string(), "(absent)".into())),
            }
        }
        let more = b.iter().find(|(key, _)| !a.contains_key(key));
        return more.map(|(key, value)| (format!("{at} > {key}"), "(absent)".into(), value.to_string()));
    }
    Some((at.to_owned(), left.to_string(), right.to_string()))
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { run, scope, what, reference, run_says } = self;
        write!(f, "{run}{scope}: {what}\n  the reference: {reference}\n  the run:       {run_says}")
    }
}

impl std::error::Error for Difference {}
