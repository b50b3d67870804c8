//! `parallel` and `foreach`: children with a copy of the context, and what their ends make of the state.

use std::collections::BTreeMap;
use std::sync::Arc;

use expression::Object;
use expression::Tree;
use expression::Value;
use model::Aggregation;
use model::Block;
use model::Foreach;
use model::JoinMode;
use model::OnFailure;
use model::Parallel;
use model::StateId;

use super::Ask;
use super::Child;
use super::End;
use super::Error;
use super::Moment;
use super::Outcome;
use super::Words;
use super::scope::Flow;
use super::scope::Go;
use super::scope::Interpreter;
use super::scope::Line;
use super::scope::Stay;
use super::scope::insert;

/// A child about to run.
struct Start<'a> {
    child: Child,
    block: &'a Block,
    output: Option<&'a Tree>,
    /// The names an iteration has more than its parent.
    names: Vec<(Arc<str>, Value)>,
}

/// What a join waits for.
#[derive(Clone, Copy)]
struct Rule {
    needed: usize,
    on_failure: OnFailure,
}

impl<'a> Interpreter<'a> {
    pub(super) fn parallel(
        &mut self,
        line: &mut Line,
        stay: &Stay<'a>,
        parallel: &'a Parallel,
    ) -> Go<Option<StateId>> {
        let all = parallel.branches.len();
        let rule = Rule {
            needed: match parallel.join.mode {
                JoinMode::All => all,
                JoinMode::Count(count) => all.min(count as usize),
            },
            on_failure: parallel.join.on_failure,
        };
        let starts: Vec<_> = parallel
            .branches
            .iter()
            .map(|branch| Start {
                child: Child::Branch(branch.name.clone()),
                block: &branch.block,
                output: branch.output.as_ref(),
                names: Vec::new(),
            })
            .collect();
        let outputs = self.fork(line, stay, None, &starts, rule)?;
        let branches = parallel.branches.iter().zip(outputs);
        let output = match parallel.aggregation {
            Aggregation::Merge => {
                let finished = branches.filter_map(|(branch, output)| Some((branch.name.clone(), output?)));
                Value::from(finished.collect::<Object>())
            }
            Aggregation::Array => branches.map(|(_, output)| output.unwrap_or_default()).collect(),
        };
        self.complete(line, stay, Some(output), stay.state.next)
    }

    pub(super) fn foreach(
        &mut self,
        line: &mut Line,
        stay: &Stay<'a>,
        foreach: &'a Foreach,
    ) -> Go<Option<StateId>> {
        let items = self.read(line, &stay.view, &foreach.items).and_then(|items| match items {
            Value::Array(items) => Ok(items),
            _ => Err(Error::new("validation", Words::any())),
        });
        let items = self.or_fail(line, stay, items)?;
        let rule = Rule { needed: items.len(), on_failure: foreach.on_failure };
        let starts: Vec<_> = (0_u32..)
            .zip(items.iter())
            .map(|(index, item)| Start {
                child: Child::Item(index),
                block: &foreach.block,
                output: foreach.output.as_ref(),
                names: vec![
                    (foreach.item_name.clone(), item.clone()),
                    ("_item".into(), item.clone()),
                    ("_index".into(), Value::from(index)),
                    ("_total".into(), Value::from(items.len())),
                ],
            })
            .collect();
        let outputs = self.fork(line, stay, Some(Value::Array(items.clone())), &starts, rule)?;
        let results = outputs.into_iter().map(Option::unwrap_or_default);
        let output = match foreach.aggregation {
            Aggregation::Merge => {
                let entries = [("results", results.collect()), ("count", Value::from(items.len()))];
                Value::from(entries.into_iter().collect::<Object>())
            }
            Aggregation::Array => (0_usize..)
                .zip(items.iter())
                .zip(results)
                .map(|((index, item), output)| {
                    let entries = [("item", item.clone()), ("index", Value::from(index)), ("output", output)];
                    entries.into_iter().collect::<Object>()
                })
                .collect(),
        };
        self.complete(line, stay, Some(output), stay.state.next)
    }

