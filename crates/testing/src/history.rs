//! What happened in a run, event by event, held against the history that a test expects.

use std::collections::BTreeSet;
use std::sync::Arc;

use expression::Object;
use expression::Value;
use model::Millis;

use crate::report::Failure;

/// Characters of one value that a line shows.
const SHOWN: usize = 160;

/// The expected history of a run, or of some of its scopes.
#[derive(Clone, Debug)]
pub struct HistoryExpectation {
    /// Whose events are looked at, by a pattern of scopes; `None`: those of all scopes, in the order in which they happened.
    pub scope: Option<Arc<str>>,
    /// What must have happened, from the first event to the last.
    pub lines: Vec<HistoryLine>,
}

/// A line of an expected history.
#[derive(Clone, Debug)]
pub enum HistoryLine {
    /// One event.
    Event(EventPattern),
    /// `...`: any events, or none.
    Anything,
    /// `never`: any events, or none, but none like this.
    Never(EventPattern),
}

/// What an event must be like. What is not named is not looked at.
#[derive(Clone, Debug, Default)]
pub struct EventPattern {
    /// How long after the start; whole seconds stand for all of that second.
    pub at: Option<Millis>,
    /// Its scope, with `*` for any text.
    pub scope: Option<Arc<str>>,
    /// The state it is about, by name or address, with `*` for any text.
    pub state: Option<Arc<str>>,
    /// Its type, with `*` for any text.
    pub event: Arc<str>,
    /// What its fields must at least hold, with `*` for any text in texts.
    pub fields: Object,
}

/// An event that happened.
#[derive(Clone, Debug)]
pub(crate) struct Happened {
    /// Since the start of the run.
    pub(crate) after: Millis,
    /// Its scope; of a child run, behind its workflow: `child:/`.
    pub(crate) scope: String,
    /// The address of the state it is about, if it is about one.
    pub(crate) state: Arc<str>,
    /// The event as the audit shows it.
    pub(crate) event: Value,
}

/// What is not as expected of a history.
pub(crate) fn check(expected: &HistoryExpectation, happened: &[Happened]) -> Option<Failure> {
    let happened: Vec<&Happened> = match &expected.scope {
        None => happened.iter().collect(),
        Some(scope) => happened.iter().filter(|one| is_like(scope, &one.scope)).collect(),
    };
    let end = happened.len();
    // ways[k]: how many events the first k lines can stand for.
    let mut ways: Vec<BTreeSet<usize>> = vec![BTreeSet::from([0])];
    for (index, line) in expected.lines.iter().enumerate() {
        let before = ways.last().cloned().unwrap_or_default();
        let reached: BTreeSet<usize> = match line {
            HistoryLine::Event(pattern) => before
                .into_iter()
                .filter(|at| happened.get(*at).is_some_and(|one| pattern.matches(one)))
                .map(|at| at + 1)
                .collect(),
            _ => stretch(before, &gap(&expected.lines, index), &happened),
        };
        if reached.is_empty() {
            return Some(missing(expected, index, &ways, &happened));
        }
        ways.push(reached);
    }
    let last = ways.last().cloned().unwrap_or_default();
    if last.contains(&end) {
        return None;
    }
    let at = last.last().copied().unwrap_or_default();
    let note = match (gap_before(&expected.lines, expected.lines.len()), happened.get(at)) {
        (gap, Some(one)) if gap.iter().any(|pattern| pattern.matches(one)) => {
            format!("this must never happen there: {}", one.shown())
        }
        (_, Some(one)) => format!("more happened than is expected: {}", one.shown()),
        (_, None) => String::new(),
    };
    Some(failure(expected, expected.lines.len(), at, &happened, note))
}

/// The neighbours of a `...` or `never`, which are one gap: what must not happen in it.
fn gap(lines: &[HistoryLine], index: usize) -> Vec<&EventPattern> {
    let is_gap = |line: &&HistoryLine| !matches!(line, HistoryLine::Event(_));
    let begun = lines.iter().take(index).rev().take_while(is_gap);
    let rest = lines.iter().skip(index).take_while(is_gap);
    begun.chain(rest).filter_map(HistoryLine::never).collect()
}

