//! From the YAML parser's events to the tree: anchors, merge keys, duplicate keys, all within the bounds.

use std::collections::HashMap;
use std::collections::HashSet;
use std::sync::Arc;

use saphyr_parser::Event;
use saphyr_parser::Parser;
use saphyr_parser::ScalarStyle;
use saphyr_parser::ScanError;
use saphyr_parser::StrInput;
use saphyr_parser::Tag;

use super::Data;
use super::Entry;
use super::MAX_DEPTH;
use super::MAX_NODES;
use super::MAX_TEXT;
use super::Node;
use super::Span;
use super::Style;
use super::scalar;
use crate::Code;
use crate::Issue;

pub(super) fn parse(source: &str) -> Result<Node, Vec<Issue>> {
    let mut builder = Builder {
        parser: Parser::new_from_str(source),
        anchors: HashMap::new(),
        nodes: 0,
        text: 0,
        issues: Vec::new(),
    };
    let read = builder.document();
    let mut issues = builder.issues;
    match read {
        Ok(node) if issues.is_empty() => return Ok(node),
        Ok(_) => {}
        Err(issue) => issues.push(*issue),
    }
    Err(issues.into_iter().map(|issue| within(source, issue)).collect())
}

/// An issue at the end of the text is reported behind its last character, not on a line that does not exist.
fn within(source: &str, issue: Issue) -> Issue {
    let lines = source.lines().count().max(1);
    if issue.line as usize <= lines {
        return issue;
    }
    let last = source.lines().last().map_or(0, |line| line.chars().count());
    issue.at(u32::try_from(lines).unwrap_or(u32::MAX), u32::try_from(last).unwrap_or(u32::MAX - 1) + 1)
}

struct Builder<'s> {
    parser: Parser<'s, StrInput<'s>>,
    anchors: HashMap<usize, (Node, Size)>,
    nodes: usize,
    text: usize,
    /// What is wrong but does not stop the reading.
    issues: Vec<Issue>,
}

/// What a node counts when an alias repeats it.
#[derive(Clone, Copy)]
struct Size {
    nodes: usize,
    text: usize,
    depth: usize,
}

/// Boxed: the happy path returns nodes by the thousand.
type Stop = Box<Issue>;

impl<'s> Builder<'s> {
    fn next(&mut self) -> Result<(Event<'s>, Span), Stop> {
        match self.parser.next_event() {
            Some(Ok((event, span))) => Ok((event, from_parser(span))),
            Some(Err(error)) => Err(Box::new(syntax(&error))),
            None => Ok((Event::StreamEnd, Span { line: 1, column: 1, start: 0, end: 0 })),
        }
    }

    fn document(&mut self) -> Result<Node, Stop> {
        let mut root = None;
        loop {
            let (event, span) = self.next()?;
            match event {
                Event::StreamEnd => break,
                Event::StreamStart | Event::DocumentStart(_) | Event::DocumentEnd | Event::Nothing => {}
                _ if root.is_some() => {
                    return Err(Box::new(
                        Issue::error(Code::YamlDocuments, "a second document begins here")
                            .expected("one document in a file")
                            .hint("put each workflow into a file of its own")
                            .at(span.line, span.column),
                    ));
                }
                event => root = Some(self.node(event, span, 0)?),
            }
        }
        match root {
            Some(node) if !matches!(node.data, Data::Null) => Ok(node),
            _ => Err(Box::new(
                Issue::error(Code::YamlEmpty, "the file holds nothing but white space or comments")
                    .expected("a mapping with `id` and `states`"),
            )),
        }
    }

    fn node(&mut self, event: Event<'s>, span: Span, depth: usize) -> Result<Node, Stop> {
        if depth > MAX_DEPTH {
            return Err(too_deep(span));
        }
        let before = (self.nodes, self.text);
        self.count(1, 0, span)?;
        let (anchor, mut node) = match event {
            Event::Alias(id) => return self.alias(id, span, depth),
            Event::Scalar(text, style, anchor, tag) => {
                self.count(0, text.len(), span)?;
                (anchor, self.scalar(&text, style, anchor, tag.as_deref(), span))
            }
            Event::SequenceStart(anchor, tag) => {
                self.check_tag(tag.as_deref(), "seq", span);
                let mut items = Vec::new();
                let end = loop {
                    let (event, span) = self.next()?;
                    if event == Event::SequenceEnd {
                        break span.end;
                    }
                    items.push(self.node(event, span, depth + 1)?);
                };
                (anchor, Node { id: 0, span: Span { end, ..span }, data: Data::List(items) })
            }
            Event::MappingStart(anchor, tag) => {
                self.check_tag(tag.as_deref(), "map", span);
                let (entries, end) = self.mapping(depth)?;
                (anchor, Node { id: 0, span: Span { end, ..span }, data: Data::Map(entries) })
            }
            Event::Nothing
            | Event::StreamStart
            | Event::StreamEnd
            | Event::DocumentStart(_)
            | Event::DocumentEnd
            | Event::SequenceEnd
            | Event::MappingEnd => {
                return Err(Box::new(
                    Issue::error(Code::YamlSyntax, "a value is missing here").at(span.line, span.column),
                ));
            }
        };
        // A block scalar's own place is its content; the parser says where the mapping begins for the rest.
        if node.span.line == 0 {
            node.span.line = 1;
        }
        if anchor != 0 {
            let size =
                Size { nodes: self.nodes - before.0, text: self.text - before.1, depth: height(&node) };
            self.anchors.insert(anchor, (node.clone(), size));
        }
        Ok(node)
    }

