//! How an action is attempted again.

use std::sync::Arc;

use super::Reader;
use super::survey::one_or_each;
use crate::Code;
use crate::Issue;
use crate::Millis;
use crate::Retry;
use crate::yaml::Data;
use crate::yaml::Node;
use crate::yaml::Number;

const DEFAULT_ATTEMPTS: i64 = 3;
const MAX_ATTEMPTS: i64 = 1_000;
const DEFAULT_BACKOFF: Millis = Millis(1_000);
const DEFAULT_MAX_BACKOFF: Millis = Millis(300_000);

impl Reader<'_> {
    /// `retry` and `atMostOnce`. The outer `None`: it cannot be read.
    pub(super) fn attempts(&mut self, node: &Node) -> (Option<Vec<Retry>>, bool) {
        let at_most_once = self.boolean(node, "atMostOnce").unwrap_or(false);
        let Some(retry) = node.get("retry") else { return (Some(Vec::new()), at_most_once) };
        if !matches!(retry.data, Data::Map(_) | Data::List(_)) {
            self.wrong_type(
                retry,
                "retry",
                "a mapping like `{maxAttempts: 3, backoffSeconds: 5}`, or a list of them",
            );
            return (None, at_most_once);
        }
        let mut rules = Vec::new();
        let mut seen: Vec<Arc<str>> = Vec::new();
        let mut is_whole = true;
        for rule in one_or_each(Some(retry)) {
            match self.retry(rule, &mut seen) {
                Some(rule) => rules.push(rule),
                None => is_whole = false,
            }
        }
        (is_whole.then_some(rules), at_most_once)
    }

    fn retry(&mut self, node: &Node, seen: &mut Vec<Arc<str>>) -> Option<Retry> {
        if !matches!(node.data, Data::Map(_)) {
            self.wrong_type(node, "a retry rule", "a mapping like `{maxAttempts: 3, backoffSeconds: 5}`");
            return None;
        }
        let before = self.errors();
        let max_attempts = self.integer(node, "maxAttempts", 1, MAX_ATTEMPTS, Code::BadRetry);
        let backoff = self.duration(node, "backoffSeconds").unwrap_or(DEFAULT_BACKOFF);
        let exponential =
            self.word(node, "backoff", &[("fixed", false), ("exponential", true)]).unwrap_or(false);
        let max_backoff = self.duration(node, "maxBackoffSeconds");
        if let (Some(max), Some(place)) = (max_backoff, node.get("maxBackoffSeconds"))
            && max < backoff
        {
            let issue = Issue::error(
                Code::BadRetry,
                "no pause may be longer than `maxBackoffSeconds`, but the first is",
            )
            .hint("make it at least `backoffSeconds`");
            self.report(place, issue);
        }
        let jitter = match node.get("jitter").map(|node| (node, &node.data)) {
            None => 0.0,
            Some((_, Data::Number(_, number))) if share(number).is_some() => share(number).unwrap_or(0.0),
            Some((place, _)) => {
                let issue =
                    Issue::error(Code::BadRetry, "`jitter` is the share of a pause that may be taken off")
                        .expected("a number from 0 to 1")
                        .actual(place.type_name());
                self.report(place, issue);
                0.0
            }
        };
        let retry_on = match node.get("retryOn") {
            Some(list) => Some(self.error_types(list, "retryOn", Code::BadRetry, seen)?),
            None => None,
        };
        (self.errors() == before).then_some(Retry {
            max_attempts: u32::try_from(max_attempts.unwrap_or(DEFAULT_ATTEMPTS)).unwrap_or(1),
            backoff,
            exponential,
            max_backoff: max_backoff.unwrap_or(DEFAULT_MAX_BACKOFF.max(backoff)),
            jitter,
            retry_on,
        })
    }

    /// A list of error types, none of which an earlier list has taken.
    pub(super) fn error_types(
        &mut self,
        list: &Node,
        key: &str,
        code: Code,
        seen: &mut Vec<Arc<str>>,
    ) -> Option<Vec<Arc<str>>> {
        let mut types = Vec::new();
        if matches!(list.data, Data::Map(_)) {
            self.wrong_type(list, key, "a list of error types (texts)");
            return None;
        }
        for item in one_or_each(Some(list)) {
            let word = self.as_text(item, key)?;
            if &*word == "retry_exhausted" {
                let issue = Issue::error(code, "`retry_exhausted` is never seen here").hint(
                    "it is the type of an uncaught error; name the type that the last attempt fails with",
                );
                self.report(item, issue);
                return None;
            }
            if seen.contains(&word) {
                let issue = Issue::error(code, format!("`{word}` is taken already, so this never applies"))
                    .hint("name each error type once");
                self.report(item, issue);
                return None;
            }
            seen.push(word.clone());
            types.push(word);
        }
        if types.is_empty() {
            let issue = Issue::error(code, format!("`{key}` names no error type, so this never applies"))
                .hint("leave it out to apply to all");
            self.report(list, issue);
            return None;
        }
        Some(types)
    }

    /// Errors so far: whoever reads something sees by it whether that was right.
    pub(super) fn errors(&self) -> usize {
        self.issues.iter().filter(|issue| issue.is_error()).count()
    }
}

#[allow(clippy::cast_precision_loss)]
fn share(number: &Number) -> Option<f64> {
    let value = match number {
        Number::Int(number) => *number as f64,
        Number::Float(number) => *number,
        Number::Big(_) => return None,
    };
    (0.0..=1.0).contains(&value).then_some(value)
}
