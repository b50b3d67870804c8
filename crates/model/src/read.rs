//! The dialect of LANGUAGE: from a tree that knows its places to typed states.
//!
//! Two steps: `normalise` gives every field its canonical spelling; the reader below makes typed values of them. A second
//! dialect is a second folder like this one.

mod action;
mod approval;
mod composite;
mod leaf;
mod normalise;
mod retry;
mod state;
mod survey;
mod text;
mod top;

use std::collections::BTreeSet;
use std::collections::HashMap;
use std::collections::HashSet;
use std::sync::Arc;

use sha2::Digest as _;

use crate::AgentCatalog;
use crate::Code;
use crate::DURATION_HELP;
use crate::Issue;
use crate::MAX_DURATION;
use crate::Millis;
use crate::Schema;
use crate::State;
use crate::StateId;
use crate::Workflow;
use crate::duration;
use crate::fields;
use crate::yaml::Data;
use crate::yaml::Document;
use crate::yaml::Entry;
use crate::yaml::Node;
use crate::yaml::Number;

pub(crate) use approval::DEFAULT_APPROVAL_DEADLINE;
pub(crate) use normalise::shape;
pub(crate) use normalise::to_value;
pub(crate) use survey::items;
pub(crate) use survey::one_or_each;
pub(crate) use text::CALL;
pub(crate) use text::CALL_TEXT;
pub(crate) use text::Use;
pub(crate) use text::UseKind;
pub(crate) use text::as_literal;

/// What a workflow is read with.
#[derive(Clone, Copy, Default)]
pub struct Options<'a> {
    /// The file's name; `.json` is read as JSON.
    pub file: &'a str,
    /// The agents there are. Without it agents are not checked.
    pub agents: Option<&'a dyn AgentCatalog>,
    /// The ids of the workflows there are. Without it sub-workflows are not checked.
    pub workflows: Option<&'a BTreeSet<String>>,
}

/// What came of reading a workflow.
#[derive(Debug)]
pub struct Parsed {
    /// The workflow, if there was no error.
    pub workflow: Option<Workflow>,
    /// Errors and warnings, in the order of the file.
    pub issues: Vec<Issue>,
}

/// Reads and checks a workflow. Everything that is wrong is told at once.
pub fn parse(source: &str, options: &Options<'_>) -> Parsed {
    let document = match crate::yaml::parse(source, options.file) {
        Ok(document) => document,
        Err(issues) => return Parsed { workflow: None, issues },
    };
    let (root, issues) = normalise::workflow(&document);
    let mut reader = Reader::new(&document, options, issues);
    let workflow = reader.workflow(&root);
    let mut issues = reader.issues;
    issues.sort_by_key(|issue| (issue.line, issue.column));
    issues.dedup_by(|b, a| (a.code, &a.path, &a.message) == (b.code, &b.path, &b.message));
    let is_valid = !issues.iter().any(Issue::is_error);
    issues.truncate(MAX_ISSUES);
    // The end of a file may count as the line behind its last.
    let lines = u32::try_from(source.split('\n').count()).unwrap_or(u32::MAX);
    for issue in &mut issues {
        issue.line = issue.line.clamp(1, lines);
    }
    Parsed { workflow: workflow.filter(|_| is_valid), issues }
}

/// The SHA-256 of a definition's compact JSON, in hexadecimal.
pub(crate) fn hash(definition: &expression::Value) -> Arc<str> {
    use std::fmt::Write as _;
    let digest = sha2::Sha256::digest(definition.to_string().as_bytes());
    let mut text = String::with_capacity(64);
    for byte in digest {
        let _ = write!(text, "{byte:02x}");
    }
    text.into()
}

/// A field that is there and cannot be read; why has been reported.
pub(crate) struct Unreadable;

/// Issues that are told of one file.
const MAX_ISSUES: usize = 500;
/// Issues after which no more names are compared.
const MAX_HINTS: usize = 100;

/// Reads a normalised document; collects issues, and what the checks from above need.
pub(crate) struct Reader<'r> {
    pub(crate) document: &'r Document<'r>,
    pub(crate) options: &'r Options<'r>,
    pub(crate) issues: Vec<Issue>,
    /// One slot per state, in the order of the file.
    pub(crate) states: Vec<Option<State>>,
    /// Where each name is used as a state, for hints.
    pub(crate) addresses: HashMap<Arc<str>, Vec<Arc<str>>>,
    /// JSON pointers and places of states, for issues that are found later.
    pub(crate) pointers: HashMap<StateId, (String, u32, u32)>,
    /// Every name and path that is read.
    pub(crate) uses: Vec<Use>,
    /// Names that only hold further in: of iterations, and of catch clauses.
    pub(crate) locals: Vec<Arc<str>>,
    /// Root keys that are written, with who writes them: what a path does not tell.
    pub(crate) writes: Vec<(Arc<str>, StateId)>,
    /// Somebody merges an object of unknown shape into the root.
    pub(crate) is_open: bool,
    /// Lists of states around the one that is being read.
    pub(crate) depth: usize,
    /// States that could not be read whole: where they lead to, or what they write, may be unknown.
    pub(crate) lost: Lost,
    /// The state that is being read.
    pub(crate) current: Option<StateId>,
    /// The `cron` states that can be read.
    pub(crate) schedules: Vec<(StateId, crate::Schedule)>,
    /// Parts of states that are only checked against the whole.
    pub(crate) inputs: HashMap<StateId, InputNote>,
}