    fn alias(&mut self, id: usize, span: Span, depth: usize) -> Result<Node, Stop> {
        let Some((node, size)) = self.anchors.get(&id) else {
            return Err(Box::new(
                Issue::error(Code::YamlSyntax, "this alias stands inside the value that it repeats")
                    .at(span.line, span.column),
            ));
        };
        let (size, node) = (*size, node.clone());
        if depth + size.depth > MAX_DEPTH {
            return Err(too_deep(span));
        }
        self.count(size.nodes, size.text, span)?;
        Ok(node)
    }

    fn count(&mut self, nodes: usize, text: usize, span: Span) -> Result<(), Stop> {
        self.nodes += nodes;
        self.text += text;
        if self.nodes <= MAX_NODES && self.text <= MAX_TEXT {
            return Ok(());
        }
        Err(Box::new(
            Issue::error(Code::YamlLimit, "the document becomes too large here, with its aliases expanded")
                .expected(format!("at most {MAX_NODES} values and {MAX_TEXT} bytes of text"))
                .at(span.line, span.column),
        ))
    }

    fn scalar(
        &mut self,
        text: &str,
        style: ScalarStyle,
        anchor: usize,
        tag: Option<&Tag>,
        span: Span,
    ) -> Node {
        let has_properties = anchor != 0 || tag.is_some();
        let style = match style {
            ScalarStyle::Plain => {
                let data = self.plain(text, tag, span);
                return Node { id: 0, span, data };
            }
            ScalarStyle::SingleQuoted => Style::Single,
            ScalarStyle::DoubleQuoted => Style::Double,
            ScalarStyle::Literal | ScalarStyle::Folded if has_properties => Style::Headed,
            ScalarStyle::Literal | ScalarStyle::Folded => Style::Verbatim,
        };
        self.check_tag(tag, "str", span);
        Node { id: 0, span, data: Data::Text(text.into(), style) }
    }

    fn plain(&mut self, text: &str, tag: Option<&Tag>, span: Span) -> Data {
        let as_text = || Data::Text(text.into(), Style::Verbatim);
        let wanted = match tag {
            None => None,
            Some(tag) if tag.handle == "!" && tag.suffix.is_empty() => Some("str"),
            Some(tag) if tag.handle.is_empty() && tag.suffix == "!" => Some("str"),
            Some(tag) if tag.is_yaml_core_schema() => Some(tag.suffix.as_str()),
            Some(tag) => {
                self.bad_tag(tag, span);
                None
            }
        };
        if wanted == Some("str") {
            return as_text();
        }
        let data = match scalar::plain(text) {
            Ok(data) => data,
            Err(why) => {
                self.issues.push(
                    Issue::error(Code::NotJson, format!("`{text}` is {why}"))
                        .expected("a number that JSON can hold")
                        .hint("write it as a text, in quotes, if it is one")
                        .at(span.line, span.column),
                );
                return Data::Null;
            }
        };
        let fits = match (wanted, &data) {
            (Some("int"), Data::Number(_, number)) => !matches!(number, super::Number::Float(_)),
            (None, _)
            | (Some("float"), Data::Number(..))
            | (Some("bool"), Data::Bool(_))
            | (Some("null"), Data::Null) => true,
            _ => false,
        };
        if !fits && let Some(tag) = tag {
            self.bad_tag(tag, span);
        }
        data
    }

    fn check_tag(&mut self, tag: Option<&Tag>, kind: &str, span: Span) {
        if let Some(tag) = tag
            && !(tag.is_yaml_core_schema() && tag.suffix == kind)
            && !(tag.handle == "!" && tag.suffix.is_empty())
        {
            self.bad_tag(tag, span);
        }
    }

    fn bad_tag(&mut self, tag: &Tag, span: Span) {
        self.issues.push(
            Issue::error(Code::YamlTag, format!("the tag `{tag}` means nothing here"))
                .expected("no tag, or one of YAML's own (`!!str`, `!!int`, …) that fits")
                .hint("leave it out")
                .at(span.line, span.column),
        );
    }

