//! What an agent is given: the state's `task`, `variables` and `input`, and what of it a schema is held against.

use expression::Object;
use expression::Value;
use model::Schema;
use runtime::ports::Call;
use runtime::ports::CallError;

use crate::error::Code;
use crate::error::validation;

/// The input of an agent: the request's `input` overlaid with its `variables`, `task` added where the schema names it
/// and nothing else gave it, and the schema's defaults filled in.
///
/// An `input` that is no object is taken as it is, unless there are variables: those make an object.
pub fn input(request: &Value, schema: Option<&Schema>) -> Value {
    let variables =
        request.get("variables").and_then(Value::as_object).filter(|variables| !variables.is_empty());
    let mut input = match (request.get("input"), variables) {
        (None | Some(Value::Null), None) => Value::object(),
        (Some(input), None) => input.clone(),
        (input, Some(variables)) => {
            let mut merged = input.and_then(Value::as_object).cloned().unwrap_or_default();
            merged.extend(variables.iter().map(|(key, value)| (key.clone(), value.clone())));
            Value::from(merged)
        }
    };
    let Some(schema) = schema else { return input };
    if names_task(schema.raw())
        && let Some(task) = request.get("task")
        && let Some(object) = input.object_mut()
        && !object.contains_key("task")
    {
        object.insert("task", task.clone());
    }
    schema.fill_defaults(&mut input);
    input
}

/// Holds an agent's input against its schema. The error is of type `validation` and names every place that does not fit.
pub fn check(agent: &str, input: &Value, schema: Option<&Schema>) -> Result<(), CallError> {
    let violations = schema.map(|schema| schema.validate(input)).unwrap_or_default();
    if violations.is_empty() {
        return Ok(());
    }
    let places: Vec<_> = violations.iter().map(ToString::to_string).collect();
    let message = format!("the input of agent `{agent}` does not fit its schema: {}", places.join("; "));
    Err(validation(Code::AgentInputInvalid, message))
}

/// What a program or a service is sent: `{agent, task, variables, input, runId, stepId, state, attempt, idempotencyKey}`.
pub(crate) fn envelope(agent: &str, request: &Value, input: &Value, call: &Call) -> Value {
    let given = |key: &str| request.get(key).cloned();
    let mut envelope = Object::with_capacity(9);
    envelope.insert("agent", agent);
    envelope.insert("task", given("task").unwrap_or_default());
    envelope.insert("variables", given("variables").unwrap_or_else(Value::object));
    envelope.insert("input", input.clone());
    envelope.insert("runId", call.run.as_str());
    envelope.insert("stepId", call.step.as_str());
    envelope.insert("state", call.state.clone());
    envelope.insert("attempt", call.attempt);
    envelope.insert("idempotencyKey", call.idempotency_key.clone());
    Value::from(envelope)
}

fn names_task(schema: &Value) -> bool {
    let property = schema.get("properties").is_some_and(|properties| properties.get("task").is_some());
    let required = schema.get("required").and_then(Value::as_array);
    property || required.is_some_and(|names| names.iter().any(|name| name.as_str() == Some("task")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn json(text: &str) -> Value {
        Value::parse_json(text).unwrap()
    }

    /// Request, schema, input.
    #[test]
    fn the_input_is_what_a_schema_sees() {
        let cases = [
            ("{}", "{}", "{}"),
            (r#"{"input": {"a": 1, "b": 1}, "variables": {"b": 2}}"#, "{}", r#"{"a": 1, "b": 2}"#),
            (r#"{"input": [1]}"#, "{}", "[1]"),
            (r#"{"input": [1], "variables": {"a": 1}}"#, "{}", r#"{"a": 1}"#),
            (r#"{"task": "t", "input": {"a": 1}}"#, "{}", r#"{"a": 1}"#),
            (r#"{"task": "t"}"#, r#"{"properties": {"task": {}}}"#, r#"{"task": "t"}"#),
            (r#"{"task": "t", "input": {"task": "own"}}"#, r#"{"required": ["task"]}"#, r#"{"task": "own"}"#),
            (r#"{"variables": {}}"#, r#"{"properties": {"n": {"default": 3}}}"#, r#"{"n": 3}"#),
        ];
        for (request, schema, expected) in cases {
            let schema = Schema::compile(&json(schema)).unwrap();
            assert_eq!(input(&json(request), Some(&schema)), json(expected), "{request}");
        }
    }

    #[test]
    fn every_violation_is_named() {
        let schema = Schema::compile(&json(r#"{"required": ["a", "b"]}"#)).unwrap();
        let error = check("checker", &Value::object(), Some(&schema)).unwrap_err();
        assert_eq!(&*error.error.kind, "validation");
        assert!(!error.definite, "nobody was asked");
        for part in ["`checker`", "/a: `a` is missing", "/b: `b` is missing"] {
            assert!(error.error.message.contains(part), "{}", error.error.message);
        }
    }
}
