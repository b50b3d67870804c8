//! The expected history.

use std::sync::Arc;

use expression::Object;
use model::Code;

use super::At;
use super::Reader;
use super::nearest;
use crate::history::EventPattern;
use crate::history::HistoryExpectation;
use crate::history::HistoryLine;

/// Every event with its fields, but for `state`: what an event is about is asked in one way.
const EVENTS: &[(&str, &[&str])] = &[
    (
        "runStarted",
        &[
            "run", "workflow", "version", "hash", "agents", "input", "starter", "trigger", "deadline",
            "parent",
        ],
    ),
    ("scopeStarted", &["fork", "index", "key", "item", "clocks"]),
    ("stateEntered", &["visit", "deadline"]),
    ("stateSkipped", &["next"]),
    ("stepClaimed", &["attempt", "epoch", "key", "worker", "request", "secrets"]),
    ("stepSucceeded", &["attempt", "epoch", "output"]),
    ("stepFailed", &["attempt", "epoch", "error", "definite", "retryAt"]),
    ("timerStarted", &["until", "absolute"]),
    ("timerFired", &[]),
    ("signalAwaited", &["name", "deadline"]),
    ("signalReceived", &["name", "number", "payload"]),
    (
        "approvalRequested",
        &["id", "message", "title", "summary", "approvers", "quorum", "excluded", "deadline"],
    ),
    ("approvalVoted", &["vote"]),
    ("approvalDecided", &["approved", "output"]),
    ("waitTimedOut", &[]),
    ("forked", &["children", "items"]),
    ("childrenLaunched", &["upto"]),
    ("childrenEnded", &["fork", "ended"]),
    ("childrenReleased", &[]),
    ("subworkflowRequested", &["run", "workflow", "version", "input"]),
    ("blockEntered", &["block"]),
    ("errorCaught", &["clause", "error"]),
    ("blockLeft", &[]),
    ("errorRaised", &["error", "floor"]),
    ("stateComputed", &["output"]),
    ("stateCompleted", &["output", "writes", "next"]),
    ("paused", &["by", "inherited"]),
    ("resumed", &["by", "shift", "inherited"]),
    ("cancelRequested", &["by", "inherited", "reason"]),
    ("deadlinePassed", &[]),
    ("redriven", &["by", "inherited"]),
    ("ended", &["outcome"]),
    ("lateResult", &["step", "visit", "attempt", "epoch", "digest"]),
    ("signalSent", &["id", "name", "payload", "by"]),
];

/// What a line may say of any event.
const KEYS: [&str; 4] = ["at", "scope", "state", "event"];

impl<'d> Reader<'d> {
    /// A list of lines, or a mapping of scopes to lists.
    pub(super) fn history(&mut self, at: &At<'d>) -> Vec<HistoryExpectation> {
        if at.value.as_object().is_none() {
            return self.part(None, at).into_iter().collect();
        }
        at.entries().into_iter().filter_map(|(scope, at)| self.part(Some(scope.clone()), &at)).collect()
    }

    fn part(&mut self, scope: Option<Arc<str>>, at: &At<'d>) -> Option<HistoryExpectation> {
        let lines = self.list(at)?.iter().map(|at| self.line(at)).collect::<Vec<_>>();
        Some(HistoryExpectation { scope, lines: lines.into_iter().collect::<Option<_>>()? })
    }

    fn line(&mut self, at: &At<'d>) -> Option<HistoryLine> {
        if at.value.as_str() == Some("...") {
            return Some(HistoryLine::Anything);
        }
        if let Some(never) = at.key("never") {
            self.object(at, &["never"])?;
            return self.event_pattern(&never).map(HistoryLine::Never);
        }
        self.event_pattern(at).map(HistoryLine::Event)
    }

    /// `stepClaimed work`, or `{event: stepClaimed, state: work, …}`.
    fn event_pattern(&mut self, at: &At<'d>) -> Option<EventPattern> {
        if let Some(text) = at.value.as_str() {
            let (event, state) = match text.split_once(' ') {
                Some((event, state)) => (event, Some(Arc::from(state.trim()))),
                None => (text, None),
            };
            self.event_fields(at, event)?;
            return Some(EventPattern { state, event: event.into(), ..EventPattern::default() });
        }
        if at.value.as_object().is_none() {
            self.wrong_type(at, "a line of a history: `stepClaimed work`, `...`, or a mapping with `event`");
            return None;
        }
        let name = self.required(at, "event")?;
        let event = self.text(&name)?;
        let fields = self.event_fields(&name, event)?;
        let known = || KEYS.iter().chain(fields).copied();
        let any = event.contains('*');
        if !any {
            self.object(at, &known().collect::<Vec<_>>())?;
        }
        let rest = at.value.as_object()?.iter();
        let rest = rest.filter(|(key, _)| !KEYS.contains(&&***key));
        Some(EventPattern {
            at: at.key("at").map(|_| self.duration(at, "at")),
            scope: self.optional_text(at, "scope"),
            state: self.optional_text(at, "state"),
            event: event.into(),
            fields: rest.map(|(key, value)| (key.clone(), value.clone())).collect::<Object>(),
        })
    }

    fn event_fields(&mut self, at: &At<'d>, event: &str) -> Option<&'static [&'static str]> {
        if event.contains('*') {
            return Some(&[]);
        }
        if let Some((_, fields)) = EVENTS.iter().find(|(name, _)| *name == event) {
            return Some(fields);
        }
        let names: Vec<&str> = EVENTS.iter().map(|(name, _)| *name).collect();
        let hint = nearest(event, &names)
            .map_or_else(|| format!("one of {}", names.join(", ")), |near| format!("did you mean `{near}`?"));
        self.issue(at, Code::BadValue, format!("there is no event `{event}`"), Some(&hint));
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What the engine says it reads, where it is given something else.
    #[test]
    fn every_event_of_the_engine_can_be_expected() {
        let unknown = serde_json::from_str::<engine::Event>(r#"{"type": "?"}"#).map_err(|e| e.to_string());
        let message = unknown.err().unwrap_or_default();
        let mut engines: Vec<&str> = message.split('`').skip(3).step_by(2).collect();
        let mut known: Vec<&str> = EVENTS.iter().map(|(name, _)| *name).collect();
        engines.sort_unstable();
        known.sort_unstable();
        assert_eq!(known, engines, "{message}");
    }
}
