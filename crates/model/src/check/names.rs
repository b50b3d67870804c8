//! Names and paths: what is written, and whether what is read is written by anybody.

use std::cell::Cell;
use std::collections::BTreeSet;
use std::collections::HashSet;
use std::sync::Arc;

use expression::Expression;
use expression::Names;
use expression::Path;
use expression::Segment;
use expression::Value;

use super::graph;
use crate::Action;
use crate::Block;
use crate::Code;
use crate::Issue;
use crate::Kind;
use crate::Severity;
use crate::State;
use crate::StateId;
use crate::Trigger;
use crate::Workflow;
use crate::fields;
use crate::read::Reader;
use crate::read::Use;
use crate::read::UseKind;
use crate::read::as_literal;

/// What names mean inside the workflow's expressions.
pub(super) fn build(workflow: &Workflow) -> Names {
    let mut names = Names::builder();
    for state in workflow.states() {
        names = names.state(&state.name);
        let own = Path::root().join(Segment::Key("steps".into())).join(Segment::Key(state.name.clone()));
        let places = [own].into_iter().chain(state.result_path.clone());
        for (index, path) in places.enumerate() {
            if index > 0 {
                names = names.result(&path, &state.name);
            }
            if let Kind::Parallel(parallel) = &state.kind {
                for branch in &parallel.branches {
                    if path.is_root() {
                        names = names.writes(&branch.name, &state.name);
                    }
                    names = names.branch_result(&path, &branch.name);
                }
            }
        }
        for (key, _) in &state.output {
            names = names.writes(key, &state.name);
        }
        match &state.kind {
            Kind::Inject(data) if state.result_path.as_ref().is_some_and(Path::is_root) => {
                for key in data.source().as_object().into_iter().flat_map(|object| object.keys()) {
                    names = names.writes(key, &state.name);
                }
            }
            Kind::Try(attempt) => {
                for bind in attempt.catch.iter().filter_map(|clause| clause.bind.as_ref()) {
                    names = names.writes(bind, &state.name);
                }
            }
            _ => {}
        }
    }
    names.build()
}

/// Root keys of the engine.
const SPECIAL: [&str; 10] = [
    "_timestamp",
    "_runID",
    "_cronTriggeredAt",
    "_error",
    "_errorMessage",
    "_item",
    "_index",
    "_total",
    "_value",
    "now",
];
const WORKFLOW_KEYS: [&str; 5] = ["id", "version", "input", "runId", "startedAt"];

/// Reports names that nobody writes.
pub(super) fn check(reader: &mut Reader<'_>, workflow: &Workflow) {
    if reader.lost.writes {
        return;
    }
    let known = Known::of(reader, workflow);
    let mut told = HashSet::new();
    for used in std::mem::take(&mut reader.uses) {
        if reader.is_full() {
            return;
        }
        known.wants_hints.set(reader.wants_hints());
        let Some(issue) = known.judge(&used) else { continue };
        // A warning is told once: one `inputSchema` answers all of them.
        let state = if issue.is_error() { used.state } else { None };
        if told.insert((state, used.name.clone(), used.keys.first().cloned())) {
            reader.report_use(&used, issue);
        }
    }
}

struct Known<'w> {
    workflow: &'w Workflow,
    roots: BTreeSet<Arc<str>>,
    steps: HashSet<Arc<str>>,
    states: HashSet<Arc<str>>,
    /// All root keys there can be are known.
    is_closed: bool,
    /// States whose `input` is that of the workflow.
    first: HashSet<StateId>,
    inputs: BTreeSet<Arc<str>>,
    /// Root keys and `steps` keys that the outputs of agents with schemas are known to have.
    is_input_closed: bool,
    /// Not all kinds are known, so not all that leads to a state is.
    is_partial: bool,
    wants_hints: Cell<bool>,
}

impl<'w> Known<'w> {
    fn of(reader: &Reader<'_>, workflow: &'w Workflow) -> Self {
        let schema = workflow.input_schema.as_ref().map(crate::Schema::raw);
        let inputs: BTreeSet<Arc<str>> = properties(schema).collect();
        let is_input_closed = schema.is_some_and(is_closed);
        let mut known = Self {
            workflow,
            roots: inputs.clone(),
            steps: HashSet::new(),
            states: workflow.states().map(|state| state.name.clone()).collect(),
            is_closed: is_input_closed && !reader.is_open,
            first: HashSet::new(),
            inputs,
            is_input_closed,
            is_partial: reader.lost.kinds,
            wants_hints: Cell::new(true),
        };
        for trigger in &workflow.triggers {
            if let Trigger::Schedule(schedule) = trigger {
                known.roots.extend(keys(&schedule.input));
            }
        }
        known.roots.extend(reader.writes.iter().map(|(key, _)| key.clone()));
        for state in workflow.states() {
            known.steps.insert(state.name.clone());
            known.roots.extend(state.output.iter().map(|(key, _)| key.clone()));
            if let Some(path) = &state.result_path {
                known.written(reader, state, path);
            }
            if let Kind::Try(attempt) = &state.kind {
                known.roots.extend(attempt.catch.iter().filter_map(|clause| clause.bind.clone()));
            }
        }
        known.mark_first(&workflow.root);
        known
    }

