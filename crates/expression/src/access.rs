//! Keys, indices and slices, and where a result's `.output` and `.result` come in.

use std::sync::Arc;

use crate::eval::{Interp, OBJECT};
use crate::meter::{Eval, Fault};
use crate::names::{Mark, Names};
use crate::nearest::{listed, nearest};
use crate::val::{Data, TextKey, VAL, Val};

impl Interp<'_> {
    /// The value of a key, if the object has it. Keys only: no methods, no None for what has not run.
    pub(crate) fn find(&mut self, object: &Val, key: &str) -> Eval<Option<Val>> {
        self.meter.scan(key.len())?;
        let names = self.environment.workflow_names;
        if names.is_result(object.mark) {
            let opened = || Val { data: object.data.clone(), mark: Names::open(object.mark) };
            match key {
                "output" => return Ok(Some(opened())),
                "result" => return Ok(Some(self.plain(object, key).unwrap_or_else(opened))),
                _ => {}
            }
        }
        Ok(self.plain(object, key))
    }

    fn plain(&self, object: &Val, key: &str) -> Option<Val> {
        match &object.data {
            Data::Object(map) => {
                let value = map.get(key)?;
                let mark = match object.mark {
                    Mark::NOWHERE => Mark::NOWHERE,
                    mark => self.environment.workflow_names.below(mark, key),
                };
                Some(Val::json(value, mark))
            }
            Data::Dict(dict) => {
                self.heap.dict_ref(*dict)?.entries.get(&TextKey(key)).map(|(_, value)| value.clone())
            }
            _ => None,
        }
    }

    /// `object.key` and `object["key"]`.
    #[inline(never)]
    pub(crate) fn key(&mut self, object: &Val, key: &str) -> Eval<Val> {
        if let Some(value) = self.find(object, key)? {
            return Ok(value);
        }
        if let Some(value) = self.virtual_key(object.mark, key) {
            return Ok(value);
        }
        Err(self.missing(object, key))
    }

    #[cold]
    pub(crate) fn missing(&self, object: &Val, key: &str) -> Box<Fault> {
        let shown: String = key.chars().take(60).collect();
        let keys: Vec<&str> = match &object.data {
            Data::Object(map) => map.keys().map(AsRef::as_ref).collect(),
            Data::Dict(dict) => self
                .heap
                .dict_ref(*dict)
                .into_iter()
                .flat_map(|dict| dict.entries.values())
                .filter_map(|(key, _)| match &key.data {
                    Data::Str(text) => Some(text.as_ref()),
                    _ => None,
                })
                .collect(),
            Data::None => return self.absent(object, format!("`{shown}` cannot be read: {OBJECT} is None")),
            Data::Array(_) | Data::List(_) | Data::Tuple(_) | Data::Range(_) => {
                let kind = object.data.type_name();
                return Fault::new(format!("{OBJECT} is a {kind} and has no key `{shown}`"))
                    .hint("use an index, as in `[0]`, or loop over it");
            }
            other => {
                return Fault::new(format!("{OBJECT} is a {} and has no key `{shown}`", other.type_name()));
            }
        };
        let fault = Fault::new(format!(
            "there is no key `{shown}` in {OBJECT}; there is {}",
            listed(keys.iter().copied())
        ));
        let near = nearest(key, keys.iter().copied().chain(self.virtual_keys(object.mark)));
        match near {
            Some(near) => {
                let near = near.to_owned();
                fault.hint(format!("did you mean `{near}`?"))
            }
            None if crate::methods::is_method(&object.data, key) => {
                fault.hint(format!("the method is called with brackets: `.{key}()`"))
            }
            None => fault,
        }
    }

    /// `object[index]`.
    #[inline(never)]
    pub(crate) fn index(&mut self, object: &Val, index: &Val) -> Eval<Val> {
        match (&object.data, &index.data) {
            (_, Data::Str(key)) if !matches!(object.data, Data::Dict(_)) => {
                let key = key.clone();
                self.key(object, &key)
            }
            (Data::Dict(dict), _) => {
                let key = self.heap.key(&mut self.meter, &index.data, 0)?;
                let found = self.heap.dict_ref(*dict).and_then(|dict| dict.entries.get(&key));
                match (found, &index.data) {
                    (Some((_, value)), _) => Ok(value.clone()),
                    (None, Data::Str(key)) => {
                        let key = key.clone();
                        Err(self.missing(object, &key))
                    }
                    (None, _) => {
                        let key = self.excerpt(index);
                        Err(Fault::new(format!("there is no key {key} in the dict")))
                    }
                }
            }
            (Data::Object(_), _) => {
                let key = self.excerpt(index);
                Err(Fault::new(format!("there is no key {key}: the keys of JSON objects are strings")))
            }
            (Data::None, _) => Err(self.absent(object, "None has no index".to_owned())),
            (Data::Str(text), _) => {
                let text = text.clone();
                self.character(&text, index)
            }
            (Data::Array(_) | Data::List(_) | Data::Tuple(_) | Data::Range(_), _) => {
                let len = self.count(&object.data).unwrap_or(0);
                let at = position(index, len)?;
                Ok(self.item(&object.data, at).unwrap_or(Val::NONE))
            }
            (other, _) => Err(Fault::new(format!("a {} has no index", other.type_name()))),
        }
    }

    /// The item of a sequence.
    pub(crate) fn item(&self, data: &Data, at: u64) -> Option<Val> {
        let index = usize::try_from(at).ok()?;
        match data {
            Data::Array(items) => items.get(index).map(|item| Val::json(item, Mark::NOWHERE)),
            Data::List(list) => self.heap.items(*list).get(index).cloned(),
            Data::Tuple(tuple) => self.heap.tuple_items(*tuple).get(index).cloned(),
            Data::Range(range) => range.get(at).map(|number| Data::Int(number).into()),
            _ => None,
        }
    }

    fn character(&mut self, text: &str, index: &Val) -> Eval<Val> {
        self.meter.scan(text.len())?;
        let at = position(index, text.chars().count() as u64)?;
        let found = text.chars().nth(usize::try_from(at).unwrap_or(usize::MAX));
        self.meter.alloc(8)?;
        Ok(Val::text(found.map(String::from).unwrap_or_default()))
    }

    /// `object[start:stop:step]`.
    pub(crate) fn slice(
        &mut self,
        object: &Val,
        start: Option<&Val>,
        stop: Option<&Val>,
        step: Option<&Val>,
    ) -> Eval<Val> {
        let len = match &object.data {
            Data::Str(text) => {
                self.meter.scan(text.len())?;
                text.chars().count() as u64
            }
            Data::Array(_) | Data::List(_) | Data::Tuple(_) | Data::Range(_) => {
                self.count(&object.data).unwrap_or(0)
            }
            Data::None => return Err(self.absent(object, "None cannot be sliced".to_owned())),
            other => return Err(Fault::new(format!("a {} cannot be sliced", other.type_name()))),
        };
        let part = Slice::new(len, start, stop, step)?;
        match &object.data {
            Data::Str(text) => self.slice_text(text, &part),
            Data::Range(range) => {
                let sliced = part.of_range(range);
                self.meter.alloc(VAL)?;
                Ok(Data::Range(Arc::new(sliced)).into())
            }
            data => {
                let count = part.len();
                self.meter.step(count)?;
                self.meter.alloc_wide(count.saturating_mul(VAL as u64))?;
                let items = part.indices().filter_map(|at| self.item(data, at)).collect();
                match data {
                    Data::Tuple(_) => self.heap.tuple(&mut self.meter, items),
                    _ => self.heap.list(&mut self.meter, items),
                }
            }
        }
    }

    fn slice_text(&mut self, text: &str, part: &Slice) -> Eval<Val> {
        if part.step == 1 {
            let skip = usize::try_from(part.start).unwrap_or(0);
            let take = usize::try_from(part.len()).unwrap_or(0);
            let begin = text.char_indices().nth(skip).map_or(text.len(), |(at, _)| at);
            let rest = text.get(begin..).unwrap_or_default();
            let end = rest.char_indices().nth(take).map_or(rest.len(), |(at, _)| at);
            let piece = rest.get(..end).unwrap_or_default();
            self.meter.alloc(piece.len())?;
            return Ok(Val::text(piece));
        }
        self.meter.alloc(text.len() * 4)?;
        let all: Vec<char> = text.chars().collect();
        let picked: String = part
            .indices()
            .filter_map(|at| all.get(usize::try_from(at).unwrap_or(usize::MAX)).copied())
            .collect();
        Ok(Val::text(picked))
    }

    /// `object[index] = value`.
    pub(crate) fn set_index(&mut self, object: &Val, index: Val, value: Val) -> Eval<()> {
        match &object.data {
            Data::Dict(dict) => self.heap.insert(&mut self.meter, *dict, index, value),
            Data::List(list) => {
                let len = self.heap.items(*list).len() as u64;
                let at = usize::try_from(position(&index, len)?).unwrap_or(usize::MAX);
                if let Some(item) = self.heap.list_mut(*list)?.get_mut(at) {
                    *item = value;
                }
                Ok(())
            }
            Data::Array(_) | Data::Object(_) => Err(immutable(&object.data)),
            Data::None => Err(self.absent(object, "nothing can be set in None".to_owned())),
            other => Err(Fault::new(format!("nothing can be set in a {}", other.type_name()))),
        }
    }
}

