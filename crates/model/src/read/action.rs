//! Operations: which action, and what it is asked.

use std::sync::Arc;

use expression::Object;
use expression::Tree;
use expression::TreeOptions;
use expression::Value;

use super::InputNote;
use super::Reader;
use super::normalise::action_of;
use super::state::Reading;
use super::state::literal;
use super::survey::one_or_each;
use super::text::Allowed;
use super::text::CALL;
use super::text::CALL_TEXT;
use super::text::PATHS;
use super::text::PLAIN;
use super::to_value;
use crate::Action;
use crate::Agent;
use crate::Code;
use crate::Issue;
use crate::Kind;
use crate::Millis;
use crate::Operation;
use crate::fields;
use crate::fields::ActionName;
use crate::fields::Type;
use crate::yaml::Data;
use crate::yaml::Entry;
use crate::yaml::Node;
use crate::yaml::Number;

/// A state whose action's own fields all stand beside each other, and what is left of its `input`.
struct Lifted {
    state: Node,
    /// `None` when nothing is left of an input that only held the action's own fields.
    rest: Option<Node>,
    has_input: bool,
}

impl Reader<'_> {
    pub(super) fn action(&mut self, reading: &Reading<'_>, kind: Type) -> Option<(Kind, Option<Millis>)> {
        let node = reading.node;
        let action = self.action_name(node, kind)?;
        let agent = if action == ActionName::AgentRun { self.agent_name(node) } else { None };
        let definition = match (&agent, self.options.agents) {
            (Some((_, name)), Some(catalog)) => catalog.agent(name),
            _ => None,
        };
        let lifted = self.lift(node, action, definition);
        let own = &lifted.state;
        match action {
            ActionName::AgentRun => {
                let timeout = self.timeout(own);
                let (retry, at_most_once) = self.attempts(node);
                let request = self.agent_request(reading, &lifted);
                let Some((name_node, name)) = agent else {
                    if !has_agent(node) {
                        self.missing(node, "agent", "running an agent", "the name of an agent");
                    }
                    return None;
                };
                self.check_agent(name_node, &name);
                let operation = Operation {
                    action: Action::Agent(name),
                    request: request?,
                    receives_input: !lifted.has_input,
                    retry: retry?,
                    at_most_once,
                };
                Some((Kind::Operation(operation), timeout))
            }
            ActionName::HumanApproval => {
                self.no_rest(&lifted, action);
                self.approval(reading, own).map(|approval| (Kind::Approval(approval), None))
            }
            ActionName::WorkflowRun => {
                let timeout = self.timeout(own);
                let nested = lifted.state.get("input");
                if nested.is_some() {
                    self.no_rest(&lifted, action);
                }
                let input = nested.or(lifted.rest.as_ref());
                self.sub_workflow(own, input).map(|child| (Kind::Workflow(child), timeout))
            }
            ActionName::HttpCall | ActionName::LambdaInvoke | ActionName::Log => {
                let timeout = self.timeout(own);
                let (retry, at_most_once) = self.attempts(node);
                let mut receives_input = false;
                let (action, request) = match action {
                    ActionName::HttpCall => {
                        self.no_rest(&lifted, action);
                        (Action::Http, self.http_request(own))
                    }
                    ActionName::LambdaInvoke => {
                        let payload = own.get("payload");
                        if payload.is_some() {
                            self.no_rest(&lifted, action);
                        }
                        receives_input = payload.is_none() && !lifted.has_input;
                        (Action::Lambda, self.lambda_request(own, payload.or(lifted.rest.as_ref())))
                    }
                    _ => {
                        self.no_rest(&lifted, action);
                        (Action::Log, self.log_request(own))
                    }
                };
                let operation =
                    Operation { action, request: request?, receives_input, retry: retry?, at_most_once };
                Some((Kind::Operation(operation), timeout))
            }
        }
    }

    fn action_name(&mut self, node: &Node, kind: Type) -> Option<ActionName> {
        let given = node.get("action");
        if let Some(own) = kind.action() {
            if let Some(given) = given {
                let word = self.as_text(given, "action")?;
                if *word != *own.word() {
                    self.bad_value(
                        given,
                        format!(
                            "`type: {}` is short for `action: {}`, not `{word}`",
                            kind.word(),
                            own.word()
                        ),
                        "leave `action` out, or write `type: operation`",
                    );
                    return None;
                }
            }
            return Some(own);
        }
        let Some(given) = given else {
            if let Some(action) = action_of(node) {
                return Some(action);
            }
            let words = fields::ACTIONS.iter().map(|(_, word)| *word).collect::<Vec<_>>().join(", ");
            self.missing(node, "action", "an operation", &words);
            if node.get("agent").is_some()
                && let Some(issue) = self.issues.last_mut()
            {
                issue.hint = Some("write `action: agent.run`, or `type: agent`".to_owned());
            }
            return None;
        };
        let word = self.as_text(given, "action")?;
        if let Some(action) = ActionName::from_word(&word) {
            return Some(action);
        }
        let words = fields::ACTIONS.iter().map(|(_, word)| *word);
        let near = fields::nearest(&word, words.clone());
        let issue = Issue::error(Code::UnknownAction, format!("there is no action `{word}`"))
            .expected(words.collect::<Vec<_>>().join(", "))
            .maybe_hint(near.map(|near| format!("did you mean `{near}`?")));
        self.report(given, issue);
        None
    }

    /// The agent's name, in the state or under `input`.
    fn agent_name<'n>(&mut self, node: &'n Node) -> Option<(&'n Node, Arc<str>)> {
        let place = agent_node(node)?;
        let name = self.as_text(place, "agent")?;
        if name.contains("{{") || name.contains("${") {
            self.bad_value(
                place,
                "an agent is chosen when the workflow is written, not by a template".to_owned(),
                "use a `switch` with a state for each agent",
            );
            return None;
        }
        if name.trim().is_empty() {
            self.bad_value(place, "the agent's name is empty".to_owned(), "name an agent");
            return None;
        }
        Some((place, name))
    }

    fn check_agent(&mut self, node: &Node, name: &str) {
        let Some(catalog) = self.options.agents else { return };
        if catalog.agent(name).is_some() {
            return;
        }
        let names = catalog.names();
        let near = fields::nearest(name, names.iter().map(String::as_str))
            .map(|near| format!("did you mean `{near}`?"));
        let hint =
            near.unwrap_or_else(|| format!("add `agents/{name}.agent.yaml` or `agents/{name}.prompt`"));
        let issue = Issue::error(Code::UnknownAgent, format!("there is no agent `{name}`")).hint(hint);
        self.report(node, issue);
    }

    /// Brings the action's own fields out of `input`. The state's win; what the agent's schema names stays in, too.
    fn lift(&mut self, node: &Node, action: ActionName, agent: Option<&Agent>) -> Lifted {
        let Data::Map(written) = &node.data else {
            return Lifted { state: node.clone(), rest: None, has_input: false };
        };
        let has_input = node.get("input").is_some();
        // Of a foreach with `agent:`, the time limit is that of the whole.
        let mut entries: Vec<Entry> =
            written.iter().filter(|entry| &*entry.key != "input").cloned().collect();
        let Some(input) = node.get("input") else {
            return Lifted { state: with_entries(node, entries), rest: None, has_input };
        };
        let Data::Map(inner) = &input.data else {
            return Lifted { state: with_entries(node, entries), rest: Some(input.clone()), has_input };
        };
        let task_is_action = node.get("action").is_none() && !is_short(node) && action_of(node).is_some();
        let mut rest = Vec::new();
        let mut lifted: Vec<(&str, &str)> = Vec::new();
        for entry in inner {
            if task_is_action && &*entry.key == "task" {
                continue;
            }
            let Some(field) = fields::find(action.own_fields(), &entry.key) else {
                rest.push(entry.clone());
                continue;
            };
            let stays = agent.is_some_and(|agent| names_property(agent, &entry.key));
            if let Some((_, other)) = lifted.iter().find(|(name, _)| *name == field.name) {
                if !stays {
                    let issue = Issue::error(
                        Code::DuplicateField,
                        format!("`{}` and `{other}` are two spellings of one field", entry.key),
                    );
                    self.report_key(entry, issue.hint("keep one of them"));
                }
            } else if node.get(field.name).is_some() && field.name != "input" {
                if !stays {
                    let issue = Issue::warning(
                        Code::OverriddenField,
                        format!("`{}` stands in the state too, and the state's counts", entry.key),
                    );
                    self.report_key(entry, issue.hint("leave one of them out"));
                }
            } else {
                lifted.push((field.name, &entry.key));
                entries.push(Entry { key: field.name.into(), ..entry.clone() });
            }
            if stays {
                rest.push(entry.clone());
            }
        }
        let is_all_lifted = rest.is_empty() && !inner.is_empty();
        let rest = (!is_all_lifted).then(|| with_entries(input, rest));
        Lifted { state: with_entries(node, entries), rest, has_input }
    }

    /// Actions without an input of their own: what is left over would be lost.
    fn no_rest(&mut self, lifted: &Lifted, action: ActionName) {
        let Some(rest) = &lifted.rest else { return };
        let Data::Map(entries) = &rest.data else {
            let expected = format!("a mapping of the fields of `{}`", action.word());
            self.wrong_type(rest, "input", &expected);
            return;
        };
        for entry in entries {
            let issue =
                Issue::error(Code::UnknownField, format!("`{}` has no field `{}`", action.word(), entry.key));
            let near = fields::nearest(&entry.key, fields::spellings(action.own_fields()));
            let hint = near.map_or_else(
                || format!("its fields are: {}", fields::spellings(action.own_fields()).join(", ")),
                |near| format!("did you mean `{near}`?"),
            );
            self.report_key(entry, issue.hint(hint));
        }
    }

    fn agent_request(&mut self, reading: &Reading<'_>, lifted: &Lifted) -> Option<Tree> {
        let mut request = Request::default();
        if let Some(task) = lifted.state.get("task") {
            request.text(self, "task", Some(task), PLAIN);
        }
        if let Some(variables) = lifted.state.get("variables") {
            if matches!(variables.data, Data::Map(_) | Data::Text(..)) {
                request.part(self, "variables", variables, PATHS);
            } else {
                self.wrong_type(variables, "variables", "a mapping");
                request.is_broken = true;
            }
        }
        if let Some(input) = &lifted.rest
            && let Some(tree) = request.part(self, "input", input, CALL)
        {
            let note = InputNote {
                literal: literal(input, &tree),
                line: input.span.line,
                column: input.span.column,
                path: self.document.pointer(input),
            };
            self.inputs.insert(reading.id, note);
        }
        request.build()
    }

    fn http_request(&mut self, own: &Node) -> Option<Tree> {
        let mut request = Request::default();
        if let Some(method) = own.get("method") {
            if let Some(text) = method.text()
                && !text.contains("{{")
                && !METHODS.contains(&text.to_uppercase().as_str())
            {
                self.bad_value(
                    method,
                    format!("there is no method `{text}`"),
                    &format!("one of {}", METHODS.join(", ")),
                );
            }
            request.text(self, "method", Some(method), PLAIN);
        }
        let address = "an address that begins with `https://` or `http://`";
        if let Some(url) = self.required(own, "url", "`http.call`", address)
            && let Some(text) = url.text()
            && !text.contains("{{")
            && !["${", "http://", "https://"].iter().any(|start| text.starts_with(start))
        {
            self.bad_value(url, format!("`{text}` is no address"), "begin with `https://` or `http://`");
        }
        request.text(self, "url", own.get("url"), CALL_TEXT);
        for key in ["headers", "query"] {
            if let Some(node) = own.get(key) {
                if matches!(node.data, Data::Map(_)) || node.text().is_some_and(|text| text.contains("{{")) {
                    request.part(self, key, node, CALL);
                } else {
                    self.wrong_type(node, key, "a mapping");
                }
            }
        }
        if let Some(body) = own.get("body") {
            request.part(self, "body", body, CALL);
        }
        if let Some(expect) = own.get("expect") {
            for item in one_or_each(Some(expect)) {
                let fits = match &item.data {
                    Data::Number(_, Number::Int(code)) => (100..600).contains(code),
                    Data::Text(text, _) => is_status_class(text),
                    _ => false,
                };
                if !fits {
                    self.bad_value(
                        item,
                        format!("`expect` takes status codes, this is {}", item.type_name()),
                        "write `expect: 200`, `expect: [200, 404]` or `expect: 2xx`",
                    );
                }
            }
            request.part(self, "expect", expect, PLAIN);
        }
        request.build()
    }

    fn lambda_request(&mut self, own: &Node, payload: Option<&Node>) -> Option<Tree> {
        let mut request = Request::default();
        let function = self.required(own, "function", "`lambda.invoke`", "the name or ARN of a function");
        request.text(self, "function", function, PLAIN);
        if let Some(payload) = payload {
            request.part(self, "payload", payload, CALL);
        }
        request.build()
    }

    fn log_request(&mut self, own: &Node) -> Option<Tree> {
        let mut request = Request::default();
        match self.required(own, "message", "`log`", "a text") {
            Some(message) => {
                request.part(self, "message", message, PLAIN);
            }
            None => request.is_broken = true,
        }
        if let Some(level) = own.get("level") {
            self.word(own, "level", &[("debug", ()), ("info", ()), ("warn", ()), ("error", ())]);
            request.part(self, "level", level, PLAIN);
        }
        request.build()
    }
}

