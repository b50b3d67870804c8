//! Values while an expression runs: JSON as it is, beside what the program makes.
//!
//! What the program makes lives in the [`Heap`] of its evaluation and is named by number, so that nothing has to
//! be freed recursively and cycles are harmless; everything is dropped at once at the end.

use std::hash::{Hash, Hasher};
use std::sync::Arc;

use indexmap::{Equivalent, IndexMap};
use num_bigint::BigInt;
use num_traits::{FromPrimitive, ToPrimitive};

use crate::builtins::Builtin;
use crate::meter::{Eval, Fault, Meter};
use crate::names::Mark;
use crate::value::{DEPTH_LIMIT, Object, Value};

/// A value, and where in the context it was read from.
#[derive(Clone, Debug)]
pub(crate) struct Val {
    pub(crate) data: Data,
    pub(crate) mark: Mark,
}

#[derive(Clone, Debug)]
pub(crate) enum Data {
    None,
    Bool(bool),
    Int(i64),
    Big(Arc<BigInt>),
    Float(f64),
    Str(Arc<str>),
    /// A JSON array, immutable.
    Array(Arc<Vec<Value>>),
    /// A JSON object, immutable.
    Object(Arc<Object>),
    List(u32),
    Dict(u32),
    Tuple(u32),
    Range(Arc<Range>),
    Function(u32),
    Builtin(Builtin),
}

/// Bytes a value takes in a list.
pub(crate) const VAL: usize = size_of::<Val>();
/// Bytes an entry takes in a dict.
pub(crate) const ENTRY: usize = 2 * VAL + size_of::<Key>() + 16;

impl From<Data> for Val {
    #[inline]
    fn from(data: Data) -> Self {
        Val { data, mark: Mark::default() }
    }
}

impl Val {
    pub(crate) const NONE: Val = Val { data: Data::None, mark: Mark::NOWHERE };

    /// A JSON value, shared.
    #[inline]
    pub(crate) fn json(value: &Value, mark: Mark) -> Val {
        let data = match value {
            Value::Null => Data::None,
            Value::Bool(flag) => Data::Bool(*flag),
            Value::Int(number) => Data::Int(*number),
            Value::BigInt(number) => Data::Big(number.clone()),
            Value::Float(number) => Data::Float(*number),
            Value::String(text) => Data::Str(text.clone()),
            Value::Array(items) => Data::Array(items.clone()),
            Value::Object(object) => Data::Object(object.clone()),
        };
        Val { data, mark }
    }

    /// A text that is paid for already.
    pub(crate) fn text(text: impl Into<Arc<str>>) -> Val {
        Data::Str(text.into()).into()
    }

    pub(crate) fn int(number: usize) -> Val {
        Data::Int(i64::try_from(number).unwrap_or(i64::MAX)).into()
    }

    pub(crate) fn big(number: BigInt) -> Val {
        number.to_i64().map_or_else(|| Data::Big(Arc::new(number)), Data::Int).into()
    }

    pub(crate) fn bool(flag: bool) -> Val {
        Data::Bool(flag).into()
    }
}

/// The numbers from `start` by `step` that lie before `stop`; never written out.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Range {
    pub(crate) start: i64,
    pub(crate) stop: i64,
    pub(crate) step: i64,
}

impl Range {
    pub(crate) fn len(&self) -> u64 {
        let (distance, step) = if self.step > 0 {
            (i128::from(self.stop) - i128::from(self.start), i128::from(self.step))
        } else {
            (i128::from(self.start) - i128::from(self.stop), -i128::from(self.step))
        };
        if distance <= 0 { 0 } else { u64::try_from((distance - 1) / step + 1).unwrap_or(u64::MAX) }
    }

    pub(crate) fn get(&self, index: u64) -> Option<i64> {
        (index < self.len())
            .then(|| i128::from(self.start) + i128::from(index) * i128::from(self.step))
            .and_then(|number| i64::try_from(number).ok())
    }

    pub(crate) fn contains(&self, number: i64) -> bool {
        let (start, stop, number) = (i128::from(self.start), i128::from(self.stop), i128::from(number));
        let inside =
            if self.step > 0 { start <= number && number < stop } else { stop < number && number <= start };
        inside && (number - start) % i128::from(self.step) == 0
    }
}

