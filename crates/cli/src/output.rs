//! What is printed, where and how: data to stdout, everything else to stderr.

use std::fmt::Display;
use std::io::IsTerminal;
use std::io::Write;

use expression::Object;
use expression::Value;
use serde::Serialize;

use crate::args::Color;
use crate::args::Format;
use crate::args::Global;

/// Something went wrong: a coded error as people and programs read it.
#[derive(Clone, Debug, Serialize, thiserror::Error)]
#[error("{code}: {message}")]
#[serde(rename_all = "camelCase")]
pub(crate) struct Failure {
    /// The stable code; its page is `docs/errors/CODE.md`.
    pub(crate) code: String,
    /// What happened.
    pub(crate) message: String,
    /// What to do.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) hint: Option<String>,
    /// More, by code.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) details: Option<Value>,
}

impl Failure {
    pub(crate) fn new(code: &str, message: impl Into<String>) -> Self {
        Self { code: code.to_owned(), message: message.into(), hint: None, details: None }
    }

    pub(crate) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }
}

/// How a command ended, when it was no error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Exit {
    Done,
    /// Said already what is wrong.
    Refused,
    Failed,
    TimedOut,
    Cancelled,
    NotOver,
}

impl Exit {
    pub(crate) fn code(self) -> u8 {
        match self {
            Self::Done => 0,
            Self::Refused => 1,
            Self::Failed => 3,
            Self::TimedOut => 4,
            Self::Cancelled => 5,
            Self::NotOver => 6,
        }
    }

    /// How a run with this status ends a command that followed it.
    pub(crate) fn of_status(status: &str) -> Self {
        match status {
            "COMPLETED" => Self::Done,
            "FAILED" => Self::Failed,
            "TIMED_OUT" => Self::TimedOut,
            "CANCELLED" => Self::Cancelled,
            _ => Self::NotOver,
        }
    }
}

/// Where a command prints.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Output {
    pub(crate) json: bool,
    /// Colours on stdout.
    pub(crate) out: Paint,
    /// Colours on stderr.
    pub(crate) err: Paint,
}

// Where a text goes is the output's matter, even if it is always the same place.
#[allow(clippy::unused_self)]
impl Output {
    pub(crate) fn new(global: &Global) -> Self {
        let painted = |terminal: bool| {
            Paint(match global.color {
                Color::Always => true,
                Color::Never => false,
                Color::Auto => terminal && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty()),
            })
        };
        Self {
            json: global.output == Format::Json,
            out: painted(std::io::stdout().is_terminal()),
            err: painted(std::io::stderr().is_terminal()),
        }
    }

    /// Text for people, on stdout.
    pub(crate) fn text(self, text: impl Display) {
        // A reader that went away (`| head`) wants no more; there is nobody to tell.
        let _ = writeln!(std::io::stdout().lock(), "{text}");
    }

    /// One JSON document in one line, on stdout.
    pub(crate) fn json(self, document: &impl Serialize) -> Result<(), Failure> {
        let text = serde_json::to_string(document)
            .map_err(|error| Failure::new("RESULT_NOT_JSON", format!("the result is no JSON: {error}")))?;
        self.text(text);
        Ok(())
    }

    /// The value as a document: compact for programs, indented for people.
    pub(crate) fn value(self, value: &Value) -> Result<(), Failure> {
        if self.json {
            return self.json(value);
        }
        let text = serde_json::to_string_pretty(value)
            .map_err(|error| Failure::new("RESULT_NOT_JSON", format!("the result is no JSON: {error}")))?;
        self.text(text);
        Ok(())
    }

    /// A remark, on stderr.
    pub(crate) fn note(self, text: impl Display) {
        let _ = writeln!(std::io::stderr().lock(), "{text}");
    }

    /// An error, on stderr: text, or with `--output json` one JSON document.
    pub(crate) fn failure(self, failure: &Failure) {
        if self.json {
            if let Ok(text) = serde_json::to_string(failure) {
                self.note(text);
            }
            return;
        }
        self.note(format_args!("{}: {}", self.err.red(&format!("error[{}]", failure.code)), failure.message));
        for detail in failure.details.iter().flat_map(detail_lines) {
            self.note(format_args!("  {detail}"));
        }
        if let Some(hint) = &failure.hint {
            self.note(format_args!("  {} {hint}", self.err.bold("hint:")));
        }
    }
}

