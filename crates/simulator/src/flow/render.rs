//! A flow's trees as the YAML that an author would write.

use std::fmt::Write as _;

use serde_json::Map;
use serde_json::Value;
use serde_json::json;

use super::tree::Body;
use super::tree::Clause;
use super::tree::Definition;
use super::tree::Join;
use super::tree::Kind;
use super::tree::Node;
use super::tree::Retry;
use super::tree::Route;
use super::tree::Work;

type Fields = Map<String, Value>;

/// The file of one workflow.
pub(super) fn definition(definition: &Definition) -> String {
    let mut file = Fields::new();
    put(&mut file, "id", &*definition.id);
    if let Some(timeout) = definition.timeout {
        put(&mut file, "timeoutSeconds", timeout);
    }
    if definition.input_schema {
        // Open, so that what shrinking leaves unwritten is only a warning.
        let schema = json!({
            "type": "object",
            "additionalProperties": true,
            "properties": {
                "n": {"type": "integer", "default": 3},
                "flag": {"type": "boolean", "default": true},
                "words": {"type": "array", "default": ["a", "b"]},
            },
        });
        file.insert("inputSchema".to_owned(), schema);
    }
    if definition.object_output {
        file.insert("outputSchema".to_owned(), json!({"type": "object"}));
    }
    let mut states = Vec::new();
    if definition.cron {
        let mut cron = Fields::new();
        put(&mut cron, "id", "by schedule");
        put(&mut cron, "type", "cron");
        put(&mut cron, "cron", "0 9 1 1 *");
        put(&mut cron, "enabled", false);
        if let Some(first) = definition.states.first() {
            put(&mut cron, "next", entry(first));
        }
        states.push(cron);
    }
    flatten(&definition.states, None, definition.reversed, &mut states);
    block(&mut file, states, definition.reversed);
    let mut text = String::new();
    mapping(&file, 0, &mut text);
    text
}

fn put(fields: &mut Fields, key: &str, value: impl Into<Value>) {
    fields.insert(key.to_owned(), value.into());
}

/// Puts a list of states under its holder.
fn block(holder: &mut Fields, mut states: Vec<Fields>, reversed: bool) {
    if reversed {
        if let Some(start) = states.first().and_then(|first| first.get("id")).cloned() {
            put(holder, "start", start);
        }
        states.reverse();
    }
    put(holder, "states", states.into_iter().map(Value::Object).collect::<Vec<_>>());
}

fn states(holder: &mut Fields, list: &[Node], reversed: bool) {
    let mut flat = Vec::new();
    flatten(list, None, reversed, &mut flat);
    block(holder, flat, reversed);
}

/// The name of the state by which a node is entered.
fn entry(node: &Node) -> String {
    match node.kind {
        Kind::Again { .. } => counting(&node.name),
        _ => node.name.clone(),
    }
}

/// The state that counts, and the root key it counts in.
fn counting(name: &str) -> String {
    format!("{name} count")
}

pub(super) fn counter(name: &str) -> String {
    let name: String = name.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '_' }).collect();
    format!("n_{name}")
}

/// Counts for the node with this name.
fn count(name: &str, id: String) -> Fields {
    let mut count = Fields::new();
    let key = counter(name);
    put(&mut count, "id", id);
    put(&mut count, "type", "transform");
    put(&mut count, "expression", format!("ctx.get(\"{key}\", 0) + 1"));
    put(&mut count, "resultPath", key);
    count
}

/// Where a list goes on.
#[derive(Clone, Copy)]
struct Onward<'a> {
    /// The state behind the list; `None`: its end.
    next: Option<&'a str>,
    /// Every state says where it goes, because the list is not written in its order.
    explicit: bool,
}

impl Onward<'_> {
    fn write(self, state: &mut Fields) {
        match self.next {
            Some(next) => put(state, "next", next),
            None => put(state, "end", true),
        }
    }
}

fn flatten(list: &[Node], then: Option<&str>, reversed: bool, flat: &mut Vec<Fields>) {
    for (index, node) in list.iter().enumerate() {
        let following = list.get(index + 1).map(entry);
        let next = if node.end { None } else { following.as_deref().or(then) };
        state(node, Onward { next, explicit: reversed }, flat);
    }
}

