//! Values as text: `str`, `repr`, `%` and `format`, as the `starlark` crate writes them.

use std::fmt::Write as _;
use std::sync::Arc;

use num_bigint::BigInt;
use num_traits::{FromPrimitive, Signed};

use crate::call::Given;
use crate::eval::Interp;
use crate::meter::{Eval, Fault};
use crate::number::big_bytes;
use crate::ops::Number;
use crate::val::{Data, Val};
use crate::value::DEPTH_LIMIT;

impl Interp<'_> {
    pub(crate) fn str(&mut self, value: &Val, out: &mut String) -> Eval<()> {
        match &value.data {
            Data::Str(text) => self.meter.push(out, text),
            _ => self.repr(value, out, 0),
        }
    }

    #[inline(never)]
    pub(crate) fn repr(&mut self, value: &Val, out: &mut String, depth: usize) -> Eval<()> {
        self.meter.step(1)?;
        match &value.data {
            Data::None => self.meter.push(out, "None"),
            Data::Bool(true) => self.meter.push(out, "True"),
            Data::Bool(false) => self.meter.push(out, "False"),
            Data::Int(number) => self.meter.push(out, &number.to_string()),
            Data::Big(number) => {
                let digits = self.digits(number, 10)?;
                self.meter.push(out, &digits)
            }
            Data::Float(number) => self.meter.push(out, &compact_float(*number, 'e')),
            Data::Str(text) => {
                // An escape takes up to ten bytes for one.
                self.meter.alloc(text.len() + 2)?;
                repr_str(text, out);
                Ok(())
            }
            Data::Array(_) | Data::List(_) | Data::Tuple(_) => self.repr_items(&value.data, out, depth),
            Data::Object(_) | Data::Dict(_) => self.repr_entries(value, out, depth),
            Data::Range(range) => {
                let text = match (range.start, range.step) {
                    (0, 1) => format!("range({})", range.stop),
                    (_, 1) => format!("range({}, {})", range.start, range.stop),
                    _ => format!("range({}, {}, {})", range.start, range.stop, range.step),
                };
                self.meter.push(out, &text)
            }
            Data::Function(_) => self.meter.push(out, "<function>"),
            Data::Builtin(builtin) => self.meter.push(out, builtin.name()),
        }
    }

    fn repr_items(&mut self, data: &Data, out: &mut String, depth: usize) -> Eval<()> {
        if depth >= DEPTH_LIMIT {
            return Err(Fault::too_deep());
        }
        let tuple = matches!(data, Data::Tuple(_));
        let count = self.count(data).unwrap_or(0);
        self.meter.push(out, if tuple { "(" } else { "[" })?;
        for at in 0..count {
            if at > 0 {
                self.meter.push(out, ", ")?;
            }
            if let Some(item) = self.item(data, at) {
                self.repr(&item, out, depth + 1)?;
            }
        }
        self.meter.push(
            out,
            if tuple && count == 1 {
                ",)"
            } else if tuple {
                ")"
            } else {
                "]"
            },
        )
    }

    fn repr_entries(&mut self, value: &Val, out: &mut String, depth: usize) -> Eval<()> {
        if depth >= DEPTH_LIMIT {
            return Err(Fault::too_deep());
        }
        self.meter.push(out, "{")?;
        for (index, (key, item)) in self.entries(value)?.into_iter().enumerate() {
            if index > 0 {
                self.meter.push(out, ", ")?;
            }
            self.repr(&key, out, depth + 1)?;
            self.meter.push(out, ": ")?;
            self.repr(&item, out, depth + 1)?;
        }
        self.meter.push(out, "}")
    }

    /// A value for a message, short.
    #[cold]
    pub(crate) fn excerpt(&mut self, value: &Val) -> String {
        match &value.data {
            Data::Str(text) if text.len() <= 60 => {
                let mut out = String::new();
                repr_str(text, &mut out);
                out
            }
            Data::Int(number) => number.to_string(),
            Data::Float(number) => compact_float(*number, 'e'),
            Data::Bool(_) | Data::None => {
                let mut out = String::new();
                let _ = self.repr(value, &mut out, 0);
                out
            }
            other => format!("(a {})", other.type_name()),
        }
    }

    /// The digits of a big integer; the work grows with the square of their number.
    pub(crate) fn digits(&mut self, number: &BigInt, radix: u32) -> Eval<String> {
        let words = big_bytes(number) / 8 + 1;
        if radix == 10 {
            self.meter.step(words.saturating_mul(words))?;
        }
        self.meter.alloc_wide(words.saturating_mul(20))?;
        Ok(number.to_str_radix(radix))
    }

    // ---- `"…" % value`

    pub(crate) fn percent(&mut self, format: &Val, value: &Val) -> Eval<Val> {
        let Data::Str(format) = &format.data else { return Ok(Val::NONE) };
        let values = match &value.data {
            Data::Tuple(_) => self.collect(value)?,
            _ => vec![value.clone()],
        };
        let mut values = values.into_iter();
        let mut out = String::new();
        let mut rest: &str = format;
        while let Some(at) = rest.find('%') {
            self.meter.push(&mut out, rest.get(..at).unwrap_or_default())?;
            let mut behind = rest.get(at + 1..).unwrap_or_default().chars();
            let Some(conversion) = behind.next() else {
                return Err(
                    Fault::new("the format ends with a lone `%`").hint("write `%%` for a percent sign")
                );
            };
            rest = behind.as_str();
            if conversion == '%' {
                self.meter.push(&mut out, "%")?;
                continue;
            }
            if !"srdoxXeEfFgG".contains(conversion) {
                return Err(Fault::new(format!("the format has an unknown conversion `%{conversion}`")));
            }
            let value =
                values.next().ok_or_else(|| Fault::new("the format needs more values than there are"))?;
            self.convert(conversion, &value, &mut out)?;
        }
        self.meter.push(&mut out, rest)?;
        if values.next().is_some() {
            return Err(Fault::new("there are more values than the format needs"));
        }
        Ok(Val::text(out))
    }

    fn convert(&mut self, conversion: char, value: &Val, out: &mut String) -> Eval<()> {
        match conversion {
            's' => return self.str(value, out),
            'r' => return self.repr(value, out, 0),
            _ => {}
        }
        let number = Number::of(&value.data).ok_or_else(|| {
            self.absent(value, format!("`%{conversion}` needs a number, not a {}", value.data.type_name()))
        })?;
        let text = match (conversion, number) {
            ('d', Number::Float(float)) => match BigInt::from_f64(float.trunc()) {
                Some(whole) => self.digits(&whole, 10)?,
                None => return Err(Fault::new("`%d` needs a finite number")),
            },
            ('d', Number::Int(number)) => number.to_string(),
            ('d', Number::Big(number)) => self.digits(number, 10)?,
            ('o' | 'x' | 'X', Number::Float(_)) => {
                return Err(Fault::new(format!("`%{conversion}` needs an integer")));
            }
            ('o', number) => self.radix(number, 8)?,
            ('x', number) => self.radix(number, 16)?,
            ('X', number) => self.radix(number, 16)?.to_uppercase(),
            ('e', number) => scientific(number.to_f64(), 'e', false),
            ('E', number) => scientific(number.to_f64(), 'E', false),
            ('g', number) => compact_float(number.to_f64(), 'e'),
            ('G', number) => compact_float(number.to_f64(), 'E'),
            (_, number) => {
                let number = number.to_f64();
                if number.is_finite() { format!("{number:.6}") } else { non_finite(number) }
            }
        };
        self.meter.push(out, &text)
    }

    fn radix(&mut self, number: Number<'_>, radix: u32) -> Eval<String> {
        match number {
            Number::Int(number) => Ok(BigInt::from(number).to_str_radix(radix)),
            Number::Big(number) => {
                let digits = self.digits(&number.abs(), radix)?;
                Ok(if number.is_negative() { format!("-{digits}") } else { digits })
            }
            Number::Float(_) => Ok(String::new()),
        }
    }

    // ---- `"…".format(…)`

    pub(crate) fn format_method(&mut self, format: &str, given: &Given) -> Eval<Val> {
        let mut out = String::new();
        let mut rest = format;
        let (mut next, mut by_order, mut by_index) = (0, false, false);
        let mixed = || Fault::new("a format numbers all its fields or none");
        while let Some(at) = rest.find(['{', '}']) {
            self.meter.push(&mut out, rest.get(..at).unwrap_or_default())?;
            rest = rest.get(at..).unwrap_or_default();
            if let Some(behind) = rest.strip_prefix("{{").or_else(|| rest.strip_prefix("}}")) {
                self.meter.push(&mut out, rest.get(..1).unwrap_or_default())?;
                rest = behind;
                continue;
            }
            if rest.starts_with('}') {
                return Err(Fault::new("the format has a lone `}`").hint("write `}}` for a brace"));
            }
            let Some((field, behind)) = rest.strip_prefix('{').and_then(|rest| rest.split_once('}')) else {
                return Err(Fault::new("the format has a lone `{`").hint("write `{{` for a brace"));
            };
            rest = behind;
            let (field, conversion) = field.split_once('!').unwrap_or((field, "s"));
            if field.contains('{') || !matches!(conversion, "s" | "r") {
                return Err(Fault::new(format!(
                    "the format has a field that is not understood: `{{{field}}}`"
                )));
            }
            let value = if field.is_empty() {
                by_order = true;
                next += 1;
                given.positional.get(next - 1)
            } else if field.bytes().all(|byte| byte.is_ascii_digit()) {
                by_index = true;
                field.parse().ok().and_then(|index: usize| given.positional.get(index))
            } else if field.contains(['.', ',', '[', ']']) {
                return Err(Fault::new("a field of a format is a name or a number"));
            } else {
                given.named.iter().find(|(name, _)| name.as_ref() == field).map(|(_, value)| value)
            };
            if by_order && by_index {
                return Err(mixed());
            }
            let Some(value) = value else {
                let field: String = field.chars().take(60).collect();
                return Err(Fault::new(format!("the format has no value for its field `{{{field}}}`")));
            };
            if conversion == "r" {
                self.repr(value, &mut out, 0)?;
            } else {
                self.str(value, &mut out)?;
            }
        }
        self.meter.push(&mut out, rest)?;
        Ok(Val::text(out))
    }

    /// A text made by a function that may make it longer.
    pub(crate) fn made(&mut self, text: String) -> Eval<Val> {
        self.meter.alloc(text.len())?;
        Ok(Val::text(Arc::from(text)))
    }
}

