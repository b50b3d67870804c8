//! One line of a run: its lists of states, its context, and how a state's output is written.

use std::collections::BTreeMap;
use std::sync::Arc;

use expression::Object;
use expression::Path;
use expression::Segment;
use expression::Tree;
use expression::Value;
use expression::is_reserved;
use model::Block;
use model::Kind;
use model::OutputValue;
use model::State;
use model::StateId;
use model::Workflow;

use super::Answer;
use super::End;
use super::Error;
use super::Moment;
use super::Oracle;
use super::Outcome;
use super::Place;
use super::ScopeTold;
use super::Start;
use super::Told;
use super::Words;
use super::evaluate::View;

/// A run being interpreted.
pub(super) struct Interpreter<'a> {
    pub(super) workflow: &'a Workflow,
    pub(super) start: &'a Start,
    pub(super) oracle: &'a mut dyn Oracle,
    pub(super) told: Told,
}

/// A scope being interpreted.
pub(super) struct Line {
    pub(super) place: Place,
    pub(super) context: Value,
    /// All that the scope wrote outside `steps`, in one object.
    pub(super) writes: Value,
    /// Whether the last state that ended wrote outside `steps`.
    pub(super) wrote: bool,
    pub(super) flow: Flow,
    /// Names of the iterations around it.
    pub(super) iteration: Vec<(Arc<str>, Value)>,
    /// What the `catch` blocks around the current place caught, the innermost last.
    pub(super) caught: Vec<Error>,
    pub(super) visits: BTreeMap<Arc<str>, u32>,
    /// The current state of each list of states that is open, the innermost last.
    pub(super) open: Vec<Arc<str>>,
    pub(super) trail: Vec<Moment>,
}

/// What flows in, and the state whose output it is.
#[derive(Clone, Debug)]
pub(super) struct Flow {
    pub(super) value: Value,
    pub(super) from: Option<Arc<str>>,
}

/// Why a list of states does not go on.
pub(super) enum Halt {
    /// An error looks for somebody who catches it; of a composite state's timeout, only outside of that depth.
    Raised(Error, Option<u32>),
    /// The workflow cancels the run.
    Cancelled(Option<Words>),
    /// The innermost state begins anew.
    Again,
    /// This is as far as history goes.
    Stopped(End),
}

/// What goes on, or does not.
pub(super) type Go<T> = Result<T, Halt>;

/// What an `output` mapping writes.
type Writes = Vec<(Arc<str>, Value)>;

/// A visit of a state.
pub(super) struct Stay<'a> {
    pub(super) state: &'a State,
    pub(super) visit: u32,
    /// What flowed in, and when it was entered.
    pub(super) view: View,
}

pub(super) fn run(workflow: &Workflow, start: &Start, oracle: &mut dyn Oracle) -> Told {
    let mut context: Object = start
        .input
        .as_object()
        .into_iter()
        .flatten()
        .filter(|(key, _)| !is_reserved(key))
        .map(|(key, value)| (key.clone(), value.clone()))
        .collect();
    let mut about = Object::new();
    about.insert("id", start.workflow.as_ref());
    about.insert("version", start.version.as_ref());
    about.insert("input", start.input.clone());
    about.insert("runId", start.run.as_ref());
    about.insert("startedAt", start.started_at.to_string());
    context.insert("workflow", about);
    context.insert("steps", Value::object());
    let line = Line {
        place: Place::default(),
        context: context.into(),
        writes: Value::object(),
        wrote: false,
        flow: Flow { value: start.input.clone(), from: None },
        iteration: Vec::new(),
        caught: Vec::new(),
        visits: BTreeMap::new(),
        open: Vec::new(),
        trail: Vec::new(),
    };
    let mut interpreter = Interpreter { workflow, start, oracle, told: Told::default() };
    interpreter.scope(line, &workflow.root, None);
    interpreter.told
}

