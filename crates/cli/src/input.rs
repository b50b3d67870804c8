//! Values given on the command line: JSON, `@FILE`, or `-` for stdin.

use std::io::Read;
use std::path::Path;

use expression::Value;
use model::Located;

use crate::output::Failure;
use crate::project;

/// More than this is not read from stdin.
const MAX_STDIN: u64 = 64 << 20;

/// Reads a JSON value; a file may also be YAML. `what` names it in errors (`--input`).
pub(crate) fn value(text: &str, what: &str) -> Result<Value, Failure> {
    if let Some(path) = text.strip_prefix('@') {
        let source = project::read(Path::new(path))?;
        if Path::new(path)
            .extension()
            .is_some_and(|ending| ending.eq_ignore_ascii_case("yaml") || ending.eq_ignore_ascii_case("yml"))
        {
            return match Located::parse(&source, path) {
                Ok(located) => Ok(located.value),
                Err(issues) => {
                    let first = issues.first().map_or_else(String::new, ToString::to_string);
                    Err(Failure::new("INPUT_NOT_JSON", format!("{what}: `{path}` cannot be read: {first}")))
                }
            };
        }
        return json(&source, what, path);
    }
    if text == "-" {
        let mut source = String::new();
        std::io::stdin().lock().take(MAX_STDIN).read_to_string(&mut source).map_err(|error| {
            Failure::new("INPUT_NOT_JSON", format!("{what}: stdin cannot be read: {error}"))
        })?;
        return json(&source, what, "stdin");
    }
    json(text, what, "")
}

fn json(source: &str, what: &str, place: &str) -> Result<Value, Failure> {
    Value::parse_json(source).map_err(|error| {
        let before = source.get(..error.offset.min(source.len())).unwrap_or(source);
        let line = before.matches('\n').count() + 1;
        let column = before.rsplit('\n').next().unwrap_or_default().chars().count() + 1;
        let place =
            if place.is_empty() { format!("column {column}") } else { format!("{place}:{line}:{column}") };
        Failure::new("INPUT_NOT_JSON", format!("{what} is no JSON, at {place}: {}", error.message))
            .hint("give JSON like '{\"service\": \"checkout\"}', @FILE for a file, or - for stdin")
    })
}

/// As [`value`], where only an object makes sense.
pub(crate) fn object(text: &str, what: &str) -> Result<Value, Failure> {
    let value = value(text, what)?;
    if value.as_object().is_none() {
        return Err(Failure::new(
            "INPUT_NOT_JSON",
            format!("{what} must be a JSON object, not {}", value.kind()),
        ));
    }
    Ok(value)
}

/// In whose name: as given, or the one logged in.
pub(crate) fn user(given: Option<&str>) -> String {
    match given {
        Some(user) if user.contains(':') => user.to_owned(),
        Some(user) => format!("user:{user}"),
        None => {
            let name = ["USER", "LOGNAME", "USERNAME"]
                .iter()
                .find_map(|name| std::env::var(name).ok().filter(|name| !name.is_empty()));
            format!("user:{}", name.as_deref().unwrap_or("unknown"))
        }
    }
}
