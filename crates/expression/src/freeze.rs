//! What comes out: an evaluation's values become JSON, within the limits of a result.

use std::fmt;
use std::sync::Arc;

use num_traits::ToPrimitive;

use crate::budget::Budget;
use crate::eval::Interp;
use crate::meter::{Eval, Fault, Meter};
use crate::path::{Path, Segment};
use crate::val::{Data, ENTRY, VAL, Val};
use crate::value::{DEPTH_LIMIT, Object, Value};

impl Interp<'_> {
    /// The value as the result of the evaluation.
    pub(crate) fn output(&mut self, value: &Val) -> Eval<Value> {
        let value = self.freeze(value)?;
        counted(&mut self.meter, &value).map(|()| value)
    }

    /// The value as JSON; what came from JSON is shared.
    pub(crate) fn freeze(&mut self, value: &Val) -> Eval<Value> {
        let mut trail = Vec::new();
        self.freeze_at(value, &mut trail)
    }

    fn freeze_at(&mut self, value: &Val, trail: &mut Vec<Segment>) -> Eval<Value> {
        self.meter.step(1)?;
        match &value.data {
            Data::None => Ok(Value::Null),
            Data::Bool(flag) => Ok(Value::Bool(*flag)),
            Data::Int(number) => Ok(Value::Int(*number)),
            Data::Big(number) if number.to_u64().is_some() => Ok(Value::BigInt(number.clone())),
            Data::Big(_) => Err(not_json(trail, "an integer of more than 64 bits")
                .hint("`str(…)` keeps all its digits, `float(…)` its size")),
            Data::Float(number) => Value::float(*number).ok_or_else(|| not_json(trail, &format!("{number}"))),
            Data::Str(text) => Ok(Value::String(text.clone())),
            Data::Array(items) if trail.is_empty() => Ok(Value::Array(items.clone())),
            Data::Object(object) if trail.is_empty() => Ok(Value::Object(object.clone())),
            Data::Array(items) => {
                self.check_depth(&Value::Array(items.clone()), trail.len())?;
                Ok(Value::Array(items.clone()))
            }
            Data::Object(object) => {
                self.check_depth(&Value::Object(object.clone()), trail.len())?;
                Ok(Value::Object(object.clone()))
            }
            Data::List(_) | Data::Tuple(_) | Data::Range(_) => self.freeze_items(&value.data, trail),
            Data::Dict(_) => self.freeze_dict(value, trail),
            Data::Function(_) | Data::Builtin(_) => Err(not_json(trail, "a function")),
        }
    }

    fn freeze_items(&mut self, data: &Data, trail: &mut Vec<Segment>) -> Eval<Value> {
        if trail.len() >= DEPTH_LIMIT {
            return Err(Fault::too_deep());
        }
        let count = self.count(data).unwrap_or(0);
        self.meter.alloc_wide(count.saturating_mul(VAL as u64))?;
        let mut items = Vec::with_capacity(usize::try_from(count).unwrap_or(0));
        for at in 0..count {
            let Some(item) = self.item(data, at) else { break };
            trail.push(Segment::Index(usize::try_from(at).unwrap_or(usize::MAX)));
            items.push(self.freeze_at(&item, trail)?);
            trail.pop();
        }
        Ok(Value::Array(Arc::new(items)))
    }

    fn freeze_dict(&mut self, value: &Val, trail: &mut Vec<Segment>) -> Eval<Value> {
        if trail.len() >= DEPTH_LIMIT {
            return Err(Fault::too_deep());
        }
        let entries = self.entries(value)?;
        self.meter.alloc(entries.len() * ENTRY)?;
        let mut object = Object::with_capacity(entries.len());
        for (key, item) in entries {
            let Data::Str(key) = key.data else {
                let what = format!("a key that is no string but a {}", key.data.type_name());
                return Err(not_json(trail, &what).hint("`str(key)` makes it one"));
            };
            trail.push(Segment::Key(key.clone()));
            let item = self.freeze_at(&item, trail)?;
            trail.pop();
            object.insert(key, item);
        }
        Ok(Value::from(object))
    }

    /// Refuses JSON that was put so deep into what the program made that the whole is too deep.
    fn check_depth(&mut self, value: &Value, depth: usize) -> Eval<()> {
        if depth > DEPTH_LIMIT {
            return Err(Fault::too_deep());
        }
        self.meter.step(1)?;
        match value {
            Value::Array(items) => items.iter().try_for_each(|item| self.check_depth(item, depth + 1)),
            Value::Object(object) => object.values().try_for_each(|item| self.check_depth(item, depth + 1)),
            _ => Ok(()),
        }
    }

    /// Appends a value to a text as templates do.
    pub(crate) fn write_text(&mut self, value: &Val, out: &mut String) -> Eval<()> {
        match &value.data {
            Data::Str(text) => {
                self.meter.result(text.len())?;
                self.meter.push(out, text)
            }
            // Here its digits are text, which keeps them all.
            Data::Big(number) => {
                let digits = self.digits(number, 10)?;
                self.meter.result(digits.len())?;
                self.meter.push(out, &digits)
            }
            _ => {
                let value = self.freeze(value)?;
                let before = out.len();
                self.write_json(&value, out)?;
                self.meter.result(out.len() - before)
            }
        }
    }

    /// Compact JSON text, paid for.
    pub(crate) fn encode(&mut self, value: &Val) -> Eval<String> {
        let value = self.freeze(value)?;
        let mut out = String::new();
        self.write_json(&value, &mut out)?;
        Ok(out)
    }

    /// Appends compact JSON.
    pub(crate) fn write_json(&mut self, value: &Value, out: &mut String) -> Eval<()> {
        let mut paid = Paid { meter: &mut self.meter, out, fault: None };
        let _ = crate::json::write(value, &mut paid);
        paid.fault.map_or(Ok(()), Err)
    }
}

#[cold]
fn not_json(trail: &[Segment], what: &str) -> Box<Fault> {
    if trail.is_empty() {
        return Fault::new(format!("the result must be JSON, and is {what}"));
    }
    let place: String = Path::from(trail.to_vec()).to_string().chars().take(100).collect();
    Fault::new(format!("the result must be JSON, and has {what} at `{place}`"))
}

/// Counts a value that was not made by an expression as a result.
pub(crate) fn count(budget: &mut Budget, value: &Value) -> Eval<()> {
    let mut meter = Meter::new(budget);
    let result = counted(&mut meter, value);
    meter.settle(budget);
    result
}

fn counted(meter: &mut Meter, value: &Value) -> Eval<()> {
    let mut count = Counted { meter, fault: None };
    let _ = crate::json::write(value, &mut count);
    count.fault.map_or(Ok(()), Err)
}

/// Counts the bytes of a result.
struct Counted<'a> {
    meter: &'a mut Meter,
    fault: Option<Box<Fault>>,
}

impl fmt::Write for Counted<'_> {
    fn write_str(&mut self, part: &str) -> fmt::Result {
        let counted = self.meter.result(part.len()).and_then(|()| self.meter.step(part.len() as u64 / 8));
        counted.map_err(|fault| {
            self.fault = Some(fault);
            fmt::Error
        })
    }
}

/// Text that is paid for while it is written.
struct Paid<'a> {
    meter: &'a mut Meter,
    out: &'a mut String,
    fault: Option<Box<Fault>>,
}

impl fmt::Write for Paid<'_> {
    fn write_str(&mut self, part: &str) -> fmt::Result {
        let paid = self.meter.step(1).and_then(|()| self.meter.push(self.out, part));
        paid.map_err(|fault| {
            self.fault = Some(fault);
            fmt::Error
        })
    }
}