/// What is not known because a state could not be read. The checks from above are silent about it.
#[derive(Debug, Default)]
pub(crate) struct Lost {
    /// States whose transitions are not all known.
    pub(crate) transitions: HashSet<StateId>,
    /// Somebody writes something, and it is not known what.
    pub(crate) writes: bool,
    /// A state's kind is missing, and with it the blocks in it.
    pub(crate) kinds: bool,
}

/// What is known of an agent's input when the file is read.
#[derive(Clone, Debug)]
pub(crate) struct InputNote {
    /// The input as written, when nothing in it is filled in.
    pub(crate) literal: Option<expression::Value>,
    pub(crate) line: u32,
    pub(crate) column: u32,
    pub(crate) path: String,
}

impl<'r> Reader<'r> {
    pub(crate) fn new(document: &'r Document<'r>, options: &'r Options<'r>, issues: Vec<Issue>) -> Self {
        Self {
            document,
            options,
            issues,
            states: Vec::new(),
            addresses: HashMap::new(),
            pointers: HashMap::new(),
            uses: Vec::new(),
            locals: Vec::new(),
            writes: Vec::new(),
            is_open: false,
            depth: 0,
            lost: Lost::default(),
            current: None,
            schedules: Vec::new(),
            inputs: HashMap::new(),
        }
    }

    pub(crate) fn report(&mut self, node: &Node, issue: Issue) {
        self.issues.push(issue.path(self.document.pointer(node)).at(node.span.line, node.span.column));
    }

    pub(crate) fn report_key(&mut self, entry: &Entry, issue: Issue) {
        let path = self.document.pointer(&entry.value);
        self.issues.push(issue.path(path).at(entry.key_span.line, entry.key_span.column));
    }

    /// An issue of a state as a whole.
    pub(crate) fn report_state(&mut self, id: StateId, issue: Issue) {
        let (path, line, column) = self.pointers.get(&id).cloned().unwrap_or_default();
        self.issues.push(issue.path(path).at(line, column));
    }

    /// Whether it is still worth looking for what was meant: that takes a walk over all names.
    pub(crate) fn wants_hints(&self) -> bool {
        self.issues.len() < MAX_HINTS
    }

    /// More would help nobody, and hostile files could make them costly.
    pub(crate) fn is_full(&self) -> bool {
        self.issues.len() >= MAX_ISSUES
    }

    /// A field that must be there and is not.
    pub(crate) fn missing(&mut self, node: &Node, key: &str, what: &str, expected: &str) {
        let path = format!("{}/{}", self.document.pointer(node), key);
        self.issues.push(
            Issue::error(Code::MissingField, format!("{what} needs `{key}`"))
                .expected(expected)
                .path(path)
                .at(node.span.line, node.span.column),
        );
    }

