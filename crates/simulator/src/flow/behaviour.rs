//! What an agent does: what its task says, and nothing else.
//!
//! A task is a list of clauses between `;`: `take 3s`, `never`, `fail 2 flaky` (the first two attempts fail with that
//! type), `fail always broken indefinite` (nobody knows whether it took effect), `after 5s` (not to be called again before),
//! and at last `give …`: the rest of the task is the answer, as JSON or as a text. Without it the answer tells what the
//! agent was given, so that a wrong context shows in what comes later.

use std::time::Duration;

use engine::Error;
use expression::Object;
use expression::Value;
use runtime::ports::Call;
use runtime::ports::CallError;

/// No text is answered longer than this, so that answers in answers do not grow without end.
const LONGEST: usize = 200;
/// What is larger than this is not shown but summed up.
const SHOWN: usize = 120;

/// What an agent does with a call.
#[derive(Clone, Debug)]
pub struct Behaviour {
    /// How long it takes.
    pub takes: Duration,
    /// What it answers then.
    pub answer: Result<Value, CallError>,
    /// It never answers.
    pub never: bool,
}

/// What the agent does with this call: a function of its request and attempt alone.
pub fn behaviour(call: &Call) -> Behaviour {
    let request = &call.request;
    let task = ["task", "message"].iter().find_map(|key| request.get(key)?.as_str()).unwrap_or_default();
    let mut takes = Duration::from_millis(10);
    let mut never = false;
    let mut failure: Option<Error> = None;
    let mut definite = true;
    let mut retry_after = None;
    let mut given = None;
    let mut rest = task;
    while !rest.is_empty() {
        if let Some(answer) = rest.strip_prefix("give ") {
            given = Some(answer);
            break;
        }
        let (clause, after) = rest.split_once(';').unwrap_or((rest, ""));
        rest = after.trim_start();
        let mut words = clause.split_whitespace();
        match words.next() {
            Some("take") => takes = length(words.next()),
            Some("after") => retry_after = Some(length(words.next())),
            Some("never") => never = true,
            Some("fail") => {
                let times = words.next().unwrap_or_default();
                let kind = words.next().unwrap_or("agent_error");
                if times == "always" || times.parse().is_ok_and(|times: u32| call.attempt <= times) {
                    let message = format!("as told, at attempt {}", call.attempt);
                    failure = Some(Error::new(kind, message));
                    definite = words.next() != Some("indefinite");
                }
            }
            _ => {}
        }
    }
    let answer = match failure {
        Some(error) => Err(CallError { error, definite, retry_after }),
        None => Ok(given.map_or_else(|| told(call), parsed)),
    };
    Behaviour { takes, answer, never }
}

fn length(text: Option<&str>) -> Duration {
    let length = text.and_then(|text| model::parse_duration(text).ok());
    Duration::from_millis(length.map_or(0, |model::Millis(millis)| millis))
}

fn parsed(text: &str) -> Value {
    match Value::parse_json(text) {
        Ok(value) if text.len() <= 20 * LONGEST => value,
        _ => Value::from(text.chars().take(LONGEST).collect::<String>()),
    }
}

/// What it was given, small enough to be handed on.
fn told(call: &Call) -> Value {
    let mut output = Object::new();
    output.insert("by", Value::from(&*call.state));
    output.insert("attempt", Value::from(call.attempt));
    output.insert("seen", Value::from(fingerprint(&call.request)));
    if let Some(input) = call.request.get("input") {
        let text = input.to_string();
        if text.len() <= SHOWN {
            output.insert("given", input.clone());
        }
    }
    Value::from(output)
}

/// A number that depends on all of a value, but neither on the order of keys nor on when people decided.
fn fingerprint(value: &Value) -> u32 {
    match value {
        Value::Object(object) => object
            .iter()
            .filter(|(key, _)| &***key != "decidedAt")
            .map(|(key, value)| hash(key.bytes().chain(fingerprint(value).to_le_bytes())))
            .fold(1, u32::wrapping_add),
        Value::Array(items) => hash(items.iter().flat_map(|item| fingerprint(item).to_le_bytes())),
        other => hash(other.to_string().bytes()),
    }
}

/// FNV-1a.
fn hash(bytes: impl Iterator<Item = u8>) -> u32 {
    bytes.fold(0x811c_9dc5, |hash, byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193))
}
