//! Expressions, templates, trees and paths: parsed where they stand, with what they read noted for the check of names.

use std::sync::Arc;

use expression::Expression;
use expression::Path;
use expression::Program;
use expression::Reference;
use expression::Segment;
use expression::SyntaxError;
use expression::Template;
use expression::TemplateOptions;
use expression::Tree;
use expression::TreeOptions;
use expression::Value;

use super::Reader;
use super::descend;
use super::to_value;
use crate::Code;
use crate::Condition;
use crate::Issue;
use crate::OutputValue;
use crate::StateId;
use crate::yaml::Data;
use crate::yaml::Node;

/// One name or path that is read somewhere.
#[derive(Clone, Debug)]
pub(crate) struct Use {
    /// Who reads it.
    pub(crate) state: Option<StateId>,
    pub(crate) kind: UseKind,
    /// The first name, and the constant keys behind it.
    pub(crate) name: Arc<str>,
    pub(crate) keys: Vec<Arc<str>>,
    /// It may be missing.
    pub(crate) optional: bool,
    pub(crate) hint: Option<String>,
    /// Names that hold here besides the workflow's.
    pub(crate) locals: Vec<Arc<str>>,
    /// Where it stands. The exact place is looked up only for an issue: that takes a walk through the source.
    pub(crate) node: Node,
    /// Line and column in the node's text, from 1; 0 for the node itself.
    pub(crate) at: (u32, u32),
}

/// How it is read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum UseKind {
    /// A name in an expression.
    Name,
    /// A name in a condition of a switch with `dataPath`, whose keys may be names.
    NameWithData,
    /// A path into the context: its first segment is `name`.
    Path,
    /// A path in `output` without a prefix: if nobody writes it, a text was meant.
    BarePath,
}

/// What a text of a file may hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Allowed {
    /// Strings that are whole paths (`$.a`).
    pub(crate) paths: bool,
    /// `${env:X}` and the like.
    pub(crate) secrets: bool,
}

pub(crate) const PLAIN: Allowed = Allowed { paths: false, secrets: false };
pub(crate) const PATHS: Allowed = Allowed { paths: true, secrets: false };
pub(crate) const CALL: Allowed = Allowed { paths: true, secrets: true };
pub(crate) const CALL_TEXT: Allowed = Allowed { paths: false, secrets: true };

