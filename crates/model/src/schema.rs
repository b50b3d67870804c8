//! JSON Schema: compiled within bounds, filling in defaults, saying what does not fit and where.

use std::collections::HashMap;
use std::fmt;
use std::fmt::Write as _;
use std::sync::Arc;

use expression::Object;
use expression::Value;
use jsonschema::PatternOptions;
use jsonschema::ValidationError;
use jsonschema::Validator;
use jsonschema::error::ValidationErrorKind;
use serde::Serialize;

use crate::yaml::escape_pointer;

/// A compiled JSON Schema: draft 2020-12, unless its `$schema` says otherwise. Cheap to clone.
///
/// No remote reference is ever fetched. Compiling and validating are bounded: a schema that refers to itself without
/// going deeper into the value, or that multiplies with every reference, is refused.
#[derive(Clone)]
pub struct Schema {
    inner: Arc<Inner>,
}

struct Inner {
    raw: Value,
    validator: Validator,
    has_defaults: bool,
}

/// One place of a value that does not fit.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Violation {
    /// JSON pointer into the value. A missing property is reported where it would stand, one too many where it stands.
    pub path: String,
    /// What does not fit.
    pub message: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.path.is_empty() {
            f.write_str(&self.message)
        } else {
            write!(f, "{}: {}", self.path, self.message)
        }
    }
}

/// A schema that is none.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("at {path:?}: {message}")]
pub struct SchemaError {
    /// JSON pointer into the schema.
    pub path: String,
    /// What is wrong there.
    pub message: String,
}

/// Schemas in a schema, and bytes of one pattern.
const MAX_SUBSCHEMAS: usize = 20_000;
const MAX_PATTERN: usize = 4_096;
const MAX_PATTERNS: usize = 256;
/// Subschemas that one place of a value is held against.
const MAX_COST: u64 = 10_000;
/// Schemas nest no deeper; a value that is validated may.
const MAX_SCHEMA_DEPTH: usize = 96;
/// Violations that are told at once.
const MAX_VIOLATIONS: usize = 100;
/// Steps of filling in defaults, a schema's own recursion included.
const MAX_DEFAULT_STEPS: usize = 100_000;
const MAX_DEFAULT_DEPTH: usize = 64;

impl Schema {
    /// Compiles a schema.
    pub fn compile(raw: &Value) -> Result<Self, SchemaError> {
        let mut bounds =
            Bounds { raw, subschemas: 0, patterns: 0, has_defaults: false, costs: HashMap::new() };
        bounds.walk(raw, &mut String::new(), 0)?;
        bounds.cost("", raw, 0)?;
        let has_defaults = bounds.has_defaults;
        let json = serde_json::Value::from(raw);
        let validator = jsonschema::options()
            .offline()
            .with_pattern_options(
                PatternOptions::fancy_regex()
                    .backtrack_limit(100_000)
                    .size_limit(1 << 20)
                    .dfa_size_limit(1 << 20),
            )
            .build(&json)
            .map_err(|error| not_a_schema(&error))?;
        Ok(Self { inner: Arc::new(Inner { raw: raw.clone(), validator, has_defaults }) })
    }

    /// The schema as written.
    pub fn raw(&self) -> &Value {
        &self.inner.raw
    }

    /// Everything that does not fit, in the order of the schema; nothing when the value fits.
    pub fn validate(&self, value: &Value) -> Vec<Violation> {
        let json = serde_json::Value::from(value);
        if self.inner.validator.is_valid(&json) {
            return Vec::new();
        }
        let mut violations = Vec::new();
        for error in self.inner.validator.iter_errors(&json) {
            explain(&error, &mut violations);
            if violations.len() >= MAX_VIOLATIONS {
                break;
            }
        }
        violations
    }

    /// Puts the `default`s of missing properties in, also in what stands deeper. To be called before
    /// [`validate`](Self::validate).
    pub fn fill_defaults(&self, value: &mut Value) {
        if self.inner.has_defaults {
            let mut filler = Filler { root: &self.inner.raw, steps: 0 };
            filler.fill(&self.inner.raw, value, 0);
        }
    }
}

impl fmt::Debug for Schema {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Schema").field(&self.inner.raw).finish()
    }
}

impl PartialEq for Schema {
    fn eq(&self, other: &Self) -> bool {
        self.inner.raw == other.inner.raw
    }
}

