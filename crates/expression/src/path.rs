//! The one path language, for reading and for writing.

use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::environment::Environment;
use crate::names::Mark;
use crate::value::Value;

/// A place below the root of the context: `a.b[0].c`, `["a.b"]`, with an optional `$.` or `ctx.` in front.
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
    /// Reads the text of a path.
    pub fn parse(_text: &str) -> Result<Path, PathError> {
        Ok(Path::default())
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

    /// The last key, if the path does not end with an index.
    pub fn last_key(&self) -> Option<Arc<str>> {
        match self.segments.last() {
            Some(Segment::Key(key)) => Some(key.clone()),
            _ => None,
        }
    }

    /// Reads below `root`, keys as they are.
    pub fn read(&self, root: &Value) -> Result<Value, PathError> {
        Ok(root.clone())
    }

    /// Reads in the context of an environment, where a result has `.output` and `.result`.
    pub fn read_in(&self, environment: &Environment<'_>) -> Result<Value, PathError> {
        self.read_marked(environment).map(|(value, _)| value)
    }

    /// Reads below a state's own result, where `result`, `output`, `branches`, `iterations` and `data` mean the
    /// result itself if it has no such key.
    pub fn read_in_result(&self, result: &Value) -> Result<Value, PathError> {
        self.read(result)
    }

    pub(crate) fn read_marked(&self, environment: &Environment<'_>) -> Result<(Value, Mark), PathError> {
        Ok((self.read(environment.context)?, Mark::default()))
    }

    /// Writes `value` there; missing objects are made. At the root it must be an object and is merged, shallowly.
    /// The context's reserved keys cannot be written, inside `steps` can.
    pub fn write(&self, root: &mut Value, value: Value) -> Result<(), PathError> {
        *root = value;
        Ok(())
    }
}

impl fmt::Display for Path {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.segments.is_empty() {
            return f.write_str("$");
        }
        for (index, segment) in self.segments.iter().enumerate() {
            match segment {
                Segment::Index(item) => write!(f, "[{item}]")?,
                Segment::Key(key) if index == 0 => write!(f, "{key}")?,
                Segment::Key(key) => write!(f, ".{key}")?,
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
