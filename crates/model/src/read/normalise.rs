//! From what was written to the canonical spelling of every field. Reports fields that do not exist or stand twice.
//!
//! What it gives is a document again (the definition that is stored and hashed), whose nodes still know where they
//! stand in the source. Values are not looked at: that is the reader's work.

use std::sync::Arc;

use expression::Object;
use expression::Value;

use crate::Code;
use crate::Issue;
use crate::fields;
use crate::fields::ActionName;
use crate::fields::Field;
use crate::fields::Inside;
use crate::fields::Shape;
use crate::fields::Type;
use crate::yaml::Data;
use crate::yaml::Document;
use crate::yaml::Entry;
use crate::yaml::Node;
use crate::yaml::Number;
use crate::yaml::Style;

/// The document with canonical spellings, and what was wrong with them.
pub(super) fn workflow(document: &Document<'_>) -> (Node, Vec<Issue>) {
    let mut normaliser = Normaliser { document, issues: Vec::new(), allows_dots: false };
    let root = normaliser.root();
    (root, normaliser.issues)
}

/// Any mapping with canonical spellings, and what was wrong with them.
pub(crate) fn shape(document: &Document<'_>, shape: &'static Shape) -> (Node, Vec<Issue>) {
    let allows_dots = std::ptr::eq(shape, &raw const fields::PROMPT);
    let mut normaliser = Normaliser { document, issues: Vec::new(), allows_dots };
    let node = normaliser.shape(&document.root, shape);
    (node, normaliser.issues)
}

struct Normaliser<'d> {
    document: &'d Document<'d>,
    issues: Vec<Issue>,
    /// What dotprompt calls an extension: `vendor.field` is free.
    allows_dots: bool,
}

impl Normaliser<'_> {
    fn root(&mut self) -> Node {
        let root = &self.document.root;
        if root.get("definition").is_none() || root.get("states").is_some() {
            return self.shape(root, &fields::WORKFLOW);
        }
        let request = self.shape(root, &fields::REQUEST);
        let Some(definition) = request.get("definition") else { return request };
        let mut workflow = self.shape(definition, &fields::WORKFLOW);
        let request_id = request.get("workflowId");
        if let (Some(own), Some(other)) =
            (workflow.get("id").and_then(Node::text), request_id.and_then(Node::text))
            && own != other
            && let Some(node) = request_id
        {
            let issue = Issue::error(
                Code::BadValue,
                format!("the request is for the workflow `{other}`, its definition has the id `{own}`"),
            );
            self.report(node, issue.hint("make them the same, or leave `workflowId` out"));
        }
        let Data::Map(entries) = &mut workflow.data else { return workflow };
        for (name, value) in
            [("id", request_id), ("name", request.get("name")), ("description", request.get("description"))]
        {
            if let Some(value) = value
                && !entries.iter().any(|entry| &*entry.key == name)
            {
                entries.push(Entry { key: name.into(), key_span: value.span, value: value.clone() });
            }
        }
        sort(entries, fields::WORKFLOW.groups);
        workflow
    }

    fn shape(&mut self, node: &Node, shape: &'static Shape) -> Node {
        self.mapping(node, shape.what, shape.groups, Unknown::Reported)
    }

    fn mapping(&mut self, node: &Node, what: &str, groups: &[&'static [Field]], unknown: Unknown) -> Node {
        let Data::Map(written) = &node.data else { return node.clone() };
        let mut entries: Vec<Entry> = Vec::with_capacity(written.len());
        let mut spelled: Vec<(&str, &str)> = Vec::new();
        for entry in written {
            if entry.key.starts_with("x-") || (self.allows_dots && entry.key.contains('.')) {
                entries.push(entry.clone());
                continue;
            }
            let Some(field) = fields::find(groups, &entry.key) else {
                if unknown == Unknown::Reported {
                    self.unknown(entry, what, groups);
                }
                continue;
            };
            if let Some((_, other)) = spelled.iter().find(|(name, _)| *name == field.name) {
                if field.name == "next" {
                    self.two_transitions(entry, other, &entries);
                    continue;
                }
                let issue = Issue::error(
                    Code::DuplicateField,
                    format!("`{}` and `{other}` are two spellings of one field", entry.key),
                )
                .hint("keep one of them");
                self.report_key(entry, issue);
                continue;
            }
            spelled.push((field.name, &entry.key));
            entries.push(Entry {
                key: field.name.into(),
                key_span: entry.key_span,
                value: self.inside(field.inside, &entry.value),
            });
        }
        sort(&mut entries, groups);
        Node { id: node.id, span: node.span, data: Data::Map(entries) }
    }

    /// `next` and `transition` may both be there when they agree: files written for two readers do that.
    fn two_transitions(&mut self, entry: &Entry, other: &str, entries: &[Entry]) {
        let first = entries.iter().find(|entry| &*entry.key == "next").and_then(|entry| entry.value.text());
        if first.is_some() && first == entry.value.text() {
            return;
        }
        let issue = Issue::error(
            Code::TransitionConflict,
            format!("`{}` and `{other}` name different states", entry.key),
        );
        self.report_key(entry, issue.hint("they are two spellings of one field: keep one of them"));
    }

    fn inside(&mut self, inside: Inside, node: &Node) -> Node {
        match inside {
            Inside::Data => node.clone(),
            Inside::Verbatim => match &node.data {
                Data::Number(text, _) => {
                    Node { id: node.id, span: node.span, data: Data::Text(text.clone(), Style::Verbatim) }
                }
                _ => node.clone(),
            },
            Inside::One(shape) => self.shape(node, shape),
            Inside::Each(shape) => self.each(node, |this, item| this.shape(item, shape)),
            Inside::OneOrEach(shape) => match &node.data {
                Data::List(_) => self.each(node, |this, item| this.shape(item, shape)),
                _ => self.shape(node, shape),
            },
            Inside::States => self.each(node, Self::state),
            Inside::Triggers => self.each(node, Self::trigger),
        }
    }

    fn each(&mut self, node: &Node, mut one: impl FnMut(&mut Self, &Node) -> Node) -> Node {
        let Data::List(items) = &node.data else { return node.clone() };
        let items = items.iter().map(|item| one(self, item)).collect();
        Node { id: node.id, span: node.span, data: Data::List(items) }
    }

    fn trigger(&mut self, node: &Node) -> Node {
        let word = node.get("type").and_then(Node::text);
        let found = word.and_then(|word| {
            fields::TRIGGER_TYPES.iter().find(|(name, also, _)| *name == &**word || also.contains(&&**word))
        });
        match found {
            Some((name, _, shape)) => with_type(self.shape(node, shape), name),
            None => node.clone(),
        }
    }

    fn state(&mut self, node: &Node) -> Node {
        let Data::Map(_) = &node.data else { return node.clone() };
        let Some(kind) = node.get("type").and_then(Node::text).and_then(|word| Type::from_word(word)) else {
            let groups = fields::state_fields(Type::Inject, None);
            return self.mapping(node, "a state", groups, Unknown::Dropped);
        };
        let action = kind.action().or_else(|| action_of(node));
        let groups = fields::state_fields(kind, action);
        let what = match (kind, action) {
            (Type::Operation, Some(action)) => format!("an `operation` with `{}`", action.word()),
            (Type::Operation | Type::Agent | Type::Inject, _) => format!("an `{}` state", kind.word()),
            _ => format!("a `{}` state", kind.word()),
        };
        let unknown =
            if kind == Type::Operation && action.is_none() { Unknown::Dropped } else { Unknown::Reported };
        with_type(self.mapping(node, &what, groups, unknown), kind.word())
    }

    fn unknown(&mut self, entry: &Entry, what: &str, groups: &[&'static [Field]]) {
        let key = &*entry.key;
        if let Some((_, feature)) = fields::NOT_YET.iter().find(|(word, _)| *word == key) {
            let issue =
                Issue::error(Code::NotYet, format!("`{key}` ({feature}) is planned and does not exist yet"))
                    .hint("leave it out; it would do nothing");
            return self.report_key(entry, issue);
        }
        let issue = Issue::error(Code::UnknownField, format!("{what} has no field `{}`", shorten(key)));
        let snake = key.contains('_');
        let is_switch = what.contains("`switch`") && matches!(key, "next" | "transition" | "end");
        let hint = match fields::nearest(key, fields::spellings(groups)) {
            _ if is_switch => {
                "a switch goes on by its `conditions`, and by `defaultNext` when none holds".to_owned()
            }
            Some(near) if snake => format!("did you mean `{}`?", fields::to_snake(near)),
            Some(near) => format!("did you mean `{near}`?"),
            None => match fields::owners(key).as_slice() {
                [] => "a field of your own begins with `x-`".to_owned(),
                owners => format!("it is a field of {}", owners.join(", ")),
            },
        };
        self.report_key(entry, issue.hint(hint));
    }

    fn report(&mut self, node: &Node, issue: Issue) {
        self.issues.push(issue.path(self.document.pointer(node)).at(node.span.line, node.span.column));
    }

    fn report_key(&mut self, entry: &Entry, issue: Issue) {
        let path = self.document.pointer(&entry.value);
        self.issues.push(issue.path(path).at(entry.key_span.line, entry.key_span.column));
    }
}

/// What happens to fields that do not exist. Where the type is not known they are no news.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Unknown {
    Reported,
    Dropped,
}

