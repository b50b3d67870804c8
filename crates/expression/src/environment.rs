//! What names mean during one evaluation.

use std::sync::Arc;

use crate::names::{Mark, Names};
use crate::path::{Path, PathError};
use crate::value::Value;

/// What an expression can see: the context, what flows in, and what the place it stands in adds.
///
/// A name is looked up, in order: what the program assigns; [`iteration`](Self::iteration); `ctx`, `steps`,
/// `workflow`, `input`; the keys of [`data`](Self::data), then the data itself; root keys of the context; state
/// names; keys that some state writes (None until it has); [`special`](Self::special).
#[derive(Clone, Debug)]
pub struct Environment<'a> {
    /// The run's context, an object.
    pub context: &'a Value,
    /// What flows into the state.
    pub input: &'a Value,
    /// Which results stand in `input` (see [`Names::mark`]).
    pub input_mark: Mark,
    /// Item name, `_item`, `_index`, `_total` of an iteration.
    pub iteration: &'a [(Arc<str>, Value)],
    /// What the state's `dataPath` leads to.
    pub data: Option<Data>,
    /// What is known of the workflow.
    pub workflow_names: &'a Names,
    /// What the engine knows of this moment.
    pub special: Special<'a>,
}

impl<'a> Environment<'a> {
    /// An environment of no iteration, with no data, at no time.
    pub fn new(context: &'a Value, input: &'a Value, workflow_names: &'a Names) -> Self {
        Self {
            context,
            input,
            input_mark: Mark::default(),
            iteration: &[],
            data: None,
            workflow_names,
            special: Special::default(),
        }
    }
}

/// What is not in the context but known where an expression is evaluated. What is not set is None.
#[derive(Clone, Copy, Debug, Default)]
pub struct Special<'a> {
    /// `_timestamp` and `now`: when the state was entered, ISO 8601.
    pub timestamp: Option<&'a str>,
    /// `_runID`.
    pub run_id: Option<&'a str>,
    /// `_cronTriggeredAt`, ISO 8601.
    pub cron_triggered_at: Option<&'a str>,
    /// `_error`: `{type, message, state, attempts}` inside a `catch`.
    pub error: Option<&'a Value>,
    /// `_errorMessage`.
    pub error_message: Option<&'a str>,
}

/// A state's `dataPath`, read.
#[derive(Clone, Debug)]
pub struct Data {
    pub(crate) value: Value,
    pub(crate) mark: Mark,
    pub(crate) name: Option<Arc<str>>,
}

impl Data {
    /// Reads `path`; the data is then known as `result`, `_value`, `val`, `data` and by the path's last key.
    pub fn read(path: &Path, environment: &Environment<'_>) -> Result<Data, PathError> {
        let (value, mark) = path.read_marked(environment)?;
        Ok(Data { value, mark, name: path.last_key() })
    }

    /// The value the path led to.
    pub fn value(&self) -> &Value {
        &self.value
    }
}
