//! Texts with `{{ expressions }}` in them.

use std::sync::Arc;

use crate::budget::Budget;
use crate::environment::Environment;
use crate::error::{EvalError, EvalErrorKind, SyntaxError};
use crate::expression::Expression;
use crate::lookup;
use crate::meter::Meter;
use crate::nearest::listed;
use crate::path::Path;
use crate::reference::{Positions, Reference};
use crate::secret::{Part, SecretRef, SecretSource};
use crate::syntax::SOURCE_LIMIT;
use crate::value::Value;

/// How long a text with templates in it may be, in bytes; a text without any may have any length.
pub const TEMPLATE_LIMIT: usize = 1 << 20;

/// How a text is to be read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TemplateOptions {
    /// Whether `${env:X}` and the like are secrets here; where they are not, they are an error.
    pub secrets: bool,
}

/// A text whose `{{ expressions }}` are filled in, once: what comes from data is never read as a template.
#[derive(Clone, Debug, PartialEq)]
pub struct Template {
    source: Arc<str>,
    pieces: Arc<[Piece]>,
    references: Arc<[Reference]>,
}

#[derive(Debug, PartialEq)]
enum Piece {
    Text(String),
    /// An expression, and the offset of its text in the template.
    Expression(Expression, usize),
    /// `{{ $.a.b }}`.
    Path(Path, usize),
    /// `${key}`.
    Key(Arc<str>, usize),
    Secret(SecretRef),
}

impl Template {
    /// Understands the text, or says where it cannot.
    pub fn parse(source: &str, options: &TemplateOptions) -> Result<Template, SyntaxError> {
        let mut parser = Parser {
            source,
            options,
            pieces: Vec::new(),
            references: Vec::new(),
            positions: Positions::new(source),
            text: String::new(),
        };
        parser.pieces()?;
        let Parser { pieces, references, .. } = parser;
        Ok(Template { source: source.into(), pieces: pieces.into(), references: references.into() })
    }

    /// The text as written.
    pub fn source(&self) -> &str {
        &self.source
    }

    /// The text it always gives, if nothing in it is filled in.
    pub fn literal(&self) -> Option<&str> {
        match self.pieces.as_ref() {
            [] => Some(""),
            [Piece::Text(text)] => Some(text),
            _ => None,
        }
    }

    /// The secret it is, if it is one reference and nothing else.
    pub fn secret(&self) -> Option<&SecretRef> {
        match self.pieces.as_ref() {
            [Piece::Secret(secret)] => Some(secret),
            _ => None,
        }
    }

    /// The names it reads, in order of appearance; `$.a` and `${a}` count as `ctx.a`.
    pub fn references(&self) -> &[Reference] {
        &self.references
    }

    /// Fills it in. A text that is exactly one template keeps the value's type, everything else is a string.
    pub fn eval(&self, environment: &Environment<'_>, budget: &mut Budget) -> Result<Value, EvalError> {
        self.render(environment, budget).map(|(value, _)| value)
    }

    /// As [`eval`](Self::eval); with the text in pieces if there are secrets in it.
    pub fn render(
        &self,
        environment: &Environment<'_>,
        budget: &mut Budget,
    ) -> Result<(Value, Option<Vec<Part>>), EvalError> {
        if let Some(whole) = self.whole() {
            return Ok((self.value(whole, environment, budget)?, None));
        }
        let mut text = String::new();
        let mut parts = Vec::new();
        let mut start = 0;
        for piece in self.pieces.iter() {
            match piece {
                Piece::Text(piece) => push(budget, &mut text, piece)?,
                Piece::Secret(secret) => {
                    let before = text.get(start..).unwrap_or_default();
                    if !before.is_empty() {
                        parts.push(Part::Text(before.to_owned()));
                    }
                    parts.push(Part::Secret(secret.clone()));
                    push(budget, &mut text, &secret.to_string())?;
                    start = text.len();
                }
                Piece::Expression(expression, at) => expression
                    .write(environment, budget, &mut text)
                    .map_err(|error| self.shift(error, *at))?,
                Piece::Path(_, _) | Piece::Key(_, _) => {
                    // What is read is checked and counted as an expression's value is.
                    match self.value(piece, environment, budget)? {
                        Value::String(piece) => push(budget, &mut text, &piece)?,
                        value => push(budget, &mut text, &value.to_string())?,
                    }
                }
            }
        }
        if parts.is_empty() {
            return Ok((Value::from(text), None));
        }
        let rest = text.get(start..).unwrap_or_default();
        if !rest.is_empty() {
            parts.push(Part::Text(rest.to_owned()));
        }
        Ok((Value::from(text), Some(parts)))
    }

