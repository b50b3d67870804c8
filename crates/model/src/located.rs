//! Documents that are neither workflows nor agents (test files), read with the same care and with their places.

use std::collections::HashMap;

use expression::Object;
use expression::Value;

use crate::Issue;
use crate::yaml;
use crate::yaml::Data;
use crate::yaml::Node;
use crate::yaml::Number;
use crate::yaml::escape_pointer;

/// A YAML or JSON document as a value, and where each part of it stands in the source.
#[derive(Clone, Debug)]
pub struct Located {
    /// The document.
    pub value: Value,
    places: HashMap<String, (u32, u32)>,
}

impl Located {
    /// Reads a source, within the bounds that every file has. `file` decides about JSON by its ending.
    pub fn parse(source: &str, file: &str) -> Result<Self, Vec<Issue>> {
        let document = yaml::parse(source, file)?;
        let mut places = HashMap::new();
        let value = convert(&document.root, &mut String::new(), &mut places);
        Ok(Self { value, places })
    }

    /// Line and column (from 1) of the value at a JSON pointer, or of the nearest one around it.
    pub fn place(&self, pointer: &str) -> (u32, u32) {
        let mut pointer = pointer;
        loop {
            if let Some(place) = self.places.get(pointer) {
                return *place;
            }
            let Some((parent, _)) = pointer.rsplit_once('/') else { return (1, 1) };
            pointer = parent;
        }
    }
}

fn convert(node: &Node, pointer: &mut String, places: &mut HashMap<String, (u32, u32)>) -> Value {
    places.entry(pointer.clone()).or_insert((node.span.line, node.span.column));
    let length = pointer.len();
    match &node.data {
        Data::Null => Value::Null,
        Data::Bool(flag) => Value::Bool(*flag),
        Data::Number(_, Number::Int(number)) => Value::Int(*number),
        Data::Number(_, Number::Float(number)) => Value::float(*number).unwrap_or_default(),
        Data::Number(_, Number::Big(digits)) => Value::parse_json(digits).unwrap_or_default(),
        Data::Text(text, _) => Value::String(text.clone()),
        Data::List(items) => {
            let mut values = Vec::with_capacity(items.len());
            for (index, item) in items.iter().enumerate() {
                pointer.push('/');
                pointer.push_str(&index.to_string());
                values.push(convert(item, pointer, places));
                pointer.truncate(length);
            }
            values.into()
        }
        Data::Map(entries) => {
            let mut object = Object::with_capacity(entries.len());
            for entry in entries {
                pointer.push('/');
                pointer.push_str(&escape_pointer(&entry.key));
                places.insert(pointer.clone(), (entry.key_span.line, entry.key_span.column));
                object.insert(entry.key.clone(), convert(&entry.value, pointer, places));
                pointer.truncate(length);
            }
            object.into()
        }
    }
}
