//! JSON whose strings are templates and paths.

use std::sync::Arc;

use crate::budget::Budget;
use crate::environment::Environment;
use crate::error::{EvalError, EvalErrorKind, SyntaxError};
use crate::path::{self, Path};
use crate::reference::Reference;
use crate::secret::SecretSlot;
use crate::template::{self, Template, TemplateOptions};
use crate::value::{DEPTH_LIMIT, Object, Value};

/// How the strings of a tree are to be read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TreeOptions {
    /// Whether a string that is `$` or a whole path beginning with `$.` is that path (in `input` and `variables`).
    pub paths: bool,
    /// Whether `${env:X}` and the like are secrets here; where they are not, they are an error.
    pub secrets: bool,
}

/// A JSON value as a file has it, whose strings are filled in; keys stay as they are.
#[derive(Clone, Debug)]
pub struct Tree {
    source: Value,
    node: Node,
    references: Vec<(String, Reference)>,
}

#[derive(Clone, Debug)]
enum Node {
    /// Nothing in here is filled in; the flag says whether a literal in it differs from what was written.
    Literal(Value, bool),
    Template(Template),
    Path(Path),
    Array(Vec<Node>),
    Object(Vec<(Arc<str>, Node)>),
}

/// A string of a tree that cannot be understood.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("at {pointer}: {error}")]
pub struct TreeError {
    /// Where the string stands: a JSON pointer (RFC 6901).
    pub pointer: String,
    /// What is wrong in it; line and column count from the start of the string.
    pub error: SyntaxError,
}

/// A tree, filled in.
#[derive(Clone, Debug, PartialEq)]
pub struct Rendered {
    /// The value; a secret in it stands as it was written.
    pub value: Value,
    /// The strings in it that hold secrets, in the file's own text; data never makes one.
    pub secrets: Vec<SecretSlot>,
}

impl Tree {
    /// Understands every string, or says of each that it cannot.
    pub fn parse(source: &Value, options: &TreeOptions) -> Result<Tree, Vec<TreeError>> {
        let mut parser = Parser { options, references: Vec::new(), errors: Vec::new() };
        let node = parser.node(source, &mut String::new(), 0);
        if parser.errors.is_empty() {
            Ok(Tree { source: source.clone(), node, references: parser.references })
        } else {
            Err(parser.errors)
        }
    }

    /// The value as written.
    pub fn source(&self) -> &Value {
        &self.source
    }

    /// Whether nothing in it is filled in.
    pub fn is_literal(&self) -> bool {
        matches!(self.node, Node::Literal(_, _))
    }

    /// The names its strings read, each with the JSON pointer of the string.
    pub fn references(&self) -> &[(String, Reference)] {
        &self.references
    }

    /// Fills it in.
    pub fn render(&self, environment: &Environment<'_>, budget: &mut Budget) -> Result<Rendered, EvalError> {
        let mut renderer = Renderer { environment, budget, secrets: Vec::new() };
        let value = renderer.node(&self.node, &mut String::new(), 0)?;
        Ok(Rendered { value, secrets: renderer.secrets })
    }
}

struct Parser<'a> {
    options: &'a TreeOptions,
    references: Vec<(String, Reference)>,
    errors: Vec<TreeError>,
}

