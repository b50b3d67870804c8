//! YAML and JSON as a tree whose every node knows where it stands. It knows nothing of workflows.
//!
//! Bounded before anything else sees it: size of the source, depth, and what aliases and merge keys expand to.

mod build;
mod json;
mod scalar;

use std::sync::Arc;

use crate::Code;
use crate::Issue;

/// A source longer than this is not read.
pub(crate) const MAX_BYTES: usize = 1 << 20;
/// Lists and mappings nest no deeper. Below `serde_json`'s own limit of 128, so that every definition can be read back.
pub(crate) const MAX_DEPTH: usize = 96;
/// Nodes in all, after aliases and merge keys are expanded.
pub(crate) const MAX_NODES: usize = 200_000;
/// Bytes of text in all, after expansion.
pub(crate) const MAX_TEXT: usize = 4 << 20;

const CHECKPOINT: usize = 256;

/// A file's only document.
#[derive(Debug)]
pub(crate) struct Document<'s> {
    source: &'s str,
    /// The byte where every 256th character begins: spans count characters.
    checkpoints: Vec<usize>,
    pub(crate) root: Node,
    parents: Vec<(u32, Step)>,
}

#[derive(Clone, Debug)]
enum Step {
    Root,
    Key(Arc<str>),
    Index(usize),
}

/// One value and where it stands.
#[derive(Clone, Debug)]
pub(crate) struct Node {
    /// Unique in its document, also where an alias repeats a place of the source.
    pub(crate) id: u32,
    pub(crate) span: Span,
    pub(crate) data: Data,
}

#[derive(Clone, Debug)]
pub(crate) enum Data {
    Null,
    Bool(bool),
    /// As written, within the YAML 1.2 core schema, and what it is.
    Number(Arc<str>, Number),
    Text(Arc<str>, Style),
    List(Vec<Node>),
    Map(Vec<Entry>),
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Number {
    Int(i64),
    /// Decimal digits with an optional minus: an integer beyond 64 bits.
    Big(Arc<str>),
    Float(f64),
}

/// One key of a mapping with its value.
#[derive(Clone, Debug)]
pub(crate) struct Entry {
    pub(crate) key: Arc<str>,
    pub(crate) key_span: Span,
    pub(crate) value: Node,
}

/// A place in the source; lines and columns count from 1, `start` and `end` are characters from 0.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Span {
    pub(crate) line: u32,
    pub(crate) column: u32,
    pub(crate) start: usize,
    pub(crate) end: usize,
}

/// How a text was written: what is needed to find a character of it in the source.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Style {
    /// The source's characters are the text's, but for white space.
    Verbatim,
    /// As `Verbatim`, behind a line that is not content (`|`, `>-`, with an anchor or tag before it).
    Headed,
    /// `'…'`, where `''` is one quote.
    Single,
    /// `"…"` with escapes.
    Double,
}

/// Reads a source. Errors of reading refuse the file as a whole, so there are few at once.
pub(crate) fn parse<'s>(source: &'s str, file: &str) -> Result<Document<'s>, Vec<Issue>> {
    if source.len() > MAX_BYTES {
        return Err(vec![
            Issue::error(Code::YamlLimit, format!("the file has {} bytes", source.len()))
                .expected(format!("at most {MAX_BYTES} bytes"))
                .hint("move large data out of the workflow: into its input, or a file that an agent reads"),
        ]);
    }
    let source = source.strip_prefix('\u{feff}').unwrap_or(source);
    if let Some(issue) = lone_carriage_return(source) {
        return Err(vec![issue]);
    }
    let is_json = std::path::Path::new(file).extension().is_some_and(|e| e.eq_ignore_ascii_case("json"));
    let mut root = if is_json {
        json::parse(source)?
    } else if source.trim_start().starts_with('{') {
        // JSON is a subset of YAML but for its surrogate escapes; what is no JSON may still be a YAML flow mapping.
        json::parse(source).or_else(|_| build::parse(source))?
    } else {
        build::parse(source)?
    };
    let mut parents = Vec::new();
    number(&mut root, 0, Step::Root, &mut parents);
    let checkpoints = source.char_indices().step_by(CHECKPOINT).map(|(byte, _)| byte).collect();
    Ok(Document { source, checkpoints, root, parents })
}

/// YAML takes a lone carriage return for the end of a line, nothing else does: places would point nowhere.
fn lone_carriage_return(source: &str) -> Option<Issue> {
    let at = source.match_indices('\r').find(|(at, _)| source.as_bytes().get(at + 1) != Some(&b'\n'))?.0;
    let before = source.get(..at)?;
    let line = before.matches('\n').count() + 1;
    let column = before.rsplit('\n').next()?.chars().count() + 1;
    let (line, column) = (u32::try_from(line).unwrap_or(1), u32::try_from(column).unwrap_or(1));
    let issue = Issue::error(Code::YamlSyntax, "a carriage return without a line feed");
    Some(issue.hint("end lines with a line feed").at(line, column))
}

fn number(node: &mut Node, parent: u32, step: Step, parents: &mut Vec<(u32, Step)>) {
    node.id = u32::try_from(parents.len()).unwrap_or(u32::MAX);
    parents.push((parent, step));
    let id = node.id;
    match &mut node.data {
        Data::List(items) => {
            for (index, item) in items.iter_mut().enumerate() {
                number(item, id, Step::Index(index), parents);
            }
        }
        Data::Map(entries) => {
            for entry in entries {
                number(&mut entry.value, id, Step::Key(entry.key.clone()), parents);
            }
        }
        Data::Null | Data::Bool(_) | Data::Number(..) | Data::Text(..) => {}
    }
}

