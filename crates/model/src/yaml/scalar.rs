//! What a plain scalar is: the core schema of YAML 1.2 (§10.3.2), where `yes` and `1.10.2` are texts.

use std::sync::Arc;

use super::Data;
use super::Number;
use super::Style;

/// The data of a plain scalar, or why JSON cannot hold it.
pub(super) fn plain(text: &str) -> Result<Data, &'static str> {
    Ok(match text {
        "" | "~" | "null" | "Null" | "NULL" => Data::Null,
        "true" | "True" | "TRUE" => Data::Bool(true),
        "false" | "False" | "FALSE" => Data::Bool(false),
        _ => match number(text) {
            Some(Ok(number)) => Data::Number(text.into(), number),
            Some(Err(why)) => return Err(why),
            None => Data::Text(text.into(), Style::Verbatim),
        },
    })
}

/// A number of the core schema; `None` when the text is none.
pub(super) fn number(text: &str) -> Option<Result<Number, &'static str>> {
    let (negative, digits) = match text.as_bytes().first()? {
        b'-' => (true, text.get(1..)?),
        b'+' => (false, text.get(1..)?),
        _ => (false, text),
    };
    if matches!(digits, ".inf" | ".Inf" | ".INF") {
        return Some(Err("infinity"));
    }
    if matches!(text, ".nan" | ".NaN" | ".NAN") {
        return Some(Err("not a number"));
    }
    if digits.is_empty() {
        return None;
    }
    if let Some(rest) = text.strip_prefix("0x") {
        return radix(rest, 16);
    }
    if let Some(rest) = text.strip_prefix("0o") {
        return radix(rest, 8);
    }
    if digits.bytes().all(|b| b.is_ascii_digit()) {
        return Some(integer(negative, digits));
    }
    if !is_float(digits) {
        return None;
    }
    let value: f64 = text.parse().ok()?;
    Some(if value.is_finite() { Ok(Number::Float(value)) } else { Err("a number too large for JSON") })
}

fn radix(digits: &str, radix: u32) -> Option<Result<Number, &'static str>> {
    if digits.is_empty() || !digits.chars().all(|c| c.is_digit(radix)) {
        return None;
    }
    Some(i64::from_str_radix(digits, radix).map(Number::Int).map_err(|_| "an integer beyond 64 bits"))
}

/// Leading zeros are decimal in YAML 1.2.
fn integer(negative: bool, digits: &str) -> Result<Number, &'static str> {
    let trimmed = digits.trim_start_matches('0');
    let trimmed = if trimmed.is_empty() { "0" } else { trimmed };
    let text = if negative && trimmed != "0" { format!("-{trimmed}") } else { trimmed.to_owned() };
    match (text.parse(), text.parse::<i128>()) {
        (Ok(number), _) => Ok(Number::Int(number)),
        (Err(_), Ok(_)) => Ok(Number::Big(Arc::from(text))),
        (Err(_), Err(_)) => Err("an integer beyond 128 bits"),
    }
}

/// `(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?`
fn is_float(text: &str) -> bool {
    let (mantissa, exponent) = match text.split_once(['e', 'E']) {
        Some((mantissa, exponent)) => (mantissa, Some(exponent)),
        None => (text, None),
    };
    let all_digits = |s: &str| s.bytes().all(|b| b.is_ascii_digit());
    let mantissa_fits = match mantissa.split_once('.') {
        Some((whole, fraction)) => {
            all_digits(whole) && all_digits(fraction) && !(whole.is_empty() && fraction.is_empty())
        }
        None => !mantissa.is_empty() && all_digits(mantissa),
    };
    let exponent_fits = exponent.is_none_or(|e| {
        let digits = e.strip_prefix(['-', '+']).unwrap_or(e);
        !digits.is_empty() && all_digits(digits)
    });
    mantissa_fits && exponent_fits
}
