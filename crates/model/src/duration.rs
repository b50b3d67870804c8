//! Lengths of time as people write them.

use expression::Value;

use crate::Millis;

/// The longest time anything may take or wait: a hundred years of 365.25 days.
pub const MAX_DURATION: Millis = Millis(3_155_760_000_000);

/// A length of time that cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DurationError {
    /// It is in none of the known spellings.
    #[error("`{text}` is no length of time: {why}")]
    Unreadable {
        /// What was written.
        text: String,
        /// What is wrong with it.
        why: &'static str,
    },
    /// Time does not run backwards.
    #[error("`{0}` is negative")]
    Negative(String),
    /// Longer than [`MAX_DURATION`].
    #[error("`{0}` is longer than 100 years")]
    TooLong(String),
    /// Neither a number nor a text.
    #[error("{0} is no length of time")]
    WrongType(&'static str),
}

/// What a [`DurationError`] should tell users to write.
pub const DURATION_HELP: &str =
    "a number of seconds, `90s`, `1h30m`, `2d`, or ISO 8601 without months and years (`PT1H30M`)";

/// Reads a length of time: seconds as a number, Go style (`1h30m`, `1.5h`, also `d`), or ISO 8601 without months and
/// years (`P1DT2H`). A text that is only a number is seconds too. What is finer than a millisecond is rounded up, so that
/// no wait is cut short to nothing.
pub fn duration(value: &Value) -> Result<Millis, DurationError> {
    match value {
        Value::String(text) => parse_duration(text),
        Value::Int(_) | Value::BigInt(_) | Value::Float(_) => {
            seconds(value.as_f64().unwrap_or(f64::NAN), &value.to_string())
        }
        other => Err(DurationError::WrongType(other.kind())),
    }
}

/// As [`duration`], of a text.
pub fn parse_duration(text: &str) -> Result<Millis, DurationError> {
    let trimmed = text.trim();
    if trimmed.len() > 64 {
        return Err(unreadable(text.get(..16).unwrap_or("…"), "it is too long"));
    }
    if trimmed.is_empty() {
        return Err(unreadable(text, "it is empty"));
    }
    if trimmed.starts_with('-') {
        return Err(DurationError::Negative(trimmed.to_owned()));
    }
    let unsigned = trimmed.strip_prefix('+').unwrap_or(trimmed);
    if unsigned.bytes().all(|b| b.is_ascii_digit() || b == b'.')
        && let Ok(number) = unsigned.parse()
    {
        return seconds(number, trimmed);
    }
    if unsigned.starts_with(['P', 'p']) { iso(unsigned, trimmed) } else { go(unsigned, trimmed) }
}

const SECOND: u64 = 1_000_000_000;
const UNITS: [(&str, u64); 9] = [
    ("ns", 1),
    ("us", 1_000),
    ("µs", 1_000),
    ("μs", 1_000),
    ("ms", 1_000_000),
    ("s", SECOND),
    ("m", 60 * SECOND),
    ("h", 3_600 * SECOND),
    ("d", 86_400 * SECOND),
];

/// `1h30m`, `1.5h`, `2d12h`.
fn go(text: &str, whole: &str) -> Result<Millis, DurationError> {
    let mut rest = text;
    let mut nanos: u128 = 0;
    while !rest.is_empty() {
        let (number, behind) =
            take_number(rest, &['.']).ok_or_else(|| unreadable(whole, "a number is missing"))?;
        let unit_end = behind.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(behind.len());
        let (unit, next) = behind.split_at_checked(unit_end).unwrap_or((behind, ""));
        let Some((_, size)) = UNITS.iter().find(|(name, _)| *name == unit) else {
            let why = if unit.is_empty() {
                "a unit is missing"
            } else {
                "the unit is none of ns, us, ms, s, m, h, d"
            };
            return Err(unreadable(whole, why));
        };
        nanos += amount(number, *size, whole)?;
        rest = next;
    }
    from_nanos(nanos, whole)
}

/// `P1W`, `P1DT2H30M`, `PT0.5S`.
fn iso(text: &str, whole: &str) -> Result<Millis, DurationError> {
    let upper = text.to_ascii_uppercase();
    let mut rest = upper.get(1..).unwrap_or("");
    let mut in_time = false;
    let mut nanos: u128 = 0;
    let mut parts = 0;
    let mut order = 0;
    while !rest.is_empty() {
        if let Some(next) = rest.strip_prefix('T') {
            if in_time || next.is_empty() {
                return Err(unreadable(whole, "there must be something behind its one `T`"));
            }
            in_time = true;
            rest = next;
            continue;
        }
        let (number, behind) =
            take_number(rest, &['.', ',']).ok_or_else(|| unreadable(whole, "a number is missing"))?;
        let mut chars = behind.chars();
        let (rank, size) = match (chars.next(), in_time) {
            (Some('W'), false) => (1, 7 * 86_400 * SECOND),
            (Some('D'), false) => (2, 86_400 * SECOND),
            (Some('H'), true) => (3, 3_600 * SECOND),
            (Some('M'), true) => (4, 60 * SECOND),
            (Some('S'), true) => (5, SECOND),
            (Some('Y' | 'M'), false) => {
                return Err(unreadable(whole, "months and years have no fixed length"));
            }
            _ => return Err(unreadable(whole, "a unit is missing or stands on the wrong side of `T`")),
        };
        if rank <= order {
            return Err(unreadable(whole, "its units are not in order"));
        }
        order = rank;
        nanos += amount(number, size, whole)?;
        parts += 1;
        rest = chars.as_str();
    }
    if parts == 0 {
        return Err(unreadable(whole, "there is nothing behind the `P`"));
    }
    from_nanos(nanos, whole)
}