impl Document<'_> {
    /// The JSON pointer of a node.
    pub(crate) fn pointer(&self, node: &Node) -> String {
        let mut steps = Vec::new();
        let mut id = node.id;
        while let Some((parent, step)) = self.parents.get(id as usize) {
            match step {
                Step::Root => break,
                Step::Key(key) => steps.push(escape_pointer(key)),
                Step::Index(index) => steps.push(index.to_string()),
            }
            id = *parent;
        }
        steps.iter().rev().fold(String::new(), |path, step| path + "/" + step)
    }

    fn chars_from(&self, start: usize) -> impl Iterator<Item = char> {
        let byte = self.checkpoints.get(start / CHECKPOINT).copied().unwrap_or(self.source.len());
        self.source.get(byte..).unwrap_or_default().chars().skip(start % CHECKPOINT)
    }

    /// Line and column of a character of a node's text. Exact for every style: only white space differs between
    /// a text and its source, so the nth visible character of the one is the nth of the other.
    pub(crate) fn position(&self, node: &Node, offset: usize) -> (u32, u32) {
        let Data::Text(text, style) = &node.data else { return (node.span.line, node.span.column) };
        let visible = text.chars().take(offset).filter(|c| !c.is_whitespace()).count();
        // A place on white space, or behind the end: counted from the visible character before it.
        let on_visible = text.chars().nth(offset).is_some_and(|c| !c.is_whitespace());
        let tail = text.chars().take(offset).collect::<Vec<_>>();
        let blanks = tail.iter().rev().take_while(|c| **c == ' ').count();
        let length = node.span.end.saturating_sub(node.span.start);
        let mut cursor = Cursor {
            chars: self.chars_from(node.span.start).take(length).peekable(),
            line: node.span.line,
            column: node.span.column,
        };
        if *style == Style::Headed {
            while cursor.next().is_some_and(|c| c != '\n') {}
        }
        if matches!(style, Style::Single | Style::Double) {
            let quote = if *style == Style::Single { '\'' } else { '"' };
            while cursor.next().is_some_and(|c| c != quote) {}
        }
        let mut seen = 0;
        let mut last = (cursor.line, cursor.column);
        let mut after_last = last;
        while let Some(&c) = cursor.chars.peek() {
            let here = (cursor.line, cursor.column);
            cursor.next();
            let is_visible = match (style, c) {
                (Style::Single, '\'') => {
                    cursor.next();
                    true
                }
                (Style::Double, '\\') => cursor.escape(),
                _ => !c.is_whitespace(),
            };
            if is_visible {
                if seen == visible {
                    last = here;
                    break;
                }
                seen += 1;
                after_last = (cursor.line, cursor.column);
                last = after_last;
            }
        }
        if on_visible || seen == 0 {
            last
        } else {
            (after_last.0, after_last.1.saturating_add(u32::try_from(blanks).unwrap_or(0)))
        }
    }
}

struct Cursor<I: Iterator<Item = char>> {
    chars: std::iter::Peekable<I>,
    line: u32,
    column: u32,
}

impl<I: Iterator<Item = char>> Cursor<I> {
    fn next(&mut self) -> Option<char> {
        let c = self.chars.next()?;
        if c == '\n' {
            self.line += 1;
            self.column = 1;
        } else {
            self.column += 1;
        }
        Some(c)
    }

    /// Behind a backslash; true when the escape stands for a visible character.
    fn escape(&mut self) -> bool {
        let Some(c) = self.next() else { return false };
        let digits = match c {
            'x' => 2,
            'u' => 4,
            'U' => 8,
            _ => {
                return !matches!(c, 'n' | 't' | 'r' | ' ' | '\t' | '\n' | 'v' | 'f' | 'N' | '_' | 'L' | 'P');
            }
        };
        let mut value = 0_u32;
        for _ in 0..digits {
            value = (value << 4) | self.next().and_then(|c| c.to_digit(16)).unwrap_or(0);
        }
        // The second half of a surrogate pair belongs to the character that the first half began.
        !(0xdc00..0xe000).contains(&value) && !char::from_u32(value).is_some_and(char::is_whitespace)
    }
}

impl Node {
    /// What it is, for messages: `a text`, `a list`.
    pub(crate) fn type_name(&self) -> &'static str {
        match &self.data {
            Data::Null => "nothing",
            Data::Bool(_) => "a boolean",
            Data::Number(..) => "a number",
            Data::Text(..) => "a text",
            Data::List(_) => "a list",
            Data::Map(_) => "a mapping",
        }
    }

    /// The value of a key, if this is a mapping that has it.
    pub(crate) fn get(&self, key: &str) -> Option<&Node> {
        match &self.data {
            Data::Map(entries) => entries.iter().find(|entry| &*entry.key == key).map(|entry| &entry.value),
            _ => None,
        }
    }

    pub(crate) fn text(&self) -> Option<&Arc<str>> {
        match &self.data {
            Data::Text(text, _) => Some(text),
            _ => None,
        }
    }
}

/// One step of a JSON pointer (RFC 6901).
pub(crate) fn escape_pointer(key: &str) -> String {
    key.replace('~', "~0").replace('/', "~1")
}

#[cfg(test)]
mod tests;
