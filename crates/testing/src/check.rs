//! What came, held against what was expected.

use std::collections::BTreeSet;
use std::sync::Arc;

use engine::Error;
use expression::Environment;
use expression::Names;
use expression::Path;
use expression::Value;
use model::Issue;

use crate::file::CallExpectation;
use crate::file::ErrorExpectation;
use crate::file::Expect;
use crate::file::Invalid;
use crate::history;
use crate::history::Happened;
use crate::report::Failure;
use crate::stubs::Made;
use crate::trail::Trail;

/// What came of a run.
#[derive(Debug, Default)]
pub(crate) struct Observed {
    pub(crate) status: String,
    pub(crate) output: Option<Value>,
    pub(crate) error: Option<Error>,
    pub(crate) context: Value,
    pub(crate) trail: Trail,
    /// Every event, if the test looks at them.
    pub(crate) history: Vec<Happened>,
    pub(crate) calls: Vec<Made>,
    /// The state that asked, and its question.
    pub(crate) approvals: Vec<(Arc<str>, Value)>,
}

/// A start that was refused.
#[derive(Debug)]
pub(crate) struct Refusal {
    pub(crate) code: String,
    pub(crate) message: String,
    pub(crate) paths: Vec<String>,
}

/// Everything that is not as expected.
pub(crate) fn run(expect: &Expect, observed: &Observed, names: &Names) -> Vec<Failure> {
    let mut failures = Vec::new();
    if let Some(refused) = &expect.refused {
        failures.push(Failure::new("start", format!("refused with {}", refused.code), "the run was started"));
    }
    if let Some(status) = &expect.status
        && *status != observed.status
    {
        let failure = Failure::new("status", status, &observed.status);
        failures.push(match &observed.error {
            Some(error) => failure.note(describe(error)),
            None => failure,
        });
    }
    if let Some(path) = &expect.path
        && !path.matches(&observed.trail)
    {
        failures.push(Failure::lines("path", steps(path), steps(&observed.trail)));
    }
    failures.extend(expect.history.iter().filter_map(|expected| history::check(expected, &observed.history)));
    if let Some(output) = &expect.output
        && observed.output.as_ref() != Some(output)
    {
        let actual = observed.output.as_ref().map_or_else(|| vec!["(no output)".to_owned()], pretty);
        failures.push(Failure::lines("output", pretty(output), actual));
    }
    for (path, expected) in &expect.context {
        failures.extend(context(path, expected, observed, names));
    }
    if let Some(expected) = &expect.error {
        failures.extend(error(expected, observed.error.as_ref()));
    }
    failures.extend(calls(&expect.calls, &observed.calls));
    for agent in &expect.not_called {
        let count = observed.calls.iter().filter(|call| call.agent == *agent).count();
        if count > 0 {
            failures.push(Failure::new(format!("calls of {agent}"), "none", count.to_string()));
        }
    }
    failures.extend(approvals(&expect.approvals, &observed.approvals));
    failures
}

/// Everything that is not as expected of a start that was refused.
pub(crate) fn refusal(expect: &Expect, refusal: &Refusal) -> Vec<Failure> {
    let shown = |code: &str, paths: &[String]| {
        let set: BTreeSet<_> = paths.iter().map(String::as_str).collect();
        [code.to_owned()]
            .into_iter()
            .chain(set.into_iter().map(|path| format!("  at {path}")))
            .collect::<Vec<_>>()
    };
    let Some(expected) = &expect.refused else {
        let expected = expect.status.clone().unwrap_or_else(|| "started".to_owned());
        return vec![Failure::new(
            "start",
            expected,
            format!("refused: {}: {}", refusal.code, refusal.message),
        )];
    };
    let actual = shown(&refusal.code, if expected.paths.is_some() { &refusal.paths } else { &[] });
    let expected = shown(&expected.code, expected.paths.as_deref().unwrap_or_default());
    if expected == actual {
        Vec::new()
    } else {
        vec![Failure::lines("refused", expected, actual).note(&refusal.message)]
    }
}

/// Everything that is not as expected of a workflow's errors: each must be expected, each expected one must be there.
pub(crate) fn invalid(expected: &[Invalid], issues: &[Issue]) -> Vec<Failure> {
    let matches = |expected: &Invalid, issue: &Issue| {
        expected.code == issue.code.as_str()
            && expected.line.is_none_or(|line| line == issue.line)
            && expected.path.as_ref().is_none_or(|path| *path == issue.path)
            && expected.contains.as_ref().is_none_or(|part| {
                issue.message.contains(part) || issue.hint.as_ref().is_some_and(|hint| hint.contains(part))
            })
    };
    let mut taken = vec![false; issues.len()];
    let mut missing = false;
    for expected in expected {
        let found = issues.iter().zip(&mut taken).find(|(issue, taken)| !**taken && matches(expected, issue));
        match found {
            Some((_, taken)) => *taken = true,
            None => missing = true,
        }
    }
    let unexpected = issues.iter().zip(&taken).any(|(issue, taken)| !taken && issue.is_error());
    if !missing && !unexpected {
        return Vec::new();
    }
    let mut wanted: Vec<(u32, String)> = expected
        .iter()
        .map(|expected| {
            let line = expected.line.map_or_else(String::new, |line| format!("line {line}: "));
            (expected.line.unwrap_or(0), format!("{line}{}", expected.code))
        })
        .collect();
    wanted.sort();
    let with_line = expected.iter().all(|expected| expected.line.is_some());
    let mut actual: Vec<(u32, String)> = issues
        .iter()
        .zip(&taken)
        .filter(|(issue, taken)| issue.is_error() || **taken)
        .map(|(issue, _)| {
            let text = if with_line {
                format!("line {}: {}", issue.line, issue.code)
            } else {
                issue.code.to_string()
            };
            (if with_line { issue.line } else { 0 }, text)
        })
        .collect();
    actual.sort();
    let note = issues.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n");
    let lines = |list: Vec<(u32, String)>| list.into_iter().map(|(_, line)| line).collect();
    let failure = Failure::lines("invalid", lines(wanted), lines(actual));
    vec![if note.is_empty() { failure.note("the workflow is valid") } else { failure.note(note) }]
}