    /// Runs the children as far as they got, and gives the outputs of those that count once they are enough.
    fn fork(
        &mut self,
        line: &mut Line,
        stay: &Stay<'a>,
        items: Option<Value>,
        starts: &[Start<'a>],
        rule: Rule,
    ) -> Go<Vec<Option<Value>>> {
        let state = stay.state;
        let all = starts.len();
        let count = u32::try_from(all).unwrap_or(u32::MAX);
        self.step(line, Moment::Asked(Ask::Children { count, items }))?;
        let mut ends = BTreeMap::new();
        for (index, start) in (0_u32..).zip(starts) {
            let place = line.place.below(&state.name, stay.visit, start.child.clone());
            if self.oracle.begun(&place) {
                let child = child(line, stay, place, &start.names);
                ends.insert(index, self.scope(child, start.block, start.output));
            }
        }
        let batches = self.oracle.ended(&line.place, &state.address, stay.visit);
        // First in time, for failures; by index, for outputs.
        let (mut failed, mut outputs) = (Vec::new(), vec![None; all]);
        let mut cancelled = None;
        let mut batches = batches.into_iter();
        loop {
            let succeeded = outputs.iter().flatten().count();
            let bad = failed.len() + usize::from(cancelled.is_some());
            if succeeded >= rule.needed {
                return Ok(outputs);
            }
            if let Some(reason) = cancelled {
                return Err(self.cancel(line, reason));
            }
            let over = succeeded + bad == all;
            if bad > all - rule.needed && (over || rule.on_failure == OnFailure::FailFast) {
                break;
            }
            let Some(batch) = batches.next() else { return Err(self.unanswered(line, stay)) };
            for index in batch {
                match ends.get(&index) {
                    Some(End::Over(Outcome::Completed(output))) => {
                        if let Some(slot) = outputs.get_mut(index as usize) {
                            *slot = Some(output.clone());
                        }
                    }
                    Some(End::Over(Outcome::Failed(error) | Outcome::TimedOut(error))) => {
                        failed.push((index, error.clone()));
                    }
                    Some(End::Over(Outcome::Cancelled(reason))) => cancelled = Some(reason.clone()),
                    _ => return Err(self.unanswered(line, stay)),
                }
            }
        }
        if rule.on_failure == OnFailure::Wait {
            failed.sort_by_key(|(index, _)| *index);
        }
        let Some((index, error)) = failed.into_iter().next() else { return Err(self.unanswered(line, stay)) };
        let name: Arc<str> = match starts.get(index as usize).map(|start| &start.child) {
            Some(Child::Branch(name)) => name.clone(),
            _ => index.to_string().into(),
        };
        Err(self.raise(line, through(error, &state.name, &name), None))
    }
}

/// A child with its copy of the context, in which it has the names of its iteration.
fn child(line: &Line, stay: &Stay<'_>, place: super::Place, names: &[(Arc<str>, Value)]) -> Line {
    let mut context = line.context.clone();
    let mut flow = stay.view.input.clone();
    let mut iteration = line.iteration.clone();
    if !names.is_empty() && flow.value.as_object().is_none() {
        flow = Flow { value: Value::object(), from: None };
    }
    for (name, value) in names {
        insert(&mut context, name, value);
        insert(&mut flow.value, name, value);
        iteration.retain(|(known, _)| known != name);
        iteration.push((name.clone(), value.clone()));
    }
    Line {
        place,
        context,
        writes: Value::object(),
        wrote: false,
        flow,
        iteration,
        caught: line.caught.clone(),
        visits: BTreeMap::new(),
        open: Vec::new(),
        trail: Vec::new(),
    }
}

/// The error as it is seen outside of a branch, iteration or child run: its message begins with the way.
pub(super) fn through(error: Error, state: &Arc<str>, child: &str) -> Error {
    let way = match &error.state {
        _ if error.travelled => format!("{state}/{child}/{}", error.text()),
        Some(inner) => format!("{state}/{child}/{inner}: {}", error.text()),
        None => format!("{state}/{child}: {}", error.text()),
    };
    Error { message: Words::exactly(&way), state: Some(state.clone()), travelled: true, ..error }
}
