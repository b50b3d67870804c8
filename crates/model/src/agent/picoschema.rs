//! Picoschema, the compact notation of schemas in dotprompt front matter, as JSON Schema.
//!
//! `name: string, what it is`, `age?: integer`, `tags(array): string`, `kind(enum): [a, b]`, `more(object): {…}`,
//! `(*): number`. What is JSON Schema already stays as it is.

use std::sync::Arc;

use expression::Object;
use expression::Value;

const SCALARS: [&str; 6] = ["string", "number", "integer", "boolean", "null", "any"];
const JSON_TYPES: [&str; 7] = ["string", "number", "integer", "boolean", "null", "object", "array"];

/// The JSON Schema that a schema of a prompt means; `Err` says what cannot be read, by the way to it.
pub(super) fn to_json_schema(written: &Value) -> Result<Value, String> {
    match written {
        Value::Bool(_) => Ok(written.clone()),
        Value::Object(object) if is_json_schema(object) => {
            let mut schema = Object::clone(object);
            if schema.get("properties").is_some() && schema.get("type").is_none() {
                schema.insert("type", "object");
            }
            Ok(Value::from(schema))
        }
        _ => one(written, "", 0),
    }
}

/// A property may be called `type`: only a `type` that is one of JSON Schema's own words makes it JSON Schema.
fn is_json_schema(object: &Object) -> bool {
    let has_type = match object.get("type") {
        Some(Value::String(word)) => JSON_TYPES.contains(&&**word),
        Some(Value::Array(_)) => true,
        _ => false,
    };
    let has_keyword =
        ["$ref", "$schema", "anyOf", "oneOf", "allOf"].iter().any(|key| object.contains_key(key));
    has_type || has_keyword || matches!(object.get("properties"), Some(Value::Object(_)))
}

fn one(written: &Value, path: &str, depth: usize) -> Result<Value, String> {
    if depth > 64 {
        return Err(format!("`{path}` nests too deep"));
    }
    match written {
        Value::String(text) => scalar(text, path),
        Value::Object(object) => properties(object, path, depth),
        other => {
            Err(format!("`{path}` is {}; a type like `string`, or a mapping was expected", other.kind()))
        }
    }
}

fn scalar(text: &str, path: &str) -> Result<Value, String> {
    let (kind, description) = match text.split_once(',') {
        Some((kind, description)) => (kind.trim(), Some(description.trim())),
        None => (text.trim(), None),
    };
    if !SCALARS.contains(&kind) {
        return Err(format!("`{path}`: there is no type `{kind}`; one of {}", SCALARS.join(", ")));
    }
    let mut schema = Object::new();
    if kind != "any" {
        schema.insert("type", kind);
    }
    if let Some(description) = description {
        schema.insert("description", description);
    }
    Ok(Value::from(schema))
}

fn properties(object: &Object, path: &str, depth: usize) -> Result<Value, String> {
    let mut properties = Object::new();
    let mut required: Vec<Value> = Vec::new();
    let mut more = Value::Bool(false);
    for (key, written) in object {
        let (name, modifier) = match key.split_once('(') {
            Some((name, rest)) => {
                let inner =
                    rest.strip_suffix(')').ok_or_else(|| format!("`{path}/{key}`: a `)` is missing"))?;
                (name.trim(), Some(inner))
            }
            None => (key.trim(), None),
        };
        let here = format!("{path}/{name}");
        if name.is_empty() && modifier.is_some_and(|modifier| modifier.trim() == "*") {
            more = one(written, &here, depth + 1)?;
            continue;
        }
        let (name, is_optional) = match name.strip_suffix('?') {
            Some(name) => (name, true),
            None => (name, false),
        };
        let mut schema = match modifier {
            Some(modifier) => modified(written, modifier, &here, depth)?,
            None => one(written, &here, depth + 1)?,
        };
        if is_optional {
            allow_null(&mut schema);
        } else {
            required.push(Value::from(name));
        }
        properties.insert(name, schema);
    }
    let mut schema = Object::new();
    schema.insert("type", "object");
    schema.insert("properties", Value::from(properties));
    if !required.is_empty() {
        schema.insert("required", Value::from(required));
    }
    schema.insert("additionalProperties", more);
    Ok(Value::from(schema))
}

/// `tags(array, what they are): string`.
fn modified(written: &Value, modifier: &str, path: &str, depth: usize) -> Result<Value, String> {
    let (kind, description) = match modifier.split_once(',') {
        Some((kind, description)) => (kind.trim(), Some(description.trim())),
        None => (modifier.trim(), None),
    };
    let mut schema = match kind {
        "array" => {
            Object::from_iter([("type", Value::from("array")), ("items", one(written, path, depth + 1)?)])
        }
        "object" => match one(written, path, depth + 1)? {
            Value::Object(object) => Arc::unwrap_or_clone(object),
            _ => return Err(format!("`{path}` must be a mapping")),
        },
        "enum" => {
            let Value::Array(choices) = written else {
                return Err(format!("`{path}` must be a list of its values"));
            };
            Object::from_iter([("enum", Value::Array(Arc::clone(choices)))])
        }
        other => return Err(format!("`{path}`: there is no `({other})`; one of array, object, enum")),
    };
    if let Some(description) = description {
        schema.insert("description", description);
    }
    Ok(Value::from(schema))
}

/// An optional property may be null too.
fn allow_null(schema: &mut Value) {
    let Some(object) = schema.object_mut() else { return };
    if let Some(Value::String(kind)) = object.get("type").cloned() {
        object.insert("type", Value::from_iter([Value::String(kind), Value::from("null")]));
    }
    if let Some(Value::Array(choices)) = object.get("enum").cloned() {
        let mut choices = Arc::unwrap_or_clone(choices);
        choices.push(Value::Null);
        object.insert("enum", Value::from(choices));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_compact_notation_means_json_schema_and_json_schema_stays() {
        let json = |text: &str| Value::parse_json(text).unwrap();
        let cases = [
            (
                r#"{"name":"string, who","age?":"integer","tags(array, labels)":"string","kind(enum)":["a","b"],
                    "more(object)":{"x":"any"},"(*)":"number"}"#,
                r#"{"type":"object","properties":{"name":{"type":"string","description":"who"},
                    "age":{"type":["integer","null"]},"tags":{"type":"array","items":{"type":"string"},"description":"labels"},
                    "kind":{"enum":["a","b"]},"more":{"type":"object","properties":{"x":{}},"required":["x"],
                    "additionalProperties":false}},"required":["name","tags","kind","more"],
                    "additionalProperties":{"type":"number"}}"#,
            ),
            (r#""string""#, r#"{"type":"string"}"#),
            (
                r#"{"type":"string, the kind","id":"integer"}"#,
                r#"{"type":"object","properties":{"type":{"type":"string","description":"the kind"},"id":{"type":"integer"}},
                    "required":["type","id"],"additionalProperties":false}"#,
            ),
            (
                r#"{"properties":{"a":{"type":"string"}}}"#,
                r#"{"properties":{"a":{"type":"string"}},"type":"object"}"#,
            ),
        ];
        for (written, meant) in cases {
            assert_eq!(to_json_schema(&json(written)), Ok(json(meant)), "{written}");
        }
        for wrong in [
            r#"{"a":"strnig"}"#,
            r#"{"a(list)":"string"}"#,
            r#"{"a(array":"string"}"#,
            r#"{"a(enum)":"x"}"#,
            "3",
        ] {
            assert!(to_json_schema(&json(wrong)).is_err(), "{wrong}");
        }
    }
}
