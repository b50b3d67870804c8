//! What a name means here.

use std::sync::Arc;

use crate::builtins::Builtin;
use crate::environment::Environment;
use crate::eval::Interp;
use crate::ir::{Name, Root};
use crate::meter::{Eval, Fault};
use crate::names::{Mark, Names};
use crate::nearest::{listed, nearest};
use crate::val::{Data, Val};
use crate::value::Value;

impl Interp<'_> {
    #[inline(never)]
    pub(crate) fn name(&mut self, name: &Name) -> Eval<Val> {
        let environment = self.environment;
        resolve(environment, &name.text, name.root)
    }
}

/// A name the program does not assign, in the order of the language.
pub(crate) fn resolve(environment: &Environment<'_>, name: &Arc<str>, root: Root) -> Eval<Val> {
    let names = environment.workflow_names;
    if let Some((_, value)) = environment.iteration.iter().find(|(key, _)| key == name) {
        return Ok(Val::json(value, Mark::NOWHERE));
    }
    match root {
        Root::Ctx => return Ok(Val::json(environment.context, Names::root())),
        Root::Input => return Ok(Val::json(environment.input, environment.input_mark)),
        Root::Steps | Root::Workflow => {
            let mark = names.below(Names::root(), name);
            // Before the first state has ended there may be no `steps`.
            return Ok(environment.context.get(name).map_or_else(
                || Val { data: Data::Object(Arc::default()), mark },
                |value| Val::json(value, mark),
            ));
        }
        Root::Other => {}
    }
    if let Some(data) = &environment.data {
        if let Some(value) = data.value.get(name) {
            return Ok(Val::json(value, names.below(data.mark, name)));
        }
        let whole = matches!(name.as_ref(), "result" | "_value" | "val" | "data");
        if whole || data.name.as_ref() == Some(name) {
            return Ok(Val::json(&data.value, data.mark));
        }
    }
    if let Some(value) = environment.context.get(name) {
        return Ok(Val::json(value, names.below(Names::root(), name)));
    }
    if names.is_state(name)
        && let Some(value) = environment.context.get("steps").and_then(|steps| steps.get(name))
    {
        return Ok(Val::json(value, names.below(Names::steps(), name)));
    }
    if let Some(mark) = names.absent_root(name) {
        return Ok(Val { data: Data::None, mark });
    }
    if names.is_state(name) {
        return Ok(Val { data: Data::None, mark: names.absent_step(name).unwrap_or_default() });
    }
    if let Some(value) = special(environment, name, true) {
        return Ok(value);
    }
    if let Some(builtin) = Builtin::named(name) {
        return Ok(Data::Builtin(builtin).into());
    }
    Err(unknown(environment, name))
}

/// What the engine knows of the moment, by the names it has in `ctx` and, if `bare`, as names alone.
pub(crate) fn special(environment: &Environment<'_>, name: &str, bare: bool) -> Option<Val> {
    let special = environment.special;
    let text = |text: Option<&str>| Some(text.map_or(Val::NONE, Val::text));
    match name {
        "now" if bare => text(special.timestamp),
        "_timestamp" => text(special.timestamp),
        "_runID" => text(special.run_id),
        "_cronTriggeredAt" => text(special.cron_triggered_at),
        "_errorMessage" => text(special.error_message),
        "_error" => Some(special.error.map_or(Val::NONE, |error| Val::json(error, Mark::NOWHERE))),
        _ => None,
    }
}

#[cold]
fn unknown(environment: &Environment<'_>, name: &str) -> Box<Fault> {
    let names = environment.workflow_names;
    let empty = [].iter();
    let data = environment
        .data
        .iter()
        .filter_map(|data| data.value.as_object())
        .flat_map(crate::value::Object::keys);
    let roots = environment.context.as_object().into_iter().flat_map(crate::value::Object::keys);
    let iteration = environment.iteration.iter().map(|(key, _)| key);
    let known = || iteration.clone().chain(data.clone()).chain(roots.clone()).map(AsRef::as_ref);
    let everything = known()
        .chain(names.states().map(AsRef::as_ref))
        .chain(names.written_roots().map(AsRef::as_ref))
        .chain(["ctx", "steps", "workflow", "input", "now"])
        .chain(empty.copied());
    let near = nearest(name, everything).map(str::to_owned);
    let fault = Fault::new(format!("nothing is named `{name}` here; there is {}", listed(known())));
    match near {
        Some(near) => fault.hint(format!("did you mean `{near}`?")),
        None => fault,
    }
}