/// What must not happen in the gap that ends before this line, if one does.
fn gap_before(lines: &[HistoryLine], index: usize) -> Vec<&EventPattern> {
    match index.checked_sub(1).map(|last| (last, lines.get(last))) {
        Some((last, Some(HistoryLine::Anything | HistoryLine::Never(_)))) => gap(lines, last),
        _ => Vec::new(),
    }
}

/// From each place on, as far as nothing happens that must not.
fn stretch(from: BTreeSet<usize>, never: &[&EventPattern], happened: &[&Happened]) -> BTreeSet<usize> {
    let mut reached = BTreeSet::new();
    for mut at in from {
        while reached.insert(at)
            && happened.get(at).is_some_and(|one| !never.iter().any(|pattern| pattern.matches(one)))
        {
            at += 1;
        }
    }
    reached
}

/// A line that no event is like: what comes nearest to it.
fn missing(
    expected: &HistoryExpectation,
    index: usize,
    ways: &[BTreeSet<usize>],
    happened: &[&Happened],
) -> Failure {
    let Some(HistoryLine::Event(pattern)) = expected.lines.get(index) else {
        return failure(expected, index, 0, happened, String::new());
    };
    let places = ways.last().cloned().unwrap_or_default();
    let last = places.last().copied().unwrap_or_default();
    // A gap that was cut short in front of what would have come.
    let never = gap_before(&expected.lines, index);
    if let Some(one) = happened.get(last)
        && never.iter().any(|pattern| pattern.matches(one))
        && happened.iter().skip(last).any(|one| pattern.matches(one))
    {
        let note = format!("this must never happen there: {}", one.shown());
        return failure(expected, index, last, happened, note);
    }
    let nearest = places
        .iter()
        .filter_map(|at| Some((*at, happened.get(*at)?)))
        .max_by_key(|(at, one)| (pattern.likeness(one), std::cmp::Reverse(*at)));
    let (at, note) = match nearest {
        Some((at, one)) if pattern.likeness(one) > 0 => {
            let differs = pattern.differences(one).join(", ");
            (at, format!("no event is as line {} says; the nearest: {differs}\n{}", index + 1, one.shown()))
        }
        Some((at, one)) => (at, format!("no event is as line {} says; there is: {}", index + 1, one.shown())),
        None => (last, format!("nothing happens any more where line {} says so", index + 1)),
    };
    failure(expected, index, at, happened, note)
}

/// What is as expected up to event `at` is shown as it was; from line `index` on, what was expected and what came.
fn failure(
    expected: &HistoryExpectation,
    index: usize,
    at: usize,
    happened: &[&Happened],
    note: String,
) -> Failure {
    let actual: Vec<String> = happened.iter().map(|one| one.shown()).collect();
    let lines = expected.lines.iter().skip(index).map(HistoryLine::shown);
    let wanted = actual.iter().take(at).cloned().chain(lines).collect();
    let what = match &expected.scope {
        Some(scope) => format!("history of {scope}"),
        None => "history".to_owned(),
    };
    let failure = Failure::lines(what, wanted, actual);
    if note.is_empty() { failure } else { failure.note(note) }
}

impl HistoryLine {
    fn never(&self) -> Option<&EventPattern> {
        if let Self::Never(pattern) = self { Some(pattern) } else { None }
    }

    fn shown(&self) -> String {
        match self {
            Self::Event(pattern) => pattern.shown(),
            Self::Anything => "...".to_owned(),
            Self::Never(pattern) => format!("never: {}", pattern.shown()),
        }
    }
}

impl EventPattern {
    fn matches(&self, one: &Happened) -> bool {
        self.differences(one).is_empty()
    }

