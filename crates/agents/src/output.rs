//! What an agent's answer means.

use expression::Object;
use expression::Value;
use model::Schema;
use runtime::ports::CallError;

use crate::error::Code;
use crate::error::validation;

/// The output that an agent's text stands for.
///
/// With an output schema it is the JSON that the text or its only fenced block is, else the text itself. Without one
/// it is that JSON where it is an object or an array, else `{response: text}`.
pub fn from_text(text: &str, has_schema: bool) -> Value {
    let structured = |value: &Value| has_schema || matches!(value, Value::Object(_) | Value::Array(_));
    let candidates = [Some(text), only_fenced_block(text)];
    let parsed =
        candidates.into_iter().flatten().find_map(|text| Value::parse_json(text).ok().filter(structured));
    match parsed {
        Some(value) => value,
        None if has_schema => Value::from(text),
        None => Value::from(Object::from_iter([("response", text)])),
    }
}

/// The output that a given value stands for: a string is an agent's text, anything else its structured output.
pub fn from_value(value: &Value, has_schema: bool) -> Value {
    match value {
        Value::String(text) => from_text(text, has_schema),
        other => other.clone(),
    }
}

/// Holds an agent's output against its schema. The error is of type `validation` and names every place that does not
/// fit. It is not definite: the agent has done its work, and another attempt must not make it do it twice.
pub fn check(agent: &str, output: &Value, schema: Option<&Schema>) -> Result<(), CallError> {
    let violations = schema.map(|schema| schema.validate(output)).unwrap_or_default();
    if violations.is_empty() {
        return Ok(());
    }
    let places: Vec<_> = violations.iter().map(ToString::to_string).collect();
    let message = format!("the output of agent `{agent}` does not fit its schema: {}", places.join("; "));
    Err(validation(Code::AgentOutputInvalid, message))
}

/// What stands between the fences (three backticks or more) of the text's only fenced block.
fn only_fenced_block(text: &str) -> Option<&str> {
    let mut found = None;
    // Where the open block's content starts, and how many backticks close it.
    let mut open: Option<(usize, usize)> = None;
    let mut at = 0;
    for line in text.split_inclusive('\n') {
        let start = at;
        at += line.len();
        let line = line.trim();
        let ticks = line.len() - line.trim_start_matches('`').len();
        match open {
            None if ticks >= 3 && !line.trim_start_matches('`').contains('`') => {
                if found.is_some() {
                    return None;
                }
                open = Some((at, ticks));
            }
            Some((content, needed)) if ticks >= needed && ticks == line.len() => {
                found = text.get(content..start);
                open = None;
            }
            _ => {}
        }
    }
    found.filter(|_| open.is_none())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Text; what it is without a schema; what it is with one.
    #[test]
    fn texts_and_what_they_mean() {
        let cases = [
            (r#" {"a": 1} "#, r#"{"a": 1}"#, r#"{"a": 1}"#),
            ("[1, 2]\n", "[1, 2]", "[1, 2]"),
            ("42", r#"{"response": "42"}"#, "42"),
            ("all good", r#"{"response": "all good"}"#, r#""all good""#),
            ("", r#"{"response": ""}"#, r#""""#),
            ("Here:\n```json\n{\"a\": 1}\n```\nDone.", r#"{"a": 1}"#, r#"{"a": 1}"#),
            ("````\n{\"a\": \"```\"}\n````", r#"{"a": "```"}"#, r#"{"a": "```"}"#),
            (
                "```\n{}\n```\n```\n{}\n```",
                r#"{"response": "```\n{}\n```\n```\n{}\n```"}"#,
                r#""```\n{}\n```\n```\n{}\n```""#,
            ),
            ("```\n{}", r#"{"response": "```\n{}"}"#, r#""```\n{}""#),
            ("```\n7\n```", r#"{"response": "```\n7\n```"}"#, "7"),
        ];
        for (text, without, with) in cases {
            assert_eq!(from_text(text, false), Value::parse_json(without).unwrap(), "{text}");
            assert_eq!(from_text(text, true), Value::parse_json(with).unwrap(), "{text}");
        }
    }
}
