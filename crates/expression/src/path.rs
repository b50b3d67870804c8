//! The one path language, for reading and for writing.

use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::environment::Environment;
use crate::lookup;
use crate::names::{Mark, Names};
use crate::nearest::{listed, nearest};
use crate::value::{DEPTH_LIMIT, Value};

/// A place below the root of the context: `a.b[0].c`, `["a.b"]`, with one optional prefix `$.` or `ctx.`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Default)]
pub struct Path {
    segments: Vec<Segment>,
}

/// One step of a [`Path`].
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Segment {
    /// A key of an object.
    Key(Arc<str>),
    /// An item of an array, from 0.
    Index(usize),
}

/// A path that cannot be understood, read or written.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}{}", .hint.as_ref().map(|hint| format!("; {hint}")).unwrap_or_default())]
pub struct PathError {
    /// One of [`CODES`](crate::CODES).
    pub code: &'static str,
    /// The path as written.
    pub path: String,
    /// What is wrong, in one sentence that names the path.
    pub message: String,
    /// The nearest name, or what to do.
    pub hint: Option<String>,
}

impl Path {
    /// Reads the text of a path. `ctx` and `$` are the root; `.output` and `.result` are keys like others here.
    pub fn parse(text: &str) -> Result<Path, PathError> {
        Parser { text, at: 0 }.path()
    }

    /// The context itself.
    pub fn root() -> Path {
        Path::default()
    }

    /// Whether this is the context itself.
    pub fn is_root(&self) -> bool {
        self.segments.is_empty()
    }

    /// The steps from the root.
    pub fn segments(&self) -> &[Segment] {
        &self.segments
    }

    /// The key it begins with, if it is not the root.
    pub fn first_key(&self) -> Option<&Arc<str>> {
        match self.segments.first() {
            Some(Segment::Key(key)) => Some(key),
            _ => None,
        }
    }

    /// The last key, if the path does not end with an index.
    pub fn last_key(&self) -> Option<Arc<str>> {
        match self.segments.last() {
            Some(Segment::Key(key)) => Some(key.clone()),
            _ => None,
        }
    }

    /// The path one step further.
    #[must_use]
    pub fn join(&self, segment: Segment) -> Path {
        let mut segments = self.segments.clone();
        segments.push(segment);
        Path { segments }
    }

    /// Reads below `root`, keys as they are.
    pub fn read(&self, root: &Value) -> Result<Value, PathError> {
        let mut value = root;
        for (at, segment) in self.segments.iter().enumerate() {
            let next = match segment {
                Segment::Key(key) => value.get(key),
                Segment::Index(index) => value.as_array().and_then(|items| items.get(*index)),
            };
            value = next.ok_or_else(|| self.missing(at, value, &[]))?;
        }
        Ok(value.clone())
    }

    /// Reads in an environment: the context, where a result has `.output` and `.result`; `input`; and what the
    /// iteration and the engine add to the root.
    pub fn read_in(&self, environment: &Environment<'_>) -> Result<Value, PathError> {
        self.read_marked(environment).map(|(value, _)| value)
    }

    /// Reads below a state's own result, where `result`, `output`, `branches`, `iterations` and `data` mean the
    /// result itself if it has no such key.
    pub fn read_in_result(&self, result: &Value) -> Result<Value, PathError> {
        match self.segments.split_first() {
            Some((Segment::Key(key), rest))
                if matches!(key.as_ref(), "result" | "output" | "branches" | "iterations" | "data")
                    && result.get(key).is_none() =>
            {
                Path { segments: rest.to_vec() }
                    .read(result)
                    .map_err(|error| PathError { path: self.to_string(), ..error })
            }
            _ => self.read(result),
        }
    }