fn explain(error: &ValidationError<'_>, violations: &mut Vec<Violation>) {
    let path = error.instance_path().as_str();
    match error.kind() {
        ValidationErrorKind::Required { property } => {
            let name = property.as_str().unwrap_or_default();
            violations.push(Violation {
                path: format!("{path}/{}", escape_pointer(name)),
                message: format!("`{name}` is missing"),
            });
        }
        ValidationErrorKind::AdditionalProperties { unexpected }
        | ValidationErrorKind::UnevaluatedProperties { unexpected } => {
            violations.extend(unexpected.iter().map(|name| Violation {
                path: format!("{path}/{}", escape_pointer(name)),
                message: format!("`{name}` is not allowed here"),
            }));
        }
        _ => violations.push(Violation { path: path.to_owned(), message: shorten(&error.to_string()) }),
    }
}

fn not_a_schema(error: &ValidationError<'_>) -> SchemaError {
    let message = match error.kind() {
        ValidationErrorKind::Referencing(reason) => {
            format!("{reason}; only references inside the schema (`#/$defs/…`) are followed")
        }
        ValidationErrorKind::AnyOf { .. } => {
            format!("{} is not allowed here", shorten(&error.instance().to_string()))
        }
        _ => shorten(&error.to_string()),
    };
    SchemaError { path: error.instance_path().as_str().to_owned(), message }
}

/// Messages quote values, and values can be large.
fn shorten(text: &str) -> String {
    const KEEP: usize = 240;
    if text.chars().count() <= KEEP {
        return text.to_owned();
    }
    let head: String = text.chars().take(KEEP / 2).collect();
    let tail: String = text.chars().skip(text.chars().count() - KEEP / 2).collect();
    format!("{head} … {tail}")
}

/// The schema that a local reference names.
pub(crate) fn resolve<'v>(root: &'v Value, reference: &str) -> Option<&'v Value> {
    let pointer = reference.strip_prefix('#')?;
    let mut at = root;
    for step in pointer.split('/').skip(1) {
        let key = step.replace("~1", "/").replace("~0", "~");
        at = match at {
            Value::Object(object) => object.get(&key)?,
            Value::Array(items) => items.get(key.parse::<usize>().ok()?)?,
            _ => return None,
        };
    }
    (pointer.is_empty() || pointer.starts_with('/')).then_some(at)
}

/// Holds a schema against the bounds before the library sees it.
struct Bounds<'v> {
    raw: &'v Value,
    subschemas: usize,
    patterns: usize,
    has_defaults: bool,
    /// Cost by address of the subschema; `None` while it is being counted.
    costs: HashMap<*const Object, Option<u64>>,
}