impl Interp<'_> {
    /// Says of None who would have written it.
    #[cold]
    pub(crate) fn absent(&self, value: &Val, message: String) -> Box<Fault> {
        match self.environment.workflow_names.writer(value.mark) {
            Some(writer) => Fault::new(format!(
                "{message}: it is written by the state `{writer}`, which has not run here"
            ))
            .hint("ask first, as in `x.key if x != None else …`"),
            None => Fault::new(message),
        }
    }

    /// The value of a key that an object of the context does not have, if it still means something.
    pub(crate) fn virtual_key(&self, mark: Mark, key: &str) -> Option<Val> {
        let environment = self.environment;
        let names = environment.workflow_names;
        if Names::is_root(mark) {
            if let Some((_, value)) = environment.iteration.iter().find(|(name, _)| name.as_ref() == key) {
                return Some(Val::json(value, Mark::NOWHERE));
            }
            if key == "input" {
                return Some(Val::json(environment.input, environment.input_mark));
            }
            if key == "steps" {
                return Some(Val { data: Data::Object(Arc::default()), mark: Names::steps() });
            }
            let absent = names.absent_root(key).map(|mark| Val { data: Data::None, mark });
            return absent.or_else(|| special(environment, key, false));
        }
        if Names::is_steps(mark) {
            return names.absent_step(key).map(|mark| Val { data: Data::None, mark });
        }
        None
    }

    /// Names that could stand where a key is missing.
    pub(crate) fn virtual_keys(&self, mark: Mark) -> Vec<&str> {
        written(self.environment.workflow_names, mark)
    }
}

/// Reads a key of a JSON value that stands at a mark, as expressions and paths both do.
pub(crate) fn read_key(names: &Names, value: &Value, mark: Mark, key: &str) -> Option<(Value, Mark)> {
    if names.is_result(mark) {
        if key == "output" {
            return Some((value.clone(), Names::open(mark)));
        }
        if key == "result" && value.get("result").is_none() {
            return Some((value.clone(), Names::open(mark)));
        }
    }
    value.get(key).map(|value| (value.clone(), names.below(mark, key)))
}

/// A root key that is not in the context itself.
pub(crate) fn root_key(environment: &Environment<'_>, key: &str) -> Option<(Value, Mark)> {
    if let Some((_, value)) = environment.iteration.iter().find(|(name, _)| name.as_ref() == key) {
        return Some((value.clone(), Mark::NOWHERE));
    }
    if key == "input" {
        return Some((environment.input.clone(), environment.input_mark));
    }
    let special = environment.special;
    let text = match key {
        "_timestamp" => special.timestamp,
        "_runID" => special.run_id,
        "_cronTriggeredAt" => special.cron_triggered_at,
        "_errorMessage" => special.error_message,
        "_error" => return special.error.map(|error| (error.clone(), Mark::NOWHERE)),
        _ => None,
    };
    text.map(|text| (Value::from(text), Mark::NOWHERE))
}

/// Who writes a missing key.
pub(crate) fn writer<'a>(names: &'a Names, mark: Mark, key: &str) -> Option<&'a str> {
    let absent = if Names::is_root(mark) {
        names.absent_root(key)
    } else if Names::is_steps(mark) {
        names.absent_step(key)
    } else {
        None
    };
    absent.and_then(|mark| names.writer(mark))
}

/// The keys that states write at a mark.
pub(crate) fn written(names: &Names, mark: Mark) -> Vec<&str> {
    if Names::is_root(mark) {
        names.written_roots().map(AsRef::as_ref).collect()
    } else if Names::is_steps(mark) {
        names.written_steps().map(AsRef::as_ref).collect()
    } else {
        Vec::new()
    }
}