    pub(crate) fn read_marked(&self, environment: &Environment<'_>) -> Result<(Value, Mark), PathError> {
        let names = environment.workflow_names;
        let mut value = environment.context.clone();
        let mut mark = Names::root();
        for (at, segment) in self.segments.iter().enumerate() {
            let next = match segment {
                Segment::Key(key) => lookup::read_key(names, &value, mark, key)
                    .or_else(|| if at == 0 { lookup::root_key(environment, key) } else { None }),
                Segment::Index(index) => value
                    .as_array()
                    .and_then(|items| items.get(*index))
                    .map(|item| (item.clone(), Mark::NOWHERE)),
            };
            (value, mark) = next.ok_or_else(|| {
                let written: Vec<&str> = lookup::written(names, mark);
                let mut error = self.missing(at, &value, &written);
                if let Segment::Key(key) = segment
                    && let Some(writer) = lookup::writer(names, mark, key)
                {
                    error.hint =
                        Some(format!("it is written by the state `{writer}`, which has not run here"));
                }
                error
            })?;
        }
        Ok((value, mark))
    }

    /// Writes `value` there; missing objects are made on the way. At the root it must be an object, and is merged,
    /// shallowly. The reserved keys of the context cannot be written; keys inside `steps` can.
    pub fn write(&self, root: &mut Value, value: Value) -> Result<(), PathError> {
        if depth(&value, 0) + self.segments.len() > DEPTH_LIMIT {
            return Err(self.error(
                "PATH_TOO_DEEP",
                format!("what is written at `{self}` is nested deeper than {DEPTH_LIMIT} levels"),
            ));
        }
        match self.segments.as_slice() {
            [] => self.merge(root, value),
            [Segment::Key(key)] if is_reserved(key) => Err(self.reserved(key)),
            [Segment::Key(key), ..] if is_reserved(key) && key.as_ref() != "steps" => Err(self.reserved(key)),
            segments => self.write_below(root, segments, value),
        }
    }

    fn merge(&self, root: &mut Value, value: Value) -> Result<(), PathError> {
        let Value::Object(object) = value else {
            let message = format!("only an object can be merged into the context, not {}", value.kind());
            return Err(self.error("PATH_ROOT_NOT_OBJECT", message));
        };
        if let Some(key) = object.keys().find(|key| is_reserved(key)) {
            return Err(self.reserved(key));
        }
        match root.object_mut() {
            Some(root) => {
                root.extend(Arc::unwrap_or_clone(object));
                Ok(())
            }
            None => {
                Err(self.error("PATH_ROOT_NOT_OBJECT", format!("the context is {}, no object", root.kind())))
            }
        }
    }

    fn write_below(&self, root: &mut Value, segments: &[Segment], value: Value) -> Result<(), PathError> {
        let mut place = root;
        for (at, segment) in segments.iter().enumerate() {
            let kind = place.kind();
            let found = match segment {
                Segment::Key(key) => {
                    if place.is_null() && at > 0 {
                        *place = Value::object();
                    }
                    place.object_mut().map(|object| object.entry_or_null(key.clone()))
                }
                Segment::Index(index) => {
                    let Some(items) = place.array_mut() else {
                        return Err(self.not_a_container(at, kind));
                    };
                    let len = items.len();
                    let Some(item) = items.get_mut(*index) else {
                        let message =
                            format!("`{self}` cannot be written: `{}` has {len} items", self.upto(at));
                        return Err(self.error("PATH_INDEX", message));
                    };
                    Some(item)
                }
            };
            place = found.ok_or_else(|| self.not_a_container(at, kind))?;
        }
        *place = value;
        Ok(())
    }

    fn upto(&self, at: usize) -> Path {
        Path { segments: self.segments.iter().take(at).cloned().collect() }
    }

    #[cold]
    fn error(&self, code: &'static str, message: String) -> PathError {
        PathError { code, path: self.to_string(), message, hint: None }
    }

    #[cold]
    fn reserved(&self, key: &str) -> PathError {
        let mut error = self.error(
            "PATH_RESERVED",
            format!("`{key}` is a reserved key of the context and cannot be written (path `{self}`)"),
        );
        error.hint =
            Some("reserved are ctx, steps, workflow, input and names that begin with `_`".to_owned());
        error
    }