/// What is said of changing what was read from the context.
#[cold]
pub(crate) fn immutable(data: &Data) -> Box<Fault> {
    let kind = data.type_name();
    Fault::new(format!("a {kind} that was read from the context cannot be changed"))
        .hint(format!("change a copy: `{kind}(…)`"))
}

/// An index as a place from 0.
fn position(index: &Val, len: u64) -> Eval<u64> {
    let Data::Int(number) = index.data else {
        return Err(Fault::new(format!("an index must be an integer, not a {}", index.data.type_name())));
    };
    let from_end = number < 0;
    let at = if from_end { len.checked_sub(number.unsigned_abs()) } else { Some(number.unsigned_abs()) };
    at.filter(|at| *at < len)
        .ok_or_else(|| Fault::new(format!("the index {number} is out of range: there are {len} items")))
}

/// A slice of a sequence of known length.
pub(crate) struct Slice {
    start: i64,
    stop: i64,
    step: i64,
}

impl Slice {
    fn new(len: u64, start: Option<&Val>, stop: Option<&Val>, step: Option<&Val>) -> Eval<Slice> {
        let len = i64::try_from(len).unwrap_or(i64::MAX);
        let bound = |bound: Option<&Val>| match bound.map(|bound| &bound.data) {
            None | Some(Data::None) => Ok(None),
            Some(Data::Int(number)) => Ok(Some(*number)),
            Some(other) => {
                Err(Fault::new(format!("the bounds of a slice are integers, not a {}", other.type_name())))
            }
        };
        let step = bound(step)?.unwrap_or(1);
        if step == 0 {
            return Err(Fault::new("the step of a slice cannot be 0"));
        }
        let (low, high) = if step < 0 { (-1, len - 1) } else { (0, len) };
        let place = |bound: Option<i64>, default: i64| match bound {
            None => default,
            Some(number) if number < 0 => number.saturating_add(len).clamp(low, high.max(low)),
            Some(number) => number.clamp(low, high.max(low)),
        };
        let (first, last) = if step < 0 { (len - 1, -1) } else { (0, len) };
        Ok(Slice { start: place(bound(start)?, first), stop: place(bound(stop)?, last), step })
    }

    fn len(&self) -> u64 {
        crate::val::Range { start: self.start, stop: self.stop, step: self.step }.len()
    }

    fn indices(&self) -> impl Iterator<Item = u64> {
        let range = crate::val::Range { start: self.start, stop: self.stop, step: self.step };
        (0..range.len()).filter_map(move |at| range.get(at).and_then(|index| u64::try_from(index).ok()))
    }

    fn of_range(&self, range: &crate::val::Range) -> crate::val::Range {
        let at = |index: i64| {
            let number = i128::from(range.start) + i128::from(index) * i128::from(range.step);
            i64::try_from(number).unwrap_or(if number < 0 { i64::MIN } else { i64::MAX })
        };
        let step = range.step.saturating_mul(self.step);
        crate::val::Range { start: at(self.start), stop: at(self.stop), step }
    }
}