impl Bounds<'_> {
    fn walk(&mut self, value: &Value, path: &mut String, depth: usize) -> Result<(), SchemaError> {
        self.subschemas += 1;
        let refuse = |message: String, path: &str| Err(SchemaError { path: path.to_owned(), message });
        if depth > MAX_SCHEMA_DEPTH || self.subschemas > MAX_SUBSCHEMAS {
            return refuse("the schema is too large or too deep".to_owned(), path);
        }
        if self.patterns > MAX_PATTERNS {
            return refuse(format!("the schema has more than {MAX_PATTERNS} patterns"), path);
        }
        let length = path.len();
        match value {
            Value::Array(items) => {
                for (index, item) in items.iter().enumerate() {
                    let _ = write!(path, "/{index}");
                    self.walk(item, path, depth + 1)?;
                    path.truncate(length);
                }
            }
            Value::Object(object) => {
                for (key, item) in object.iter() {
                    path.push('/');
                    path.push_str(&escape_pointer(key));
                    match (&**key, item) {
                        ("pattern", Value::String(text)) if text.len() > MAX_PATTERN => {
                            return refuse(format!("the pattern is longer than {MAX_PATTERN} bytes"), path);
                        }
                        ("patternProperties", Value::Object(patterns))
                            if patterns.keys().any(|pattern| pattern.len() > MAX_PATTERN) =>
                        {
                            return refuse(format!("a pattern is longer than {MAX_PATTERN} bytes"), path);
                        }
                        ("pattern", Value::String(_)) => self.patterns += 1,
                        ("patternProperties", Value::Object(patterns)) => self.patterns += patterns.len(),
                        ("default", _) => self.has_defaults = true,
                        _ => {}
                    }
                    self.walk(item, path, depth + 1)?;
                    path.truncate(length);
                }
            }
            _ => {}
        }
        Ok(())
    }

    /// How many subschemas one place of a value is held against: those that apply to the same place add up, those that
    /// apply further down are counted on their own.
    fn cost(&mut self, path: &str, schema: &Value, depth: usize) -> Result<u64, SchemaError> {
        let Value::Object(object) = schema else { return Ok(1) };
        let key: *const Object = Arc::as_ptr(object);
        match self.costs.get(&key) {
            Some(Some(cost)) => return Ok(*cost),
            Some(None) => {
                return Err(SchemaError {
                    path: path.to_owned(),
                    message: "the schema refers to itself without going deeper into the value".to_owned(),
                });
            }
            None => {}
        }
        if depth > 4 * MAX_SCHEMA_DEPTH {
            return Err(SchemaError {
                path: path.to_owned(),
                message: "its references are too long a chain".to_owned(),
            });
        }
        self.costs.insert(key, None);
        let mut cost: u64 = 1;
        for (keyword, value) in object.iter() {
            let here = format!("{path}/{}", escape_pointer(keyword));
            match (&**keyword, value) {
                ("$ref" | "$dynamicRef" | "$recursiveRef", Value::String(reference)) => {
                    if let Some(target) = resolve(self.raw, reference) {
                        let target = target.clone();
                        cost = cost.saturating_add(self.cost(&here, &target, depth + 1)?);
                    }
                }
                ("allOf" | "anyOf" | "oneOf", Value::Array(items)) => {
                    for item in items.iter() {
                        cost = cost.saturating_add(self.cost(&here, item, depth + 1)?);
                    }
                }
                ("not" | "if" | "then" | "else", item) => {
                    cost = cost.saturating_add(self.cost(&here, item, depth + 1)?);
                }
                ("dependentSchemas", Value::Object(items)) => {
                    for item in items.values() {
                        cost = cost.saturating_add(self.cost(&here, item, depth + 1)?);
                    }
                }
                _ => {}
            }
        }
        if cost > MAX_COST {
            return Err(SchemaError {
                path: path.to_owned(),
                message: format!("its references multiply to more than {MAX_COST} schemas for one place"),
            });
        }
        self.costs.insert(key, Some(cost));
        // Deeper places start at 0 again, and may come back to this schema.
        for (keyword, value) in object.iter() {
            let here = format!("{path}/{}", escape_pointer(keyword));
            match (&**keyword, value) {
                ("properties" | "patternProperties" | "$defs" | "definitions", Value::Object(items)) => {
                    for item in items.values() {
                        self.cost(&here, item, depth + 1)?;
                    }
                }
                ("prefixItems" | "items", Value::Array(items)) => {
                    for item in items.iter() {
                        self.cost(&here, item, depth + 1)?;
                    }
                }
                (
                    "items"
                    | "contains"
                    | "additionalProperties"
                    | "propertyNames"
                    | "unevaluatedItems"
                    | "unevaluatedProperties"
                    | "additionalItems",
                    item,
                ) => {
                    self.cost(&here, item, depth + 1)?;
                }
                _ => {}
            }
        }
        Ok(cost)
    }
}

struct Filler<'v> {
    root: &'v Value,
    steps: usize,
}

