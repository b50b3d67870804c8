//! Whether what flows into an agent fits its input schema.

use std::collections::HashMap;
use std::collections::HashSet;

use expression::Value;

use super::graph;
use crate::Action;
use crate::Block;
use crate::Code;
use crate::Issue;
use crate::Kind;
use crate::Schema;
use crate::State;
use crate::StateId;
use crate::Workflow;
use crate::read::Reader;

/// Holds literal inputs and the output of the agent before against the input schemas of agents.
pub(super) fn check(reader: &mut Reader<'_>, workflow: &Workflow) {
    let Some(catalog) = reader.options.agents else { return };
    if reader.lost.kinds {
        return;
    }
    let before = before(workflow);
    let mut found = Vec::new();
    for state in workflow.states() {
        let Some(agent) = agent_of(state).and_then(|name| catalog.agent(name)) else { continue };
        let Some(schema) = &agent.input_schema else { continue };
        if let Some(note) = reader.inputs.get(&state.id) {
            let Some(literal) = &note.literal else { continue };
            let mut value = literal.clone();
            schema.fill_defaults(&mut value);
            for violation in schema.validate(&value) {
                let issue = Issue::error(
                    Code::SchemaMismatch,
                    format!("the input does not fit the agent `{}`: {violation}", agent.name),
                );
                found.push((state.id, issue.path(note.path.clone()).at(note.line, note.column)));
            }
            continue;
        }
        let Kind::Operation(operation) = &state.kind else { continue };
        if !operation.receives_input {
            continue;
        }
        let mut sources = Vec::new();
        sources_of(workflow, &before, state.id, &mut HashSet::new(), &mut sources);
        for source in sources {
            let (who, output) = match source {
                Source::State(id) => {
                    let Some(name) = workflow.state(id).and_then(agent_of) else { continue };
                    let Some(output) = catalog.agent(name).and_then(|agent| agent.output_schema.as_ref())
                    else {
                        continue;
                    };
                    (format!("the output of `{name}`"), output)
                }
                Source::Input => match &workflow.input_schema {
                    Some(schema) => ("the workflow's input".to_owned(), schema),
                    None => continue,
                },
            };
            let issue = match fits(output, schema) {
                Verdict::Fits => continue,
                Verdict::Never(why) => Issue::error(
                    Code::SchemaMismatch,
                    format!("{who} never fits what the agent `{}` takes: {why}", agent.name),
                )
                .hint("give the state an `input` that is made of what is there"),
                Verdict::Perhaps(why) => Issue::warning(
                    Code::SchemaMismatch,
                    format!("{who} may not fit what the agent `{}` takes: {why}", agent.name),
                ),
            };
            found.push((state.id, issue.at(0, 0)));
        }
    }
    for (id, issue) in found {
        if issue.line == 0 { reader.report_state(id, issue) } else { reader.issues.push(issue) }
    }
}

fn agent_of(state: &State) -> Option<&str> {
    match &state.kind {
        Kind::Operation(operation) => match &operation.action {
            Action::Agent(name) => Some(name),
            _ => None,
        },
        _ => None,
    }
}

enum Source {
    State(StateId),
    Input,
}

/// The states from which each state is entered, and the composite state whose first it is.
#[derive(Default)]
struct Before {
    states: HashMap<StateId, Vec<StateId>>,
    /// `None`: the workflow itself.
    enclosing: HashMap<StateId, Option<StateId>>,
}

fn before(workflow: &Workflow) -> Before {
    let mut before = Before::default();
    before.enclosing.insert(workflow.root.start, None);
    for state in workflow.states() {
        for target in graph::targets(state) {
            before.states.entry(target).or_default().push(state.id);
        }
        let mut enclose = |block: &Block| before.enclosing.insert(block.start, Some(state.id));
        match &state.kind {
            Kind::Parallel(parallel) => parallel.branches.iter().for_each(|branch| {
                enclose(&branch.block);
            }),
            Kind::Try(attempt) => {
                enclose(&attempt.body);
            }
            Kind::While(looped) => {
                enclose(&looped.block);
            }
            _ => {}
        }
    }
    before
}

/// Whose output flows into a state, through those that pass theirs on.
fn sources_of(
    workflow: &Workflow,
    before: &Before,
    id: StateId,
    seen: &mut HashSet<StateId>,
    sources: &mut Vec<Source>,
) {
    let mut open = vec![id];
    while let Some(id) = open.pop() {
        if !seen.insert(id) {
            continue;
        }
        match before.enclosing.get(&id) {
            Some(None) => sources.push(Source::Input),
            Some(Some(outer)) => open.push(*outer),
            None => {}
        }
        for previous in before.states.get(&id).into_iter().flatten() {
            let Some(state) = workflow.state(*previous) else { continue };
            if matches!(state.kind, Kind::Switch(_) | Kind::Wait(_) | Kind::Cron) {
                open.push(*previous);
            } else {
                sources.push(Source::State(*previous));
            }
        }
    }
}

#[derive(Debug, PartialEq, Eq)]
enum Verdict {
    Fits,
    /// It depends on the value.
    Perhaps(String),
    /// No value of the first fits the second.
    Never(String),
}

