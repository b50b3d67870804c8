//! The tree walker. It recurses as deep as sources nest and calls go, both bounded, so each arm is a small function.

use std::sync::Arc;

use crate::budget::Budget;
use crate::environment::Environment;
use crate::error::{EvalError, EvalErrorKind};
use crate::ir::{
    Clause, Code, Comprehension, Expr, FormatPart, Item, Kind, Link, LinkKind, Operation, Unary,
};
use crate::meter::{Eval, Fault, Located, Meter};
use crate::names::Mark;
use crate::syntax::Source;
use crate::val::{Data, Heap, Val};

/// How deep evaluations may stand in each other: nested expressions and blocks count one, calls [`CALL_COST`].
/// Measured so that a debug build stays well within a stack of one MiB.
const DEPTH: u32 = 400;
pub(crate) const CALL_COST: u32 = 4;

/// One evaluation.
pub(crate) struct Interp<'a> {
    pub(crate) code: &'a Code,
    pub(crate) source: &'a Source,
    pub(crate) environment: &'a Environment<'a>,
    pub(crate) heap: Heap,
    pub(crate) meter: Meter,
    /// The variables of the module and of every running call.
    pub(crate) stack: Vec<Slot>,
    /// Where those of the running call begin.
    pub(crate) base: usize,
    pub(crate) captures: Arc<[u32]>,
    pub(crate) depth: u32,
    pub(crate) calls: u32,
}

#[derive(Clone, Debug)]
pub(crate) enum Slot {
    Unset,
    Val(Val),
    /// Shared with inner functions.
    Cell(u32),
}

/// How a block ended.
pub(crate) enum Flow {
    Next,
    Break,
    Continue,
    Return(Val),
}