    /// A field that must be there.
    pub(crate) fn required<'n>(
        &mut self,
        map: &'n Node,
        key: &str,
        what: &str,
        expected: &str,
    ) -> Option<&'n Node> {
        let node = map.get(key);
        if node.is_none() {
            self.missing(map, key, what, expected);
        }
        node
    }

    pub(crate) fn wrong_type(&mut self, node: &Node, what: &str, expected: &str) {
        let name = if what.contains(' ') { what.to_owned() } else { format!("`{what}`") };
        let mut issue =
            Issue::error(Code::WrongType, format!("{name} is {}", node.type_name())).expected(expected);
        issue.actual = Some(node.type_name().to_owned());
        let hint = match &node.data {
            Data::Null => Some("nothing stands behind the colon: give a value, or leave the field out"),
            Data::Number(..) | Data::Bool(_) if expected.contains("text") => Some("put it in quotes"),
            Data::Map(_) if expected.contains("text") => {
                Some("if this should be a template, put it in quotes: `\"{{ … }}\"`")
            }
            Data::Text(text, _) if expected.contains("boolean") => match text.to_lowercase().as_str() {
                "yes" | "on" | "true" => Some("write `true`"),
                "no" | "off" | "false" => Some("write `false`"),
                _ => None,
            },
            Data::Text(..) if expected.contains("number") => Some("write the number without quotes"),
            _ => None,
        };
        self.report(node, issue.maybe_hint(hint.map(str::to_owned)));
    }

    pub(crate) fn bad_value(&mut self, node: &Node, message: String, hint: &str) {
        self.report(node, Issue::error(Code::BadValue, message).hint(hint));
    }

    /// A text field, if it is there and is one.
    pub(crate) fn text(&mut self, map: &Node, key: &str) -> Option<Arc<str>> {
        let node = map.get(key)?;
        self.as_text(node, key)
    }

    pub(crate) fn as_text(&mut self, node: &Node, what: &str) -> Option<Arc<str>> {
        if let Some(text) = node.text() {
            return Some(text.clone());
        }
        self.wrong_type(node, what, "a text");
        None
    }

    pub(crate) fn boolean(&mut self, map: &Node, key: &str) -> Option<bool> {
        let node = map.get(key)?;
        if let Data::Bool(value) = node.data {
            return Some(value);
        }
        self.wrong_type(node, key, "a boolean: `true` or `false`");
        None
    }

    /// A whole number within bounds.
    pub(crate) fn integer(&mut self, map: &Node, key: &str, min: i64, max: i64, code: Code) -> Option<i64> {
        let node = map.get(key)?;
        match &node.data {
            Data::Number(_, Number::Int(number)) if (min..=max).contains(number) => Some(*number),
            Data::Number(text, _) => {
                let issue = Issue::error(code, format!("`{key}` is {text}"))
                    .expected(format!("a whole number from {min} to {max}"))
                    .actual(text.to_string());
                self.report(node, issue);
                None
            }
            _ => {
                self.wrong_type(node, key, "a whole number");
                None
            }
        }
    }

    /// A length of time; templates are the caller's business.
    pub(crate) fn duration(&mut self, map: &Node, key: &str) -> Option<Millis> {
        let node = map.get(key)?;
        match &node.data {
            Data::Number(..) | Data::Text(..) => match duration(&to_value(node)) {
                Ok(millis) => Some(millis),
                Err(error) => {
                    let issue =
                        Issue::error(Code::BadDuration, format!("`{key}`: {error}")).expected(DURATION_HELP);
                    self.report(node, issue);
                    None
                }
            },
            _ => {
                self.wrong_type(node, key, "a length of time: a number of seconds or a text like `1h30m`");
                None
            }
        }
    }

    /// A limit in time: a duration above zero.
    pub(crate) fn timeout(&mut self, map: &Node) -> Option<Millis> {
        let limit = self.duration(map, "timeoutSeconds")?;
        if limit.0 > 0 {
            return Some(limit);
        }
        if let Some(node) = map.get("timeoutSeconds") {
            let issue = Issue::error(Code::BadTimeout, "a time limit of nothing lets nothing happen")
                .expected(format!("more than 0, at most {} seconds", MAX_DURATION.0 / 1000))
                .hint("leave it out for no limit");
            self.report(node, issue);
        }
        None
    }

    pub(crate) fn schema(&mut self, map: &Node, key: &str) -> Option<Schema> {
        let node = map.get(key)?;
        if !matches!(node.data, Data::Map(_) | Data::Bool(_)) {
            self.wrong_type(node, key, "a JSON Schema: a mapping");
            return None;
        }
        match Schema::compile(&to_value(node)) {
            Ok(schema) => Some(schema),
            Err(error) => {
                let place = descend(node, &error.path);
                self.report(
                    place,
                    Issue::error(Code::BadSchema, format!("`{key}` is no JSON Schema: {}", error.message)),
                );
                None
            }
        }
    }

    /// One of some words.
    pub(crate) fn word<T: Copy>(&mut self, map: &Node, key: &str, words: &[(&str, T)]) -> Option<T> {
        let node = map.get(key)?;
        let list = words.iter().map(|(word, _)| format!("`{word}`")).collect::<Vec<_>>().join(" or ");
        let Some(text) = node.text() else {
            self.wrong_type(node, key, &format!("a text: {list}"));
            return None;
        };
        if let Some((_, value)) = words.iter().find(|(word, _)| *word == &**text) {
            return Some(*value);
        }
        let near = fields::nearest(text, words.iter().map(|(word, _)| *word));
        let issue = Issue::error(Code::BadValue, format!("`{key}` is `{text}`"))
            .expected(list)
            .maybe_hint(near.map(|near| format!("did you mean `{near}`?")));
        self.report(node, issue);
        None
    }
}

/// The node that a JSON pointer leads to, or the last one on the way.
pub(crate) fn descend<'n>(node: &'n Node, pointer: &str) -> &'n Node {
    let mut at = node;
    for step in pointer.split('/').skip(1) {
        let key = step.replace("~1", "/").replace("~0", "~");
        let next = match &at.data {
            Data::Map(_) => at.get(&key),
            Data::List(items) => key.parse::<usize>().ok().and_then(|index| items.get(index)),
            _ => None,
        };
        match next {
            Some(next) => at = next,
            None => break,
        }
    }
    at
}

#[cfg(test)]
mod tests;