/// `/path: message` of each violation or issue among an error's details; anything else as JSON.
fn detail_lines(details: &Value) -> Vec<String> {
    let line = |value: &Value| match (
        value.get("path").and_then(Value::as_str),
        value.get("message").and_then(Value::as_str),
    ) {
        (Some(path), Some(message)) => match value.get("line").and_then(Value::as_i64) {
            Some(line) => format!("line {line}: {message}"),
            None if path.is_empty() => message.to_owned(),
            None => format!("{path}: {message}"),
        },
        _ => value.to_string(),
    };
    match details {
        Value::Array(items) => items.iter().map(line).collect(),
        Value::Object(object) => object
            .iter()
            .flat_map(|(key, value)| match value {
                Value::Array(items) if items.iter().all(|item| item.as_object().is_some()) => {
                    items.iter().map(line).collect()
                }
                other => vec![format!("{key}: {other}")],
            })
            .collect(),
        other => vec![other.to_string()],
    }
}

/// Colours, or none.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Paint(pub(crate) bool);

impl Paint {
    fn wrap(self, code: &str, text: &str) -> String {
        if self.0 { format!("\u{1b}[{code}m{text}\u{1b}[0m") } else { text.to_owned() }
    }

    pub(crate) fn red(self, text: &str) -> String {
        self.wrap("1;31", text)
    }

    pub(crate) fn green(self, text: &str) -> String {
        self.wrap("32", text)
    }

    pub(crate) fn yellow(self, text: &str) -> String {
        self.wrap("33", text)
    }

    pub(crate) fn bold(self, text: &str) -> String {
        self.wrap("1", text)
    }

    pub(crate) fn dim(self, text: &str) -> String {
        self.wrap("2", text)
    }

    /// A status in the colour of what it means.
    pub(crate) fn status(self, status: &str) -> String {
        match status {
            "COMPLETED" => self.green(status),
            "FAILED" | "TIMED_OUT" => self.red(status),
            "RUNNING" | "PENDING" => self.bold(status),
            _ => self.yellow(status),
        }
    }
}

/// Text from outside (an agent, a store, a server) for a terminal: no control characters that could rewrite it.
pub(crate) fn plain(text: &str) -> String {
    text.chars().map(|c| if c.is_control() && c != '\n' && c != '\t' { '\u{fffd}' } else { c }).collect()
}

/// One line of at most `limit` characters.
pub(crate) fn short(text: &str, limit: usize) -> String {
    let line = plain(text).replace(['\n', '\t'], " ");
    if line.chars().count() <= limit {
        return line;
    }
    line.chars().take(limit.saturating_sub(1)).chain(['…']).collect()
}

/// Rows in columns, each as wide as its widest cell; the last one as it is. `paint` colours a cell after it was padded.
pub(crate) fn table(head: &[&str], rows: &[Vec<String>], paint: impl Fn(usize, &str) -> String) -> String {
    let mut widths: Vec<usize> = head.iter().map(|cell| cell.chars().count()).collect();
    for row in rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let last = widths.len().saturating_sub(1);
    let line = |cells: &mut dyn Iterator<Item = (usize, String)>, paint: &dyn Fn(usize, &str) -> String| {
        let mut text = String::new();
        for (index, cell) in cells {
            let pad = widths.get(index).copied().unwrap_or(0).saturating_sub(cell.chars().count());
            text.push_str(&paint(index, &cell));
            if index != last {
                text.push_str(&" ".repeat(pad + 2));
            }
        }
        text
    };
    let mut lines =
        vec![line(&mut head.iter().map(|cell| (*cell).to_owned()).enumerate(), &|_, cell| cell.to_owned())];
    lines.extend(rows.iter().map(|row| line(&mut row.iter().cloned().enumerate(), &paint)));
    lines.join("\n")
}

/// An object from pairs.
pub(crate) fn object<const N: usize>(entries: [(&str, Value); N]) -> Value {
    Value::from(entries.into_iter().collect::<Object>())
}