/// Evaluates a source to what `finish` makes of its value, and charges the budget.
pub(crate) fn run<T>(
    code: &Code,
    source: &Source,
    environment: &Environment<'_>,
    budget: &mut Budget,
    finish: impl FnOnce(&mut Interp<'_>, Val) -> Eval<T>,
) -> Result<T, EvalError> {
    let mut interp = Interp {
        code,
        source,
        environment,
        heap: Heap::default(),
        meter: Meter::new(budget),
        stack: Vec::new(),
        base: 0,
        captures: Arc::new([]),
        depth: 0,
        calls: 0,
    };
    let ended = interp.program().and_then(|value| finish(&mut interp, value));
    interp.meter.settle(budget);
    ended.map_err(|fault| describe(*fault, source))
}

fn describe(fault: Fault, source: &Source) -> EvalError {
    let at = fault.at.map(|at| at as usize);
    let (line, column) = at.map_or((0, 0), |at| source.position(at));
    let quote = at.map_or_else(String::new, |at| source.quote(at));
    let message = fault.message.replace(OBJECT, "the value");
    EvalError { kind: fault.kind, message, line, column, quote, hint: fault.hint }
}

impl Interp<'_> {
    fn program(&mut self) -> Eval<Val> {
        let code = self.code;
        self.stack.resize(code.slots as usize, Slot::Unset);
        for stmt in &code.body {
            self.stmt(stmt)?;
        }
        code.result.as_ref().map_or(Ok(Val::NONE), |result| self.eval(result))
    }

    /// Goes one level deeper into the tree.
    pub(crate) fn deeper(&mut self, levels: u32) -> Eval<()> {
        self.depth += levels;
        if self.depth > DEPTH {
            return Err(Fault::of(
                EvalErrorKind::TooDeep,
                format!("expressions and calls stand more than {DEPTH} levels deep in each other"),
            ));
        }
        Ok(())
    }

    pub(crate) fn eval(&mut self, expr: &Expr) -> Eval<Val> {
        self.meter.step(1)?;
        match &expr.kind {
            Kind::None => Ok(Val::NONE),
            Kind::Bool(flag) => Ok(Val::bool(*flag)),
            Kind::Int(number) => Ok(Data::Int(*number).into()),
            Kind::Big(number) => Ok(Data::Big(number.clone()).into()),
            Kind::Float(number) => Ok(Data::Float(*number).into()),
            Kind::Str(text) => Ok(Data::Str(text.clone()).into()),
            Kind::Var(var) => self.load(var).at(expr.at),
            Kind::Name(name) => self.name(name).at(expr.at),
            _ => self.eval_inner(expr),
        }
    }

    #[inline(never)]
    fn eval_inner(&mut self, expr: &Expr) -> Eval<Val> {
        self.deeper(1).at(expr.at)?;
        let value = match &expr.kind {
            Kind::Chain(first, links) => self.chain(first, links),
            Kind::Call(call) => self.call_name(call, expr.at),
            Kind::List(items) => self.list(items),
            Kind::Tuple(items) => self.tuple(items),
            Kind::Dict(entries) => self.dict(entries),
            Kind::Binary(first, operations) => self.operations(first, operations),
            Kind::And(operands) => self.until(operands, false),
            Kind::Or(operands) => self.until(operands, true),
            Kind::Unary(operators, inner) => self.unary(operators, inner),
            Kind::If(arms, otherwise) => self.ternary(arms, otherwise),
            Kind::Comprehension(comprehension) => self.comprehension(comprehension),
            Kind::Lambda(function) => self.closure(*function),
            Kind::Format(parts) => self.format(parts),
            _ => Ok(Val::NONE),
        };
        self.depth -= 1;
        value.at(expr.at)
    }

    #[inline(never)]
    fn unary(&mut self, operators: &[Unary], inner: &Expr) -> Eval<Val> {
        let mut value = self.eval(inner)?;
        for operator in operators.iter().rev() {
            self.meter.step(1)?;
            value = match operator {
                Unary::Not => Val::bool(!self.truth(&value)),
                Unary::Minus => self.minus(&value)?,
                Unary::Plus => self.plus(&value)?,
                Unary::BitNot => self.bit_not(&value)?,
            };
        }
        Ok(value)
    }

    /// The first operand whose truth is `stop`, else the last.
    #[inline(never)]
    fn until(&mut self, operands: &[Expr], stop: bool) -> Eval<Val> {
        let mut last = Val::NONE;
        for operand in operands {
            last = self.eval(operand)?;
            if self.truth(&last) == stop {
                break;
            }
        }
        Ok(last)
    }

    #[inline(never)]
    fn ternary(&mut self, arms: &[(Expr, Expr)], otherwise: &Expr) -> Eval<Val> {
        for (condition, then) in arms {
            if self.condition(condition)? {
                return self.eval(then);
            }
        }
        self.eval(otherwise)
    }

    #[inline(never)]
    fn list(&mut self, items: &[Expr]) -> Eval<Val> {
        let items = self.evals(items)?;
        self.heap.list(&mut self.meter, items)
    }

    #[inline(never)]
    fn tuple(&mut self, items: &[Expr]) -> Eval<Val> {
        let items = self.evals(items)?;
        self.heap.tuple(&mut self.meter, items)
    }

    pub(crate) fn evals(&mut self, exprs: &[Expr]) -> Eval<Vec<Val>> {
        let mut values = Vec::with_capacity(exprs.len());
        for expr in exprs {
            values.push(self.eval(expr)?);
        }
        Ok(values)
    }

    #[inline(never)]
    fn dict(&mut self, entries: &[(Expr, Expr)]) -> Eval<Val> {
        let dict = self.heap.dict(&mut self.meter)?;
        for (key, value) in entries {
            let at = key.at;
            let key = self.eval(key)?;
            let value = self.eval(value)?;
            let before = self.heap.dict_ref(dict).map_or(0, |dict| dict.entries.len());
            self.heap.insert(&mut self.meter, dict, key.clone(), value).at(at)?;
            if self.heap.dict_ref(dict).map_or(0, |dict| dict.entries.len()) == before {
                let key = self.excerpt(&key);
                return Err(Fault::new(format!("the key {key} stands twice in this dict")).at_offset(at));
            }
        }
        Ok(Data::Dict(dict).into())
    }

    #[inline(never)]
    fn operations(&mut self, first: &Expr, operations: &[Operation]) -> Eval<Val> {
        let mut value = match operations.first() {
            Some(operation) => self.eval(first).meant(operation.hint.as_ref())?,
            None => self.eval(first)?,
        };
        for operation in operations {
            value = self.operation(&value, operation)?;
        }
        Ok(value)
    }

    fn operation(&mut self, left: &Val, operation: &Operation) -> Eval<Val> {
        let hint = operation.hint.as_ref();
        let right = self.eval(&operation.right).meant(hint.or(operation.right_hint.as_ref()))?;
        self.binary(operation.op, left, &right).at(operation.at).meant(hint)
    }

    #[inline(never)]
    fn comprehension(&mut self, comprehension: &Comprehension) -> Eval<Val> {
        let mut list = Vec::new();
        let dict = match &comprehension.item {
            Item::List(_) => None,
            Item::Dict(_, _) => Some(self.heap.dict(&mut self.meter)?),
        };
        self.clauses(&comprehension.clauses, &comprehension.item, &mut list, dict)?;
        match dict {
            Some(dict) => Ok(Data::Dict(dict).into()),
            None => self.heap.list(&mut self.meter, list),
        }
    }

    #[inline(never)]
    fn clauses(
        &mut self,
        clauses: &[Clause],
        item: &Item,
        list: &mut Vec<Val>,
        dict: Option<u32>,
    ) -> Eval<()> {
        match clauses.split_first() {
            None => match item {
                Item::List(item) => {
                    // Paid when it is pushed, and again when the list is whole: a list grows by doubling.
                    let value = self.eval(item)?;
                    self.meter.alloc(crate::val::VAL)?;
                    list.push(value);
                    Ok(())
                }
                Item::Dict(key, value) => {
                    let key = self.eval(key)?;
                    let value = self.eval(value)?;
                    match dict {
                        Some(dict) => self.heap.insert(&mut self.meter, dict, key, value),
                        None => Ok(()),
                    }
                }
            },
            Some((Clause::If(condition), rest)) => {
                if self.condition(condition)? {
                    self.deeper(1)?;
                    self.clauses(rest, item, list, dict)?;
                    self.depth -= 1;
                }
                Ok(())
            }
            Some((Clause::For(target, over), rest)) => {
                let iterable = self.eval(over)?;
                let mut items = self.iterate(&iterable).at(over.at)?;
                self.deeper(1)?;
                while let Some(value) = self.next(&mut items)? {
                    self.assign(target, value)?;
                    self.clauses(rest, item, list, dict)?;
                }
                self.depth -= 1;
                self.finish(&items);
                Ok(())
            }
        }
    }

    #[inline(never)]
    fn format(&mut self, parts: &[FormatPart]) -> Eval<Val> {
        let mut out = String::new();
        for part in parts {
            match part {
                FormatPart::Text(text) => self.meter.push(&mut out, text)?,
                FormatPart::Str(expr) => {
                    let value = self.eval(expr)?;
                    self.str(&value, &mut out)?;
                }
                FormatPart::Repr(expr) => {
                    let value = self.eval(expr)?;
                    self.repr(&value, &mut out, 0)?;
                }
            }
        }
        Ok(Val::text(out))
    }

    #[inline(never)]
    fn chain(&mut self, first: &Expr, links: &[Link]) -> Eval<Val> {
        let mut value = self.eval(first)?;
        for link in links {
            self.meter.step(1)?;
            value = match &link.kind {
                LinkKind::Key(key) => match self.key(&value, key) {
                    Ok(value) => value,
                    Err(fault) => return Err(self.name_object(fault, first.at, link.at)),
                },
                LinkKind::Index(index) => {
                    let index = self.eval(index)?;
                    self.index(&value, &index).at(link.at)?
                }
                LinkKind::Slice(parts) => self.slice_link(&value, parts).at(link.at)?,
                LinkKind::Method(name, args) => match self.method(&value, name, args) {
                    Ok(value) => value,
                    Err(fault) => return Err(self.name_object(fault, first.at, link.at)),
                },
                LinkKind::Call(args) => self.call_value(&value, args, link.at).at(link.at)?,
            };
        }
        Ok(value)
    }

    #[inline(never)]
    fn slice_link(&mut self, value: &Val, parts: &[Option<Expr>; 3]) -> Eval<Val> {
        let mut bounds = [None, None, None];
        for (bound, part) in bounds.iter_mut().zip(parts) {
            *bound = part.as_ref().map(|part| self.eval(part)).transpose()?;
        }
        let [start, stop, step] = bounds;
        self.slice(value, start.as_ref(), stop.as_ref(), step.as_ref())
    }

    /// Puts the source of the object into a message that has [`OBJECT`] for it.
    #[cold]
    fn name_object(&self, mut fault: Box<Fault>, start: u32, end: u32) -> Box<Fault> {
        if fault.at.is_none() && fault.message.contains(OBJECT) {
            let text = self.source.text.get(start as usize..end as usize).unwrap_or_default();
            let text = text.trim_end().trim_end_matches(['.', '[']).trim_end();
            let short: String = text.chars().take(60).collect();
            let name = if short.is_empty() || short.len() < text.len() || short.contains('\n') {
                "the value".to_owned()
            } else {
                format!("`{short}`")
            };
            fault.message = fault.message.replace(OBJECT, &name);
        }
        fault.at.get_or_insert(end);
        fault
    }

    // ---- loops

    pub(crate) fn iterate(&mut self, value: &Val) -> Eval<Items> {
        match &value.data {
            Data::Array(_) | Data::Object(_) | Data::Tuple(_) | Data::Range(_) => {}
            Data::List(_) | Data::Dict(_) => self.heap.looping(&value.data, true),
            Data::Str(_) => {
                return Err(Fault::new("a string cannot be looped over")
                    .hint("use `.elems()` for its characters, `.split(…)` or `.splitlines()` for parts"));
            }
            Data::None => return Err(self.absent(value, "None cannot be looped over".to_owned())),
            other => return Err(Fault::new(format!("a {} cannot be looped over", other.type_name()))),
        }
        Ok(Items { over: value.data.clone(), next: 0 })
    }

    #[inline(never)]
    pub(crate) fn next(&mut self, items: &mut Items) -> Eval<Option<Val>> {
        self.meter.step(1)?;
        let at = items.next;
        items.next += 1;
        Ok(match &items.over {
            Data::Array(array) => array.get(at).map(|item| Val::json(item, Mark::NOWHERE)),
            Data::Object(object) => object.get_index(at).map(|(key, _)| Val::text(key.clone())),
            Data::List(list) => self.heap.items(*list).get(at).cloned(),
            Data::Tuple(tuple) => self.heap.tuple_items(*tuple).get(at).cloned(),
            Data::Dict(dict) => self
                .heap
                .dict_ref(*dict)
                .and_then(|dict| dict.entries.get_index(at))
                .map(|(_, (key, _))| key.clone()),
            Data::Range(range) => range.get(at as u64).map(|number| Data::Int(number).into()),
            _ => None,
        })
    }

    pub(crate) fn finish(&mut self, items: &Items) {
        self.heap.looping(&items.over, false);
    }

    /// How many items there are to come, at most.
    pub(crate) fn count(&self, data: &Data) -> Option<u64> {
        Some(match data {
            Data::Array(array) => array.len() as u64,
            Data::Object(object) => object.len() as u64,
            Data::List(list) => self.heap.items(*list).len() as u64,
            Data::Tuple(tuple) => self.heap.tuple_items(*tuple).len() as u64,
            Data::Dict(dict) => self.heap.dict_ref(*dict).map_or(0, |dict| dict.entries.len()) as u64,
            Data::Range(range) => range.len(),
            _ => return None,
        })
    }

    /// Everything in an iterable, paid for.
    pub(crate) fn collect(&mut self, value: &Val) -> Eval<Vec<Val>> {
        let mut items = self.iterate(value)?;
        let count = self.count(&value.data).unwrap_or(0);
        self.meter.alloc_wide(count.saturating_mul(crate::val::VAL as u64))?;
        let mut all = Vec::with_capacity(usize::try_from(count).unwrap_or(0));
        while let Some(item) = self.next(&mut items)? {
            all.push(item);
        }
        self.finish(&items);
        Ok(all)
    }
}

/// Stands in a message for the source of the object that was read.
pub(crate) const OBJECT: &str = "\u{1}";

/// A loop in progress.
pub(crate) struct Items {
    over: Data,
    next: usize,
}

impl Fault {
    /// With the place, if it has none.
    #[cold]
    pub(crate) fn at_offset(mut self: Box<Self>, at: u32) -> Box<Fault> {
        self.at.get_or_insert(at);
        self
    }
}
