//! A ring as a message, and back.

use engine::RunId;
use engine::ScopeKey;
use engine::ScopePath;
use runtime::ports::Delivery;
use runtime::ports::Hint;
use runtime::ports::Queue;
use runtime::ports::Ring;
use serde::Deserialize;
use serde::Serialize;

/// The version of the body. A reader refuses any other, and the message waits in its queue for one that knows it.
const VERSION: u32 = 1;

/// A message that is none of ours, or of a later version.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a message is no doorbell of this version ({reason}): {start}")]
pub struct Unreadable {
    /// What is wrong with it.
    pub reason: String,
    /// How its body begins.
    pub start: String,
}

#[derive(Serialize, Deserialize)]
struct Body {
    v: u32,
    /// The run.
    r: String,
    /// The scope's path.
    s: String,
    /// The hint; what a later engine may hint at counts as something that may have been missed.
    #[serde(default, skip_serializing_if = "serde_json::Value::is_null")]
    h: serde_json::Value,
}

/// The body of a message.
pub(crate) fn body(ring: &Ring) -> Result<String, serde_json::Error> {
    let h = match &ring.hint {
        Hint::None => serde_json::Value::Null,
        hint => serde_json::to_value(hint)?,
    };
    let (r, s) = (ring.scope.run.as_str().to_owned(), ring.scope.path.as_str().to_owned());
    serde_json::to_string(&Body { v: VERSION, r, s, h })
}

/// What a message says: its body, the receipt by which SQS knows this delivery again, and how often it was received, this time
/// included.
pub fn delivery(queue: Queue, body: &str, receipt: &str, received: u32) -> Result<Delivery, Unreadable> {
    let unreadable = |reason: String| Unreadable { reason, start: body.chars().take(200).collect() };
    let body: Body = serde_json::from_str(body).map_err(|error| unreadable(error.to_string()))?;
    if body.v != VERSION {
        return Err(unreadable(format!("version {}", body.v)));
    }
    let hint = match body.h {
        serde_json::Value::Null => Hint::None,
        hint => serde_json::from_value(hint).unwrap_or(Hint::Missed),
    };
    Ok(Delivery {
        scope: ScopeKey::new(RunId::new(body.r), ScopePath::from_stored(body.s)),
        queue,
        hints: vec![hint],
        redeliveries: received.saturating_sub(1),
        receipt: receipt.into(),
    })
}

/// The message group of a run, by which SQS is fair among runs: a hash, as a group's name may not hold whatever a run's may.
pub fn group(run: &RunId) -> String {
    // FNV-1a: the same in every process, and collisions cost fairness alone.
    let hash = run.as_str().bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
    });
    format!("{hash:016x}")
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn what_is_written_is_read() {
        let scope = ScopeKey::new(RunId::new("r/1 ü"), ScopePath::from_stored("/a%20b#1/ü.x*>\u{1F600}"));
        for hint in [Hint::None, Hint::Missed, Hint::Signal, Hint::ChildEnded(7)] {
            let ring = Ring { queue: Queue::Steps, scope: scope.clone(), after: Duration::ZERO, hint };
            let found = delivery(Queue::Steps, &body(&ring).unwrap(), "receipt", 3).unwrap();
            assert_eq!((&found.scope, &found.hints[..], found.redeliveries), (&scope, &[ring.hint][..], 2));
        }
    }

    #[test]
    fn what_is_no_doorbell_is_refused_and_a_later_hint_is_not() {
        for odd in ["", "{}", "[]", "null", r#"{"v":2,"r":"a","s":"/"}"#, r#"{"v":1,"r":1,"s":"/"}"#] {
            delivery(Queue::Steps, odd, "receipt", 1).expect_err(odd);
        }
        let later = r#"{"v":1,"r":"a","s":"/","h":{"Moved":[1]},"more":true}"#;
        assert_eq!(delivery(Queue::Resume, later, "receipt", 0).unwrap().hints, [Hint::Missed]);
        assert!(group(&RunId::new("r/1 ü")).bytes().all(|byte| byte.is_ascii_hexdigit()));
    }
}
