//! Which events start a run.

use expression::Value;

/// What an event must hold: fields that must be equal.
#[derive(Clone, Debug, PartialEq)]
pub struct EventFilter(Value);

impl EventFilter {
    /// A filter as written: a mapping.
    pub(crate) fn new(filter: Value) -> Self {
        Self(filter)
    }

    /// Whether the event holds at least what the filter names: a mapping by field, a list where one of its values is
    /// equal, anything else where it is equal itself. Of a list in the event, one item has to match.
    pub fn matches(&self, event: &Value) -> bool {
        matches(&self.0, event)
    }
}

fn matches(filter: &Value, found: &Value) -> bool {
    match (filter, found) {
        (Value::Array(any), _) => any.iter().any(|one| matches(one, found)),
        (_, Value::Array(items)) => items.iter().any(|item| matches(filter, item)),
        (Value::Object(fields), Value::Object(event)) => {
            fields.iter().all(|(key, wanted)| event.get(key).is_some_and(|found| matches(wanted, found)))
        }
        (Value::Object(_), _) => false,
        _ => filter == found,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_holds_what_the_filter_names() {
        let event = r#"{"source": "registry", "detail-type": "Image pushed", "resources": ["a", "b"],
            "detail": {"tag": "v2", "size": 3, "signed": true, "by": null, "layers": [{"id": 1}, {"id": 2}]}}"#;
        let event = Value::parse_json(event).unwrap();
        let accepts = |filter: &str| EventFilter::new(Value::parse_json(filter).unwrap()).matches(&event);
        for filter in [
            "{}",
            r#"{"source": "registry"}"#,
            r#"{"source": ["other", "registry"], "detail": {"tag": "v2"}}"#,
            r#"{"resources": "b"}"#,
            r#"{"resources": ["x", "a"]}"#,
            r#"{"detail": {"size": 3, "signed": true, "by": null}}"#,
            r#"{"detail": {"size": 3.0}}"#,
            r#"{"detail": {"layers": {"id": 2}}}"#,
            r#"{"detail": {}}"#,
        ] {
            assert!(accepts(filter), "{filter}");
        }
        for filter in [
            r#"{"source": "Registry"}"#,
            r#"{"source": []}"#,
            r#"{"source": {"registry": 1}}"#,
            r#"{"source": "registry", "kind": "pushed"}"#,
            r#"{"kind": null}"#,
            r#"{"detail": {"size": "3"}}"#,
            r#"{"detail": {"signed": 1}}"#,
            r#"{"detail": "v2"}"#,
            r#"{"detail": {"layers": {"id": 3}}}"#,
            r#"{"tag": "v2"}"#,
        ] {
            assert!(!accepts(filter), "{filter}");
        }
    }
}
