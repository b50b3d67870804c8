//! Operators: truth, equality, order, arithmetic, containment.

use std::cmp::Ordering;
use std::sync::Arc;

use num_bigint::BigInt;
use num_traits::{Signed, ToPrimitive, Zero};
use starlark_syntax::syntax::ast::BinOp;

use crate::eval::Interp;
use crate::meter::{Eval, Fault};
use crate::number::{big_bytes, compare_big_float, compare_int_float};
use crate::val::{Data, ENTRY, VAL, Val};
use crate::value::DEPTH_LIMIT;

/// Shifts go no further, as in the `starlark` crate.
const SHIFT_LIMIT: i64 = 100_000;

impl Interp<'_> {
    pub(crate) fn truth(&self, value: &Val) -> bool {
        match &value.data {
            Data::None => false,
            Data::Bool(flag) => *flag,
            Data::Int(number) => *number != 0,
            Data::Big(_) | Data::Function(_) | Data::Builtin(_) => true,
            Data::Float(number) => *number != 0.0,
            Data::Str(text) => !text.is_empty(),
            data => self.count(data) != Some(0),
        }
    }

    #[inline(never)]
    pub(crate) fn binary(&mut self, op: BinOp, left: &Val, right: &Val) -> Eval<Val> {
        match op {
            BinOp::Equal => Ok(Val::bool(self.equals(left, right, 0)?)),
            BinOp::NotEqual => Ok(Val::bool(!self.equals(left, right, 0)?)),
            BinOp::Less => Ok(Val::bool(self.compare(left, right, 0)?.is_lt())),
            BinOp::Greater => Ok(Val::bool(self.compare(left, right, 0)?.is_gt())),
            BinOp::LessOrEqual => Ok(Val::bool(self.compare(left, right, 0)?.is_le())),
            BinOp::GreaterOrEqual => Ok(Val::bool(self.compare(left, right, 0)?.is_ge())),
            BinOp::In => Ok(Val::bool(self.contains(right, left)?)),
            BinOp::NotIn => Ok(Val::bool(!self.contains(right, left)?)),
            BinOp::Add => self.add(left, right),
            BinOp::Multiply => self.multiply(left, right),
            BinOp::Percent if matches!(left.data, Data::Str(_)) => self.percent(left, right),
            BinOp::BitOr if left.data.type_name() == "dict" => self.union(left, right),
            BinOp::Subtract | BinOp::Percent | BinOp::Divide | BinOp::FloorDivide => {
                match (Number::of(&left.data), Number::of(&right.data)) {
                    (Some(a), Some(b)) => self.arithmetic(op, &a, &b),
                    _ => Err(self.unsupported(op, left, right)),
                }
            }
            BinOp::BitAnd | BinOp::BitOr | BinOp::BitXor | BinOp::LeftShift | BinOp::RightShift => {
                match (Number::of(&left.data), Number::of(&right.data)) {
                    (Some(a), Some(b)) if !a.is_float() && !b.is_float() => self.bits(op, &a, &b),
                    _ => Err(self.unsupported(op, left, right)),
                }
            }
            // These are evaluated where their second operand may not be.
            BinOp::And | BinOp::Or => Err(self.unsupported(op, left, right)),
        }
    }

    /// `a += b` changes a list in place.
    pub(crate) fn modified(&mut self, op: BinOp, old: Val, value: &Val) -> Eval<Val> {
        if let (BinOp::Add, Data::List(list)) = (op, &old.data) {
            let more = self.collect(value)?;
            self.heap.list_mut(*list)?.extend(more);
            return Ok(old);
        }
        if let (BinOp::Add, Data::Array(_)) = (op, &old.data) {
            // What was read cannot change; the name gets a list of its own.
            let items = self.joined(&old, value)?;
            return self.heap.list(&mut self.meter, items);
        }
        if let (BinOp::BitOr, Data::Dict(dict)) = (op, &old.data)
            && value.data.type_name() == "dict"
        {
            for (key, value) in self.entries(value)? {
                self.heap.insert(&mut self.meter, *dict, key, value)?;
            }
            return Ok(old);
        }
        self.binary(op, &old, value)
    }

    #[cold]
    fn unsupported(&self, op: BinOp, left: &Val, right: &Val) -> Box<Fault> {
        let op = op.to_string();
        let op = op.trim();
        let (a, b) = (left.data.type_name(), right.data.type_name());
        for side in [left, right] {
            if matches!(side.data, Data::None) {
                return self.absent(side, format!("`{op}` does not work on {a} and {b}"));
            }
        }
        let fault = Fault::new(format!("`{op}` does not work on {a} and {b}"));
        match (op, a, b) {
            ("+", "string", _) | ("+", _, "string") => fault.hint("turn it into text with `str(…)`"),
            _ => fault,
        }
    }

    // ---- equality and order

    #[inline(never)]
    pub(crate) fn equals(&mut self, left: &Val, right: &Val, depth: usize) -> Eval<bool> {
        if let (Some(a), Some(b)) = (Number::of(&left.data), Number::of(&right.data)) {
            return Ok(a.compare(&b).is_eq());
        }
        match (&left.data, &right.data) {
            (Data::None, Data::None) => Ok(true),
            (Data::Bool(a), Data::Bool(b)) => Ok(a == b),
            (Data::Str(a), Data::Str(b)) => {
                if a.len() == b.len() {
                    self.meter.scan(a.len())?;
                }
                Ok(a == b)
            }
            (Data::Function(a), Data::Function(b)) => Ok(a == b),
            (Data::Builtin(a), Data::Builtin(b)) => Ok(a == b),
            (Data::Range(a), Data::Range(b)) => {
                Ok(a.len() == b.len() && a.get(0) == b.get(0) && (a.len() < 2 || a.step == b.step))
            }
            (Data::Array(a), Data::Array(b)) if Arc::ptr_eq(a, b) => Ok(true),
            (Data::Object(a), Data::Object(b)) if Arc::ptr_eq(a, b) => Ok(true),
            (Data::List(a), Data::List(b)) if a == b => Ok(true),
            (Data::Dict(a), Data::Dict(b)) if a == b => Ok(true),
            (Data::Tuple(_), Data::Tuple(_))
            | (Data::List(_) | Data::Array(_), Data::List(_) | Data::Array(_)) => {
                self.sequences_equal(&left.data, &right.data, depth)
            }
            (Data::Dict(_) | Data::Object(_), Data::Dict(_) | Data::Object(_)) => {
                self.dicts_equal(left, right, depth)
            }
            _ => Ok(false),
        }
    }

    fn sequences_equal(&mut self, left: &Data, right: &Data, depth: usize) -> Eval<bool> {
        let len = self.count(left);
        if len != self.count(right) {
            return Ok(false);
        }
        if depth >= DEPTH_LIMIT {
            return Err(Fault::too_deep());
        }
        for at in 0..len.unwrap_or(0) {
            self.meter.step(1)?;
            if let (Some(a), Some(b)) = (self.item(left, at), self.item(right, at))
                && !self.equals(&a, &b, depth + 1)?
            {
                return Ok(false);
            }
        }
        Ok(true)
    }

    fn dicts_equal(&mut self, left: &Val, right: &Val, depth: usize) -> Eval<bool> {
        if self.count(&left.data) != self.count(&right.data) {
            return Ok(false);
        }
        if depth >= DEPTH_LIMIT {
            return Err(Fault::too_deep());
        }
        for (key, a) in self.entries(left)? {
            let Some(b) = self.lookup(right, &key)? else { return Ok(false) };
            if !self.equals(&a, &b, depth + 1)? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// The value of any key in a dict or object, plainly.
    pub(crate) fn lookup(&mut self, dict: &Val, key: &Val) -> Eval<Option<Val>> {
        let hashed = self.heap.key(&mut self.meter, &key.data, 0)?;
        Ok(match (&dict.data, &key.data) {
            (Data::Dict(dict), _) => self
                .heap
                .dict_ref(*dict)
                .and_then(|dict| dict.entries.get(&hashed))
                .map(|(_, value)| value.clone()),
            (Data::Object(object), Data::Str(key)) => {
                let mark = self.environment.workflow_names.below(dict.mark, key);
                object.get(key).map(|value| Val::json(value, mark))
            }
            _ => None,
        })
    }

    #[inline(never)]
    pub(crate) fn compare(&mut self, left: &Val, right: &Val, depth: usize) -> Eval<Ordering> {
        if let (Some(a), Some(b)) = (Number::of(&left.data), Number::of(&right.data)) {
            return Ok(a.compare(&b));
        }
        match (&left.data, &right.data) {
            (Data::Bool(a), Data::Bool(b)) => Ok(a.cmp(b)),
            (Data::Str(a), Data::Str(b)) => {
                self.meter.scan(a.len().min(b.len()))?;
                Ok(a.cmp(b))
            }
            (Data::Tuple(_), Data::Tuple(_))
            | (Data::List(_) | Data::Array(_), Data::List(_) | Data::Array(_)) => {
                if depth >= DEPTH_LIMIT {
                    return Err(Fault::too_deep());
                }
                let (a, b) = (self.count(&left.data).unwrap_or(0), self.count(&right.data).unwrap_or(0));
                for at in 0..a.min(b) {
                    self.meter.step(1)?;
                    if let (Some(a), Some(b)) = (self.item(&left.data, at), self.item(&right.data, at)) {
                        match self.compare(&a, &b, depth + 1)? {
                            Ordering::Equal => {}
                            other => return Ok(other),
                        }
                    }
                }
                Ok(a.cmp(&b))
            }
            _ => {
                for side in [left, right] {
                    if matches!(side.data, Data::None) {
                        return Err(self.absent(side, "None cannot be compared by order".to_owned()));
                    }
                }
                let (a, b) = (left.data.type_name(), right.data.type_name());
                Err(Fault::new(format!("a {a} and a {b} cannot be compared by order")))
            }
        }
    }

    /// `item in container`.
    pub(crate) fn contains(&mut self, container: &Val, item: &Val) -> Eval<bool> {
        match &container.data {
            Data::Str(text) => {
                let Data::Str(part) = &item.data else {
                    return Err(Fault::new(format!(
                        "only a string can be in a string, not a {}",
                        item.data.type_name()
                    )));
                };
                self.meter.scan(text.len())?;
                Ok(text.contains(part.as_ref()))
            }
            Data::Dict(_) | Data::Object(_) => Ok(self.lookup(container, item)?.is_some()),
            Data::Range(range) => Ok(match Number::of(&item.data) {
                Some(Number::Int(number)) => range.contains(number),
                Some(Number::Float(number)) if number.fract() == 0.0 => {
                    number.to_i64().is_some_and(|number| range.contains(number))
                }
                _ => false,
            }),
            Data::List(_) | Data::Array(_) | Data::Tuple(_) => {
                for at in 0..self.count(&container.data).unwrap_or(0) {
                    self.meter.step(1)?;
                    if let Some(other) = self.item(&container.data, at)
                        && self.equals(&other, item, 0)?
                    {
                        return Ok(true);
                    }
                }
                Ok(false)
            }
            Data::None => Err(self.absent(container, "nothing can be in None".to_owned())),
            other => Err(Fault::new(format!("nothing can be in a {}", other.type_name()))),
        }
    }

    // ---- arithmetic

    fn add(&mut self, left: &Val, right: &Val) -> Eval<Val> {
        match (&left.data, &right.data) {
            (Data::Int(a), Data::Int(b)) if a.checked_add(*b).is_some() => Ok(Data::Int(a + b).into()),
            (Data::Str(a), Data::Str(b)) => {
                self.meter.alloc(a.len() + b.len())?;
                let mut text = String::with_capacity(a.len() + b.len());
                text.push_str(a);
                text.push_str(b);
                Ok(Val::text(text))
            }
            (Data::List(_) | Data::Array(_), Data::List(_) | Data::Array(_)) => {
                let items = self.joined(left, right)?;
                self.heap.list(&mut self.meter, items)
            }
            (Data::Tuple(_), Data::Tuple(_)) => {
                let items = self.joined(left, right)?;
                self.heap.tuple(&mut self.meter, items)
            }
            _ => match (Number::of(&left.data), Number::of(&right.data)) {
                (Some(a), Some(b)) => self.arithmetic(BinOp::Add, &a, &b),
                _ => Err(self.unsupported(BinOp::Add, left, right)),
            },
        }
    }

    fn joined(&mut self, left: &Val, right: &Val) -> Eval<Vec<Val>> {
        let mut items = self.collect(left)?;
        items.extend(self.collect(right)?);
        Ok(items)
    }

    fn multiply(&mut self, left: &Val, right: &Val) -> Eval<Val> {
        match (&left.data, &right.data) {
            (Data::Str(text), Data::Int(times)) | (Data::Int(times), Data::Str(text)) => {
                let times = u64::try_from(*times).unwrap_or(0);
                self.meter.alloc_wide(times.saturating_mul(text.len() as u64))?;
                Ok(Val::text(if text.is_empty() {
                    String::new()
                } else {
                    text.repeat(usize::try_from(times).unwrap_or(0))
                }))
            }
            (Data::List(_) | Data::Array(_) | Data::Tuple(_), Data::Int(times)) => self.repeat(left, *times),
            (Data::Int(times), Data::List(_) | Data::Array(_) | Data::Tuple(_)) => self.repeat(right, *times),
            _ => match (Number::of(&left.data), Number::of(&right.data)) {
                (Some(a), Some(b)) => self.arithmetic(BinOp::Multiply, &a, &b),
                _ => Err(self.unsupported(BinOp::Multiply, left, right)),
            },
        }
    }

    fn repeat(&mut self, sequence: &Val, times: i64) -> Eval<Val> {
        let count = self.count(&sequence.data).unwrap_or(0);
        let times = u64::try_from(times).unwrap_or(0);
        let total = count.saturating_mul(times);
        self.meter.alloc_wide(total.saturating_mul(VAL as u64))?;
        let once = self.collect(sequence)?;
        let mut items = Vec::with_capacity(usize::try_from(total).unwrap_or(0));
        if count > 0 {
            for _ in 0..times {
                items.extend_from_slice(&once);
            }
        }
        match sequence.data {
            Data::Tuple(_) => self.heap.tuple(&mut self.meter, items),
            _ => self.heap.list(&mut self.meter, items),
        }
    }

    fn union(&mut self, left: &Val, right: &Val) -> Eval<Val> {
        if right.data.type_name() != "dict" {
            return Err(self.unsupported(BinOp::BitOr, left, right));
        }
        let dict = self.heap.dict(&mut self.meter)?;
        for side in [left, right] {
            for (key, value) in self.entries(side)? {
                self.heap.insert(&mut self.meter, dict, key, value)?;
            }
        }
        Ok(Data::Dict(dict).into())
    }

    /// The entries of a dict or object, in order.
    pub(crate) fn entries(&mut self, dict: &Val) -> Eval<Vec<(Val, Val)>> {
        let count = self.count(&dict.data).unwrap_or(0);
        self.meter.alloc_wide(count.saturating_mul(ENTRY as u64 / 2))?;
        self.meter.step(count)?;
        match &dict.data {
            Data::Dict(dict) => Ok(self
                .heap
                .dict_ref(*dict)
                .map_or_else(Vec::new, |dict| dict.entries.values().cloned().collect())),
            Data::Object(object) => {
                let names = self.environment.workflow_names;
                let entry = |(key, value)| -> (Val, Val) {
                    let key: &Arc<str> = key;
                    (Val::text(key.clone()), Val::json(value, names.below(dict.mark, key)))
                };
                Ok(object.iter().map(entry).collect())
            }
            Data::None => Err(self.absent(dict, "None is no dict".to_owned())),
            other => Err(Fault::new(format!("a dict is needed, not a {}", other.type_name()))),
        }
    }

    pub(crate) fn minus(&mut self, value: &Val) -> Eval<Val> {
        match Number::of(&value.data) {
            Some(Number::Float(number)) => Ok(Data::Float(-number).into()),
            Some(number) => self.arithmetic(BinOp::Subtract, &Number::Int(0), &number),
            None => Err(self.no_number("-", value)),
        }
    }

    pub(crate) fn plus(&mut self, value: &Val) -> Eval<Val> {
        match Number::of(&value.data) {
            Some(_) => Ok(value.data.clone().into()),
            None => Err(self.no_number("+", value)),
        }
    }

    pub(crate) fn bit_not(&mut self, value: &Val) -> Eval<Val> {
        match Number::of(&value.data) {
            Some(Number::Int(number)) => Ok(Data::Int(!number).into()),
            Some(Number::Big(number)) => {
                self.meter.alloc_wide(big_bytes(number))?;
                let number: &BigInt = number.as_ref();
                Ok(Val::big(-(number + 1_i32)))
            }
            _ => Err(self.no_number("~", value)),
        }
    }

    fn no_number(&self, op: &str, value: &Val) -> Box<Fault> {
        self.absent(value, format!("`{op}` does not work on a {}", value.data.type_name()))
    }

    pub(crate) fn arithmetic(&mut self, op: BinOp, a: &Number<'_>, b: &Number<'_>) -> Eval<Val> {
        if op == BinOp::Divide || a.is_float() || b.is_float() {
            return floats(op, a.to_f64(), b.to_f64());
        }
        if let (Number::Int(a), Number::Int(b)) = (a, b) {
            let small = match op {
                BinOp::Add => a.checked_add(*b),
                BinOp::Subtract => a.checked_sub(*b),
                BinOp::Multiply => a.checked_mul(*b),
                BinOp::FloorDivide if *b != 0 => {
                    a.checked_div(*b).map(|whole| whole - i64::from(a % b != 0 && (*a < 0) != (*b < 0)))
                }
                BinOp::Percent if *b != 0 => a
                    .checked_rem(*b)
                    .or(Some(0))
                    .map(|rest| if rest != 0 && (rest < 0) != (*b < 0) { rest + b } else { rest }),
                _ => return Err(by_zero()),
            };
            if let Some(number) = small {
                return Ok(Data::Int(number).into());
            }
        }
        let (x, y) = (a.words(), b.words());
        let work = if matches!(op, BinOp::Add | BinOp::Subtract) { 0 } else { x.saturating_mul(y) / 4 };
        self.meter.alloc_wide((x + y).saturating_mul(8))?;
        self.meter.step(work)?;
        let (a, b) = (a.to_big(), b.to_big());
        let number = match op {
            BinOp::Add => a + b,
            BinOp::Subtract => a - b,
            BinOp::Multiply => a * b,
            _ if b.is_zero() => return Err(by_zero()),
            BinOp::FloorDivide => {
                let (whole, rest) = (&a / &b, &a % &b);
                if !rest.is_zero() && rest.is_negative() != b.is_negative() { whole - 1 } else { whole }
            }
            _ => {
                let rest = &a % &b;
                if !rest.is_zero() && rest.is_negative() != b.is_negative() { rest + b } else { rest }
            }
        };
        Ok(Val::big(number))
    }

    fn bits(&mut self, op: BinOp, a: &Number<'_>, b: &Number<'_>) -> Eval<Val> {
        if let (Number::Int(a), Number::Int(b)) = (a, b) {
            match op {
                BinOp::BitAnd => return Ok(Data::Int(a & b).into()),
                BinOp::BitOr => return Ok(Data::Int(a | b).into()),
                BinOp::BitXor => return Ok(Data::Int(a ^ b).into()),
                _ => {}
            }
        }
        if matches!(op, BinOp::LeftShift | BinOp::RightShift) {
            return self.shift(op, a, b);
        }
        self.meter.alloc_wide((a.words() + b.words()).saturating_mul(8))?;
        let (a, b) = (a.to_big(), b.to_big());
        Ok(Val::big(match op {
            BinOp::BitAnd => a & b,
            BinOp::BitOr => a | b,
            _ => a ^ b,
        }))
    }

    fn shift(&mut self, op: BinOp, a: &Number<'_>, b: &Number<'_>) -> Eval<Val> {
        let by = match b {
            Number::Int(by) if *by < 0 => return Err(Fault::new("a shift cannot be negative")),
            Number::Int(by) => *by,
            Number::Big(by) if by.is_negative() => return Err(Fault::new("a shift cannot be negative")),
            _ => i64::MAX,
        };
        let number = a.to_big();
        if op == BinOp::RightShift {
            self.meter.alloc_wide(a.words().saturating_mul(8))?;
            // Beyond its own length only the sign is left.
            let by = u64::try_from(by).unwrap_or(0).min(number.bits() + 1);
            return Ok(Val::big(number >> by));
        }
        if number.is_zero() {
            return Ok(Data::Int(0).into());
        }
        if by > SHIFT_LIMIT {
            return Err(Fault::new(format!("a shift goes no further than {SHIFT_LIMIT} bits")));
        }
        self.meter.alloc_wide((a.words() + by.unsigned_abs() / 64 + 1).saturating_mul(8))?;
        Ok(Val::big(number << by.unsigned_abs()))
    }
}

#[cold]
fn by_zero() -> Box<Fault> {
    Fault::new("division by zero")
}

fn floats(op: BinOp, a: f64, b: f64) -> Eval<Val> {
    let number = match op {
        BinOp::Add => a + b,
        BinOp::Subtract => a - b,
        BinOp::Multiply => a * b,
        _ if b == 0.0 => return Err(by_zero()),
        BinOp::Divide => a / b,
        BinOp::FloorDivide => (a / b).floor(),
        _ => {
            let rest = a % b;
            if rest == 0.0 {
                0.0
            } else if rest.signum() == b.signum() {
                rest
            } else {
                rest + b
            }
        }
    };
    Ok(Data::Float(number).into())
}

/// A number of any kind, borrowed.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Number<'a> {
    Int(i64),
    Big(&'a Arc<BigInt>),
    Float(f64),
}

impl Number<'_> {
    #[inline]
    pub(crate) fn of(data: &Data) -> Option<Number<'_>> {
        match data {
            Data::Int(number) => Some(Number::Int(*number)),
            Data::Big(number) => Some(Number::Big(number)),
            Data::Float(number) => Some(Number::Float(*number)),
            _ => None,
        }
    }

    fn is_float(&self) -> bool {
        matches!(self, Number::Float(_))
    }

    #[allow(clippy::cast_precision_loss)]
    pub(crate) fn to_f64(self) -> f64 {
        match self {
            Number::Int(number) => number as f64,
            Number::Big(number) => number.to_f64().unwrap_or(f64::NAN),
            Number::Float(number) => number,
        }
    }

    fn to_big(self) -> BigInt {
        match self {
            Number::Int(number) => BigInt::from(number),
            Number::Big(number) => number.as_ref().clone(),
            Number::Float(_) => BigInt::zero(),
        }
    }

    /// Its size in words of 64 bits.
    fn words(self) -> u64 {
        match self {
            Number::Big(number) => number.bits() / 64 + 1,
            _ => 1,
        }
    }

    fn compare(&self, other: &Number<'_>) -> Ordering {
        match (self, other) {
            (Number::Int(a), Number::Int(b)) => a.cmp(b),
            (Number::Big(a), Number::Big(b)) => a.cmp(b),
            (Number::Int(_), Number::Big(b)) => {
                if b.is_negative() {
                    Ordering::Greater
                } else {
                    Ordering::Less
                }
            }
            (Number::Big(a), Number::Int(_)) => {
                if a.is_negative() {
                    Ordering::Less
                } else {
                    Ordering::Greater
                }
            }
            (Number::Int(a), Number::Float(b)) => compare_int_float(*a, *b),
            (Number::Float(a), Number::Int(b)) => compare_int_float(*b, *a).reverse(),
            (Number::Big(a), Number::Float(b)) => compare_big_float(a, *b),
            (Number::Float(a), Number::Big(b)) => compare_big_float(b, *a).reverse(),
            (Number::Float(a), Number::Float(b)) => {
                a.partial_cmp(b).unwrap_or_else(|| a.is_nan().cmp(&b.is_nan()))
            }
        }
    }
}
