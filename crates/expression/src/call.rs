//! Calls: of the program's functions, of builtins, of methods.

use std::sync::Arc;

use crate::error::EvalErrorKind;
use crate::eval::{CALL_COST, Flow, Interp, Slot};
use crate::ir::{Args, Call, Callee, Function, ParamKind};
use crate::meter::{Eval, Fault, Located};
use crate::val::{Closure, Data, Val};

/// How deep functions may call each other.
pub(crate) const CALL_DEPTH: u32 = 50;

/// The evaluated arguments of a call.
#[derive(Debug, Default)]
pub(crate) struct Given {
    pub(crate) positional: Vec<Val>,
    pub(crate) named: Vec<(Arc<str>, Val)>,
}

impl Interp<'_> {
    #[inline(never)]
    pub(crate) fn call_name(&mut self, call: &Call, at: u32) -> Eval<Val> {
        match &call.callee {
            Callee::Builtin(builtin) => {
                let given = self.given(&call.args)?;
                self.builtin(*builtin, given).at(at)
            }
            Callee::Var(var) => {
                let function = self.load(var)?;
                self.call_value(&function, &call.args, at)
            }
        }
    }

    #[inline(never)]
    pub(crate) fn call_value(&mut self, function: &Val, args: &Args, at: u32) -> Eval<Val> {
        let given = self.given(args)?;
        self.invoke(function, given).at(at)
    }

    pub(crate) fn given(&mut self, args: &Args) -> Eval<Given> {
        let mut given = Given { positional: self.evals(&args.positional)?, named: Vec::new() };
        for (name, value) in &args.named {
            given.named.push((name.clone(), self.eval(value)?));
        }
        if let Some(spread) = &args.spread {
            let more = self.eval(spread)?;
            given.positional.extend(self.collect(&more)?);
        }
        if let Some(kwargs) = &args.kwargs {
            let more = self.eval(kwargs)?;
            self.spread(&more, &mut given)?;
        }
        Ok(given)
    }

    fn spread(&mut self, kwargs: &Val, given: &mut Given) -> Eval<()> {
        for (key, value) in self.entries(kwargs)? {
            let Data::Str(name) = key.data else {
                return Err(Fault::new("the keys of a dict after `**` must be strings"));
            };
            if given.named.iter().any(|(other, _)| *other == name) {
                return Err(Fault::new(format!("the argument `{name}` is given twice")));
            }
            // Each is compared with those before.
            self.meter.step(given.named.len() as u64)?;
            given.named.push((name, value));
        }
        Ok(())
    }

    /// Calls a value.
    pub(crate) fn invoke(&mut self, function: &Val, given: Given) -> Eval<Val> {
        match &function.data {
            Data::Builtin(builtin) => self.builtin(*builtin, given),
            Data::Function(function) => match self.heap.functions.get(*function as usize).cloned() {
                Some(closure) => self.call_closure(&closure, given),
                None => Err(Fault::new("there is no such function")),
            },
            other => Err(Fault::new(format!("a {} cannot be called", other.type_name()))),
        }
    }

    #[inline(never)]
    fn call_closure(&mut self, closure: &Closure, given: Given) -> Eval<Val> {
        let code = self.code;
        let Some(function) = code.functions.get(closure.code as usize) else {
            return Err(Fault::new("there is no such function"));
        };
        self.calls += 1;
        if self.calls > CALL_DEPTH {
            return Err(Fault::of(
                EvalErrorKind::CallDepth,
                format!("functions call each other more than {CALL_DEPTH} deep, last `{}`", function.name),
            ));
        }
        self.deeper(CALL_COST)?;
        let (base, top, captures) = (self.base, self.stack.len(), self.captures.clone());
        self.enter(function, closure, given)?;
        let flow = self.block(&function.body)?;
        self.stack.truncate(top);
        self.base = base;
        self.captures = captures;
        self.depth -= CALL_COST;
        self.calls -= 1;
        Ok(match flow {
            Flow::Return(value) => value,
            _ => Val::NONE,
        })
    }

    /// Makes the variables of a call and binds its arguments.
    fn enter(&mut self, function: &Function, closure: &Closure, given: Given) -> Eval<()> {
        let base = self.stack.len();
        self.meter.step(u64::from(function.slots))?;
        self.stack.resize(base + function.slots as usize, Slot::Unset);
        let bound = self.bind(function, closure, given)?;
        for (slot, value) in self.stack.iter_mut().skip(base).zip(bound) {
            *slot = Slot::Val(value);
        }
        for cell in &function.cells {
            let value = match self.stack.get(base + *cell as usize) {
                Some(Slot::Val(value)) => Some(value.clone()),
                _ => None,
            };
            let shared = self.heap.cell(&mut self.meter, value)?;
            if let Some(slot) = self.stack.get_mut(base + *cell as usize) {
                *slot = Slot::Cell(shared);
            }
        }
        self.base = base;
        self.captures = closure.captures.clone();
        Ok(())
    }

    fn bind(&mut self, function: &Function, closure: &Closure, given: Given) -> Eval<Vec<Val>> {
        let name = &function.name;
        let mut positional = given.positional.into_iter();
        let mut named = given.named;
        let mut defaults = closure.defaults.iter();
        let mut bound = Vec::with_capacity(function.params.len());
        self.meter.step((named.len() * function.params.len()) as u64)?;
        for (index, param) in function.params.iter().enumerate() {
            let by_name = named.iter().position(|(name, _)| *name == param.name);
            let value = match &param.kind {
                ParamKind::Required | ParamKind::Optional(_) => {
                    let default = match param.kind {
                        ParamKind::Optional(_) => defaults.next().cloned(),
                        _ => None,
                    };
                    let by_position = if index < function.positional { positional.next() } else { None };
                    match (by_position, by_name) {
                        (Some(_), Some(_)) => {
                            return Err(Fault::new(format!("`{name}` is given `{}` twice", param.name)));
                        }
                        (Some(value), None) => value,
                        (None, Some(at)) => named.remove(at).1,
                        (None, None) => default.ok_or_else(|| {
                            Fault::new(format!("`{name}` misses its argument `{}`", param.name))
                        })?,
                    }
                }
                ParamKind::Args => {
                    let rest: Vec<Val> = positional.by_ref().collect();
                    self.heap.tuple(&mut self.meter, rest)?
                }
                ParamKind::Kwargs => {
                    let dict = self.heap.dict(&mut self.meter)?;
                    for (name, value) in std::mem::take(&mut named) {
                        self.heap.insert(&mut self.meter, dict, Val::text(name), value)?;
                    }
                    Data::Dict(dict).into()
                }
            };
            bound.push(value);
        }
        if let Some((extra, _)) = named.first() {
            return Err(Fault::new(format!("`{name}` has no argument `{extra}`")));
        }
        if positional.next().is_some() {
            return Err(Fault::new(format!(
                "`{name}` takes {} arguments, more are given",
                function.params.len()
            )));
        }
        Ok(bound)
    }
}