    #[cold]
    fn not_a_container(&self, at: usize, kind: &str) -> PathError {
        self.error(
            "PATH_NOT_A_CONTAINER",
            format!("`{self}` cannot be written: `{}` is {kind}", self.upto(at)),
        )
    }

    #[cold]
    fn missing(&self, at: usize, value: &Value, written: &[&str]) -> PathError {
        let before = self.upto(at);
        let (code, what, hint) = match (self.segments.get(at), value) {
            (Some(Segment::Key(key)), Value::Object(object)) => {
                let keys = || object.keys().map(AsRef::as_ref);
                let near = nearest(key, keys().chain(written.iter().copied()));
                let what = format!("there is no key `{key}` in `{before}`; there is {}", listed(keys()));
                ("PATH_MISSING", what, near.map(|near| format!("did you mean `{near}`?")))
            }
            (Some(Segment::Index(index)), Value::Array(items)) => (
                "PATH_INDEX",
                format!("there is no item {index} in `{before}`; it has {}", items.len()),
                None,
            ),
            (Some(Segment::Key(key)), value) => (
                "PATH_NOT_A_CONTAINER",
                format!("`{before}` is {}, and has no key `{key}`", value.kind()),
                None,
            ),
            (_, value) => ("PATH_NOT_A_CONTAINER", format!("`{before}` is {}, no array", value.kind()), None),
        };
        PathError { hint, ..self.error(code, format!("`{self}` cannot be read: {what}")) }
    }
}

/// Root keys of the context that belong to the engine.
pub fn is_reserved(key: &str) -> bool {
    matches!(key, "ctx" | "steps" | "workflow" | "input") || key.starts_with('_')
}

pub(crate) fn depth(value: &Value, so_far: usize) -> usize {
    if so_far > DEPTH_LIMIT {
        return so_far;
    }
    match value {
        Value::Array(items) => items.iter().map(|item| depth(item, so_far + 1)).max().unwrap_or(so_far + 1),
        Value::Object(object) => {
            object.values().map(|item| depth(item, so_far + 1)).max().unwrap_or(so_far + 1)
        }
        _ => so_far,
    }
}

struct Parser<'a> {
    text: &'a str,
    at: usize,
}