const METHODS: [&str; 7] = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"];

/// A request that is put together of parts, each of which allows other things in its strings.
#[derive(Default)]
struct Request {
    object: Object,
    is_broken: bool,
}

impl Request {
    fn part(&mut self, reader: &mut Reader<'_>, key: &str, node: &Node, allowed: Allowed) -> Option<Tree> {
        let tree = reader.tree(node, allowed);
        match &tree {
            Some(_) => {
                let value = to_value(node);
                self.object.insert(key, if allowed.paths { value } else { without_paths(value) });
            }
            None => self.is_broken = true,
        }
        tree
    }

    /// A part that must be a text. One that is missing has been reported.
    fn text(&mut self, reader: &mut Reader<'_>, key: &str, node: Option<&Node>, allowed: Allowed) {
        match node {
            Some(node) if reader.as_text(node, key).is_some() => {
                self.part(reader, key, node, allowed);
            }
            _ => self.is_broken = true,
        }
    }

    /// Each part has been parsed by its own rules; together they are parsed by the widest.
    fn build(self) -> Option<Tree> {
        if self.is_broken {
            return None;
        }
        Tree::parse(&Value::from(self.object), &TreeOptions { paths: true, secrets: true }).ok()
    }
}

/// A value none of whose strings is taken for a path.
fn without_paths(value: Value) -> Value {
    match value {
        Value::String(text) if &*text == "$" => Value::from("{{ '$' }}"),
        Value::String(text) if text.starts_with("$.") || text.starts_with("$$.") => {
            Value::from(format!("${text}"))
        }
        Value::Array(items) => items.iter().cloned().map(without_paths).collect(),
        Value::Object(object) => Value::from(
            object.iter().map(|(key, item)| (key.clone(), without_paths(item.clone()))).collect::<Object>(),
        ),
        other => other,
    }
}

fn with_entries(node: &Node, entries: Vec<Entry>) -> Node {
    Node { id: node.id, span: node.span, data: Data::Map(entries) }
}

fn agent_node(state: &Node) -> Option<&Node> {
    let own = state.get("agent");
    own.or_else(|| {
        let input = state.get("input")?;
        ["agent", "agentId", "agent_id"].iter().find_map(|key| input.get(key))
    })
}

fn has_agent(state: &Node) -> bool {
    agent_node(state).is_some()
}

/// `type: agent` and `type: human_approval` need no `action`.
fn is_short(state: &Node) -> bool {
    match state.get("type").and_then(Node::text) {
        Some(word) => Type::from_word(word) != Some(Type::Operation),
        None => true,
    }
}

/// Whether an agent's input schema names a property.
fn names_property(agent: &Agent, key: &str) -> bool {
    let properties = agent.input_schema.as_ref().and_then(|schema| schema.raw().get("properties"));
    properties.is_some_and(|properties| properties.get(key).is_some())
}

/// `2xx`.
fn is_status_class(text: &str) -> bool {
    let mut chars = text.chars();
    matches!(chars.next(), Some('1'..='5')) && chars.as_str().eq_ignore_ascii_case("xx")
}