    fn written(&mut self, reader: &Reader<'_>, state: &State, path: &Path) {
        match path.segments() {
            [] => self.merged(reader, state),
            [Segment::Key(steps), Segment::Key(key), ..] if &**steps == "steps" => {
                self.steps.insert(key.clone());
            }
            [Segment::Key(key), ..] => {
                self.roots.insert(key.clone());
            }
            [Segment::Index(_), ..] => {}
        }
    }

    /// A result is merged into the root.
    fn merged(&mut self, reader: &Reader<'_>, state: &State) {
        let names: &[&str] = match &state.kind {
            Kind::Inject(_) => &[],
            Kind::Parallel(parallel) => {
                self.roots.extend(parallel.branches.iter().map(|branch| branch.name.clone()));
                &[]
            }
            Kind::Foreach(_) => &["results", "count"],
            Kind::While(_) => &["count", "last"],
            Kind::Approval(_) => {
                &["approved", "decision", "approver", "comment", "reason", "form", "decidedAt"]
            }
            Kind::Operation(operation) => match &operation.action {
                Action::Http => &["status", "headers", "body"],
                Action::Agent(name) => {
                    let agent = reader.options.agents.and_then(|catalog| catalog.agent(name));
                    let schema = agent.and_then(|agent| agent.output_schema.as_ref()).map(crate::Schema::raw);
                    self.is_closed &= schema.is_some_and(is_closed);
                    self.roots.extend(properties(schema));
                    &[]
                }
                Action::Lambda | Action::Log => {
                    self.is_closed = false;
                    &[]
                }
            },
            _ => {
                self.is_closed = false;
                &[]
            }
        };
        self.roots.extend(names.iter().map(|name| Arc::from(*name)));
    }

    /// The states of a list that see the workflow's own input, when its first does.
    fn mark_first(&mut self, block: &Block) {
        let mut open = vec![block.start];
        while let Some(id) = open.pop() {
            let Some(state) = self.workflow.state(id) else { continue };
            if !self.first.insert(id) {
                continue;
            }
            let passes_on = matches!(state.kind, Kind::Switch(_) | Kind::Wait(_) | Kind::Cron)
                || state.condition.is_some();
            if passes_on {
                open.extend(graph::targets(state));
            }
            match &state.kind {
                Kind::Parallel(parallel) => {
                    open.extend(parallel.branches.iter().map(|branch| branch.block.start));
                }
                Kind::Foreach(each) => open.push(each.block.start),
                Kind::While(looped) => open.push(looped.block.start),
                Kind::Try(attempt) => open.push(attempt.body.start),
                _ => {}
            }
        }
    }

    fn judge(&self, used: &Use) -> Option<Issue> {
        let name = &*used.name;
        if used.locals.contains(&used.name) {
            return None;
        }
        match used.kind {
            UseKind::Path | UseKind::BarePath => self.root(used, &used.name, &used.keys),
            UseKind::Name | UseKind::NameWithData => match (name, used.keys.split_first()) {
                ("ctx", None) => None,
                ("ctx", Some((key, rest))) => {
                    let is_local = used.locals.contains(key);
                    if is_local { None } else { self.root(used, key, rest) }
                }
                _ if used.kind == UseKind::NameWithData
                    && !matches!(name, "steps" | "workflow" | "input") =>
                {
                    used.hint
                        .as_ref()
                        .filter(|_| !self.is_known(used, name))
                        .map(|_| self.unknown(used, name))
                }
                _ if self.states.contains(name) => None,
                _ => self.root(used, &used.name, &used.keys),
            },
        }
    }

    fn is_known(&self, used: &Use, name: &str) -> bool {
        self.roots.contains(name)
            || SPECIAL.contains(&name)
            || matches!(name, "ctx" | "steps" | "workflow" | "input")
            || self.states.contains(name)
            || used.locals.iter().any(|local| &**local == name)
    }

