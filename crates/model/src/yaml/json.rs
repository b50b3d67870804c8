//! JSON with places. YAML covers all of JSON but surrogate escapes, and its errors speak of YAML.

use std::collections::HashMap;
use std::iter::Peekable;
use std::str::Chars;
use std::sync::Arc;

use super::Data;
use super::Entry;
use super::MAX_DEPTH;
use super::MAX_NODES;
use super::Node;
use super::Span;
use super::Style;
use super::scalar;
use crate::Code;
use crate::Issue;

pub(super) fn parse(source: &str) -> Result<Node, Vec<Issue>> {
    let mut reader =
        Reader { chars: source.chars().peekable(), at: 0, line: 1, column: 1, nodes: 0, issues: Vec::new() };
    match reader.document() {
        Ok(node) if reader.issues.is_empty() => Ok(node),
        Ok(_) => Err(reader.issues),
        Err(issue) => {
            reader.issues.push(*issue);
            Err(reader.issues)
        }
    }
}

struct Reader<'s> {
    chars: Peekable<Chars<'s>>,
    at: usize,
    line: u32,
    column: u32,
    nodes: usize,
    issues: Vec<Issue>,
}

type Stop = Box<Issue>;

impl Reader<'_> {
    fn document(&mut self) -> Result<Node, Stop> {
        self.blank();
        if self.chars.peek().is_none() {
            return Err(Box::new(Issue::error(Code::YamlEmpty, "the file holds nothing but white space")));
        }
        let node = self.value(0)?;
        self.blank();
        match self.chars.peek() {
            None => Ok(node),
            Some(_) => Err(self.unexpected("the end of the file")),
        }
    }

    fn next(&mut self) -> Option<char> {
        let c = self.chars.next()?;
        self.at += 1;
        if c == '\n' {
            self.line += 1;
            self.column = 1;
        } else {
            self.column += 1;
        }
        Some(c)
    }

    fn blank(&mut self) {
        while matches!(self.chars.peek(), Some(' ' | '\t' | '\n' | '\r')) {
            self.next();
        }
    }

    fn here(&self) -> Span {
        Span { line: self.line, column: self.column, start: self.at, end: self.at }
    }

    fn unexpected(&mut self, expected: &str) -> Stop {
        let found = self.chars.peek().map_or_else(|| "the end of the file".to_owned(), |c| format!("`{c}`"));
        Box::new(
            Issue::error(Code::YamlSyntax, format!("{found} where {expected} should be"))
                .expected(expected)
                .actual(found)
                .at(self.line, self.column),
        )
    }

    fn value(&mut self, depth: usize) -> Result<Node, Stop> {
        let span = self.here();
        self.nodes += 1;
        if depth > MAX_DEPTH || self.nodes > MAX_NODES {
            return Err(Box::new(
                Issue::error(Code::YamlLimit, "the document becomes too large or too deep here")
                    .expected(format!("at most {MAX_DEPTH} levels and {MAX_NODES} values"))
                    .at(span.line, span.column),
            ));
        }
        let data = match self.chars.peek() {
            Some('{') => self.object(depth)?,
            Some('[') => self.array(depth)?,
            Some('"') => Data::Text(self.string()?, Style::Double),
            Some(c) if c.is_ascii_alphanumeric() || *c == '-' => self.word()?,
            _ => return Err(self.unexpected("a value")),
        };
        Ok(Node { id: 0, span: Span { end: self.at, ..span }, data })
    }

    fn object(&mut self, depth: usize) -> Result<Data, Stop> {
        self.next();
        let mut entries = Vec::new();
        let mut seen: HashMap<Arc<str>, u32> = HashMap::new();
        self.blank();
        if self.chars.next_if_eq(&'}').is_some() {
            self.at += 1;
            self.column += 1;
            return Ok(Data::Map(entries));
        }
        loop {
            self.blank();
            let key_span = self.here();
            if self.chars.peek() != Some(&'"') {
                return Err(self.unexpected("a key in double quotes"));
            }
            let key = self.string()?;
            self.blank();
            if self.chars.peek() != Some(&':') {
                return Err(self.unexpected("`:`"));
            }
            self.next();
            self.blank();
            let value = self.value(depth + 1)?;
            if let Some(line) = seen.get(&key) {
                self.issues.push(
                    Issue::error(Code::DuplicateKey, format!("the key `{key}` stands here a second time"))
                        .hint(format!("the first is on line {line}; keep one of them"))
                        .at(key_span.line, key_span.column),
                );
            } else {
                seen.insert(key.clone(), key_span.line);
                entries.push(Entry { key, key_span: Span { end: self.at, ..key_span }, value });
            }
            self.blank();
            match self.chars.peek() {
                Some(',') => self.comma('}')?,
                Some('}') => {
                    self.next();
                    return Ok(Data::Map(entries));
                }
                _ => return Err(self.unexpected("`,` or `}`")),
            };
        }
    }

    fn array(&mut self, depth: usize) -> Result<Data, Stop> {
        self.next();
        let mut items = Vec::new();
        self.blank();
        if self.chars.peek() == Some(&']') {
            self.next();
            return Ok(Data::List(items));
        }
        loop {
            self.blank();
            items.push(self.value(depth + 1)?);
            self.blank();
            match self.chars.peek() {
                Some(',') => self.comma(']')?,
                Some(']') => {
                    self.next();
                    return Ok(Data::List(items));
                }
                _ => return Err(self.unexpected("`,` or `]`")),
            };
        }
    }

    /// A comma, behind which the list must go on.
    fn comma(&mut self, close: char) -> Result<Option<char>, Stop> {
        let place = self.here();
        let comma = self.next();
        self.blank();
        if self.chars.peek() == Some(&close) {
            return Err(Box::new(
                Issue::error(Code::YamlSyntax, format!("a comma in front of `{close}`"))
                    .hint("JSON does not allow a comma behind the last value: take it out")
                    .at(place.line, place.column),
            ));
        }
        Ok(comma)
    }

    fn word(&mut self) -> Result<Data, Stop> {
        let span = self.here();
        let mut word = String::new();
        while let Some(c) = self.chars.peek()
            && (c.is_ascii_alphanumeric() || matches!(c, '.' | '+' | '-' | '_'))
        {
            word.push(*c);
            self.next();
        }
        let is_number = word.starts_with(|c: char| c.is_ascii_digit() || c == '-')
            && !word.starts_with("0x")
            && !word.starts_with("0o");
        match (word.as_str(), scalar::number(&word)) {
            ("null", _) => Ok(Data::Null),
            ("true", _) => Ok(Data::Bool(true)),
            ("false", _) => Ok(Data::Bool(false)),
            (_, Some(Ok(number))) if is_number => Ok(Data::Number(word.into(), number)),
            (_, Some(Err(why))) if is_number => Err(Box::new(
                Issue::error(Code::NotJson, format!("`{word}` is {why}")).at(span.line, span.column),
            )),
            _ => Err(Box::new(
                Issue::error(Code::YamlSyntax, format!("`{word}` is no JSON value"))
                    .hint("put a text in double quotes")
                    .at(span.line, span.column),
            )),
        }
    }

    fn string(&mut self) -> Result<Arc<str>, Stop> {
        let opened = self.here();
        self.next();
        let mut text = String::new();
        loop {
            match self.chars.peek() {
                Some('"') => {
                    self.next();
                    return Ok(text.into());
                }
                Some('\\') => {
                    self.next();
                    text.push(self.escape()?);
                }
                Some(c) if !c.is_control() || *c == '\u{7f}' || *c > '\u{7f}' => {
                    text.push(*c);
                    self.next();
                }
                Some(_) => return Err(self.unexpected("an escape (`\\n`, `\\t`) for a control character")),
                None => {
                    return Err(Box::new(
                        Issue::error(Code::YamlSyntax, "this text is never closed")
                            .expected("`\"`")
                            .at(opened.line, opened.column),
                    ));
                }
            }
        }
    }

    fn escape(&mut self) -> Result<char, Stop> {
        let c = match self.chars.peek() {
            Some('"') => '"',
            Some('\\') => '\\',
            Some('/') => '/',
            Some('b') => '\u{8}',
            Some('f') => '\u{c}',
            Some('n') => '\n',
            Some('r') => '\r',
            Some('t') => '\t',
            Some('u') => {
                self.next();
                return self.unicode();
            }
            _ => return Err(self.unexpected("one of `\" \\ / b f n r t u` behind a backslash")),
        };
        self.next();
        Ok(c)
    }

    fn unicode(&mut self) -> Result<char, Stop> {
        let first = self.hex()?;
        if let Some(c) = char::from_u32(first) {
            return Ok(c);
        }
        if (0xd800..0xdc00).contains(&first) && self.chars.peek() == Some(&'\\') {
            self.next();
            if self.chars.peek() == Some(&'u') {
                self.next();
                let second = self.hex()?;
                if (0xdc00..0xe000).contains(&second)
                    && let Some(c) = char::from_u32(0x10000 + ((first - 0xd800) << 10) + (second - 0xdc00))
                {
                    return Ok(c);
                }
            }
        }
        Err(self.unexpected("a complete surrogate pair"))
    }

    fn hex(&mut self) -> Result<u32, Stop> {
        let mut value = 0;
        for _ in 0..4 {
            let Some(digit) = self.chars.peek().and_then(|c| c.to_digit(16)) else {
                return Err(self.unexpected("four hexadecimal digits"));
            };
            value = (value << 4) | digit;
            self.next();
        }
        Ok(value)
    }
}