fn state(node: &Node, onward: Onward<'_>, flat: &mut Vec<Fields>) {
    let reversed = onward.explicit;
    let mut own = Fields::new();
    put(&mut own, "id", &*node.name);
    put(&mut own, "type", word(&node.kind));
    if let Some(condition) = &node.condition {
        put(&mut own, "if", &**condition);
    }
    // Ways that leave this state and meet again behind it.
    let mut ways: Vec<&[Node]> = Vec::new();
    // A switch cannot end its list: an empty way needs a state to go to.
    let behind = format!("{} end", node.name);
    let needs_end = onward.next.is_none() && parts(&node.kind);
    let then = if needs_end { Some(&*behind) } else { onward.next };
    let target = |list: &[Node]| list.first().map_or_else(|| then.unwrap_or_default().to_owned(), entry);
    let mut goes_on = true;
    match &node.kind {
        Kind::Agent { work: asked, long } => {
            if *long {
                put(&mut own, "action", "agent.run");
            }
            work(&mut own, asked);
        }
        Kind::Log { message } => {
            put(&mut own, "action", "log");
            put(&mut own, "message", &**message);
        }
        Kind::Approval {
            message,
            approvers,
            quorum,
            separation,
            deadline,
            summary,
            on_reject,
            on_timeout,
        } => {
            put(&mut own, "message", &**message);
            if !approvers.is_empty() {
                put(&mut own, "approvers", approvers.clone());
            }
            if let Some(quorum) = quorum {
                put(&mut own, "quorum", *quorum);
            }
            if *separation {
                put(&mut own, "separationOfDuties", true);
            }
            if let Some(deadline) = deadline {
                put(&mut own, "timeoutSeconds", *deadline);
            }
            if let Some(summary) = summary {
                put(&mut own, "summaryPath", &**summary);
            }
            for (key, route) in [("onReject", on_reject), ("onTimeout", on_timeout)] {
                match route {
                    Some(Route::Word(word)) => put(&mut own, key, &**word),
                    Some(Route::States(list)) => {
                        put(&mut own, key, target(list));
                        ways.push(list);
                    }
                    None => {}
                }
            }
        }
        Kind::Switch { data_path, arms, default } => {
            goes_on = false;
            if let Some(path) = data_path {
                put(&mut own, "dataPath", &**path);
            }
            let mut conditions = Vec::new();
            for arm in arms {
                let mut case = Fields::new();
                match &arm.condition {
                    Clause::Constant(holds) => put(&mut case, "if", *holds),
                    Clause::Expression(text) => put(&mut case, "if", &**text),
                }
                put(&mut case, "next", target(&arm.states));
                conditions.push(Value::Object(case));
                ways.push(&arm.states);
            }
            put(&mut own, "conditions", conditions);
            if let Some(list) = default {
                put(&mut own, "defaultNext", target(list));
                ways.push(list);
            }
        }
        Kind::Parallel { branches, join, wait, array } => {
            let written = branches.iter().map(|branch| {
                let mut own = Fields::new();
                put(&mut own, "name", &*branch.name);
                body(&mut own, &branch.body, reversed);
                mapped(&mut own, &branch.output);
                Value::Object(own)
            });
            put(&mut own, "branches", written.collect::<Vec<_>>());
            let mut rule = Fields::new();
            match join {
                Join::All => {}
                Join::Any => put(&mut rule, "mode", "any"),
                Join::Count(count) => put(&mut rule, "mode", *count),
            }
            if *wait {
                put(&mut rule, "onFailure", "wait");
            }
            if !rule.is_empty() {
                put(&mut own, "join", rule);
            }
            if *array {
                put(&mut own, "outputAggregation", "array");
            }
        }
        Kind::Foreach { items, item_name, concurrency, wait, array, body: each, output } => {
            put(&mut own, "itemsPath", &**items);
            if let Some(name) = item_name {
                put(&mut own, "itemName", &**name);
            }
            if let Some(concurrency) = concurrency {
                put(&mut own, "maxConcurrency", *concurrency);
            }
            if *wait {
                put(&mut own, "onFailure", "wait");
            }
            if *array {
                put(&mut own, "outputAggregation", "array");
            }
            let mut iterator = Fields::new();
            body(&mut iterator, each, reversed);
            mapped(&mut iterator, output);
            put(&mut own, "iterator", iterator);
        }
        Kind::While { rounds, also, limit, body } => {
            let counted = format!("ctx.get(\"{}\", 0) < {rounds}", counter(&node.name));
            let condition = match also {
                Some(also) => format!("{counted} and ({also})"),
                None => counted,
            };
            put(&mut own, "condition", condition);
            if let Some(limit) = limit {
                put(&mut own, "maxIterations", *limit);
            }
            // Not the name of a state that counts for a node of the body, which may be called like this one.
            let mut first = count(&node.name, format!("{} round", node.name));
            match body.first() {
                Some(node) => put(&mut first, "next", entry(node)),
                None => put(&mut first, "end", true),
            }
            let mut flat = vec![first];
            flatten(body, None, reversed, &mut flat);
            let mut iterator = Fields::new();
            block(&mut iterator, flat, reversed);
            put(&mut own, "iterator", iterator);
        }
        Kind::Again { to, times } => {
            goes_on = false;
            let mut first = count(&node.name, counting(&node.name));
            put(&mut first, "next", &*node.name);
            flat.push(first);
            let condition = format!("{} <= {times}", counter(&node.name));
            put(&mut own, "conditions", vec![json!({"if": condition, "next": to})]);
            put(&mut own, "defaultNext", then.unwrap_or_default());
        }
        Kind::Inject { data } => put(&mut own, "data", data.clone()),
        Kind::Transform { program, input } => {
            put(&mut own, "expression", &**program);
            if let Some(input) = input {
                put(&mut own, "inputPath", &**input);
            }
        }
        Kind::Wait { duration } => put(&mut own, "duration", &**duration),
        Kind::Until { time } => put(&mut own, "until", &**time),
        Kind::Signal { signal, timeout, on_timeout } => {
            put(&mut own, "signal", &**signal);
            if let Some(timeout) = timeout {
                put(&mut own, "timeoutSeconds", *timeout);
            }
            if let Some(list) = on_timeout {
                put(&mut own, "onTimeout", target(list));
                ways.push(list);
            }
        }
        Kind::Try { body, catches, finally } => {
            let mut tried = Fields::new();
            states(&mut tried, body, reversed);
            put(&mut own, "try", tried);
            let clauses = catches.iter().map(|clause| {
                let mut own = Fields::new();
                if !clause.errors.is_empty() {
                    put(&mut own, "errors", clause.errors.clone());
                }
                if let Some(bind) = &clause.bind {
                    put(&mut own, "as", &**bind);
                }
                states(&mut own, &clause.states, reversed);
                Value::Object(own)
            });
            let clauses: Vec<Value> = clauses.collect();
            if !clauses.is_empty() {
                put(&mut own, "catch", clauses);
            }
            if let Some(list) = finally {
                let mut last = Fields::new();
                states(&mut last, list, reversed);
                put(&mut own, "finally", last);
            }
        }
        Kind::Workflow { workflow, input } => {
            put(&mut own, "workflow", &**workflow);
            if let Some(input) = input {
                put(&mut own, "input", input.clone());
            }
        }
        Kind::Fail { error, message } => {
            goes_on = node.condition.is_some();
            put(&mut own, "error", &**error);
            if let Some(message) = message {
                put(&mut own, "message", &**message);
            }
        }
        Kind::Succeed { output } => {
            goes_on = node.condition.is_some();
            mapped(&mut own, output);
        }
    }
    if let Some(timeout) = node.timeout {
        put(&mut own, "timeoutSeconds", timeout);
    }
    if let Some(path) = &node.result_path {
        put(&mut own, "resultPath", &**path);
    }
    if !matches!(node.kind, Kind::Succeed { .. }) {
        mapped(&mut own, &node.output);
    }
    if goes_on {
        Onward { next: then, ..onward }.write(&mut own);
    }
    flat.push(own);
    for list in ways {
        flatten(list, then, reversed, flat);
    }
    if needs_end {
        let mut end = Fields::new();
        put(&mut end, "id", behind);
        put(&mut end, "type", "inject");
        put(&mut end, "data", json!({}));
        put(&mut end, "end", true);
        flat.push(end);
    }
}