    /// A root key of the context, with the keys behind it.
    fn root(&self, used: &Use, name: &Arc<str>, keys: &[Arc<str>]) -> Option<Issue> {
        let is_asked = used.optional && keys.len() == 1;
        match (&**name, keys.first()) {
            ("steps", Some(key)) => {
                // `steps.check-pods` is told where `pods` stands.
                let is_slip = || {
                    self.steps
                        .iter()
                        .any(|step| step.strip_prefix(&**key).is_some_and(|rest| rest.starts_with('-')))
                };
                if self.steps.contains(key) || is_asked || (self.wants_hints.get() && is_slip()) {
                    return None;
                }
                let near = self.nearest(key, self.steps.iter().map(|step| &**step));
                let hint =
                    used.hint.clone().or_else(|| near.map(|near| format!("did you mean `steps.{near}`?")));
                Some(Issue::warning(Code::UnknownName, format!("no state writes `steps.{key}`")).maybe_hint(
                    hint.or_else(|| {
                        Some("`steps` has the output of each state, by the state's name".to_owned())
                    }),
                ))
            }
            ("workflow", Some(key)) => {
                if &**key == "input" {
                    return self.workflow_input(used, keys.get(1)?, used.optional && keys.len() == 2);
                }
                if WORKFLOW_KEYS.contains(&&**key) || is_asked {
                    return None;
                }
                Some(
                    Issue::warning(Code::UnknownName, format!("`workflow` has no `{key}`"))
                        .expected(WORKFLOW_KEYS.join(", ")),
                )
            }
            ("input", Some(key)) => self.flows_in(used, key),
            ("ctx" | "$", _) | ("steps" | "workflow" | "input", None) => None,
            (key, _) if self.roots.contains(key) || SPECIAL.contains(&key) => None,
            // `ctx.get("x")`: the root key itself is asked for.
            _ if used.optional && keys.is_empty() && &*used.name == "ctx" => None,
            // `sorted(x, key=len)`: a function as a value.
            _ if used.kind == UseKind::Name && used.name == *name && is_function(name) => None,
            (key, _) => Some(self.unknown(used, key)),
        }
    }

    fn unknown(&self, used: &Use, name: &str) -> Issue {
        let severity = if self.is_closed || used.kind == UseKind::BarePath || used.hint.is_some() {
            Severity::Error
        } else {
            Severity::Warning
        };
        let issue = Issue { severity, ..Issue::error(Code::UnknownName, format!("nobody writes `{name}`")) };
        if let Some(hint) = &used.hint {
            return issue.hint(hint.clone());
        }
        if used.kind == UseKind::BarePath {
            return issue
                .hint(format!("what stands in `output` is a path; for a text write {}", as_literal(name)));
        }
        if self.states.contains(name) {
            return issue.hint(format!("the output of the state is `steps.{name}`"));
        }
        let states = self.workflow.states().map(|state| &*state.name);
        let names =
            self.roots.iter().map(|root| &**root).chain(states).chain(used.locals.iter().map(|l| &**l));
        let near = self.nearest(name, names.chain(["ctx", "steps", "workflow", "input"]));
        let hint = match near {
            Some(near) => format!("did you mean `{near}`?"),
            None if self.workflow.input_schema.is_some() => {
                "add it to `inputSchema`, or write it with a `resultPath`".to_owned()
            }
            None => "it can only come with the input: say so in `inputSchema`".to_owned(),
        };
        issue.hint(hint)
    }

    fn nearest<'n>(&self, name: &str, known: impl IntoIterator<Item = &'n str>) -> Option<&'n str> {
        if self.wants_hints.get() { fields::nearest(name, known) } else { None }
    }

    fn workflow_input(&self, used: &Use, key: &Arc<str>, is_asked: bool) -> Option<Issue> {
        if is_asked || !self.is_input_closed || self.inputs.contains(key) {
            return None;
        }
        let near = self.nearest(key, self.inputs.iter().map(|input| &**input));
        let hint = near.map(|near| format!("did you mean `{near}`?"));
        let _ = used;
        Some(Issue::warning(Code::UnknownName, format!("`inputSchema` knows no `{key}`")).maybe_hint(hint))
    }

    /// `input.x` where what flows in is the output of the state before.
    fn flows_in(&self, used: &Use, key: &Arc<str>) -> Option<Issue> {
        let state = used.state?;
        if self.is_partial || self.first.contains(&state) || !self.inputs.contains(key) || used.optional {
            return None;
        }
        Some(
            Issue::warning(
                Code::InputOnlyFirst,
                format!(
                    "`input` is what the state before returned here, and only `inputSchema` knows `{key}`"
                ),
            )
            .hint(format!("the workflow's input is `workflow.input.{key}`, or just `{key}`")),
        )
    }
}

/// Only functions that exist can be called.
fn is_function(name: &str) -> bool {
    Expression::parse(&format!("{name}()")).is_ok()
}

fn properties(schema: Option<&Value>) -> impl Iterator<Item = Arc<str>> {
    let properties = schema.and_then(|schema| schema.get("properties"));
    properties.map(|value| keys(value).collect::<Vec<_>>()).unwrap_or_default().into_iter()
}

fn keys(value: &Value) -> impl Iterator<Item = Arc<str>> {
    value.as_object().into_iter().flat_map(|object| object.keys().cloned())
}

/// Whether a schema's `properties` are all there can be, as far as its author means it.
fn is_closed(schema: &Value) -> bool {
    let open =
        ["$ref", "allOf", "anyOf", "oneOf", "if", "patternProperties", "dependentSchemas", "$dynamicRef"];
    let is_explicitly_open = !matches!(schema.get("additionalProperties"), None | Some(Value::Bool(false)));
    schema.get("properties").is_some()
        && !is_explicitly_open
        && open.iter().all(|key| schema.get(key).is_none())
}