    /// How much of it is so: first of all the type, then the state.
    fn likeness(&self, one: &Happened) -> usize {
        let of_type = is_like(&self.event, one.kind());
        let of_state = self.state.as_ref().is_some_and(|state| one.is_about(state));
        let all = 3 + self.fields.len();
        if of_type { 100 + 10 * usize::from(of_state) + all - self.differences(one).len() } else { 0 }
    }

    /// What is not as it says.
    fn differences(&self, one: &Happened) -> Vec<String> {
        let mut differences = Vec::new();
        if !is_like(&self.event, one.kind()) {
            differences.push(format!("it is {}", one.kind()));
        }
        if self.state.as_ref().is_some_and(|state| !one.is_about(state)) {
            let state = if one.state.is_empty() { "no state" } else { &one.state };
            differences.push(format!("it is about {state}"));
        }
        if self.scope.as_ref().is_some_and(|scope| !is_like(scope, &one.scope)) {
            differences.push(format!("its scope is {}", one.scope));
        }
        if let Some(Millis(at)) = self.at {
            let after = one.after.0;
            let same = if at.is_multiple_of(1000) { at / 1000 == after / 1000 } else { at == after };
            if !same {
                differences.push(format!("it is at {}", time(one.after)));
            }
        }
        for (key, expected) in &self.fields {
            let actual = one.event.get(key);
            if !actual.is_some_and(|actual| agrees(expected, actual)) {
                let actual = actual.map_or_else(|| "missing".to_owned(), |actual| short(&actual.to_string()));
                differences.push(format!("{key} is {actual}"));
            }
        }
        differences
    }

    fn shown(&self) -> String {
        let mut parts = vec![format!("event: {}", self.event)];
        parts.extend(self.state.as_ref().map(|state| format!("state: {state}")));
        parts.extend(self.at.map(|at| format!("at: {}", time(at))));
        parts.extend(self.scope.as_ref().map(|scope| format!("scope: {scope}")));
        parts.extend(self.fields.iter().map(|(key, value)| format!("{key}: {}", short(&value.to_string()))));
        format!("{{{}}}", parts.join(", "))
    }
}

impl Happened {
    fn kind(&self) -> &str {
        self.event.get("type").and_then(Value::as_str).unwrap_or_default()
    }

    fn is_about(&self, state: &str) -> bool {
        let name = self.state.rsplit('/').next().unwrap_or_default();
        !self.state.is_empty() && (is_like(state, name) || is_like(state, &self.state))
    }

    /// As a line of an expected history that is only like this event.
    fn shown(&self) -> String {
        let mut fields = self.event.as_object().cloned().unwrap_or_default();
        fields.remove("type");
        let state = self.state.rsplit('/').next().filter(|state| !state.is_empty()).map(Arc::from);
        if state.is_some() {
            fields.remove("state");
        }
        let pattern = EventPattern {
            at: Some(self.after),
            scope: Some(self.scope.as_str().into()),
            state,
            event: self.kind().into(),
            fields,
        };
        pattern.shown()
    }
}

/// Whether a value holds at least what is expected; `*` stands for any text, and alone for any value.
fn agrees(expected: &Value, actual: &Value) -> bool {
    match (expected, actual) {
        (Value::Object(expected), Value::Object(actual)) => expected
            .iter()
            .all(|(key, expected)| actual.get(key).is_some_and(|actual| agrees(expected, actual))),
        (Value::Array(expected), Value::Array(actual)) => {
            expected.len() == actual.len()
                && expected.iter().zip(actual.iter()).all(|(expected, actual)| agrees(expected, actual))
        }
        _ => match (expected.as_str(), actual.as_str()) {
            (Some("*"), _) => true,
            (Some(expected), Some(actual)) => is_like(expected, actual),
            _ => expected == actual,
        },
    }
}

/// Whether a text is as a pattern says, in which `*` stands for any text.
fn is_like(pattern: &str, text: &str) -> bool {
    let mut parts = pattern.split('*');
    let first = parts.next().unwrap_or_default();
    let Some(mut rest) = text.strip_prefix(first) else { return false };
    let mut parts: Vec<&str> = parts.collect();
    let Some(last) = parts.pop() else { return rest.is_empty() };
    for part in parts {
        let Some((_, after)) = rest.split_once(part) else { return false };
        rest = after;
    }
    rest.ends_with(last)
}