impl Parser<'_> {
    fn error(&self, message: &str) -> PathError {
        let shown: String = self.text.chars().take(200).collect();
        let column = self.text.get(..self.at).unwrap_or_default().chars().count() + 1;
        PathError {
            code: "PATH_SYNTAX",
            message: format!("`{shown}` is no path: {message} at column {column}"),
            path: shown,
            hint: Some(
                "paths look like `a.b[0].c` or `[\"a.b\"]`, with `$.` or `ctx.` in front if you like"
                    .to_owned(),
            ),
        }
    }

    fn peek(&self) -> Option<char> {
        self.text.get(self.at..)?.chars().next()
    }

    fn path(mut self) -> Result<Path, PathError> {
        let mut segments = Vec::new();
        if self.text.is_empty() {
            return Err(self.error("there is nothing"));
        }
        // The prefix is one of the two, once; `ctx.ctx` has a key `ctx`.
        let prefix = ["$", "ctx"].into_iter().find(|prefix| {
            self.text.strip_prefix(prefix).is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '[']))
        });
        self.at = prefix.map_or(0, str::len);
        let mut first = prefix.is_none();
        while let Some(next) = self.peek() {
            if segments.len() >= DEPTH_LIMIT {
                return Err(PathError { code: "PATH_TOO_DEEP", ..self.error("it is too long") });
            }
            match next {
                '[' => segments.push(self.bracket()?),
                '.' if !first => {
                    self.at += 1;
                    segments.push(self.name()?);
                }
                _ if first => segments.push(self.name()?),
                _ => return Err(self.error("`.` or `[` is expected")),
            }
            first = false;
        }
        if let Some(Segment::Index(_)) = segments.first() {
            self.at = 0;
            return Err(self.error("the context is no array"));
        }
        Ok(Path { segments })
    }

    fn name(&mut self) -> Result<Segment, PathError> {
        let rest = self.text.get(self.at..).unwrap_or_default();
        let end = rest
            .find(|character: char| {
                character.is_whitespace() || character.is_control() || ".[]\"'{}()$,;:=<>".contains(character)
            })
            .unwrap_or(rest.len());
        if end == 0 {
            return Err(self.error("a name is expected"));
        }
        self.at += end;
        Ok(Segment::Key(rest.get(..end).unwrap_or_default().into()))
    }

    fn bracket(&mut self) -> Result<Segment, PathError> {
        self.at += 1;
        let segment = match self.peek() {
            Some('"') => self.quoted()?,
            Some('\'') => self.single_quoted()?,
            Some('0'..='9') => {
                let rest = self.text.get(self.at..).unwrap_or_default();
                let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
                let index = rest.get(..digits).and_then(|digits| digits.parse().ok());
                let index = index.ok_or_else(|| self.error("the index is too large"))?;
                self.at += digits;
                Segment::Index(index)
            }
            _ => return Err(self.error("an index from 0 or a key in quotes is expected")),
        };
        if self.peek() != Some(']') {
            return Err(self.error("`]` is expected"));
        }
        self.at += 1;
        Ok(segment)
    }

    /// A key as a JSON string, so that every key can be written.
    fn quoted(&mut self) -> Result<Segment, PathError> {
        let rest = self.text.get(self.at..).unwrap_or_default();
        let mut escaped = false;
        let end = rest.bytes().enumerate().skip(1).find(|(_, byte)| {
            let closes = *byte == b'"' && !escaped;
            escaped = *byte == b'\\' && !escaped;
            closes
        });
        let literal =
            end.and_then(|(end, _)| rest.get(..=end)).ok_or_else(|| self.error("the quote does not end"))?;
        match crate::json::parse(literal) {
            Ok(Value::String(key)) => {
                self.at += literal.len();
                Ok(Segment::Key(key))
            }
            _ => Err(self.error("the key is no JSON string")),
        }
    }

    fn single_quoted(&mut self) -> Result<Segment, PathError> {
        let rest = self.text.get(self.at + 1..).unwrap_or_default();
        let Some((key, _)) = rest.split_once('\'') else {
            return Err(self.error("the quote does not end"));
        };
        self.at += key.len() + 2;
        Ok(Segment::Key(key.into()))
    }
}

impl From<Vec<Segment>> for Path {
    fn from(segments: Vec<Segment>) -> Self {
        Self { segments }
    }
}

/// Reads back as the same path.
impl fmt::Display for Path {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.segments.is_empty() {
            return f.write_str("$");
        }
        for (index, segment) in self.segments.iter().enumerate() {
            match segment {
                Segment::Index(item) => write!(f, "[{item}]")?,
                Segment::Key(key) => {
                    let plain = key.chars().all(|c| c.is_alphanumeric() || c == '_' || c == '-');
                    let prefix = index == 0 && matches!(key.as_ref(), "ctx");
                    if !plain || key.is_empty() || prefix {
                        f.write_str("[")?;
                        crate::json::write_string(key, f)?;
                        f.write_str("]")?;
                    } else {
                        f.write_str(if index == 0 { "" } else { "." })?;
                        f.write_str(key)?;
                    }
                }
            }
        }
        Ok(())
    }
}

impl std::str::FromStr for Path {
    type Err = PathError;

    fn from_str(text: &str) -> Result<Self, PathError> {
        Path::parse(text)
    }
}

impl Serialize for Path {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Path {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Path::parse(&text).map_err(serde::de::Error::custom)
    }
}