/// Everything one evaluation has made.
#[derive(Debug, Default)]
pub(crate) struct Heap {
    lists: Vec<List>,
    dicts: Vec<Dict>,
    tuples: Vec<Box<[Val]>>,
    pub(crate) functions: Vec<Closure>,
    pub(crate) cells: Vec<Option<Val>>,
}

#[derive(Debug, Default)]
pub(crate) struct List {
    pub(crate) items: Vec<Val>,
    /// How many loops are running over it.
    pub(crate) loops: u32,
}

#[derive(Debug, Default)]
pub(crate) struct Dict {
    /// The key as it was written, which may be `1.0` where it is found as `1`, and its value.
    pub(crate) entries: IndexMap<Key, (Val, Val)>,
    pub(crate) loops: u32,
}

/// A function with what it captured where it was defined.
#[derive(Clone, Debug)]
pub(crate) struct Closure {
    pub(crate) code: u32,
    pub(crate) defaults: Arc<[Val]>,
    pub(crate) captures: Arc<[u32]>,
}

fn number(len: usize) -> u32 {
    // Each takes more than a byte of a budget that is far below this.
    u32::try_from(len).unwrap_or(u32::MAX)
}

impl Heap {
    pub(crate) fn list(&mut self, meter: &mut Meter, items: Vec<Val>) -> Eval<Val> {
        meter.alloc(size_of::<List>() + items.len() * VAL)?;
        self.lists.push(List { items, loops: 0 });
        Ok(Data::List(number(self.lists.len() - 1)).into())
    }

    pub(crate) fn tuple(&mut self, meter: &mut Meter, items: Vec<Val>) -> Eval<Val> {
        meter.alloc(16 + items.len() * VAL)?;
        self.tuples.push(items.into());
        Ok(Data::Tuple(number(self.tuples.len() - 1)).into())
    }

    pub(crate) fn dict(&mut self, meter: &mut Meter) -> Eval<u32> {
        meter.alloc(size_of::<Dict>())?;
        self.dicts.push(Dict::default());
        Ok(number(self.dicts.len() - 1))
    }

    pub(crate) fn function(&mut self, meter: &mut Meter, closure: Closure) -> Eval<Val> {
        meter.alloc(size_of::<Closure>() + closure.defaults.len() * VAL + closure.captures.len() * 4 + 32)?;
        self.functions.push(closure);
        Ok(Data::Function(number(self.functions.len() - 1)).into())
    }

    pub(crate) fn cell(&mut self, meter: &mut Meter, value: Option<Val>) -> Eval<u32> {
        meter.alloc(VAL)?;
        self.cells.push(value);
        Ok(number(self.cells.len() - 1))
    }

    pub(crate) fn items(&self, list: u32) -> &[Val] {
        self.lists.get(list as usize).map_or(&[], |list| &list.items)
    }

    pub(crate) fn tuple_items(&self, tuple: u32) -> &[Val] {
        self.tuples.get(tuple as usize).map_or(&[], |items| items)
    }

    pub(crate) fn dict_ref(&self, dict: u32) -> Option<&Dict> {
        self.dicts.get(dict as usize)
    }

    /// A list that may be changed now.
    pub(crate) fn list_mut(&mut self, list: u32) -> Eval<&mut Vec<Val>> {
        match self.lists.get_mut(list as usize) {
            Some(list) if list.loops == 0 => Ok(&mut list.items),
            _ => Err(Fault::new("a list cannot be changed while a loop runs over it")),
        }
    }

    /// A dict that may be changed now.
    pub(crate) fn dict_mut(&mut self, dict: u32) -> Eval<&mut IndexMap<Key, (Val, Val)>> {
        match self.dicts.get_mut(dict as usize) {
            Some(dict) if dict.loops == 0 => Ok(&mut dict.entries),
            _ => Err(Fault::new("a dict cannot be changed while a loop runs over it")),
        }
    }

    /// Counts a loop over a list or dict in or out.
    pub(crate) fn looping(&mut self, data: &Data, starts: bool) {
        let loops = match data {
            Data::List(list) => self.lists.get_mut(*list as usize).map(|list| &mut list.loops),
            Data::Dict(dict) => self.dicts.get_mut(*dict as usize).map(|dict| &mut dict.loops),
            _ => None,
        };
        if let Some(loops) = loops {
            *loops = if starts { loops.saturating_add(1) } else { loops.saturating_sub(1) };
        }
    }

