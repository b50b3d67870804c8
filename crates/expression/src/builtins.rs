//! The functions there are.

use std::cmp::Ordering;
use std::sync::Arc;

use num_bigint::BigInt;
use num_traits::{FromPrimitive, Num, Signed};
use starlark_syntax::syntax::ast::BinOp;

use crate::call::{Given, Taken};
use crate::eval::Interp;
use crate::meter::{Eval, Fault};
use crate::ops::Number;
use crate::val::{Data, Range, VAL, Val};
use crate::value::Value;

macro_rules! builtins {
    ($($variant:ident $name:literal,)*) => {
        /// A function that every expression has.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub(crate) enum Builtin {
            $($variant,)*
            JsonEncode,
            JsonDecode,
        }

        impl Builtin {
            pub(crate) fn named(name: &str) -> Option<Builtin> {
                match name {
                    $($name => Some(Builtin::$variant),)*
                    _ => None,
                }
            }

            pub(crate) fn names() -> impl Iterator<Item = &'static str> {
                [$($name,)*].into_iter()
            }

            pub(crate) fn name(self) -> &'static str {
                match self {
                    $(Builtin::$variant => $name,)*
                    Builtin::JsonEncode => "json.encode",
                    Builtin::JsonDecode => "json.decode",
                }
            }
        }
    };
}

builtins! {
    Abs "abs", All "all", Any "any", Bool "bool", Chr "chr", Dict "dict", Enumerate "enumerate", Fail "fail",
    Float "float", Getattr "getattr", Hasattr "hasattr", Hash "hash", Int "int", Len "len", List "list", Max "max",
    Min "min", Ord "ord", Range "range", Repr "repr", Reversed "reversed", Round "round", Sorted "sorted",
    Str "str", Sum "sum", Tuple "tuple", Type "type", Zip "zip",
}