impl Filler<'_> {
    fn fill(&mut self, schema: &Value, value: &mut Value, depth: usize) {
        self.steps += 1;
        let Value::Object(schema) = schema else { return };
        if depth > MAX_DEFAULT_DEPTH || self.steps > MAX_DEFAULT_STEPS {
            return;
        }
        if let Some(Value::String(reference)) = schema.get("$ref")
            && let Some(target) = resolve(self.root, reference)
        {
            self.fill(target, value, depth + 1);
        }
        for part in schema.get("allOf").and_then(Value::as_array).unwrap_or_default() {
            self.fill(part, value, depth + 1);
        }
        match value {
            Value::Object(_) => {
                let Some(properties) = schema.get("properties").and_then(Value::as_object) else { return };
                for (name, property) in properties {
                    let default = self.default_of(property);
                    let is_missing = !value.as_object().is_some_and(|object| object.contains_key(name));
                    if is_missing && default.is_none() {
                        continue;
                    }
                    let Some(object) = value.object_mut() else { return };
                    if let (true, Some(default)) = (is_missing, default) {
                        object.insert(name.clone(), default);
                    }
                    if let Some(inner) = object.get_mut(name) {
                        self.fill(property, inner, depth + 1);
                    }
                }
            }
            Value::Array(_) => {
                let items = schema.get("items");
                let prefix = schema.get("prefixItems").and_then(Value::as_array).unwrap_or_default();
                if items.is_none() && prefix.is_empty() {
                    return;
                }
                let Some(list) = value.array_mut() else { return };
                for (index, item) in list.iter_mut().enumerate() {
                    if let Some(schema) = prefix.get(index).or(items) {
                        self.fill(schema, item, depth + 1);
                    }
                }
            }
            _ => {}
        }
    }

    /// Its own, or that of what it refers to.
    fn default_of(&self, schema: &Value) -> Option<Value> {
        let mut at = schema;
        for _ in 0..8 {
            if let Some(default) = at.get("default") {
                return Some(default.clone());
            }
            at = resolve(self.root, at.get("$ref")?.as_str()?)?;
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn json(text: &str) -> Value {
        Value::parse_json(text).unwrap()
    }

    fn schema(text: &str) -> Schema {
        Schema::compile(&json(text)).unwrap()
    }

    fn paths(schema: &Schema, value: &str) -> Vec<String> {
        schema.validate(&json(value)).into_iter().map(|violation| violation.path).collect()
    }

    #[test]
    fn a_violation_stands_at_its_own_path() {
        let schema = schema(
            r#"{"type":"object","required":["namespace","a/b"],"additionalProperties":false,
                "properties":{"namespace":{"type":"string"},"a/b":{},"deep":{"required":["x"]},"n":{"enum":[1,2]}}}"#,
        );
        assert_eq!(paths(&schema, r#"{"namespace":"x","a/b":1}"#), Vec::<String>::new());
        assert_eq!(paths(&schema, "{}"), ["/namespace", "/a~1b"]);
        let mut all = paths(&schema, r#"{"namespace":1,"a/b":1,"deep":{},"odd":1,"n":3}"#);
        all.sort();
        assert_eq!(all, ["/deep/x", "/n", "/namespace", "/odd"]);
        assert_eq!(paths(&schema, "3"), [""]);
    }

    #[test]
    fn defaults_are_filled_in_before_validation_also_deeper() {
        let schema = schema(
            r##"{"type":"object","required":["range"],"properties":{
                "range":{"type":"string","default":"1h"},
                "limits":{"default":{},"properties":{"cpu":{"default":2}}},
                "list":{"items":{"properties":{"on":{"default":true}}}},
                "refers":{"$ref":"#/$defs/d"},
                "none":{"properties":{"x":{"default":1}}},
                "given":{"default":1}},
               "$defs":{"d":{"default":[7]}}}"##,
        );
        let mut value = json(r#"{"list":[{},{"on":false}],"given":null}"#);
        schema.fill_defaults(&mut value);
        assert_eq!(
            value,
            json(
                r#"{"list":[{"on":true},{"on":false}],"given":null,"range":"1h","limits":{"cpu":2},"refers":[7]}"#
            )
        );
        assert_eq!(schema.validate(&value), []);
    }

    #[test]
    fn hostile_schemas_are_refused_or_bounded() {
        let mut deep = "true".to_owned();
        for _ in 0..200 {
            deep = format!(r#"{{"items":{deep}}}"#);
        }
        let mut doubling = r##"{"$ref":"#/$defs/d0","$defs":{"d40":{"type":"string"}"##.to_owned();
        for i in 0..40 {
            let next = i + 1;
            let _ = write!(
                doubling,
                r##","d{i}":{{"allOf":[{{"$ref":"#/$defs/d{next}"}},{{"$ref":"#/$defs/d{next}"}}]}}"##
            );
        }
        doubling += "}}";
        let refused = [
            r##"{"$ref":"#"}"##.to_owned(),
            r##"{"allOf":[{"$ref":"#/$defs/a"}],"$defs":{"a":{"anyOf":[{"$ref":"#/$defs/a"}]}}}"##.to_owned(),
            r#"{"$ref":"https://example.com/schema.json"}"#.to_owned(),
            r#"{"$ref":"file:///etc/passwd"}"#.to_owned(),
            r##"{"$ref":"#/nowhere"}"##.to_owned(),
            r#"{"type":"strnig"}"#.to_owned(),
            r#"{"required":"x"}"#.to_owned(),
            r#"{"pattern":"("}"#.to_owned(),
            r#"{"pattern":"(((((a{500}){500}){500}){500}){500})"}"#.to_owned(),
            format!(r#"{{"pattern":"{}"}}"#, "a".repeat(5_000)),
            "3".to_owned(),
            doubling,
        ];
        for text in refused {
            let outcome = Schema::compile(&json(&text));
            assert!(outcome.is_err(), "{}", text.chars().take(80).collect::<String>());
        }
        if let Ok(value) = Value::parse_json(&deep) {
            assert!(Schema::compile(&value).is_err());
        }
        // Refers to itself, but goes deeper each time; a default that would grow for ever does not.
        let tree = schema(
            r##"{"properties":{"a":{"$ref":"#","default":{}},"b":{"$ref":"#","default":{}},"n":{"type":"integer"}}}"##,
        );
        let mut value = json("{}");
        tree.fill_defaults(&mut value);
        assert_eq!(paths(&tree, r#"{"a":{"b":{"n":"x"}}}"#), ["/a/b/n"]);
        let backtracking = schema(r#"{"pattern":"^(?=(a+)+$)(a+)+\\1$"}"#);
        assert_eq!(paths(&backtracking, &format!("\"{}b\"", "a".repeat(40))).len(), 1);
    }
}