impl Reader<'_> {
    /// A path that is read.
    pub(crate) fn path_read(&mut self, map: &Node, key: &str) -> Option<Path> {
        let node = map.get(key)?;
        let path = self.path(node, key)?;
        self.note_path(node, &path, UseKind::Path);
        Some(path)
    }

    pub(crate) fn path(&mut self, node: &Node, what: &str) -> Option<Path> {
        let text = self.as_text(node, what)?;
        match Path::parse(&text) {
            Ok(path) => Some(path),
            Err(error) => {
                let issue = Issue::error(Code::PathSyntax, format!("`{what}`: {}", error.message))
                    .expected("a path like `steps.check.pods[0].name`")
                    .maybe_hint(error.hint);
                self.report(node, issue);
                None
            }
        }
    }

    pub(crate) fn note_path(&mut self, node: &Node, path: &Path, kind: UseKind) {
        let mut keys = path.segments().iter().map_while(|segment| match segment {
            Segment::Key(key) => Some(key.clone()),
            Segment::Index(_) => None,
        });
        let Some(name) = keys.next() else { return };
        self.uses.push(Use {
            state: self.current,
            kind,
            name,
            keys: keys.collect(),
            optional: false,
            hint: None,
            locals: self.locals.clone(),
            node: place_only(node),
            at: (0, 0),
        });
    }

    /// An expression or a YAML boolean.
    pub(crate) fn condition(&mut self, node: &Node, what: &str, kind: &UseKind) -> Option<Condition> {
        if let Data::Bool(value) = node.data {
            return Some(Condition::Constant(value));
        }
        self.expression(node, what, kind).map(Condition::Expression)
    }

    pub(crate) fn expression(&mut self, node: &Node, what: &str, kind: &UseKind) -> Option<Expression> {
        let source = match &node.data {
            Data::Text(text, _) => text.clone(),
            Data::Bool(value) => if *value { "True" } else { "False" }.into(),
            _ => {
                self.wrong_type(node, what, "an expression (a text), or a boolean");
                return None;
            }
        };
        match Expression::parse(&source) {
            Ok(expression) => {
                self.note_references(node, expression.references(), kind);
                Some(expression)
            }
            Err(error) => {
                self.syntax(node, &source, error);
                None
            }
        }
    }

    pub(crate) fn program(&mut self, node: &Node, what: &str) -> Option<Program> {
        let source = self.as_text(node, what)?;
        match Program::parse(&source) {
            Ok(program) => {
                self.note_references(node, program.references(), &UseKind::Name);
                Some(program)
            }
            Err(error) => {
                self.syntax(node, &source, error);
                None
            }
        }
    }

    /// A text with templates. Numbers and booleans are taken as their text.
    pub(crate) fn template(&mut self, node: &Node, what: &str, allowed: Allowed) -> Option<Template> {
        let source = self.as_text(node, what)?;
        self.template_of(node, &source, allowed)
    }

    pub(crate) fn template_of(&mut self, node: &Node, source: &str, allowed: Allowed) -> Option<Template> {
        match Template::parse(source, &TemplateOptions { secrets: allowed.secrets }) {
            Ok(template) => {
                self.note_references(node, template.references(), &UseKind::Name);
                Some(template)
            }
            Err(error) => {
                let with_secrets = TemplateOptions { secrets: true };
                if !allowed.secrets && Template::parse(source, &with_secrets).is_ok() {
                    self.misplaced(node, source, error);
                } else {
                    self.syntax(node, source, error);
                }
                None
            }
        }
    }

    /// JSON with templates in its strings.
    pub(crate) fn tree(&mut self, node: &Node, allowed: Allowed) -> Option<Tree> {
        let value = to_value(node);
        match Tree::parse(&value, &TreeOptions { paths: allowed.paths, secrets: allowed.secrets }) {
            Ok(tree) => {
                for (pointer, reference) in tree.references() {
                    let place = descend(node, pointer);
                    self.note_references(place, std::slice::from_ref(reference), &UseKind::Name);
                }
                Some(tree)
            }
            Err(errors) => {
                for error in errors {
                    let place = descend(node, &error.pointer);
                    let source = place.text().cloned().unwrap_or_default();
                    let with_secrets = TemplateOptions { secrets: true };
                    if !allowed.secrets && Template::parse(&source, &with_secrets).is_ok() {
                        self.misplaced(place, &source, error.error);
                    } else {
                        self.syntax(place, &source, error.error);
                    }
                }
                None
            }
        }
    }

    /// One value of an `output` mapping of a state: a path into its own result, a path, or data.
    pub(crate) fn output_value(&mut self, node: &Node) -> Option<OutputValue> {
        if let Data::Text(text, _) = &node.data
            && (&**text == "$" || text.starts_with("$.") || text.starts_with("$["))
        {
            return self.path(node, "output").map(OutputValue::Own);
        }
        self.output_tree(node).map(OutputValue::Tree)
    }

    /// Where a text is a path (`steps.check.pods`) unless there is a template in it.
    pub(crate) fn output_tree(&mut self, node: &Node) -> Option<Tree> {
        let Data::Text(text, _) = &node.data else { return self.tree(node, PATHS) };
        if text.contains("{{") || text.contains("${") || text.starts_with('$') {
            return self.tree(node, PATHS);
        }
        let path = match Path::parse(text) {
            Ok(path) => path,
            Err(error) => {
                let issue = Issue::error(
                    Code::PathSyntax,
                    format!("what stands in `output` is a path: {}", error.message),
                )
                .hint(format!("for a text write {}", as_literal(text)));
                self.report(node, issue);
                return None;
            }
        };
        let is_bare = !text.starts_with("ctx.") && &**text != "ctx";
        self.note_path(node, &path, if is_bare { UseKind::BarePath } else { UseKind::Path });
        let below = text.strip_prefix("ctx.").unwrap_or(text);
        let source = match below {
            "ctx" => "$".to_owned(),
            _ if below.starts_with('[') => format!("{{{{ ctx{below} }}}}"),
            _ => format!("$.{below}"),
        };
        Tree::parse(&Value::from(source), &TreeOptions { paths: true, secrets: false }).ok()
    }

    /// As [`output_tree`](Self::output_tree), for each value of a mapping.
    pub(crate) fn output_mapping(&mut self, node: &Node) -> Option<Tree> {
        let Data::Map(entries) = &node.data else { return self.output_tree(node) };
        let mut object = expression::Object::with_capacity(entries.len());
        let mut is_whole = true;
        for entry in entries {
            match self.output_tree(&entry.value) {
                Some(tree) => {
                    object.insert(entry.key.clone(), tree.source().clone());
                }
                None => is_whole = false,
            }
        }
        if !is_whole {
            return None;
        }
        Tree::parse(&Value::from(object), &TreeOptions { paths: true, secrets: false }).ok()
    }

    fn note_references(&mut self, node: &Node, references: &[Reference], kind: &UseKind) {
        for reference in references {
            self.uses.push(Use {
                state: self.current,
                kind: kind.clone(),
                name: reference.name.as_str().into(),
                keys: reference.keys.iter().map(|key| Arc::from(key.as_str())).collect(),
                optional: reference.optional,
                hint: reference.hint.clone(),
                locals: self.locals.clone(),
                node: place_only(node),
                at: (reference.line, reference.column),
            });
        }
    }

    pub(crate) fn report_use(&mut self, used: &Use, issue: Issue) {
        let (line, column) = match used.at {
            (0, _) => (used.node.span.line, used.node.span.column),
            (line, column) => {
                let source = used.node.text().cloned().unwrap_or_default();
                self.place(&used.node, &source, line, column)
            }
        };
        self.issues.push(issue.path(self.document.pointer(&used.node)).at(line, column));
    }

    /// A text that would be right if secrets were allowed there.
    fn misplaced(&mut self, node: &Node, source: &str, error: SyntaxError) {
        self.syntax(node, source, error);
        if let Some(issue) = self.issues.last_mut() {
            issue.code = Code::MisplacedSecret;
        }
    }

    pub(crate) fn syntax(&mut self, node: &Node, source: &str, error: SyntaxError) {
        let (line, column) = self.place(node, source, error.line, error.column);
        let code = match error.code {
            "PATH_SYNTAX" => Code::PathSyntax,
            "EXPRESSION_TOO_LONG" => Code::ExpressionTooLong,
            "EXPRESSION_TOO_NESTED" => Code::ExpressionTooNested,
            _ => Code::ExpressionSyntax,
        };
        let issue = Issue::error(code, error.message).maybe_hint(error.hint);
        self.issues.push(issue.path(self.document.pointer(node)).at(line, column));
    }

    /// A place of a text (line and column from 1) in the file.
    fn place(&self, node: &Node, source: &str, line: u32, column: u32) -> (u32, u32) {
        let before: usize = source
            .split('\n')
            .take(line.saturating_sub(1) as usize)
            .map(|text| text.chars().count() + 1)
            .sum();
        self.document.position(node, before + column.saturating_sub(1) as usize)
    }
}

/// A node without what stands in it, unless it is a text.
fn place_only(node: &Node) -> Node {
    let data = match &node.data {
        Data::Text(text, style) => Data::Text(text.clone(), *style),
        _ => Data::Null,
    };
    Node { id: node.id, span: node.span, data }
}

/// A text as a template that gives it.
pub(crate) fn as_literal(text: &str) -> String {
    let short: String = text.chars().take(40).collect();
    format!("`{{{{ '{}' }}}}`", short.replace('\\', "\\\\").replace('\'', "\\'"))
}
