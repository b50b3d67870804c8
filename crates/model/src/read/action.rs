//! Operations: which action, what it is asked, how it is attempted; and approvals.

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
use crate::Approval;
use crate::Code;
use crate::Issue;
use crate::Kind;
use crate::Millis;
use crate::OnReject;
use crate::OnTimeout;
use crate::Operation;
use crate::Retry;
use crate::fields;
use crate::fields::ActionName;
use crate::fields::Type;
use crate::yaml::Data;
use crate::yaml::Entry;
use crate::yaml::Node;
use crate::yaml::Number;

/// How long an approval waits unless its file says otherwise.
pub(crate) const DEFAULT_APPROVAL_DEADLINE: Millis = Millis(3_600_000);
const DEFAULT_ATTEMPTS: i64 = 3;
const MAX_ATTEMPTS: i64 = 1_000;
const DEFAULT_BACKOFF: Millis = Millis(1_000);
const DEFAULT_MAX_BACKOFF: Millis = Millis(300_000);

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

    /// `retry` and `atMostOnce`. The outer `None`: it cannot be read.
    fn attempts(&mut self, node: &Node) -> (Option<Vec<Retry>>, bool) {
        let at_most_once = self.boolean(node, "atMostOnce").unwrap_or(false);
        let Some(retry) = node.get("retry") else { return (Some(Vec::new()), at_most_once) };
        if !matches!(retry.data, Data::Map(_) | Data::List(_)) {
            self.wrong_type(
                retry,
                "retry",
                "a mapping like `{maxAttempts: 3, backoffSeconds: 5}`, or a list of them",
            );
            return (None, at_most_once);
        }
        let mut rules = Vec::new();
        let mut seen: Vec<Arc<str>> = Vec::new();
        let mut is_whole = true;
        for rule in one_or_each(Some(retry)) {
            match self.retry(rule, &mut seen) {
                Some(rule) => rules.push(rule),
                None => is_whole = false,
            }
        }
        (is_whole.then_some(rules), at_most_once)
    }

    fn retry(&mut self, node: &Node, seen: &mut Vec<Arc<str>>) -> Option<Retry> {
        if !matches!(node.data, Data::Map(_)) {
            self.wrong_type(node, "a retry rule", "a mapping like `{maxAttempts: 3, backoffSeconds: 5}`");
            return None;
        }
        let before = self.errors();
        let max_attempts = self.integer(node, "maxAttempts", 1, MAX_ATTEMPTS, Code::BadRetry);
        let backoff = self.duration(node, "backoffSeconds").unwrap_or(DEFAULT_BACKOFF);
        let exponential =
            self.word(node, "backoff", &[("fixed", false), ("exponential", true)]).unwrap_or(false);
        let max_backoff = self.duration(node, "maxBackoffSeconds");
        if let (Some(max), Some(place)) = (max_backoff, node.get("maxBackoffSeconds"))
            && max < backoff
        {
            let issue = Issue::error(
                Code::BadRetry,
                "no pause may be longer than `maxBackoffSeconds`, but the first is",
            )
            .hint("make it at least `backoffSeconds`");
            self.report(place, issue);
        }
        let jitter = match node.get("jitter").map(|node| (node, &node.data)) {
            None => 0.0,
            Some((_, Data::Number(_, number))) if share(number).is_some() => share(number).unwrap_or(0.0),
            Some((place, _)) => {
                let issue =
                    Issue::error(Code::BadRetry, "`jitter` is the share of a pause that may be taken off")
                        .expected("a number from 0 to 1")
                        .actual(place.type_name());
                self.report(place, issue);
                0.0
            }
        };
        let retry_on = match node.get("retryOn") {
            Some(list) => Some(self.error_types(list, "retryOn", Code::BadRetry, seen)?),
            None => None,
        };
        (self.errors() == before).then_some(Retry {
            max_attempts: u32::try_from(max_attempts.unwrap_or(DEFAULT_ATTEMPTS)).unwrap_or(1),
            backoff,
            exponential,
            max_backoff: max_backoff.unwrap_or(DEFAULT_MAX_BACKOFF.max(backoff)),
            jitter,
            retry_on,
        })
    }

    /// A list of error types, none of which an earlier list has taken.
    pub(super) fn error_types(
        &mut self,
        list: &Node,
        key: &str,
        code: Code,
        seen: &mut Vec<Arc<str>>,
    ) -> Option<Vec<Arc<str>>> {
        let mut types = Vec::new();
        if matches!(list.data, Data::Map(_)) {
            self.wrong_type(list, key, "a list of error types (texts)");
            return None;
        }
        for item in one_or_each(Some(list)) {
            let word = self.as_text(item, key)?;
            if &*word == "retry_exhausted" {
                let issue = Issue::error(code, "`retry_exhausted` is never seen here").hint(
                    "it is the type of an uncaught error; name the type that the last attempt fails with",
                );
                self.report(item, issue);
                return None;
            }
            if seen.contains(&word) {
                let issue = Issue::error(code, format!("`{word}` is taken already, so this never applies"))
                    .hint("name each error type once");
                self.report(item, issue);
                return None;
            }
            seen.push(word.clone());
            types.push(word);
        }
        if types.is_empty() {
            let issue = Issue::error(code, format!("`{key}` names no error type, so this never applies"))
                .hint("leave it out to apply to all");
            self.report(list, issue);
            return None;
        }
        Some(types)
    }

    fn errors(&self) -> usize {
        self.issues.iter().filter(|issue| issue.is_error()).count()
    }

    fn approval(&mut self, reading: &Reading<'_>, own: &Node) -> Option<Approval> {
        let before = self.errors();
        let message = self.required(own, "message", "an approval", "what is asked");
        let message = message.and_then(|message| self.template(message, "message", PLAIN));
        let title = own.get("title").and_then(|title| self.template(title, "title", PLAIN));
        let summary_path = self.path_read(own, "summaryPath");
        let (approvers, people) = self.approvers(own);
        let quorum = self.integer(own, "quorum", 1, 1_000, Code::BadQuorum).unwrap_or(1);
        if let (Some(people), Some(place)) = (people, own.get("quorum"))
            && usize::try_from(quorum).is_ok_and(|quorum| quorum > people)
        {
            let issue =
                Issue::error(Code::BadQuorum, format!("`quorum` is {quorum}, and only {people} may approve"))
                    .hint("name more approvers, or lower the quorum");
            self.report(place, issue);
        }
        let separation_of_duties = self.boolean(own, "separationOfDuties").unwrap_or(false);
        let deadline = self.timeout(own).unwrap_or(DEFAULT_APPROVAL_DEADLINE);
        let on_reject = self.outcome(
            reading,
            own,
            "onReject",
            &[("fail", OnReject::Fail), ("cancel", OnReject::Cancel)],
            OnReject::Goto,
        );
        let on_timeout = self.outcome(
            reading,
            own,
            "onTimeout",
            &[("fail", OnTimeout::Fail), ("approve", OnTimeout::Approve), ("reject", OnTimeout::Reject)],
            OnTimeout::Goto,
        );
        let form_schema = self.schema(own, "formSchema");
        (self.errors() == before).then_some(Approval {
            message: message?,
            title,
            summary_path,
            approvers,
            quorum: u32::try_from(quorum).unwrap_or(1),
            separation_of_duties,
            deadline,
            on_reject: on_reject.unwrap_or(OnReject::Fail),
            on_timeout: on_timeout.unwrap_or(OnTimeout::Fail),
            form_schema,
        })
    }

    /// The approvers, and how many people they are if that is known.
    fn approvers(&mut self, own: &Node) -> (Vec<expression::Template>, Option<usize>) {
        let Some(node) = own.get("approvers") else { return (Vec::new(), None) };
        let Data::List(items) = &node.data else {
            self.wrong_type(
                node,
                "approvers",
                "a list of texts: `[\"user:alice@example.com\", \"team:platform\"]`",
            );
            return (Vec::new(), None);
        };
        if items.is_empty() {
            self.bad_value(
                node,
                "nobody may decide".to_owned(),
                "name somebody, or leave `approvers` out: anyone may",
            );
        }
        let mut people = Some(std::collections::BTreeSet::new());
        let mut templates = Vec::new();
        for item in items {
            let Some(text) = self.as_text(item, "approvers") else { continue };
            let is_template = text.contains("{{") || text.contains("${");
            let is_person = text.strip_prefix("user:").is_some_and(|name| !name.is_empty());
            let is_team = text.strip_prefix("team:").is_some_and(|name| !name.is_empty());
            if !is_template && !is_person && !is_team {
                self.bad_value(item, format!("`{text}` is nobody"), "write `user:NAME` or `team:NAME`");
            }
            match &mut people {
                Some(set) if is_person && !is_template => {
                    set.insert(text.to_string());
                }
                _ => people = None,
            }
            templates.extend(self.template(item, "approvers", PLAIN));
        }
        (templates, people.map(|set| set.len()))
    }

    /// One of the words, or a state. The words win; a state so named makes it unclear.
    fn outcome<T: Copy>(
        &mut self,
        reading: &Reading<'_>,
        own: &Node,
        key: &str,
        words: &[(&str, T)],
        goto: impl Fn(crate::StateId) -> T,
    ) -> Option<T> {
        let node = own.get(key)?;
        let text = self.as_text(node, key)?;
        if let Some((word, value)) = words.iter().find(|(word, _)| *word == &*text) {
            if reading.around.names.contains_key(*word) {
                let issue = Issue::error(
                    Code::ReservedName,
                    format!("`{key}: {word}` could mean the state `{word}`"),
                )
                .hint("here it is a word of its own: give the state another name");
                self.report(node, issue);
                return None;
            }
            return Some(*value);
        }
        if !reading.around.names.contains_key(&text)
            && let Some(near) = fields::nearest(&text, words.iter().map(|(word, _)| *word))
        {
            let list = words.iter().map(|(word, _)| format!("`{word}`")).collect::<Vec<_>>().join(", ");
            let issue = Issue::error(Code::UnknownTarget, format!("`{key}`: there is no state `{text}`"))
                .expected(format!("{list}, or a state of the same list"))
                .hint(format!("did you mean `{near}`?"));
            self.report(node, issue);
            return None;
        }
        self.target(node, key, reading.around.names, reading.around.prefix).map(goto)
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

#[allow(clippy::cast_precision_loss)]
fn share(number: &Number) -> Option<f64> {
    let value = match number {
        Number::Int(number) => *number as f64,
        Number::Float(number) => *number,
        Number::Big(_) => return None,
    };
    (0.0..=1.0).contains(&value).then_some(value)
}

/// `2xx`.
fn is_status_class(text: &str) -> bool {
    let mut chars = text.chars();
    matches!(chars.next(), Some('1'..='5')) && chars.as_str().eq_ignore_ascii_case("xx")
}