/// The number at the start, with at most one decimal sign, and what stands behind it.
fn take_number<'t>(text: &'t str, signs: &[char]) -> Option<(&'t str, &'t str)> {
    let end = text.find(|c: char| !c.is_ascii_digit() && !signs.contains(&c)).unwrap_or(text.len());
    let (number, rest) = text.split_at_checked(end)?;
    let decimal_signs = number.chars().filter(|c| signs.contains(c)).count();
    (number.chars().any(|c| c.is_ascii_digit()) && decimal_signs <= 1).then_some((number, rest))
}

/// Exact: `0.1s` is 100 ms. Digits beyond a nanosecond are dropped.
fn amount(number: &str, unit: u64, whole: &str) -> Result<u128, DurationError> {
    let (integer, fraction) = number.split_once(['.', ',']).unwrap_or((number, ""));
    let too_long = || DurationError::TooLong(whole.to_owned());
    let integer: u64 = if integer.is_empty() { 0 } else { integer.parse().map_err(|_| too_long())? };
    let mut total = u128::from(integer) * u128::from(unit);
    let mut scale = u128::from(unit);
    for digit in fraction.chars().filter_map(|c| c.to_digit(10)) {
        scale /= 10;
        total += u128::from(digit) * scale;
    }
    Ok(total)
}

fn from_nanos(nanos: u128, text: &str) -> Result<Millis, DurationError> {
    match u64::try_from(nanos.div_ceil(1_000_000)) {
        Ok(millis) if millis <= MAX_DURATION.0 => Ok(Millis(millis)),
        _ => Err(DurationError::TooLong(text.to_owned())),
    }
}

#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, clippy::cast_precision_loss)]
fn seconds(number: f64, text: &str) -> Result<Millis, DurationError> {
    if number < 0.0 {
        return Err(DurationError::Negative(text.to_owned()));
    }
    // Rounded to nanoseconds first: 0.1 is a hair more than a tenth.
    let millis = ((number * 1_000.0 * 1e6).round() / 1e6).ceil();
    if !millis.is_finite() || millis > MAX_DURATION.0 as f64 {
        return Err(DurationError::TooLong(text.to_owned()));
    }
    Ok(Millis(millis as u64))
}

fn unreadable(text: &str, why: &'static str) -> DurationError {
    DurationError::Unreadable { text: text.to_owned(), why }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_spelling_is_read_exactly() {
        let cases: &[(&str, u64)] = &[
            ("0", 0),
            ("90", 90_000),
            ("1.5", 1_500),
            ("90s", 90_000),
            ("1h30m", 5_400_000),
            ("1.5h", 5_400_000),
            (".5s", 500),
            ("2d12h", 216_000_000),
            ("100ms", 100),
            ("0.1s", 100),
            ("1us", 1),
            ("1500µs", 2),
            (" +5m ", 300_000),
            ("PT1H30M", 5_400_000),
            ("P1DT2H", 93_600_000),
            ("P2W", 1_209_600_000),
            ("PT0,5S", 500),
            ("pt5s", 5_000),
            ("876600h", MAX_DURATION.0),
        ];
        for (text, millis) in cases {
            assert_eq!(parse_duration(text), Ok(Millis(*millis)), "{text}");
        }
        for (value, millis) in [(Value::Int(3), 3_000), (Value::Float(0.1), 100), (Value::Float(0.0001), 1)] {
            assert_eq!(duration(&value), Ok(Millis(millis)), "{value}");
        }
    }

    #[test]
    fn everything_else_is_refused_with_its_reason() {
        for text in [
            "", "h", "5x", "1h 30m", "P", "PT", "P1M", "P1Y", "PT1H2H", "PT1M1H", "P1H", "1.2.3s", "5m3",
            "NaN", "inf", "1e3", "T5S", "五s", "P1DT", "..5s", "1_000s",
        ] {
            assert!(
                matches!(parse_duration(text), Err(DurationError::Unreadable { .. })),
                "{text}: {:?}",
                parse_duration(text)
            );
        }
        for text in ["-5s", "-1"] {
            assert!(matches!(parse_duration(text), Err(DurationError::Negative(_))), "{text}");
        }
        for text in ["36526d", "99999999999999999999h", "9999999999999999d", "P99999999W", "1e300"] {
            assert!(parse_duration(text).is_err(), "{text}");
        }
        assert!(matches!(duration(&Value::Float(1e300)), Err(DurationError::TooLong(_))));
        assert!(matches!(duration(&Value::Int(-1)), Err(DurationError::Negative(_))));
        assert!(matches!(duration(&Value::Bool(true)), Err(DurationError::WrongType(_))));
    }
}
