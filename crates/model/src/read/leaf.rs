//! States that hold no others and perform no action.

use super::Reader;
use super::state::Reading;
use super::state::Surroundings;
use super::state::reserved_root;
use super::text::PATHS;
use super::text::PLAIN;
use super::text::UseKind;
use crate::Code;
use crate::Fail;
use crate::Issue;
use crate::Kind;
use crate::Signal;
use crate::StateId;
use crate::SubWorkflow;
use crate::Switch;
use crate::Transform;
use crate::Wait;
use crate::fields;
use crate::yaml::Data;
use crate::yaml::Node;

impl Reader<'_> {
    pub(super) fn switch(&mut self, reading: &Reading<'_>) -> Option<Switch> {
        let (node, around) = (reading.node, reading.around);
        let has_data = node.get("dataPath").is_some();
        let data_path = self.path_read(node, "dataPath");
        let kind = if has_data { UseKind::NameWithData } else { UseKind::Name };
        let default =
            node.get("defaultNext").map(|to| self.target(to, "defaultNext", around.names, around.prefix));
        let Some(list) = node.get("conditions") else {
            self.missing(node, "conditions", "a `switch`", "a list of `{if, next}`");
            return None;
        };
        let Data::List(items) = &list.data else {
            self.wrong_type(list, "conditions", "a list of `{if, next}`");
            return None;
        };
        if items.is_empty() && default.is_none() {
            self.bad_value(
                list,
                "a `switch` without conditions".to_owned(),
                "give it at least one `{if, next}`",
            );
            return None;
        }
        let mut cases = Vec::new();
        let mut is_whole = true;
        for item in items {
            let case = self.case(item, &kind, around);
            is_whole &= case.is_some();
            cases.extend(case);
        }
        let default = match default {
            Some(None) => return None,
            Some(found) => found,
            None => None,
        };
        (is_whole && (data_path.is_some() || !has_data)).then_some(Switch { data_path, cases, default })
    }

    fn case(
        &mut self,
        item: &Node,
        kind: &UseKind,
        around: &Surroundings<'_>,
    ) -> Option<(crate::Condition, StateId)> {
        if !matches!(item.data, Data::Map(_)) {
            self.wrong_type(item, "a condition", "a mapping `{if, next}`");
            return None;
        }
        let condition = self.required(item, "if", "a condition of a `switch`", "an expression");
        let condition = condition.and_then(|node| self.condition(node, "if", kind));
        let target = self.required(item, "next", "a condition of a `switch`", "the name of a state");
        let target = target.and_then(|node| self.target(node, "next", around.names, around.prefix));
        Some((condition?, target?))
    }

    pub(super) fn inject(&mut self, reading: &Reading<'_>) -> Option<Kind> {
        let node = reading.node;
        let Some(data) = node.get("data") else {
            self.missing(node, "data", "an `inject`", "what is to be written");
            return None;
        };
        let is_root = match node.get("resultPath").and_then(Node::text) {
            Some(path) => matches!(&**path, "ctx" | "$"),
            None => true,
        };
        if is_root {
            match &data.data {
                Data::Map(entries) => {
                    for entry in entries {
                        if let Some(why) = reserved_root(&entry.key) {
                            let issue = Issue::error(
                                Code::ReservedName,
                                format!("`{}` cannot be written: {why}", entry.key),
                            )
                            .hint("rename it, or give the state a `resultPath`");
                            self.report_key(entry, issue);
                        }
                        self.writes.push((entry.key.clone(), reading.id));
                    }
                }
                Data::Text(text, _) if text.contains("{{") => self.is_open = true,
                _ => {
                    let issue = Issue::error(
                        Code::BadValue,
                        format!("{} is merged into the context, which takes a mapping", data.type_name()),
                    )
                    .hint("write a mapping, or give the state a `resultPath`");
                    self.report(data, issue);
                    return None;
                }
            }
        }
        self.tree(data, PLAIN).map(Kind::Inject)
    }

    pub(super) fn transform(&mut self, node: &Node) -> Option<Transform> {
        let has_path = node.get("inputPath").is_some();
        let input_path = self.path_read(node, "inputPath");
        let Some(expression) = node.get("expression") else {
            self.missing(
                node,
                "expression",
                "a `transform`",
                "a Starlark program whose last statement is its output",
            );
            return None;
        };
        let program = self.program(expression, "expression")?;
        (input_path.is_some() || !has_path).then_some(Transform { program, input_path })
    }

    pub(super) fn wait(&mut self, node: &Node) -> Option<Wait> {
        match (node.get("duration"), node.get("until")) {
            (Some(_), Some(until)) => {
                self.bad_value(
                    until,
                    "a `wait` has both `duration` and `until`".to_owned(),
                    "keep one of them",
                );
                None
            }
            (None, None) => {
                self.missing(node, "duration", "a `wait`", "`duration: 10m` or `until: 09:00`");
                None
            }
            (Some(duration), None) => match duration.text() {
                Some(text) if text.contains("{{") || text.contains("${") => {
                    self.template(duration, "duration", PLAIN).map(Wait::ForTemplate)
                }
                _ => self.duration(node, "duration").map(Wait::For),
            },
            (None, Some(until)) => {
                let text = self.as_text(until, "until")?;
                if !text.contains("{{") && !text.contains("${") && !is_time(&text) {
                    let issue = Issue::error(Code::BadDuration, format!("`{text}` is no time to wait for"))
                        .expected("RFC 3339 (`2030-01-31T09:00:00Z`), or `HH:MM` (UTC) that comes next");
                    self.report(until, issue);
                    return None;
                }
                self.template(until, "until", PLAIN).map(Wait::Until)
            }
        }
    }

    pub(super) fn signal(&mut self, reading: &Reading<'_>) -> Option<Signal> {
        let (node, around) = (reading.node, reading.around);
        let name = self.required(node, "signal", "a `signal` state", "the name of the signal");
        let name = name.and_then(|name| self.template(name, "signal", PLAIN));
        let timeout = self.timeout(node);
        let on_timeout = match node.get("onTimeout") {
            Some(to)
                if to.text().is_some_and(|text| &**text == "fail") && !around.names.contains_key("fail") =>
            {
                None
            }
            Some(to) => {
                if node.get("timeoutSeconds").is_none() {
                    let issue = Issue::error(Code::BadTimeout, "`onTimeout` without a timeout never happens")
                        .hint("give the state `timeoutSeconds`");
                    self.report(to, issue);
                }
                Some(self.target(to, "onTimeout", around.names, around.prefix)?)
            }
            None => None,
        };
        Some(Signal { name: name?, timeout, on_timeout })
    }

    /// Of a `workflow` state, or an operation with `workflow.run`.
    pub(super) fn sub_workflow(&mut self, node: &Node, input: Option<&Node>) -> Option<SubWorkflow> {
        let name = self.required(node, "workflow", "running a workflow", "the id of a workflow");
        let workflow = name.and_then(|name| self.template(name, "workflow", PLAIN));
        if let (Some(known), Some(node), Some(id)) = (self.options.workflows, name, name.and_then(Node::text))
            && !id.contains("{{")
            && !id.contains("${")
            && !known.contains(&**id)
        {
            let near = fields::nearest(id, known.iter().map(String::as_str));
            let issue = Issue::error(Code::UnknownWorkflow, format!("there is no workflow `{id}`"))
                .maybe_hint(near.map(|near| format!("did you mean `{near}`?")));
            self.report(node, issue);
        }
        let version = match node.get("version").map(|node| (node, &node.data)) {
            Some((_, Data::Text(text, _) | Data::Number(text, _))) => Some(text.clone()),
            Some((node, _)) => {
                self.wrong_type(node, "version", "a text");
                return None;
            }
            None => None,
        };
        let tree = match input {
            Some(input) => Some(self.tree(input, PATHS)?),
            None => None,
        };
        Some(SubWorkflow { workflow: workflow?, version, input: tree })
    }

    pub(super) fn fail(&mut self, node: &Node) -> Option<Fail> {
        let Some(error) = node.get("error") else {
            self.missing(node, "error", "a `fail` state", "the type of the error, a text of your own");
            return None;
        };
        let template = self.template(error, "error", PLAIN);
        if error.text().is_some_and(|text| &**text == "retry_exhausted") {
            self.bad_value(
                error,
                "`retry_exhausted` is only the type of an uncaught error after more than one attempt"
                    .to_owned(),
                "choose another type",
            );
        }
        let message = match node.get("message") {
            Some(message) => Some(self.template(message, "message", PLAIN)?),
            None => None,
        };
        Some(Fail { error: template?, message })
    }
}

/// RFC 3339, or `HH:MM`.
fn is_time(text: &str) -> bool {
    let text = text.trim();
    if let Some((hour, minute)) = text.split_once(':')
        && hour.len() == 2
        && minute.len() == 2
    {
        let in_range = |part: &str, end: u8| part.parse::<u8>().is_ok_and(|n| n < end);
        return in_range(hour, 24) && in_range(minute, 60);
    }
    text.parse::<jiff::Timestamp>().is_ok()
}