fn non_finite(number: f64) -> String {
    let text = if number.is_nan() {
        "nan"
    } else if number > 0.0 {
        "+inf"
    } else {
        "-inf"
    };
    text.to_owned()
}

/// `%g` and `str`: six digits behind the point where the exponent has six or more, else all there are.
pub(crate) fn compact_float(number: f64, letter: char) -> String {
    if !number.is_finite() {
        return non_finite(number);
    }
    // The exponent as Rust writes it is exact, which a logarithm is not.
    let exponent = format!("{number:e}").rsplit_once('e').and_then(|(_, exponent)| exponent.parse().ok());
    if exponent.unwrap_or(0_i32).abs() >= 6 {
        scientific(number, letter, true)
    } else if number.fract() == 0.0 {
        format!("{number:.1}")
    } else {
        format!("{number}")
    }
}

/// `%e`: six digits behind the point, without trailing zeros if `short`, at least two digits of exponent.
fn scientific(number: f64, letter: char, short: bool) -> String {
    if !number.is_finite() {
        return non_finite(number);
    }
    // Halfway between two, Rust takes the even one; here the fraction decides as it is after scaling, as in the `starlark` crate.
    let exact = format!("{number:.60e}");
    let behind = exact.split_once('.').and_then(|(_, digits)| digits.get(6..60)).unwrap_or_default();
    let halfway = behind.starts_with('5')
        && behind.get(1..).is_some_and(|rest| rest.bytes().all(|digit| digit == b'0'));
    let number = if halfway {
        let exponent = exact.rsplit_once('e').and_then(|(_, exponent)| exponent.parse().ok()).unwrap_or(0.0);
        let scaled = (number.abs() / 10_f64.powf(exponent)).fract() * 1e6;
        let away = scaled.fract() >= 0.5;
        f64::from_bits(if away { number.to_bits() + 1 } else { number.to_bits() - 1 })
    } else {
        number
    };
    let text = format!("{number:.6e}");
    let (digits, exponent) = text.split_once('e').unwrap_or((&text, "0"));
    let digits = if short { digits.trim_end_matches('0').trim_end_matches('.') } else { digits };
    let exponent: i32 = exponent.parse().unwrap_or(0);
    let mut out = String::new();
    let _ = write!(out, "{digits}{letter}{exponent:+03}");
    out
}

fn repr_str(text: &str, out: &mut String) {
    out.push('"');
    for character in text.chars() {
        let code = u32::from(character);
        match character {
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\\' => out.push_str("\\\\"),
            '"' => out.push_str("\\\""),
            ' '..='~' => out.push(character),
            _ if code > 0xff && character.is_alphanumeric() => out.push(character),
            _ => {
                let _ = match code {
                    0..0x100 => write!(out, "\\x{code:02x}"),
                    0x100..0x1_0000 => write!(out, "\\u{code:04x}"),
                    _ => write!(out, "\\U{code:08x}"),
                };
            }
        }
    }
    out.push('"');
}