    fn mapping(&mut self, depth: usize) -> Result<(Vec<Entry>, usize), Stop> {
        let mut own: Vec<Entry> = Vec::new();
        // Merged entries, with the number of own entries before them.
        let mut merged: Vec<(usize, Vec<Entry>)> = Vec::new();
        let mut seen: HashMap<Arc<str>, u32> = HashMap::new();
        let end = loop {
            let (event, span) = self.next()?;
            if event == Event::MappingEnd {
                break span.end;
            }
            let is_merge = matches!(&event, Event::Scalar(text, ScalarStyle::Plain, ..) if text == "<<");
            let key = self.node(event, span, depth + 1)?;
            let (event, value_span) = self.next()?;
            let value = self.node(event, value_span, depth + 1)?;
            if is_merge {
                match merge_sources(value.data) {
                    Some(entries) => merged.push((own.len(), entries)),
                    None => self.issues.push(
                        Issue::error(Code::YamlMerge, "`<<` takes a mapping or a list of mappings")
                            .hint("write `<<: *name`, where `&name` stands at a mapping")
                            .at(value_span.line, value_span.column),
                    ),
                }
                continue;
            }
            let Some(key) = self.key(&key, span) else { continue };
            if let Some(line) = seen.get(&key) {
                self.issues.push(
                    Issue::error(Code::DuplicateKey, format!("the key `{key}` stands here a second time"))
                        .hint(format!("the first is on line {line}; keep one of them"))
                        .at(span.line, span.column),
                );
                continue;
            }
            seen.insert(key.clone(), span.line);
            own.push(Entry { key, key_span: span, value });
        };
        if merged.is_empty() {
            return Ok((own, end));
        }
        let mut taken: HashSet<Arc<str>> = seen.into_keys().collect();
        let mut entries = Vec::with_capacity(own.len());
        let mut merged = merged.into_iter().peekable();
        for (index, entry) in own.into_iter().enumerate() {
            while let Some((_, list)) = merged.next_if(|(before, _)| *before <= index) {
                entries.extend(list.into_iter().filter(|e| taken.insert(e.key.clone())));
            }
            entries.push(entry);
        }
        for (_, list) in merged {
            entries.extend(list.into_iter().filter(|e| taken.insert(e.key.clone())));
        }
        Ok((entries, end))
    }

    fn key(&mut self, node: &Node, span: Span) -> Option<Arc<str>> {
        match &node.data {
            Data::Text(text, _) | Data::Number(text, _) => return Some(text.clone()),
            Data::Bool(value) => return Some(if *value { "true" } else { "false" }.into()),
            Data::Null | Data::List(_) | Data::Map(_) => {}
        }
        let issue =
            Issue::error(Code::YamlKey, format!("a key must be a text, this is {}", node.type_name()))
                .at(span.line, span.column);
        self.issues.push(if matches!(node.data, Data::Map(_)) {
            issue.hint("YAML reads `{{ … }}` without quotes as a mapping: put the template in quotes")
        } else {
            issue
        });
        None
    }
}

fn merge_sources(data: Data) -> Option<Vec<Entry>> {
    match data {
        Data::Map(entries) => Some(entries),
        Data::List(items) => {
            let mut all = Vec::new();
            for item in items {
                let Data::Map(entries) = item.data else { return None };
                all.extend(entries);
            }
            Some(all)
        }
        _ => None,
    }
}

fn height(node: &Node) -> usize {
    match &node.data {
        Data::List(items) => 1 + items.iter().map(height).max().unwrap_or(0),
        Data::Map(entries) => 1 + entries.iter().map(|e| height(&e.value)).max().unwrap_or(0),
        _ => 0,
    }
}

fn too_deep(span: Span) -> Stop {
    Box::new(
        Issue::error(Code::YamlLimit, "lists and mappings nest too deep here")
            .expected(format!("at most {MAX_DEPTH} levels"))
            .at(span.line, span.column),
    )
}

fn from_parser(span: saphyr_parser::Span) -> Span {
    Span {
        line: u32::try_from(span.start.line()).unwrap_or(u32::MAX),
        column: u32::try_from(span.start.col()).unwrap_or(u32::MAX - 1) + 1,
        start: span.start.index(),
        end: span.end.index(),
    }
}

fn syntax(error: &ScanError) -> Issue {
    let line = u32::try_from(error.marker().line()).unwrap_or(1);
    let column = u32::try_from(error.marker().col()).unwrap_or(0) + 1;
    let info = error.info();
    let issue = Issue::error(Code::YamlSyntax, info.to_owned()).at(line, column);
    if info.contains("recursion limit") {
        return Issue { code: Code::YamlLimit, ..issue }.expected(format!("at most {MAX_DEPTH} levels"));
    }
    let hint = if info.contains("tab") {
        "indent with spaces: YAML does not allow tabs there"
    } else if info.contains("mapping values are not allowed") {
        "a value that holds `: ` must be in quotes; else check the indentation of this line"
    } else if info.contains("unknown anchor") {
        "an alias (`*name`) repeats a value that `&name` marks further up"
    } else if info.contains("node content")
        || info.contains("quoted scalar")
        || info.contains("expected ',' or")
    {
        "look for a bracket or quote that is not closed"
    } else if info.contains("cannot start any token") {
        "put the value in quotes"
    } else {
        "check the indentation of this line and the one before"
    };
    issue.hint(hint)
}