fn fits(output: &Schema, input: &Schema) -> Verdict {
    let mut comparison = Comparison { output: output.raw(), input: input.raw(), steps: 0, doubt: None };
    match comparison.compare(output.raw(), input.raw(), "", 0) {
        Err(why) => Verdict::Never(why),
        Ok(()) => comparison.doubt.map_or(Verdict::Fits, Verdict::Perhaps),
    }
}

struct Comparison<'s> {
    output: &'s Value,
    input: &'s Value,
    steps: usize,
    /// The first thing that could not be decided.
    doubt: Option<String>,
}

impl Comparison<'_> {
    fn doubt(&mut self, why: String) {
        self.doubt.get_or_insert(why);
    }

    /// `Err`: whatever the first allows at this (required) place, the second does not.
    fn compare(&mut self, output: &Value, input: &Value, path: &str, depth: usize) -> Result<(), String> {
        self.steps += 1;
        if depth > 32 || self.steps > 2_000 {
            return Ok(());
        }
        let output = local(self.output, output);
        let input = local(self.input, input);
        let place = if path.is_empty() { "it".to_owned() } else { format!("`{path}`") };
        let (given, wanted) = (types(output), types(input));
        if let (Some(given), Some(wanted)) = (&given, &wanted) {
            let accepts =
                |kind: &&str| wanted.contains(kind) || (*kind == "integer" && wanted.contains(&"number"));
            let may_be_whole = given.contains(&"number") && wanted.contains(&"integer");
            if !may_be_whole && !given.iter().any(accepts) {
                return Err(format!("{place} is {}, not {}", given.join(" or "), wanted.join(" or ")));
            }
            if !given.iter().all(accepts) {
                self.doubt(format!("{place} may be {}, not {}", given.join(" or "), wanted.join(" or ")));
            }
        } else if let (None, Some(wanted)) = (&given, &wanted)
            && !path.is_empty()
        {
            self.doubt(format!("{place} must be {}", wanted.join(" or ")));
        }
        if let (Some(given), Some(wanted)) = (choices(output), choices(input)) {
            let fitting = given.iter().filter(|value| wanted.contains(value)).count();
            if fitting == 0 {
                return Err(format!("no value that {place} may have is allowed"));
            }
            if fitting < given.len() {
                self.doubt(format!("not every value that {place} may have is allowed"));
            }
        }
        self.properties(output, input, path, depth)?;
        if let (Some(given), Some(wanted)) = (output.get("items"), input.get("items")) {
            // An empty list fits whatever its items are: never more than a doubt.
            if let Err(why) = self.compare(given, wanted, &format!("{path}[]"), depth + 1) {
                self.doubt(why);
            }
        }
        Ok(())
    }

    fn properties(&mut self, output: &Value, input: &Value, path: &str, depth: usize) -> Result<(), String> {
        let Some(wanted) = input.get("properties").and_then(Value::as_object) else { return Ok(()) };
        let given = output.get("properties").and_then(Value::as_object);
        let is_closed = output.get("additionalProperties") == Some(&Value::Bool(false));
        for name in texts(input.get("required")) {
            let has_default = wanted.get(name).is_some_and(|property| property.get("default").is_some());
            let here = if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") };
            match given.and_then(|given| given.get(name)) {
                _ if has_default => {}
                None if is_closed => return Err(format!("`{here}` is never there")),
                None => self.doubt(format!("`{here}` is required, and not among what is known to be there")),
                Some(_) if !texts(output.get("required")).contains(&name) => {
                    self.doubt(format!("`{here}` is required and may be missing"));
                }
                Some(_) => {}
            }
        }
        for (name, property) in wanted {
            let Some(theirs) = given.and_then(|given| given.get(name)) else { continue };
            let here = if path.is_empty() { name.to_string() } else { format!("{path}.{name}") };
            let is_always_there = texts(output.get("required")).contains(&&**name);
            match self.compare(theirs, property, &here, depth + 1) {
                Err(why) if is_always_there => return Err(why),
                Err(why) => self.doubt(why),
                Ok(()) => {}
            }
        }
        Ok(())
    }
}

fn local<'v>(root: &'v Value, schema: &'v Value) -> &'v Value {
    let mut at = schema;
    for _ in 0..8 {
        match at
            .get("$ref")
            .and_then(Value::as_str)
            .and_then(|reference| crate::schema::resolve(root, reference))
        {
            Some(target) => at = target,
            None => break,
        }
    }
    at
}

fn types(schema: &Value) -> Option<Vec<&str>> {
    match schema.get("type")? {
        Value::String(kind) => Some(vec![kind]),
        Value::Array(kinds) => Some(kinds.iter().filter_map(Value::as_str).collect()),
        _ => None,
    }
}

fn choices(schema: &Value) -> Option<Vec<&Value>> {
    if let Some(constant) = schema.get("const") {
        return Some(vec![constant]);
    }
    Some(schema.get("enum")?.as_array()?.iter().collect())
}

fn texts(list: Option<&Value>) -> Vec<&str> {
    list.and_then(Value::as_array).unwrap_or_default().iter().filter_map(Value::as_str).collect()
}