impl Parser<'_> {
    fn node(&mut self, value: &Value, pointer: &mut String, depth: usize) -> Node {
        match value {
            Value::Array(_) | Value::Object(_) if depth >= DEPTH_LIMIT => {
                let message = format!("the value is nested deeper than {DEPTH_LIMIT} levels");
                let error =
                    SyntaxError { code: "EXPRESSION_TOO_NESTED", message, line: 1, column: 1, hint: None };
                self.errors.push(TreeError { pointer: pointer.clone(), error });
                Node::Literal(Value::Null, true)
            }
            Value::String(text) => self.string(text, pointer),
            Value::Array(items) => {
                let nodes: Vec<Node> = items
                    .iter()
                    .enumerate()
                    .map(|(index, item)| {
                        inside(pointer, &index.to_string(), |p| self.node(item, p, depth + 1))
                    })
                    .collect();
                if nodes.iter().all(Node::is_unchanged) {
                    Node::Literal(value.clone(), false)
                } else {
                    Node::Array(nodes)
                }
            }
            Value::Object(object) => {
                let nodes: Vec<(Arc<str>, Node)> = object
                    .iter()
                    .map(|(key, item)| {
                        (key.clone(), inside(pointer, key, |pointer| self.node(item, pointer, depth + 1)))
                    })
                    .collect();
                let unchanged = nodes.iter().all(|(_, node)| node.is_unchanged());
                if unchanged { Node::Literal(value.clone(), false) } else { Node::Object(nodes) }
            }
            _ => Node::Literal(value.clone(), false),
        }
    }

    fn string(&mut self, text: &Arc<str>, pointer: &str) -> Node {
        let mut source: &str = text;
        if self.options.paths {
            if source == "$" || (source.starts_with("$.") && !source.contains(char::is_whitespace)) {
                return match Path::parse(source) {
                    Ok(path) => {
                        self.references
                            .push((pointer.to_owned(), template::path_reference(&path, (1, 1), 0)));
                        Node::Path(path)
                    }
                    Err(error) => {
                        let hint = Some("write `$$.` for the text itself".to_owned());
                        let error = SyntaxError {
                            code: error.code,
                            message: error.message,
                            line: 1,
                            column: 1,
                            hint,
                        };
                        self.errors.push(TreeError { pointer: pointer.to_owned(), error });
                        Node::Literal(Value::Null, true)
                    }
                };
            }
            if source.starts_with("$$.") {
                source = source.get(1..).unwrap_or_default();
            }
        }
        match Template::parse(source, &TemplateOptions { secrets: self.options.secrets }) {
            Ok(template) => {
                if let Some(literal) = template.literal() {
                    return if literal == text.as_ref() {
                        Node::Literal(Value::String(text.clone()), false)
                    } else {
                        Node::Literal(Value::from(literal), true)
                    };
                }
                let references = template.references().iter();
                self.references.extend(references.map(|reference| (pointer.to_owned(), reference.clone())));
                Node::Template(template)
            }
            Err(error) => {
                self.errors.push(TreeError { pointer: pointer.to_owned(), error });
                Node::Literal(Value::Null, true)
            }
        }
    }
}

impl Node {
    fn is_unchanged(&self) -> bool {
        matches!(self, Node::Literal(_, false))
    }
}

/// Works with the pointer one step longer.
fn inside<T>(pointer: &mut String, key: &str, work: impl FnOnce(&mut String) -> T) -> T {
    let before = pointer.len();
    pointer.push('/');
    for character in key.chars() {
        match character {
            '~' => pointer.push_str("~0"),
            '/' => pointer.push_str("~1"),
            other => pointer.push(other),
        }
    }
    let result = work(pointer);
    pointer.truncate(before);
    result
}

struct Renderer<'a, 'b> {
    environment: &'a Environment<'b>,
    budget: &'a mut Budget,
    secrets: Vec<SecretSlot>,
}

impl Renderer<'_, '_> {
    fn node(&mut self, node: &Node, pointer: &mut String, depth: usize) -> Result<Value, EvalError> {
        match node {
            Node::Literal(value, _) => {
                template::count(self.budget, value)?;
                Ok(value.clone())
            }
            Node::Template(template) => {
                let (value, parts) =
                    template.render(self.environment, self.budget).map_err(|error| placed(error, pointer))?;
                if let Some(parts) = parts {
                    self.secrets.push(SecretSlot { pointer: pointer.clone(), parts });
                }
                fits(value, pointer, depth)
            }
            Node::Path(path) => {
                let value = path.read_in(self.environment).map_err(|error| {
                    let kind = EvalErrorKind::Expression;
                    let (message, hint) = (error.message, error.hint);
                    placed(EvalError { kind, message, line: 1, column: 1, quote: error.path, hint }, pointer)
                })?;
                template::count(self.budget, &value)?;
                fits(value, pointer, depth)
            }
            Node::Array(nodes) => {
                let mut items = Vec::with_capacity(nodes.len());
                for (index, node) in nodes.iter().enumerate() {
                    items.push(inside(pointer, &index.to_string(), |pointer| {
                        self.node(node, pointer, depth + 1)
                    })?);
                }
                Ok(Value::Array(Arc::new(items)))
            }
            Node::Object(nodes) => {
                let mut object = Object::with_capacity(nodes.len());
                for (key, node) in nodes {
                    let value = inside(pointer, key, |pointer| self.node(node, pointer, depth + 1))?;
                    object.insert(key.clone(), value);
                }
                Ok(Value::from(object))
            }
        }
    }
}

/// Refuses data that makes the whole too deep.
fn fits(value: Value, pointer: &str, depth: usize) -> Result<Value, EvalError> {
    if depth == 0 || path::depth(&value, depth) <= DEPTH_LIMIT {
        return Ok(value);
    }
    let message = format!("the value is nested deeper than {DEPTH_LIMIT} levels");
    let kind = EvalErrorKind::TooDeep;
    Err(placed(EvalError { kind, message, line: 0, column: 0, quote: String::new(), hint: None }, pointer))
}

/// Says in which string of the tree it was.
fn placed(mut error: EvalError, pointer: &str) -> EvalError {
    if !pointer.is_empty() {
        error.message = format!("at {pointer}: {}", error.message);
    }
    error
}