    /// The only piece, if the text is exactly one template.
    fn whole(&self) -> Option<&Piece> {
        let mut whole = None;
        for piece in self.pieces.iter() {
            match piece {
                Piece::Text(text) if text.trim().is_empty() => {}
                Piece::Text(_) | Piece::Secret(_) => return None,
                piece if whole.is_none() => whole = Some(piece),
                _ => return None,
            }
        }
        whole
    }

    fn value(
        &self,
        piece: &Piece,
        environment: &Environment<'_>,
        budget: &mut Budget,
    ) -> Result<Value, EvalError> {
        match piece {
            Piece::Expression(expression, at) => {
                expression.eval(environment, budget).map_err(|error| self.shift(error, *at))
            }
            Piece::Path(path, at) => {
                let value =
                    path.read_in(environment).map_err(|error| self.failed(*at, error.message, error.hint))?;
                count(budget, &value).map(|()| value)
            }
            Piece::Key(key, at) => {
                let value = environment.context.get(key).cloned();
                let value = value.or_else(|| lookup::root_key(environment, key).map(|(value, _)| value));
                let value = value.ok_or_else(|| {
                    let keys = environment.context.as_object().into_iter().flat_map(crate::Object::keys);
                    let known = listed(keys.map(AsRef::as_ref));
                    let message = format!("`${{{key}}}` is no root key of the context; there is {known}");
                    self.failed(*at, message, Some(literally(key)))
                })?;
                count(budget, &value).map(|()| value)
            }
            Piece::Text(text) => Ok(Value::from(text.as_str())),
            Piece::Secret(secret) => Ok(Value::from(secret.to_string())),
        }
    }

    #[cold]
    fn failed(&self, at: usize, message: String, hint: Option<String>) -> EvalError {
        let (line, column) = Positions::new(&self.source).at(at);
        let quote = self.source.lines().nth(line as usize - 1).unwrap_or_default();
        let quote = quote.chars().take(100).collect();
        EvalError { kind: EvalErrorKind::Expression, message, line, column, quote, hint }
    }

    /// Puts an error of an expression where the expression stands.
    #[cold]
    fn shift(&self, mut error: EvalError, at: usize) -> EvalError {
        if error.line > 0 {
            (error.line, error.column) =
                shifted(&mut Positions::new(&self.source), at, error.line, error.column);
        }
        error
    }
}

fn literally(key: &str) -> String {
    format!("write `$${{{key}}}` for the text itself, `{{{{ … }}}}` for an expression")
}

/// Appends literal text to a result.
fn push(budget: &mut Budget, out: &mut String, text: &str) -> Result<(), EvalError> {
    let mut meter = Meter::new(budget);
    let paid = meter.result(text.len()).and_then(|()| meter.push(out, text));
    meter.settle(budget);
    paid.map_err(|fault| EvalError {
        kind: fault.kind,
        message: fault.message,
        line: 0,
        column: 0,
        quote: String::new(),
        hint: None,
    })
}

/// Counts a value that was read, not made.
pub(crate) fn count(budget: &mut Budget, value: &Value) -> Result<(), EvalError> {
    crate::freeze::count(budget, value).map_err(|fault| EvalError {
        kind: fault.kind,
        message: fault.message,
        line: 0,
        column: 0,
        quote: String::new(),
        hint: None,
    })
}

/// The place in the template of a place in an expression that begins at `at`.
fn shifted(positions: &mut Positions<'_>, at: usize, line: u32, column: u32) -> (u32, u32) {
    let (first_line, first_column) = positions.at(at);
    (first_line + line - 1, if line == 1 { first_column + column - 1 } else { column })
}