impl Interp<'_> {
    #[inline(never)]
    pub(crate) fn builtin(&mut self, builtin: Builtin, given: Given) -> Eval<Val> {
        let mut args = Taken::new(builtin.name(), given);
        match builtin {
            Builtin::Min | Builtin::Max => self.extreme(args, builtin == Builtin::Max),
            Builtin::Sorted => self.sorted(args),
            Builtin::Dict => self.make_dict(args),
            Builtin::Zip => self.zip(args),
            Builtin::Fail => Err(self.fail(args)),
            Builtin::Range => self.range(args),
            Builtin::Bool | Builtin::Str | Builtin::Int | Builtin::Float | Builtin::List | Builtin::Tuple => {
                let value = args.maybe(None)?;
                self.convert_to(builtin, value, args)
            }
            Builtin::Hasattr | Builtin::Getattr => self.attribute(builtin, args),
            Builtin::Round | Builtin::Sum | Builtin::Enumerate => self.with_option(builtin, args),
            _ => {
                let value = args.need("value")?;
                args.done()?;
                self.of_one(builtin, &value)
            }
        }
    }

    fn of_one(&mut self, builtin: Builtin, value: &Val) -> Eval<Val> {
        match builtin {
            Builtin::Abs => match Number::of(&value.data) {
                Some(Number::Float(number)) => Ok(Data::Float(number.abs()).into()),
                Some(Number::Int(number)) if number >= 0 => Ok(Data::Int(number).into()),
                Some(Number::Big(number)) if !number.is_negative() => Ok(value.data.clone().into()),
                Some(_) => self.minus(value),
                None => {
                    Err(self.absent(value, format!("`abs` needs a number, not a {}", value.data.type_name())))
                }
            },
            Builtin::All | Builtin::Any => {
                let any = builtin == Builtin::Any;
                let mut items = self.iterate(value)?;
                let mut found = !any;
                while let Some(item) = self.next(&mut items)? {
                    if self.truth(&item) == any {
                        found = any;
                        break;
                    }
                }
                self.finish(&items);
                Ok(Val::bool(found))
            }
            Builtin::Len => match &value.data {
                Data::Str(text) => {
                    self.meter.scan(text.len())?;
                    Ok(Val::int(text.chars().count()))
                }
                data => match self.count(data) {
                    Some(count) => Ok(Val::int(usize::try_from(count).unwrap_or(usize::MAX))),
                    None => Err(self.absent(value, format!("a {} has no length", data.type_name()))),
                },
            },
            Builtin::Type => Ok(Val::text(value.data.type_name())),
            Builtin::Repr => {
                let mut out = String::new();
                self.repr(value, &mut out, 0)?;
                Ok(Val::text(out))
            }
            Builtin::Reversed => {
                let mut items = self.collect(value)?;
                items.reverse();
                self.heap.list(&mut self.meter, items)
            }
            Builtin::Chr => {
                let code = self.integer(value)?;
                let character = u32::try_from(code).ok().and_then(char::from_u32);
                let character =
                    character.ok_or_else(|| Fault::new(format!("{code} is no character's number")))?;
                self.made(String::from(character))
            }
            Builtin::Ord => {
                let text = self.string(value)?;
                let mut characters = text.chars();
                match (characters.next(), characters.next()) {
                    (Some(character), None) => Ok(Data::Int(i64::from(u32::from(character))).into()),
                    _ => Err(Fault::new("`ord` needs a string of one character")),
                }
            }
            Builtin::Hash => {
                let text = self.string(value)?;
                self.meter.scan(text.len())?;
                let hash = text
                    .encode_utf16()
                    .fold(0_i32, |hash, unit| hash.wrapping_mul(31).wrapping_add(i32::from(unit)));
                Ok(Data::Int(i64::from(hash)).into())
            }
            Builtin::JsonEncode => {
                let text = self.encode(value)?;
                Ok(Val::text(text))
            }
            _ => {
                let text = self.string(value)?;
                // Parsed values take several times the room of their text.
                self.meter.alloc(text.len().saturating_mul(8))?;
                let parsed = Value::parse_json(&text).map_err(|error| Fault::new(error.to_string()))?;
                Ok(Val::json(&parsed, crate::names::Mark::NOWHERE))
            }
        }
    }

    fn convert_to(&mut self, builtin: Builtin, value: Option<Val>, mut args: Taken) -> Eval<Val> {
        if builtin == Builtin::Int {
            let base = args.maybe(Some("base"))?.map(|base| self.integer(&base)).transpose()?;
            args.done()?;
            return value.map_or(Ok(Data::Int(0).into()), |value| self.int(&value, base));
        }
        args.done()?;
        match (builtin, value) {
            (Builtin::Bool, value) => Ok(Val::bool(value.is_some_and(|value| self.truth(&value)))),
            (Builtin::Float, None) => Ok(Data::Float(0.0).into()),
            (Builtin::Float, Some(value)) => self.float(&value),
            (Builtin::List, None) => self.heap.list(&mut self.meter, Vec::new()),
            (Builtin::List, Some(value)) => {
                let items = self.collect(&value)?;
                self.heap.list(&mut self.meter, items)
            }
            (Builtin::Tuple, None) => self.heap.tuple(&mut self.meter, Vec::new()),
            (Builtin::Tuple, Some(value)) => {
                let items = self.collect(&value)?;
                self.heap.tuple(&mut self.meter, items)
            }
            (_, None) => Ok(Val::text("")),
            (_, Some(value)) => self.stringify(&value),
        }
    }

    fn stringify(&mut self, value: &Val) -> Eval<Val> {
        if let Data::Str(text) = &value.data {
            return Ok(Val::text(text.clone()));
        }
        let mut out = String::new();
        self.str(value, &mut out)?;
        Ok(Val::text(out))
    }

    fn int(&mut self, value: &Val, base: Option<i64>) -> Eval<Val> {
        if base.is_some() && !matches!(value.data, Data::Str(_)) {
            return Err(Fault::new("a base is only for strings"));
        }
        match &value.data {
            Data::Int(_) | Data::Big(_) => Ok(value.data.clone().into()),
            Data::Bool(flag) => Ok(Data::Int(i64::from(*flag)).into()),
            Data::Float(number) => BigInt::from_f64(number.trunc())
                .map(Val::big)
                .ok_or_else(|| Fault::new("NaN and infinity are no integers")),
            Data::Str(text) => {
                // Reading digits takes time that grows with the square of their number.
                let words = text.len() as u64 / 8;
                self.meter.step(words.saturating_mul(words) / 4)?;
                self.meter.alloc(text.len())?;
                parse_int(text, base.unwrap_or(0)).map(Val::big).ok_or_else(|| {
                    let text = self.excerpt(value);
                    Fault::new(format!("{text} is no integer"))
                })
            }
            other => Err(self.absent(value, format!("a {} cannot be made an integer", other.type_name()))),
        }
    }

    fn float(&mut self, value: &Val) -> Eval<Val> {
        let number = match &value.data {
            Data::Bool(flag) => f64::from(u8::from(*flag)),
            Data::Str(text) => {
                self.meter.scan(text.len())?;
                let number = text.parse::<f64>().ok();
                let exact = |number: &f64| !number.is_infinite() || text.to_lowercase().contains("inf");
                number.filter(exact).ok_or_else(|| {
                    let text = self.excerpt(value);
                    Fault::new(format!("{text} is no number"))
                })?
            }
            data => match Number::of(data) {
                Some(number) => number.to_f64(),
                None => {
                    return Err(self.absent(value, format!("a {} cannot be made a number", data.type_name())));
                }
            },
        };
        Ok(Data::Float(number).into())
    }

    fn with_option(&mut self, builtin: Builtin, mut args: Taken) -> Eval<Val> {
        let value = args.need("value")?;
        let name = match builtin {
            Builtin::Round => "ndigits",
            _ => "start",
        };
        let option = args.maybe(Some(name))?;
        args.done()?;
        match builtin {
            Builtin::Round => self.round(&value, option.as_ref()),
            Builtin::Sum => {
                let mut items = self.iterate(&value)?;
                let mut sum = option.unwrap_or(Data::Int(0).into());
                while let Some(item) = self.next(&mut items)? {
                    sum = self.binary(BinOp::Add, &sum, &item)?;
                }
                self.finish(&items);
                Ok(sum)
            }
            _ => {
                let start = option.map_or(Ok(0), |start| self.integer(&start))?;
                let mut pairs = Vec::new();
                for (index, item) in self.collect(&value)?.into_iter().enumerate() {
                    let index = start.saturating_add(i64::try_from(index).unwrap_or(i64::MAX));
                    pairs.push(self.heap.tuple(&mut self.meter, vec![Data::Int(index).into(), item])?);
                }
                self.heap.list(&mut self.meter, pairs)
            }
        }
    }

    /// As in Python: to the nearest, halves to even; an integer unless digits are asked for.
    fn round(&mut self, value: &Val, digits: Option<&Val>) -> Eval<Val> {
        let digits = self.bound(digits)?;
        match (Number::of(&value.data), digits) {
            (Some(Number::Float(number)), None) => BigInt::from_f64(number.round_ties_even())
                .map(Val::big)
                .ok_or_else(|| Fault::new("NaN and infinity cannot be rounded")),
            (Some(Number::Float(number)), Some(digits)) => {
                if !number.is_finite() || digits > 400 {
                    return Ok(Data::Float(number).into());
                }
                if digits < -400 {
                    return Ok(Data::Float(0.0).into());
                }
                let rounded = if let Ok(digits) = usize::try_from(digits) {
                    // Rust writes the exact value, rounded half to even.
                    format!("{number:.digits$}").parse().unwrap_or(number)
                } else {
                    let whole = BigInt::from_f64(number.round_ties_even()).unwrap_or_default();
                    Number::Big(&Arc::new(round_big(&whole, digits.unsigned_abs()))).to_f64()
                };
                Ok(Data::Float(rounded).into())
            }
            (Some(_), None | Some(0..)) => Ok(value.data.clone().into()),
            (Some(Number::Int(number)), Some(digits)) => Ok(Val::big(if digits < -40 {
                BigInt::default()
            } else {
                round_big(&BigInt::from(number), digits.unsigned_abs())
            })),
            (Some(_), _) => Err(Fault::new("the integer is too large to be rounded")),
            (None, _) => {
                Err(self.absent(value, format!("`round` needs a number, not a {}", value.data.type_name())))
            }
        }
    }

    fn range(&mut self, mut args: Taken) -> Eval<Val> {
        let first = self.integer(&args.need("stop")?)?;
        let second = args.maybe(None)?.map(|stop| self.integer(&stop)).transpose()?;
        let step = args.maybe(Some("step"))?.map_or(Ok(1), |step| self.integer(&step))?;
        args.done()?;
        if step == 0 {
            return Err(Fault::new("the step of a range cannot be 0"));
        }
        let (start, stop) = second.map_or((0, first), |second| (first, second));
        self.meter.alloc(VAL)?;
        Ok(Data::Range(Arc::new(Range { start, stop, step })).into())
    }

    fn make_dict(&mut self, mut args: Taken) -> Eval<Val> {
        let pairs = args.maybe(None)?;
        let named = args.rest_named();
        args.done()?;
        let dict = self.heap.dict(&mut self.meter)?;
        if let Some(pairs) = pairs {
            let entries = match pairs.data {
                Data::Dict(_) | Data::Object(_) | Data::None => self.entries(&pairs)?,
                _ => self.pairs(&pairs)?,
            };
            for (key, value) in entries {
                self.heap.insert(&mut self.meter, dict, key, value)?;
            }
        }
        for (name, value) in named {
            self.heap.insert(&mut self.meter, dict, Val::text(name), value)?;
        }
        Ok(Data::Dict(dict).into())
    }

    fn zip(&mut self, mut args: Taken) -> Eval<Val> {
        let iterables = args.rest();
        args.done()?;
        let mut running = Vec::with_capacity(iterables.len());
        for iterable in &iterables {
            running.push(self.iterate(iterable)?);
        }
        let mut tuples = Vec::new();
        'rows: while !running.is_empty() {
            let mut row = Vec::with_capacity(running.len());
            for items in &mut running {
                match self.next(items)? {
                    Some(item) => row.push(item),
                    None => break 'rows,
                }
            }
            tuples.push(self.heap.tuple(&mut self.meter, row)?);
        }
        for items in &running {
            self.finish(items);
        }
        self.heap.list(&mut self.meter, tuples)
    }

    #[cold]
    fn fail(&mut self, mut args: Taken) -> Box<Fault> {
        let mut message = String::new();
        for (index, value) in args.rest().iter().enumerate() {
            if index > 0 {
                message.push(' ');
            }
            if let Err(fault) = self.str(value, &mut message) {
                return fault;
            }
        }
        // What fails with it goes into journals and logs.
        let short: String = message.chars().take(2000).collect();
        Fault::new(format!("fail: {short}"))
    }

    fn attribute(&mut self, builtin: Builtin, mut args: Taken) -> Eval<Val> {
        let object = args.need("object")?;
        let key = self.string(&args.need("key")?)?;
        let default = if builtin == Builtin::Getattr { args.maybe(Some("default"))? } else { None };
        args.done()?;
        let found = self.find(&object, &key)?;
        if builtin == Builtin::Hasattr {
            return Ok(Val::bool(found.is_some()));
        }
        match found.or(default) {
            Some(value) => Ok(value),
            None => Err(self.missing(&object, &key)),
        }
    }

    // ---- order

    fn keyed(&mut self, items: Vec<Val>, key: Option<&Val>) -> Eval<Vec<(Val, Val)>> {
        let mut keyed = Vec::with_capacity(items.len());
        for item in items {
            let by = match key {
                None => item.clone(),
                Some(key) => self.invoke(key, Given { positional: vec![item.clone()], named: Vec::new() })?,
            };
            keyed.push((by, item));
        }
        Ok(keyed)
    }

    fn sorted(&mut self, mut args: Taken) -> Eval<Val> {
        let iterable = args.need("iterable")?;
        let key = args.by_name("key").filter(|key| !matches!(key.data, Data::None));
        let reverse = args.by_name("reverse").is_some_and(|reverse| self.truth(&reverse));
        args.done()?;
        let items = self.collect(&iterable)?;
        let keyed = self.keyed(items, key.as_ref())?;
        let sorted = self.merge_sort(keyed, reverse)?;
        self.heap.list(&mut self.meter, sorted.into_iter().map(|(_, item)| item).collect())
    }

    /// A stable sort whose comparisons may fail; the library's may panic when they do.
    fn merge_sort(&mut self, mut items: Vec<(Val, Val)>, reverse: bool) -> Eval<Vec<(Val, Val)>> {
        let len = items.len();
        let mut width = 1;
        while width < len {
            self.meter.alloc(len * 2 * VAL)?;
            let mut merged = Vec::with_capacity(len);
            let mut rest = items.into_iter();
            loop {
                let mut left = rest.by_ref().take(width).collect::<Vec<_>>().into_iter().peekable();
                let mut right = rest.by_ref().take(width).collect::<Vec<_>>().into_iter().peekable();
                if left.peek().is_none() {
                    break;
                }
                while let (Some((a, _)), Some((b, _))) = (left.peek(), right.peek()) {
                    self.meter.step(1)?;
                    let order = self.compare(a, b, 0)?;
                    let takes_right = if reverse { order.is_lt() } else { order.is_gt() };
                    merged.extend(if takes_right { right.next() } else { left.next() });
                }
                merged.extend(left);
                merged.extend(right);
            }
            items = merged;
            width *= 2;
        }
        Ok(items)
    }

    fn extreme(&mut self, mut args: Taken, largest: bool) -> Eval<Val> {
        let key = args.by_name("key").filter(|key| !matches!(key.data, Data::None));
        let mut values = args.rest();
        args.done()?;
        let worse = if largest { Ordering::Less } else { Ordering::Greater };
        let mut best: Option<(Val, Val)> = None;
        let one = if values.len() == 1 { values.pop() } else { None };
        let mut items = one.as_ref().map(|one| self.iterate(one)).transpose()?;
        let mut values = values.into_iter();
        loop {
            let item = match &mut items {
                Some(items) => self.next(items)?,
                None => values.next(),
            };
            let Some(item) = item else { break };
            let by = match &key {
                None => item.clone(),
                Some(key) => self.invoke(key, Given { positional: vec![item.clone()], named: Vec::new() })?,
            };
            let better = match &best {
                None => true,
                Some((best, _)) => self.compare(best, &by, 0)? == worse,
            };
            if better {
                best = Some((by, item));
            }
        }
        if let Some(items) = &items {
            self.finish(items);
        }
        best.map(|(_, item)| item).ok_or_else(|| Fault::new("there is nothing to choose from"))
    }
}