impl<'a> Interpreter<'a> {
    /// Goes through a scope, and says how it ended. `output` is that of its branch or iterator.
    pub(super) fn scope(&mut self, mut line: Line, block: &Block, output: Option<&Tree>) -> End {
        let halted = match self.list(&mut line, block) {
            Ok(()) => self.output(&mut line, output),
            Err(halt) => Err(halt),
        };
        let outcome = match halted {
            Ok(outcome) => outcome,
            Err(Halt::Raised(error, _)) => uncaught(&line, error),
            Err(Halt::Cancelled(reason)) => Outcome::Cancelled(reason),
            Err(Halt::Again) => {
                return self.close(line, End::Before(Box::new(Moment::Block(super::Role::Try))));
            }
            Err(Halt::Stopped(end)) => return self.close(line, end),
        };
        let end = match self.step(&mut line, Moment::Ended(outcome)) {
            Ok(()) => match line.trail.last() {
                Some(Moment::Ended(outcome)) => End::Over(outcome.clone()),
                _ => End::Over(Outcome::Cancelled(None)),
            },
            Err(Halt::Stopped(end)) => end,
            Err(_) => End::Before(Box::new(Moment::Cancels { reason: None })),
        };
        self.close(line, end)
    }

    fn close(&mut self, line: Line, end: End) -> End {
        let told = ScopeTold { trail: line.trail, context: line.context, end: end.clone() };
        self.told.scopes.insert(line.place, told);
        end
    }

    /// A list of states, from its start to its end.
    pub(super) fn list(&mut self, line: &mut Line, block: &Block) -> Go<()> {
        let workflow = self.workflow;
        let mut cursor = workflow.state(block.start);
        while let Some(state) = cursor {
            line.open.push(state.name.clone());
            let went = self.state(line, state);
            line.open.pop();
            cursor = match went {
                Ok(next) => next.and_then(|next| workflow.state(next)),
                Err(Halt::Again) => Some(state),
                Err(halt) => return Err(halt),
            };
        }
        Ok(())
    }

    /// A list of states inside a state: its first state gets what flowed into that one. Its output is the last state's.
    pub(super) fn block(&mut self, line: &mut Line, input: Flow, block: &Block) -> Go<Value> {
        line.flow = input;
        self.list(line, block)?;
        Ok(line.flow.value.clone())
    }

    fn state(&mut self, line: &mut Line, state: &'a State) -> Go<Option<StateId>> {
        let visit = line.visits.get(&state.name).copied().unwrap_or_default() + 1;
        let deadline_of =
            |at| state.timeout.filter(|_| is_composite(state)).map(|length| later(at, length.0));
        let entered = |deadline| Moment::Entered { state: state.address.clone(), visit, deadline };
        let Some(at) = self.oracle.time(&line.place) else {
            return Err(Halt::Stopped(End::Before(Box::new(entered(None)))));
        };
        let stay =
            Stay { state, visit, view: View { input: line.flow.clone(), at, context: None, data: None } };
        let runs =
            state.condition.as_ref().map_or(Ok(true), |condition| self.holds(line, &stay.view, condition));
        if let Ok(false) = runs {
            // A switch has no `next`; a skipped one goes where it goes when nothing holds.
            let default = match &state.kind {
                Kind::Switch(switch) => switch.default,
                _ => None,
            };
            let next = state.next.or(default);
            let moment = Moment::Skipped { state: state.address.clone(), next: self.address(next) };
            self.step(line, moment)?;
            return Ok(next);
        }
        self.step(line, entered(deadline_of(at)))?;
        line.visits.insert(state.name.clone(), visit);
        match runs {
            Ok(_) => self.perform(line, &stay),
            Err(error) => Err(self.fail(line, &stay, error)),
        }
    }

    pub(super) fn address(&self, state: Option<StateId>) -> Option<Arc<str>> {
        state.and_then(|state| self.workflow.state(state)).map(|state| state.address.clone())
    }