struct Parser<'a> {
    source: &'a str,
    options: &'a TemplateOptions,
    pieces: Vec<Piece>,
    references: Vec<Reference>,
    positions: Positions<'a>,
    /// Literal text that is not yet a piece.
    text: String,
}

impl Parser<'_> {
    #[cold]
    fn error(&self, at: usize, message: impl Into<String>, hint: Option<String>) -> SyntaxError {
        let (line, column) = Positions::new(self.source).at(at);
        SyntaxError { code: "EXPRESSION_SYNTAX", message: message.into(), line, column, hint }
    }

    fn pieces(&mut self) -> Result<(), SyntaxError> {
        let source = self.source;
        let mut at = 0;
        while let Some(found) = source.get(at..).and_then(|rest| rest.find(['{', '$'])) {
            let here = at + found;
            self.text.push_str(source.get(at..here).unwrap_or_default());
            let rest = source.get(here..).unwrap_or_default();
            if source.len() > TEMPLATE_LIMIT && (rest.starts_with("{{") || rest.starts_with("${")) {
                let message = format!(
                    "the text is {} bytes long, with templates at most {TEMPLATE_LIMIT} are allowed",
                    source.len()
                );
                return Err(SyntaxError { code: "EXPRESSION_TOO_LONG", ..self.error(0, message, None) });
            }
            at = if rest.starts_with("{{") {
                self.expression(here)?
            } else if rest.starts_with("$${") {
                self.text.push_str("${");
                here + 3
            } else if rest.starts_with("${") {
                self.dollar(here)?
            } else {
                self.text.push_str(rest.get(..1).unwrap_or_default());
                here + 1
            };
        }
        self.text.push_str(source.get(at..).unwrap_or_default());
        self.flush();
        Ok(())
    }

    fn flush(&mut self) {
        if !self.text.is_empty() {
            self.pieces.push(Piece::Text(std::mem::take(&mut self.text)));
        }
    }

    /// `{{ … }}` at `open`; returns where the text goes on.
    fn expression(&mut self, open: usize) -> Result<usize, SyntaxError> {
        let start = open + 2;
        let Some(end) = closing(self.source, start) else {
            return Err(self.error(
                open,
                "the `{{` is not closed by `}}`",
                Some("write `{{ '{{' }}` for the braces themselves".to_owned()),
            ));
        };
        self.flush();
        let inside = self.source.get(start..end).unwrap_or_default();
        let path = inside.trim();
        if path == "$" || path.starts_with("$.") || path.starts_with("$[") {
            let at = start + (inside.len() - inside.trim_start().len());
            let path = Path::parse(path).map_err(|error| SyntaxError {
                code: error.code,
                ..self.error(at, error.message, error.hint)
            })?;
            self.refer_path(&path, at);
            self.pieces.push(Piece::Path(path, at));
        } else {
            let expression = Expression::parse(inside).map_err(|mut error| {
                (error.line, error.column) = shifted(&mut self.positions, start, error.line, error.column);
                error
            })?;
            for reference in expression.references() {
                let mut reference = reference.clone();
                reference.offset += start;
                (reference.line, reference.column) =
                    shifted(&mut self.positions, start, reference.line, reference.column);
                self.references.push(reference);
            }
            self.pieces.push(Piece::Expression(expression, start));
        }
        Ok(end + 2)
    }

    fn refer_path(&mut self, path: &Path, at: usize) {
        let reference = path_reference(path, self.positions.at(at), at);
        self.references.push(reference);
    }

    /// `${…}` at `open`; returns where the text goes on.
    fn dollar(&mut self, open: usize) -> Result<usize, SyntaxError> {
        let start = open + 2;
        let length = self.source.get(start..).and_then(|rest| rest.find(['}', '\n']));
        let inside = length.and_then(|length| self.source.get(start..start + length));
        let closed = length.is_some_and(|length| self.source.as_bytes().get(start + length) == Some(&b'}'));
        let Some(inside) = inside.filter(|_| closed) else {
            return Err(self.error(
                open,
                "the `${` is not closed by `}`",
                Some("write `$${` for the characters themselves".to_owned()),
            ));
        };
        let end = start + inside.len() + 1;
        if let Some(secret) = self.secret(open, inside)? {
            self.flush();
            self.pieces.push(Piece::Secret(secret));
            return Ok(end);
        }
        let mut characters = inside.chars();
        let name = characters.next().is_some_and(|first| first.is_alphabetic() || first == '_')
            && characters.all(|c| c.is_alphanumeric() || c == '_' || c == '-');
        if !name {
            let shown: String = inside.chars().take(60).collect();
            return Err(self.error(open, format!("`${{{shown}}}` is no root key"), Some(literally(&shown))));
        }
        self.flush();
        let key: Arc<str> = inside.into();
        let path = Path::from(vec![crate::path::Segment::Key(key.clone())]);
        self.refer_path(&path, start);
        self.pieces.push(Piece::Key(key, open));
        Ok(end)
    }

    fn secret(&self, open: usize, inside: &str) -> Result<Option<SecretRef>, SyntaxError> {
        let Some((source, name)) = inside.split_once(':') else { return Ok(None) };
        let source = match source {
            "env" => SecretSource::Env,
            "file" => SecretSource::File,
            "vault" => SecretSource::Vault,
            "aws-sm" => SecretSource::AwsSm,
            _ => return Ok(None),
        };
        if !self.options.secrets {
            return Err(self.error(
                open,
                "a secret cannot stand here: it would end up in a journal or a prompt",
                Some(
                    "secrets may stand in what an action sends, as in `headers`; `$${…}` is the text itself"
                        .to_owned(),
                ),
            ));
        }
        let (name, field) = match source {
            SecretSource::Vault | SecretSource::AwsSm => match name.split_once('#') {
                Some((name, field)) => (name, Some(field.to_owned())),
                None => (name, None),
            },
            SecretSource::Env | SecretSource::File => (name, None),
        };
        if name.is_empty() || field.as_ref().is_some_and(String::is_empty) {
            return Err(self.error(open, "the secret has no name", None));
        }
        Ok(Some(SecretRef { source, name: name.to_owned(), field }))
    }
}