    pub(crate) fn insert(&mut self, meter: &mut Meter, dict: u32, key: Val, value: Val) -> Eval<()> {
        let hashed = self.key(meter, &key.data, 0)?;
        meter.alloc(ENTRY)?;
        let entries = self.dict_mut(dict)?;
        match entries.get_mut(&hashed) {
            // A key keeps the form and the place it first had.
            Some(entry) => entry.1 = value,
            None => {
                entries.insert(hashed, (key, value));
            }
        }
        Ok(())
    }

    /// The form in which a value is found as a key: equal values have equal forms.
    pub(crate) fn key(&self, meter: &mut Meter, data: &Data, depth: usize) -> Eval<Key> {
        Ok(match data {
            Data::None => Key::None,
            Data::Bool(flag) => Key::Bool(*flag),
            Data::Int(number) => Key::Int(*number),
            Data::Big(number) => {
                meter.scan(usize::try_from(crate::number::big_bytes(number)).unwrap_or(usize::MAX))?;
                Key::Big(number.clone())
            }
            Data::Float(number) => float_key(*number),
            Data::Str(text) => {
                meter.scan(text.len())?;
                Key::Str(text.clone())
            }
            Data::Tuple(tuple) => {
                if depth >= DEPTH_LIMIT {
                    return Err(Fault::too_deep());
                }
                let items = self.tuple_items(*tuple);
                meter.alloc(16 + items.len() * size_of::<Key>())?;
                Key::Tuple(
                    items.iter().map(|item| self.key(meter, &item.data, depth + 1)).collect::<Eval<_>>()?,
                )
            }
            other => {
                let kind = other.type_name();
                return Err(Fault::new(format!("a {kind} cannot be a key: it could change")));
            }
        })
    }
}

fn float_key(number: f64) -> Key {
    if number.fract() == 0.0 {
        // Every float without a fraction is a whole number.
        return match number.to_i64() {
            #[allow(clippy::cast_precision_loss, clippy::float_cmp)]
            Some(whole) if whole as f64 == number => Key::Int(whole),
            _ => BigInt::from_f64(number)
                .map_or(Key::Float(number.to_bits()), |whole| Key::Big(Arc::new(whole))),
        };
    }
    Key::Float(if number.is_nan() { f64::NAN.to_bits() } else { number.to_bits() })
}

impl Data {
    /// What `type(…)` says.
    pub(crate) fn type_name(&self) -> &'static str {
        match self {
            Data::None => "NoneType",
            Data::Bool(_) => "bool",
            Data::Int(_) | Data::Big(_) => "int",
            Data::Float(_) => "float",
            Data::Str(_) => "string",
            Data::Array(_) | Data::List(_) => "list",
            Data::Object(_) | Data::Dict(_) => "dict",
            Data::Tuple(_) => "tuple",
            Data::Range(_) => "range",
            Data::Function(_) | Data::Builtin(_) => "function",
        }
    }
}

/// A dict key: what is hashed and compared.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Key {
    None,
    Bool(bool),
    Int(i64),
    Big(Arc<BigInt>),
    Float(u64),
    Str(Arc<str>),
    Tuple(Arc<[Key]>),
}

impl Hash for Key {
    fn hash<H: Hasher>(&self, state: &mut H) {
        match self {
            Key::None => state.write_u8(0),
            Key::Bool(flag) => (1_u8, flag).hash(state),
            Key::Int(number) => (2_u8, number).hash(state),
            Key::Big(number) => (3_u8, number).hash(state),
            Key::Float(bits) => (4_u8, bits).hash(state),
            Key::Str(text) => TextKey(text).hash(state),
            Key::Tuple(items) => (6_u8, items).hash(state),
        }
    }
}

/// A text looked up as a key.
pub(crate) struct TextKey<'a>(pub(crate) &'a str);

impl Hash for TextKey<'_> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        (5_u8, self.0).hash(state);
    }
}

impl Equivalent<Key> for TextKey<'_> {
    fn equivalent(&self, key: &Key) -> bool {
        matches!(key, Key::Str(text) if text.as_ref() == self.0)
    }
}