    /// What is next, if history got there.
    pub(super) fn step(&mut self, line: &mut Line, mut moment: Moment) -> Go<()> {
        match self.oracle.happened(&line.place, &moment) {
            Answer::Yes(words) => {
                if let Some(words) = words {
                    settle(&mut moment, &words);
                }
                line.trail.push(moment);
                Ok(())
            }
            Answer::No => Err(Halt::Stopped(End::Before(Box::new(moment)))),
            Answer::Expired(depth) => Err(self.expired(line, depth)),
            Answer::Again => Err(Halt::Again),
        }
    }

    /// The world has no answer to what the state asked.
    pub(super) fn unanswered(&mut self, line: &mut Line, stay: &Stay<'_>) -> Halt {
        match self.oracle.interrupted(&line.place) {
            Answer::Expired(depth) => self.expired(line, depth),
            Answer::Again => Halt::Again,
            Answer::Yes(_) | Answer::No => Halt::Stopped(End::Waits(stay.state.address.clone(), stay.visit)),
        }
    }

    /// The state fails.
    pub(super) fn fail(&mut self, line: &mut Line, stay: &Stay<'_>, mut error: Error) -> Halt {
        error.state = Some(stay.state.name.clone());
        self.raise(line, error, None)
    }

    pub(super) fn raise(&mut self, line: &mut Line, error: Error, floor: Option<u32>) -> Halt {
        if let Err(halt) = self.step(line, Moment::Failed { error: error.clone(), floor }) {
            return halt;
        }
        let error = match line.trail.last() {
            Some(Moment::Failed { error, .. }) => error.clone(),
            _ => error,
        };
        // Nobody has looked at it yet, and a state around it is out of time.
        match self.oracle.interrupted(&line.place) {
            Answer::Expired(depth) => self.expired(line, depth),
            _ => Halt::Raised(error, floor),
        }
    }

    fn expired(&mut self, line: &mut Line, depth: u32) -> Halt {
        let mut error = Error::new("timeout", Words::any());
        error.state = line.open.get(depth as usize).cloned();
        self.raise(line, error, Some(depth))
    }

    /// The state ends, with an output if it has one: first it is written, then the `output` mapping sees it.
    pub(super) fn complete(
        &mut self,
        line: &mut Line,
        stay: &Stay<'_>,
        output: Option<Value>,
        next: Option<StateId>,
    ) -> Go<Option<StateId>> {
        let state = stay.state;
        // What passes its input on has that for a result, where something is to be made of one.
        let writes = state.result_path.is_some() || !state.output.is_empty();
        let output = output.or_else(|| writes.then(|| stay.view.input.value.clone()));
        let Some(output) = output else {
            let moment = Moment::Completed { output: None, writes: Vec::new(), next: self.address(next) };
            self.step(line, moment)?;
            line.wrote = false;
            line.flow = stay.view.input.clone();
            return Ok(next);
        };
        let (context, writes) = match self.write(line, stay, &output) {
            Ok(written) => written,
            Err(error) => return Err(self.fail(line, stay, error)),
        };
        let moment = Moment::Completed {
            output: Some(output.clone()),
            writes: writes.clone(),
            next: self.address(next),
        };
        self.step(line, moment)?;
        line.context = context;
        line.wrote = false;
        if let Some(path) = state.result_path.as_ref().filter(|path| !is_in_steps(path)) {
            // What cannot be written there was refused where it could not be written in the context.
            let _ = path.write(&mut line.writes, output.clone());
            line.wrote = true;
        }
        for (key, value) in writes {
            insert(&mut line.context, &key, &value);
            insert(&mut line.writes, &key, &value);
            line.wrote = true;
        }
        line.flow = Flow { value: output, from: Some(state.name.clone()) };
        Ok(next)
    }

    /// The context with the state's output in it, and what its `output` mapping makes of that.
    fn write(&self, line: &Line, stay: &Stay<'_>, output: &Value) -> Result<(Value, Writes), Error> {
        let state = stay.state;
        if output.is_too_deep() {
            return Err(Error::new("expression", Words::any()));
        }
        let mut context = line.context.clone();
        write_step(&mut context, state, output);
        if let Some(path) = &state.result_path {
            path.write(&mut context, output.clone())
                .map_err(|error| Error::new("expression", Words::with(&error.to_string())))?;
        }
        let view = View { context: Some(context), ..stay.view.clone() };
        let mut writes = Vec::with_capacity(state.output.len());
        for (key, value) in &state.output {
            let value = match value {
                OutputValue::Own(path) => path
                    .read_in_result(output)
                    .map_err(|error| Error::new("expression", Words::with(&error.to_string())))?,
                OutputValue::Tree(tree) => self.tree(line, &view, tree)?.value,
            };
            writes.push((key.clone(), value));
        }
        Ok((view.context.unwrap_or_default(), writes))
    }