/// The action of an operation: `action`, or `input.task` when it names one.
pub(super) fn action_of(state: &Node) -> Option<ActionName> {
    let given = state.get("action").or_else(|| state.get("operation"));
    match given {
        Some(node) => ActionName::from_word(node.text()?),
        None => ActionName::from_word(state.get("input")?.get("task")?.text()?),
    }
}

fn with_type(mut node: Node, word: &str) -> Node {
    if let Data::Map(entries) = &mut node.data {
        for entry in entries.iter_mut().filter(|entry| &*entry.key == "type") {
            entry.value.data = Data::Text(word.into(), Style::Verbatim);
        }
    }
    node
}

/// Fields in the order of the table, then those of the user's own; so the order of writing does not change the hash.
fn sort(entries: &mut [Entry], groups: &[&'static [Field]]) {
    let place = |key: &str| {
        let fields = groups.iter().flat_map(|group| group.iter());
        fields.enumerate().find(|(_, field)| field.name == key).map_or(usize::MAX, |(index, _)| index)
    };
    entries.sort_by_key(|entry| place(&entry.key));
}

fn shorten(key: &str) -> String {
    if key.chars().count() <= 60 { key.to_owned() } else { key.chars().take(60).chain(['…']).collect() }
}

/// A node as JSON.
pub(crate) fn to_value(node: &Node) -> Value {
    match &node.data {
        Data::Null => Value::Null,
        Data::Bool(value) => Value::Bool(*value),
        Data::Number(_, Number::Int(number)) => Value::Int(*number),
        Data::Number(_, Number::Float(number)) => Value::Float(*number),
        Data::Number(_, Number::Big(digits)) => Value::parse_json(digits).unwrap_or_default(),
        Data::Text(text, _) => Value::String(text.clone()),
        Data::List(items) => items.iter().map(to_value).collect(),
        Data::Map(entries) => {
            let mut object = Object::with_capacity(entries.len());
            for entry in entries {
                object.insert(Arc::clone(&entry.key), to_value(&entry.value));
            }
            Value::from(object)
        }
    }
}