/// Whether some way through it may be empty, and so needs a state behind it.
fn parts(kind: &Kind) -> bool {
    let is_empty = |list: &Vec<Node>| list.is_empty();
    match kind {
        Kind::Again { .. } => true,
        Kind::Switch { arms, default, .. } => {
            arms.iter().any(|arm| arm.states.is_empty()) || default.as_ref().is_some_and(is_empty)
        }
        Kind::Approval { on_reject, on_timeout, .. } => [on_reject, on_timeout]
            .into_iter()
            .flatten()
            .any(|route| matches!(route, Route::States(list) if list.is_empty())),
        Kind::Signal { on_timeout, .. } => on_timeout.as_ref().is_some_and(is_empty),
        _ => false,
    }
}

fn word(kind: &Kind) -> &'static str {
    match kind {
        Kind::Agent { long: false, .. } => "agent",
        Kind::Agent { .. } | Kind::Log { .. } => "operation",
        Kind::Approval { .. } => "human_approval",
        Kind::Switch { .. } | Kind::Again { .. } => "switch",
        Kind::Parallel { .. } => "parallel",
        Kind::Foreach { .. } => "foreach",
        Kind::While { .. } => "while",
        Kind::Inject { .. } => "inject",
        Kind::Transform { .. } => "transform",
        Kind::Wait { .. } | Kind::Until { .. } => "wait",
        Kind::Signal { .. } => "signal",
        Kind::Try { .. } => "try",
        Kind::Workflow { .. } => "workflow",
        Kind::Fail { .. } => "fail",
        Kind::Succeed { .. } => "succeed",
    }
}

