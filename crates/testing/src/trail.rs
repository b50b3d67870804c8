//! The way a run took: states entered, in order, with what happened inside them.

use std::fmt;

use expression::Value;

/// States entered in one list of states, in order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Trail(pub Vec<Step>);

/// A state entered once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    /// Its name.
    pub state: String,
    /// What was entered inside it.
    pub inside: Inside,
}

/// What was entered inside a state.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Inside {
    /// The state has no states of its own; in an expectation: it is not looked at.
    Nothing,
    /// `parallel`: each branch.
    Branches(Vec<(String, Trail)>),
    /// `foreach`: each iteration, in item order.
    Iterations(Vec<Trail>),
    /// `try` and `while`: the states of its blocks.
    Block(Trail),
}

impl Trail {
    /// Reads the form of test files: `[a, {parallel: {branch: [...]}}, {foreach: [[...], [...]]}, {try: [...]}]`.
    /// An error names the place as a JSON pointer below the value.
    pub fn read(value: &Value) -> Result<Self, (String, String)> {
        let Some(items) = value.as_array() else {
            return Err((String::new(), format!("a path is a list of states, not {}", value.kind())));
        };
        let mut steps = Vec::with_capacity(items.len());
        for (index, item) in items.iter().enumerate() {
            steps.push(
                Step::read(item).map_err(|(pointer, message)| (format!("/{index}{pointer}"), message))?,
            );
        }
        Ok(Self(steps))
    }

    /// Whether a run that took `actual` is as expected here.
    pub fn matches(&self, actual: &Self) -> bool {
        self.0.len() == actual.0.len()
            && self.0.iter().zip(&actual.0).all(|(expected, actual)| expected.matches(actual))
    }
}

impl Step {
    fn read(value: &Value) -> Result<Self, (String, String)> {
        if let Some(state) = value.as_str() {
            return Ok(Self { state: state.to_owned(), inside: Inside::Nothing });
        }
        let entry =
            value.as_object().filter(|object| object.len() == 1).and_then(|object| object.get_index(0));
        let Some((state, inside)) = entry else {
            return Err((
                String::new(),
                "a step of a path is a state's name, or `{name: …}` with what is inside it".to_owned(),
            ));
        };
        let at = |(pointer, message): (String, String)| (format!("/{}{pointer}", escape(state)), message);
        let inside = match inside {
            Value::Object(branches) => {
                let mut read = Vec::with_capacity(branches.len());
                for (name, trail) in &**branches {
                    let trail = Trail::read(trail)
                        .map_err(|(pointer, message)| at((format!("/{}{pointer}", escape(name)), message)))?;
                    read.push((name.to_string(), trail));
                }
                Inside::Branches(read)
            }
            Value::Array(items)
                if !items.is_empty() && items.iter().all(|item| item.as_array().is_some()) =>
            {
                let mut read = Vec::with_capacity(items.len());
                for (index, trail) in items.iter().enumerate() {
                    read.push(
                        Trail::read(trail)
                            .map_err(|(pointer, message)| at((format!("/{index}{pointer}"), message)))?,
                    );
                }
                Inside::Iterations(read)
            }
            Value::Array(_) => Inside::Block(Trail::read(inside).map_err(at)?),
            other => {
                let message = format!(
                    "inside a state stand branches, iterations or a list of states, not {}",
                    other.kind()
                );
                return Err(at((String::new(), message)));
            }
        };
        Ok(Self { state: state.to_string(), inside })
    }

    fn matches(&self, actual: &Self) -> bool {
        if self.state != actual.state {
            return false;
        }
        match (&self.inside, &actual.inside) {
            (Inside::Nothing, _) => true,
            (Inside::Branches(expected), Inside::Branches(actual)) => {
                let same = |name: &str, trail: &Trail, others: &[(String, Trail)]| {
                    others
                        .iter()
                        .find(|(other, _)| other == name)
                        .map(|(_, other)| (trail.clone(), other.clone()))
                };
                // A branch that entered nothing may be left out.
                expected.iter().all(|(name, trail)| {
                    same(name, trail, actual).is_some_and(|(expected, actual)| expected.matches(&actual))
                }) && actual.iter().all(|(name, trail)| {
                    trail.0.is_empty() || expected.iter().any(|(other, _)| other == name)
                })
            }
            (Inside::Iterations(expected), Inside::Iterations(actual)) => {
                expected.len() == actual.len()
                    && expected.iter().zip(actual).all(|(expected, actual)| expected.matches(actual))
            }
            (Inside::Block(expected), Inside::Block(actual)) => expected.matches(actual),
            // `[]` can be read as either.
            (Inside::Block(expected), Inside::Iterations(actual)) => {
                expected.0.is_empty() && actual.is_empty()
            }
            _ => false,
        }
    }
}

/// YAML in one line, as it would stand in a test file.
impl fmt::Display for Trail {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[")?;
        for (index, step) in self.0.iter().enumerate() {
            if index > 0 {
                f.write_str(", ")?;
            }
            match step.inside {
                Inside::Nothing => write!(f, "{step}")?,
                _ => write!(f, "{{{step}}}")?,
            }
        }
        f.write_str("]")
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.state)?;
        match &self.inside {
            Inside::Nothing => Ok(()),
            Inside::Block(trail) => write!(f, ": {trail}"),
            Inside::Branches(branches) => {
                f.write_str(": {")?;
                for (index, (name, trail)) in branches.iter().enumerate() {
                    write!(f, "{}{name}: {trail}", if index > 0 { ", " } else { "" })?;
                }
                f.write_str("}")
            }
            Inside::Iterations(iterations) => {
                f.write_str(": [")?;
                for (index, trail) in iterations.iter().enumerate() {
                    write!(f, "{}{trail}", if index > 0 { ", " } else { "" })?;
                }
                f.write_str("]")
            }
        }
    }
}

pub(crate) fn escape(key: &str) -> String {
    key.replace('~', "~0").replace('/', "~1")
}