fn parse_int(text: &str, base: i64) -> Option<BigInt> {
    let base = u32::try_from(base).ok().filter(|base| *base == 0 || (2..=36).contains(base))?;
    let (negative, digits) = match text.strip_prefix(['+', '-']) {
        Some(digits) => (text.starts_with('-'), digits),
        None => (false, text),
    };
    let prefixed =
        |[lower, upper]: [&str; 2]| digits.strip_prefix(lower).or_else(|| digits.strip_prefix(upper));
    let (radix, digits) = match base {
        0 | 2 | 8 | 16 => {
            let known = [(2, ["0b", "0B"]), (8, ["0o", "0O"]), (16, ["0x", "0X"])];
            known
                .into_iter()
                .filter(|(radix, _)| base == 0 || base == *radix)
                .find_map(|(radix, prefix)| prefixed(prefix).map(|digits| (radix, digits)))
                .unwrap_or((if base == 0 { 10 } else { base }, digits))
        }
        _ => (base, digits),
    };
    // The parser of the integers takes signs and underscores, which were not meant.
    if digits.is_empty() || !digits.chars().all(|digit| digit.is_digit(radix)) {
        return None;
    }
    let number = BigInt::from_str_radix(digits, radix).ok()?;
    Some(if negative { -number } else { number })
}

/// Rounds to a power of ten, halves to even.
fn round_big(number: &BigInt, power: u64) -> BigInt {
    let unit = num_traits::pow(BigInt::from(10), usize::try_from(power).unwrap_or(0));
    let half: BigInt = &unit / 2;
    let mut whole = number / &unit;
    let rest = number - &whole * &unit;
    let odd = (&whole % 2_i32) != BigInt::default();
    if rest.abs() > half || (rest.abs() == half && odd) {
        whole += if number.is_negative() { -1 } else { 1 };
    }
    whole * unit
}