    /// What a scope that came to its end gives.
    fn output(&mut self, line: &mut Line, output: Option<&Tree>) -> Go<Outcome> {
        if let Some(tree) = output {
            let moment = || Moment::Ended(Outcome::Completed(Value::Null));
            let Some(at) = self.oracle.time(&line.place) else {
                return Err(Halt::Stopped(End::Before(Box::new(moment()))));
            };
            let view = View { input: line.flow.clone(), at, context: None, data: None };
            return Ok(match self.tree(line, &view, tree) {
                Ok(rendered) => Outcome::Completed(rendered.value),
                Err(error) => Outcome::Failed(error),
            });
        }
        let last = &line.flow.value;
        if !line.place.0.is_empty() {
            return Ok(Outcome::Completed(if line.wrote { line.writes.clone() } else { last.clone() }));
        }
        let violations = self.workflow.output_schema.as_ref().map(|schema| schema.validate(last));
        if violations.is_some_and(|violations| !violations.is_empty()) {
            return Ok(Outcome::Failed(Error::new("validation", Words::any())));
        }
        Ok(Outcome::Completed(last.clone()))
    }
}

/// How an error ends a scope. A run says after how many attempts it failed; on its way an error keeps its type.
fn uncaught(line: &Line, error: Error) -> Outcome {
    if error.waited {
        return Outcome::TimedOut(error);
    }
    if !line.place.0.is_empty() || error.attempts <= 1 || error.cause.is_some() {
        return Outcome::Failed(error);
    }
    Outcome::Failed(Error {
        kind: "retry_exhausted".into(),
        message: Words::with(error.text()),
        cause: Some(Box::new(error.clone())),
        ..error
    })
}

/// From here on these are its words.
fn settle(moment: &mut Moment, words: &Arc<str>) {
    match moment {
        Moment::Failed { error, .. }
        | Moment::Caught { error, .. }
        | Moment::Ended(Outcome::Failed(error) | Outcome::TimedOut(error)) => {
            error.message = Words::Exactly(words.clone());
        }
        Moment::Cancels { reason } | Moment::Ended(Outcome::Cancelled(reason)) => {
            *reason = Some(Words::Exactly(words.clone()));
        }
        _ => {}
    }
}

/// `steps.S` is the output of S.
pub(super) fn write_step(context: &mut Value, state: &State, output: &Value) {
    if let Some(steps) = context.object_mut().and_then(|context| context.get_mut("steps")) {
        insert(steps, &state.name, output);
    }
}

pub(super) fn insert(object: &mut Value, key: &Arc<str>, value: &Value) {
    if let Some(object) = object.object_mut() {
        object.insert(key.clone(), value.clone());
    }
}

pub(super) fn is_in_steps(path: &Path) -> bool {
    matches!(path.segments().first(), Some(Segment::Key(key)) if **key == *"steps")
}

/// Whether `timeoutSeconds` limits the state as a whole.
fn is_composite(state: &State) -> bool {
    matches!(
        state.kind,
        Kind::Parallel(_) | Kind::Foreach(_) | Kind::While(_) | Kind::Try(_) | Kind::Workflow(_)
    )
}

/// `time` moved by milliseconds, or the end of time.
pub(super) fn later(time: jiff::Timestamp, milliseconds: u64) -> jiff::Timestamp {
    let length = jiff::SignedDuration::from_millis(i64::try_from(milliseconds).unwrap_or(i64::MAX));
    time.checked_add(length).unwrap_or(jiff::Timestamp::MAX)
}