/// Reads the arguments of a builtin: how many it takes, in order, and by which names.
pub(crate) struct Taken {
    name: &'static str,
    positional: std::vec::IntoIter<Val>,
    named: Vec<(Arc<str>, Val)>,
}

impl Taken {
    pub(crate) fn new(name: &'static str, given: Given) -> Self {
        Self { name, positional: given.positional.into_iter(), named: given.named }
    }

    pub(crate) fn need(&mut self, what: &str) -> Eval<Val> {
        self.maybe(None)?.ok_or_else(|| Fault::new(format!("`{}` misses its argument {what}", self.name)))
    }

    /// The next positional argument, or the one of this name.
    pub(crate) fn maybe(&mut self, name: Option<&str>) -> Eval<Option<Val>> {
        let named = name.and_then(|name| self.by_name(name));
        match (self.positional.next(), named) {
            (Some(_), Some(_)) => {
                Err(Fault::new(format!("`{}` is given `{}` twice", self.name, name.unwrap_or_default())))
            }
            (value, named) => Ok(value.or(named)),
        }
    }

    pub(crate) fn by_name(&mut self, name: &str) -> Option<Val> {
        let at = self.named.iter().position(|(other, _)| other.as_ref() == name)?;
        Some(self.named.remove(at).1)
    }

    pub(crate) fn rest(&mut self) -> Vec<Val> {
        self.positional.by_ref().collect()
    }

    pub(crate) fn rest_named(&mut self) -> Vec<(Arc<str>, Val)> {
        std::mem::take(&mut self.named)
    }

    pub(crate) fn done(mut self) -> Eval<()> {
        if let Some((name, _)) = self.named.first() {
            return Err(Fault::new(format!("`{}` has no argument `{name}`", self.name)));
        }
        if self.positional.next().is_some() {
            return Err(Fault::new(format!("`{}` is given too many arguments", self.name)));
        }
        Ok(())
    }
}
