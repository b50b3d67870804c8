//! Fuel and bytes, counted in one place.

use std::sync::Arc;

use crate::budget::Budget;
use crate::error::EvalErrorKind;

/// Why an evaluation stops. Boxed where it travels, so that results stay small.
#[derive(Debug)]
pub(crate) struct Fault {
    pub(crate) kind: EvalErrorKind,
    pub(crate) message: String,
    pub(crate) hint: Option<String>,
    /// The offset in the source; filled in by the innermost expression.
    pub(crate) at: Option<u32>,
}

pub(crate) type Eval<T> = Result<T, Box<Fault>>;

impl Fault {
    #[cold]
    pub(crate) fn new(message: impl Into<String>) -> Box<Fault> {
        Self::of(EvalErrorKind::Expression, message)
    }

    #[cold]
    pub(crate) fn of(kind: EvalErrorKind, message: impl Into<String>) -> Box<Fault> {
        Box::new(Fault { kind, message: message.into(), hint: None, at: None })
    }

    #[cold]
    pub(crate) fn hint(mut self: Box<Self>, hint: impl Into<String>) -> Box<Fault> {
        self.hint.get_or_insert_with(|| hint.into());
        self
    }

    #[cold]
    pub(crate) fn too_deep() -> Box<Fault> {
        Self::of(
            EvalErrorKind::TooDeep,
            format!("a value is nested deeper than {} levels", crate::value::DEPTH_LIMIT),
        )
    }
}

/// Adds where it was to a fault that does not know.
pub(crate) trait Located<T> {
    fn at(self, at: u32) -> Eval<T>;

    /// With this hint, if there is one, instead of what it has.
    fn meant(self, hint: Option<&Arc<str>>) -> Eval<T>;
}

impl<T> Located<T> for Eval<T> {
    fn at(self, at: u32) -> Eval<T> {
        self.map_err(|mut fault| {
            fault.at.get_or_insert(at);
            fault
        })
    }

    fn meant(self, hint: Option<&Arc<str>>) -> Eval<T> {
        self.map_err(|mut fault| {
            if let Some(hint) = hint {
                fault.hint = Some(hint.to_string());
            }
            fault
        })
    }
}

/// What is left of a budget during an evaluation.
#[derive(Debug)]
pub(crate) struct Meter {
    fuel: u64,
    bytes: u64,
    pub(crate) result_bytes: u64,
    limits: Budget,
}

/// Bytes looked at or copied for one unit of fuel.
const BYTES_PER_FUEL: u64 = 32;

impl Meter {
    pub(crate) fn new(budget: &Budget) -> Self {
        Self {
            fuel: budget.fuel,
            bytes: budget.bytes,
            result_bytes: budget.result_bytes,
            limits: budget.clone(),
        }
    }

    /// Gives back what is left.
    pub(crate) fn settle(&self, budget: &mut Budget) {
        budget.fuel = self.fuel;
        budget.bytes = self.bytes;
        budget.result_bytes = self.result_bytes;
    }

    /// Takes steps.
    #[inline]
    pub(crate) fn step(&mut self, steps: u64) -> Eval<()> {
        let Some(left) = self.fuel.checked_sub(steps) else {
            self.fuel = 0;
            return Err(self.out_of_fuel());
        };
        self.fuel = left;
        Ok(())
    }

    #[cold]
    fn out_of_fuel(&self) -> Box<Fault> {
        Fault::of(
            EvalErrorKind::FuelExhausted,
            format!("it takes more than the {} steps that are allowed", self.limits.fuel),
        )
    }

    /// Looks at bytes.
    pub(crate) fn scan(&mut self, bytes: usize) -> Eval<()> {
        self.step(bytes as u64 / BYTES_PER_FUEL)
    }

    /// Allocates bytes, before they are.
    pub(crate) fn alloc(&mut self, bytes: usize) -> Eval<()> {
        self.alloc_wide(bytes as u64)
    }

    /// As [`alloc`](Self::alloc), for a product that may not fit.
    pub(crate) fn alloc_wide(&mut self, bytes: u64) -> Eval<()> {
        let Some(left) = self.bytes.checked_sub(bytes) else {
            self.bytes = 0;
            return Err(Fault::of(
                EvalErrorKind::MemoryExhausted,
                format!("it allocates more than the {} bytes that are allowed", self.limits.bytes),
            ));
        };
        self.bytes = left;
        self.step(bytes / BYTES_PER_FUEL)
    }

    /// Appends text that is paid for.
    pub(crate) fn push(&mut self, out: &mut String, text: &str) -> Eval<()> {
        self.alloc(text.len())?;
        out.push_str(text);
        Ok(())
    }

    /// Adds bytes to the result.
    pub(crate) fn result(&mut self, bytes: usize) -> Eval<()> {
        let Some(left) = self.result_bytes.checked_sub(bytes as u64) else {
            self.result_bytes = 0;
            return Err(Fault::of(
                EvalErrorKind::ResultTooLarge,
                format!("its result is larger than the {} bytes that are allowed", self.limits.result_bytes),
            ));
        };
        self.result_bytes = left;
        Ok(())
    }
}
