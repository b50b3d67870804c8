//! Methods of dicts and lists, and the way to those of strings.

use std::sync::Arc;

use crate::access::immutable;
use crate::call::{Given, Taken};
use crate::eval::{Interp, OBJECT};
use crate::ir::Args;
use crate::meter::{Eval, Fault};
use crate::nearest::{listed, nearest};
use crate::val::{Data, VAL, Val};

const DICT: &[&str] = &["clear", "get", "items", "keys", "pop", "popitem", "setdefault", "update", "values"];
const LIST: &[&str] = &["append", "clear", "extend", "index", "insert", "pop", "remove"];

fn methods(data: &Data) -> &'static [&'static str] {
    match data {
        Data::Object(_) | Data::Dict(_) => DICT,
        Data::Array(_) | Data::List(_) => LIST,
        Data::Str(_) => crate::strings::METHODS,
        _ => &[],
    }
}

pub(crate) fn is_method(data: &Data, name: &str) -> bool {
    methods(data).contains(&name)
}

impl Interp<'_> {
    #[inline(never)]
    pub(crate) fn method(&mut self, value: &Val, name: &Arc<str>, args: &Args) -> Eval<Val> {
        let given = self.given(args)?;
        if name.as_ref() == "get" && self.environment.workflow_names.is_result(value.mark) {
            return self.get(value, given);
        }
        match &value.data {
            Data::Str(text) => {
                let text = text.clone();
                self.string_method(&text, name, given)
            }
            Data::Object(_) | Data::Dict(_) => self.dict_method(value, name, given),
            Data::Array(_) | Data::List(_) => self.list_method(value, name, given),
            _ => Err(self.no_method(value, name)),
        }
    }

    #[cold]
    pub(crate) fn no_method(&self, value: &Val, name: &str) -> Box<Fault> {
        let kind = value.data.type_name();
        if matches!(value.data, Data::None) {
            return self.absent(value, format!("`.{name}(…)` cannot be called: {OBJECT} is None"));
        }
        let known = methods(&value.data);
        let fault =
            Fault::new(format!("a {kind} has no method `{name}`; it has {}", listed(known.iter().copied())));
        match nearest(name, known.iter().copied()) {
            Some(near) => fault.hint(format!("did you mean `{near}`?")),
            None => fault,
        }
    }

    fn get(&mut self, dict: &Val, given: Given) -> Eval<Val> {
        let mut args = Taken::new("get", given);
        let key = args.need("key")?;
        let default = args.maybe(Some("default"))?.unwrap_or(Val::NONE);
        args.done()?;
        let found = match &key.data {
            Data::Str(text) => {
                let text = text.clone();
                self.find(dict, &text)?
            }
            _ => self.lookup(dict, &key)?,
        };
        Ok(found.unwrap_or(default))
    }

    #[inline(never)]
    fn dict_method(&mut self, value: &Val, name: &str, given: Given) -> Eval<Val> {
        match name {
            "get" => return self.get(value, given),
            "keys" | "values" | "items" => {
                Taken::new("keys", given).done()?;
                return self.listing(value, name);
            }
            _ => {}
        }
        let Data::Dict(dict) = value.data else {
            return Err(if DICT.contains(&name) {
                immutable(&value.data)
            } else {
                self.no_method(value, name)
            });
        };
        match name {
            "clear" => {
                Taken::new("clear", given).done()?;
                self.heap.dict_mut(dict)?.clear();
                Ok(Val::NONE)
            }
            "pop" => {
                let mut args = Taken::new("pop", given);
                let key = args.need("key")?;
                let default = args.maybe(Some("default"))?;
                args.done()?;
                let hashed = self.heap.key(&mut self.meter, &key.data, 0)?;
                // The order of the others is kept, which moves them.
                let count = self.count(&value.data).unwrap_or(0);
                self.meter.step(count / 16)?;
                match self.heap.dict_mut(dict)?.shift_remove(&hashed) {
                    Some((_, value)) => Ok(value),
                    None => default.ok_or_else(|| {
                        let key = self.excerpt(&key);
                        Fault::new(format!("there is no key {key} in {OBJECT}"))
                    }),
                }
            }
            "popitem" => {
                Taken::new("popitem", given).done()?;
                let count = self.count(&value.data).unwrap_or(0);
                self.meter.step(count / 16)?;
                let Some((_, (key, value))) = self.heap.dict_mut(dict)?.shift_remove_index(0) else {
                    return Err(Fault::new("there is nothing in the dict"));
                };
                self.heap.tuple(&mut self.meter, vec![key, value])
            }
            "setdefault" => {
                let mut args = Taken::new("setdefault", given);
                let key = args.need("key")?;
                let default = args.maybe(Some("default"))?.unwrap_or(Val::NONE);
                args.done()?;
                if let Some(found) = self.lookup(value, &key)? {
                    return Ok(found);
                }
                self.heap.insert(&mut self.meter, dict, key, default.clone())?;
                Ok(default)
            }
            "update" => self.update(dict, given),
            _ => Err(self.no_method(value, name)),
        }
    }

    fn listing(&mut self, value: &Val, what: &str) -> Eval<Val> {
        let mut items = Vec::new();
        for (key, item) in self.entries(value)? {
            items.push(match what {
                "keys" => key,
                "values" => item,
                _ => self.heap.tuple(&mut self.meter, vec![key, item])?,
            });
        }
        self.heap.list(&mut self.meter, items)
    }

    fn update(&mut self, dict: u32, given: Given) -> Eval<Val> {
        let mut args = Taken::new("update", given);
        let pairs = args.maybe(None)?;
        let named = args.rest_named();
        args.done()?;
        if let Some(pairs) = pairs {
            let entries = match pairs.data {
                Data::Dict(_) | Data::Object(_) => self.entries(&pairs)?,
                _ => self.pairs(&pairs)?,
            };
            for (key, value) in entries {
                self.heap.insert(&mut self.meter, dict, key, value)?;
            }
        }
        for (name, value) in named {
            self.heap.insert(&mut self.meter, dict, Val::text(name), value)?;
        }
        Ok(Val::NONE)
    }

    /// Items that are pairs, as `dict(…)` and `update(…)` take them.
    pub(crate) fn pairs(&mut self, value: &Val) -> Eval<Vec<(Val, Val)>> {
        let mut entries = Vec::new();
        for pair in self.collect(value)? {
            match <[Val; 2]>::try_from(self.collect(&pair)?) {
                Ok([key, value]) => entries.push((key, value)),
                Err(_) => return Err(Fault::new("a dict or a list of pairs is needed")),
            }
        }
        Ok(entries)
    }

    #[inline(never)]
    fn list_method(&mut self, value: &Val, name: &str, given: Given) -> Eval<Val> {
        if name == "index" {
            return self.list_index(value, given);
        }
        let Data::List(list) = value.data else {
            return Err(if LIST.contains(&name) {
                immutable(&value.data)
            } else {
                self.no_method(value, name)
            });
        };
        let len = self.heap.items(list).len();
        match name {
            "append" => {
                let mut args = Taken::new("append", given);
                let item = args.need("value")?;
                args.done()?;
                self.meter.alloc(VAL)?;
                self.heap.list_mut(list)?.push(item);
            }
            "clear" => {
                Taken::new("clear", given).done()?;
                self.heap.list_mut(list)?.clear();
            }
            "extend" => {
                let mut args = Taken::new("extend", given);
                let more = args.need("iterable")?;
                args.done()?;
                let more = self.collect(&more)?;
                self.heap.list_mut(list)?.extend(more);
            }
            "insert" => {
                let mut args = Taken::new("insert", given);
                let at = self.integer(&args.need("index")?)?;
                let item = args.need("value")?;
                args.done()?;
                self.meter.alloc(VAL)?;
                self.meter.step(len as u64 / 16)?;
                let at = clamp(at, len);
                self.heap.list_mut(list)?.insert(at, item);
            }
            "pop" => {
                let mut args = Taken::new("pop", given);
                let at = args.maybe(None)?.map(|at| self.integer(&at)).transpose()?;
                args.done()?;
                self.meter.step(len as u64 / 16)?;
                // A negative index is out of range here, as in the `starlark` crate.
                let at = at.map_or(len.checked_sub(1), |at| usize::try_from(at).ok());
                return match at.filter(|at| *at < len) {
                    Some(at) => Ok(self.heap.list_mut(list)?.remove(at)),
                    None => Err(Fault::new(format!("the index is out of range: there are {len} items"))),
                };
            }
            "remove" => {
                let mut args = Taken::new("remove", given);
                let needle = args.need("value")?;
                args.done()?;
                match self.position_of(&value.data, &needle, 0, len as u64)? {
                    Some(at) => {
                        self.heap.list_mut(list)?.remove(usize::try_from(at).unwrap_or(0));
                    }
                    None => return Err(self.not_found(&needle)),
                }
            }
            _ => return Err(self.no_method(value, name)),
        }
        Ok(Val::NONE)
    }

    fn list_index(&mut self, value: &Val, given: Given) -> Eval<Val> {
        let mut args = Taken::new("index", given);
        let needle = args.need("value")?;
        let start = self.bound(args.maybe(None)?.as_ref())?;
        let stop = self.bound(args.maybe(None)?.as_ref())?;
        args.done()?;
        let len = usize::try_from(self.count(&value.data).unwrap_or(0)).unwrap_or(usize::MAX);
        let start = start.map_or(0, |at| clamp(at, len)) as u64;
        let stop = stop.map_or(len, |at| clamp(at, len)) as u64;
        match self.position_of(&value.data, &needle, start, stop)? {
            Some(at) => Ok(Val::int(usize::try_from(at).unwrap_or(usize::MAX))),
            None => Err(self.not_found(&needle)),
        }
    }

    fn position_of(&mut self, data: &Data, needle: &Val, start: u64, stop: u64) -> Eval<Option<u64>> {
        for at in start..stop {
            self.meter.step(1)?;
            if let Some(item) = self.item(data, at)
                && self.equals(&item, needle, 0)?
            {
                return Ok(Some(at));
            }
        }
        Ok(None)
    }

    fn not_found(&mut self, needle: &Val) -> Box<Fault> {
        let needle = self.excerpt(needle);
        Fault::new(format!("{needle} is not in {OBJECT}"))
    }

    pub(crate) fn integer(&self, value: &Val) -> Eval<i64> {
        match &value.data {
            Data::Int(number) => Ok(*number),
            Data::Big(_) => Err(Fault::new("the integer is too large here")),
            other => Err(self.absent(value, format!("an integer is needed, not a {}", other.type_name()))),
        }
    }

    /// An optional bound: an integer or None.
    pub(crate) fn bound(&self, value: Option<&Val>) -> Eval<Option<i64>> {
        match value {
            None => Ok(None),
            Some(value) if matches!(value.data, Data::None) => Ok(None),
            Some(value) => self.integer(value).map(Some),
        }
    }

    pub(crate) fn string(&self, value: &Val) -> Eval<Arc<str>> {
        match &value.data {
            Data::Str(text) => Ok(text.clone()),
            other => Err(self.absent(value, format!("a string is needed, not a {}", other.type_name()))),
        }
    }
}

/// A bound counted from the end if negative, kept inside.
pub(crate) fn clamp(at: i64, len: usize) -> usize {
    let len_signed = i64::try_from(len).unwrap_or(i64::MAX);
    let at = if at < 0 { at.saturating_add(len_signed) } else { at };
    usize::try_from(at.clamp(0, len_signed)).unwrap_or(0)
}