fn context(path: &Path, expected: &Value, observed: &Observed, names: &Names) -> Option<Failure> {
    let input = Value::Null;
    let environment = Environment::new(&observed.context, &input, names);
    match path.read_in(&environment) {
        Ok(actual) if actual == *expected => None,
        Ok(actual) => Some(Failure::lines(format!("context {path}"), pretty(expected), pretty(&actual))),
        Err(error) => {
            Some(Failure::lines(format!("context {path}"), pretty(expected), vec![format!("({error})")]))
        }
    }
}

fn error(expected: &ErrorExpectation, actual: Option<&Error>) -> Option<Failure> {
    let mut wanted = Vec::new();
    let mut came = Vec::new();
    let mut compare = |what: &str, expected: Option<String>, actual: Option<String>| {
        if let Some(expected) = expected {
            wanted.push(format!("{what}: {expected}"));
            came.push(format!("{what}: {}", actual.unwrap_or_else(|| "(none)".to_owned())));
        }
    };
    compare("type", expected.kind.clone(), actual.map(|error| error.kind.to_string()));
    compare(
        "code",
        expected.code.clone(),
        actual.and_then(|error| error.code.as_ref()).map(ToString::to_string),
    );
    compare(
        "state",
        expected.state.clone(),
        actual.and_then(|error| error.state.as_ref()).map(ToString::to_string),
    );
    compare(
        "attempts",
        expected.attempts.map(|count| count.to_string()),
        actual.map(|error| error.attempts.to_string()),
    );
    let cause = actual.and_then(|error| error.cause.as_ref());
    compare("cause", expected.cause.clone(), cause.map(|error| error.kind.to_string()));
    if let Some(part) = &expected.contains {
        let message = actual.map_or("(no error)", |error| &error.message);
        // An error of a retry says what happened in its cause.
        let inside = cause.is_some_and(|error| error.message.contains(part));
        wanted.push(format!("message with: {part}"));
        came.push(format!("message with: {}", if message.contains(part) || inside { part } else { message }));
    }
    (wanted != came).then(|| {
        let failure = Failure::lines("error", wanted, came);
        match actual {
            Some(error) => failure.note(describe(error)),
            None => failure,
        }
    })
}

/// Each agent's expected calls, in order; other calls may lie between.
fn calls(expected: &[CallExpectation], made: &[Made]) -> Vec<Failure> {
    let agents: BTreeSet<&Arc<str>> = expected.iter().map(|call| &call.agent).collect();
    let mut failures = Vec::new();
    for agent in agents {
        let wanted: Vec<&Value> =
            expected.iter().filter(|call| call.agent == *agent).map(|call| &call.request).collect();
        let came: Vec<&Value> =
            made.iter().filter(|call| call.agent == *agent).map(|call| &call.request).collect();
        if !is_subsequence(&wanted, &came) {
            let lines = |list: &[&Value]| list.iter().map(ToString::to_string).collect::<Vec<_>>();
            let failure = Failure::lines(format!("calls of {agent}"), lines(&wanted), lines(&came));
            let others: BTreeSet<&str> = made.iter().map(|call| &*call.agent).collect();
            failures.push(if came.is_empty() {
                failure.note(format!("called were: {}", others.into_iter().collect::<Vec<_>>().join(", ")))
            } else {
                failure
            });
        }
    }
    failures
}

fn approvals(expected: &[(Arc<str>, Value)], asked: &[(Arc<str>, Value)]) -> Option<Failure> {
    let states: BTreeSet<&Arc<str>> = expected.iter().map(|(state, _)| state).collect();
    let of = |list: &'_ [(Arc<str>, Value)], state: &Arc<str>| -> Vec<Value> {
        list.iter().filter(|(other, _)| other == state).map(|(_, request)| request.clone()).collect()
    };
    let all = states.into_iter().all(|state| {
        let (wanted, came) = (of(expected, state), of(asked, state));
        is_subsequence(&wanted.iter().collect::<Vec<_>>(), &came.iter().collect::<Vec<_>>())
    });
    let lines = |list: &[(Arc<str>, Value)]| {
        list.iter().map(|(state, request)| format!("{state}: {request}")).collect()
    };
    (!all).then(|| Failure::lines("approvals", lines(expected), lines(asked)))
}

fn is_subsequence(wanted: &[&Value], came: &[&Value]) -> bool {
    let mut came = came.iter();
    wanted.iter().all(|wanted| came.any(|came| agents::matches(wanted, came)))
}

pub(crate) fn describe(error: &Error) -> String {
    let code = error.code.as_ref().map_or_else(String::new, |code| format!("[{code}] "));
    let cause = error.cause.as_ref().map_or_else(String::new, |cause| format!("; last: {}", describe(cause)));
    format!("{code}{error}{cause}")
}

fn steps(trail: &Trail) -> Vec<String> {
    trail.0.iter().map(ToString::to_string).collect()
}

/// Indented JSON, a line each.
fn pretty(value: &Value) -> Vec<String> {
    match serde_json::to_string_pretty(value) {
        Ok(text) => text.lines().map(str::to_owned).collect(),
        Err(_) => vec![value.to_string()],
    }
}