fn time(Millis(millis): Millis) -> String {
    match millis {
        0..1000 => "0s".to_owned(),
        _ if millis.is_multiple_of(1000) || millis >= 10_000 => format!("{}s", millis / 1000),
        _ => format!("{millis}ms"),
    }
}

fn short(text: &str) -> String {
    if text.chars().count() <= SHOWN {
        return text.to_owned();
    }
    text.chars().take(SHOWN).chain(['…']).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn happened(list: &str) -> Vec<Happened> {
        list.split_whitespace()
            .enumerate()
            .map(|(index, kind)| {
                let mut event = Object::new();
                event.insert("type", kind);
                event.insert("n", i64::try_from(index).unwrap_or_default());
                Happened {
                    after: Millis(1001 * index as u64),
                    scope: "/".to_owned(),
                    state: "fan/a/work".into(),
                    event: Value::from(event),
                }
            })
            .collect()
    }

    fn expected(list: &str) -> HistoryExpectation {
        let line = |word: &str| {
            let pattern = |kind: &str| EventPattern { event: kind.into(), ..EventPattern::default() };
            match (word, word.strip_prefix('!')) {
                ("...", _) => HistoryLine::Anything,
                (_, Some(kind)) => HistoryLine::Never(pattern(kind)),
                _ => HistoryLine::Event(pattern(word)),
            }
        };
        HistoryExpectation { scope: None, lines: list.split_whitespace().map(line).collect() }
    }

    #[test]
    fn gaps_hold_anything_but_what_must_never_be() {
        for (lines, events, holds) in [
            ("a b", "a b", true),
            ("a b", "a b c", false),
            ("a b", "a", false),
            ("... b", "a b b", true),
            ("a ... b ...", "a x y b z", true),
            ("!x", "a b", true),
            ("!x", "a x", false),
            ("a !x b ...", "a c b x", true),
            ("a !x b ...", "a x b", false),
            ("a ... !x b", "a x b", false),
            ("... a !x !y b ...", "a x a b y", true),
            ("... a !x !y b ...", "a y b", false),
            ("s* ...", "start", true),
            ("", "", true),
        ] {
            assert_eq!(check(&expected(lines), &happened(events)).is_none(), holds, "{lines} | {events}");
        }
    }

    #[test]
    fn a_failure_shows_the_nearest_event_and_what_must_not_be() {
        let note = |lines: &str, events: &str| {
            check(&expected(lines), &happened(events)).and_then(|failure| failure.note).unwrap_or_default()
        };
        assert!(note("a !x b", "a x b").starts_with("this must never happen there: {event: x"));
        assert!(note("a", "a b").starts_with("more happened than is expected: {event: b"));
        let mut wanted = expected("... c ...");
        if let Some(HistoryLine::Event(pattern)) = wanted.lines.get_mut(1) {
            pattern.at = Some(Millis(2000));
            pattern.state = Some("work".into());
            pattern.fields.insert("n", 7);
        }
        let failure = check(&wanted, &happened("a b c d"));
        let note = failure.and_then(|failure| failure.note).unwrap_or_default();
        assert_eq!(
            note,
            "no event is as line 2 says; the nearest: n is 2\n{event: c, state: work, at: 2002ms, scope: /, n: 2}"
        );
    }

    #[test]
    fn a_star_is_any_text() {
        for (pattern, text, like) in [
            ("*", "", true),
            ("a*", "abc", true),
            ("*c", "abc", true),
            ("a*c", "abc", true),
            ("a*b*c", "a-b-b-c", true),
            ("a*c", "abd", false),
            ("abc", "abcd", false),
            ("a*a", "a", false),
            ("/each#1[*]", "/each#1[3]", true),
        ] {
            assert_eq!(is_like(pattern, text), like, "{pattern} {text}");
        }
    }
}
