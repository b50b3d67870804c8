//! Numbers as Starlark has them: integers of any size beside floats, compared exactly.

use std::cmp::Ordering;

use num_bigint::BigInt;
use num_traits::{FromPrimitive, Signed};

/// Compares exactly, without rounding the integer to a float. NaN is above every number, as in Starlark.
pub(crate) fn compare_int_float(int: i64, float: f64) -> Ordering {
    #[allow(clippy::cast_precision_loss)]
    let near = int as f64;
    match near.partial_cmp(&float) {
        None => Ordering::Less,
        // Beyond 2^53 several integers round to one float.
        Some(Ordering::Equal) if int.unsigned_abs() > (1 << 53) => {
            compare_big_float(&BigInt::from(int), float)
        }
        Some(order) => order,
    }
}

/// As [`compare_int_float`], for an integer of any size.
pub(crate) fn compare_big_float(int: &BigInt, float: f64) -> Ordering {
    if float.is_nan() {
        return Ordering::Less;
    }
    match BigInt::from_f64(float.trunc()) {
        Some(whole) => {
            int.cmp(&whole).then_with(|| 0.0_f64.partial_cmp(&float.fract()).unwrap_or(Ordering::Equal))
        }
        None if float > 0.0 => Ordering::Less,
        None => Ordering::Greater,
    }
}

/// How many bytes its digits take in memory, roughly.
pub(crate) fn big_bytes(int: &BigInt) -> u64 {
    int.abs().bits() / 8 + 1
}