pub(crate) fn path_reference(path: &Path, (line, column): (u32, u32), at: usize) -> Reference {
    let keys = path.segments().iter().map_while(|segment| match segment {
        crate::path::Segment::Key(key) => Some(key.to_string()),
        crate::path::Segment::Index(_) => None,
    });
    Reference {
        name: "ctx".to_owned(),
        keys: keys.collect(),
        optional: false,
        offset: at,
        line,
        column,
        hint: None,
    }
}

/// Where the first `}}` outside strings and brackets is, from `start` on.
fn closing(source: &str, start: usize) -> Option<usize> {
    let bytes = source.as_bytes();
    let mut depth = 0_usize;
    let mut at = start;
    // An expression this long is refused anyway.
    let end = bytes.len().min(start.saturating_add(SOURCE_LIMIT + 2));
    while at < end {
        match bytes.get(at)? {
            b'}' if depth == 0 && bytes.get(at + 1) == Some(&b'}') => return Some(at),
            b'(' | b'[' | b'{' => depth += 1,
            b')' | b']' | b'}' => depth = depth.saturating_sub(1),
            quote @ (b'"' | b'\'') => at = end_of_string(bytes, at, *quote, end)?,
            _ => {}
        }
        at += 1;
    }
    None
}

/// Where the last quote of a string literal is that begins at `start`.
fn end_of_string(bytes: &[u8], start: usize, quote: u8, end: usize) -> Option<usize> {
    let triple = bytes.get(start + 1) == Some(&quote) && bytes.get(start + 2) == Some(&quote);
    let mut at = if triple { start + 3 } else { start + 1 };
    while at < end {
        match bytes.get(at)? {
            b'\\' => at += 1,
            byte if *byte == quote => {
                if !triple {
                    return Some(at);
                }
                if bytes.get(at + 1) == Some(&quote) && bytes.get(at + 2) == Some(&quote) {
                    return Some(at + 2);
                }
            }
            _ => {}
        }
        at += 1;
    }
    None
}