fn body(holder: &mut Fields, body: &Body, reversed: bool) {
    match body {
        Body::States(list) => states(holder, list, reversed),
        Body::Agent(asked) => work(holder, asked),
    }
}

fn work(own: &mut Fields, work: &Work) {
    put(own, "agent", &*work.agent);
    put(own, "task", &*work.task);
    if let Some(variables) = &work.variables {
        put(own, "variables", variables.clone());
    }
    if let Some(input) = &work.input {
        put(own, "input", input.clone());
    }
    if let Some(timeout) = work.timeout {
        put(own, "timeoutSeconds", timeout);
    }
    match work.retry.as_slice() {
        [] => {}
        [one] => put(own, "retry", retry(one)),
        rules => put(own, "retry", rules.iter().map(retry).map(Value::Object).collect::<Vec<_>>()),
    }
    if work.once {
        put(own, "atMostOnce", true);
    }
}

fn retry(rule: &Retry) -> Fields {
    let mut own = Fields::new();
    put(&mut own, "maxAttempts", rule.attempts);
    put(&mut own, "backoffSeconds", length(rule.backoff));
    if rule.exponential {
        put(&mut own, "backoff", "exponential");
    }
    if let Some(max) = rule.max_backoff {
        put(&mut own, "maxBackoffSeconds", length(max));
    }
    if let Some(jitter) = rule.jitter {
        put(&mut own, "jitter", f64::from(jitter) / 100.0);
    }
    if !rule.on.is_empty() {
        put(&mut own, "retryOn", rule.on.clone());
    }
    own
}

fn length(millis: u64) -> Value {
    if millis.is_multiple_of(1_000) {
        Value::from(millis / 1_000)
    } else {
        Value::from(format!("{millis}ms"))
    }
}

fn mapped(own: &mut Fields, output: &[(String, String)]) {
    if !output.is_empty() {
        let keys: Fields = output.iter().map(|(key, path)| (key.clone(), Value::from(&**path))).collect();
        put(own, "output", keys);
    }
}

fn mapping(fields: &Fields, indent: usize, text: &mut String) {
    for (key, value) in fields {
        let _ = write!(text, "{:indent$}{}:", "", scalar(key));
        entry_of(value, indent, text);
    }
}

/// What stands behind `key:` or `-`.
fn entry_of(value: &Value, indent: usize, text: &mut String) {
    match value {
        Value::Object(inner) if !inner.is_empty() => {
            text.push('\n');
            mapping(inner, indent + 2, text);
        }
        Value::Array(items) if items.iter().any(Value::is_object) => {
            text.push('\n');
            for item in items {
                let mut own = String::new();
                match item {
                    Value::Object(inner) if !inner.is_empty() => mapping(inner, indent + 4, &mut own),
                    other => {
                        let _ = writeln!(own, "{:1$}{other}", "", indent + 4);
                    }
                }
                let _ = write!(text, "{:1$}- {2}", "", indent + 2, own.trim_start());
            }
        }
        Value::String(line) if line.contains('\n') => {
            text.push_str(" |\n");
            for line in line.lines() {
                let _ = writeln!(text, "{:1$}{line}", "", indent + 2);
            }
        }
        Value::String(line) => {
            let _ = writeln!(text, " {}", scalar(line));
        }
        other => {
            let _ = writeln!(text, " {other}");
        }
    }
}

/// A text, in quotes unless it cannot be taken for anything else.
fn scalar(text: &str) -> String {
    let is_plain = text.chars().next().is_some_and(|c| c.is_ascii_alphabetic())
        && text.chars().all(|c| c.is_ascii_alphanumeric() || c == '_' || c == '.')
        && !matches!(
            text.to_ascii_lowercase().as_str(),
            "true" | "false" | "null" | "yes" | "no" | "on" | "off" | "y" | "n"
        );
    if is_plain { text.to_owned() } else { Value::from(text).to_string() }
}
