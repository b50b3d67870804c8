//! Statements and variables.

use starlark_syntax::syntax::ast::BinOp;

use crate::eval::{Flow, Interp, Slot};
use crate::ir::{Expr, Place, Stmt, Target, TargetKind, Var};
use crate::meter::{Eval, Fault, Located};
use crate::val::{Closure, Val};

impl Interp<'_> {
    pub(crate) fn block(&mut self, block: &[Stmt]) -> Eval<Flow> {
        for stmt in block {
            match self.stmt(stmt)? {
                Flow::Next => {}
                other => return Ok(other),
            }
        }
        Ok(Flow::Next)
    }

    pub(crate) fn stmt(&mut self, stmt: &Stmt) -> Eval<Flow> {
        self.meter.step(1)?;
        match stmt {
            Stmt::Expr(expr) => self.eval(expr).map(|_| Flow::Next),
            Stmt::Assign(target, value) => self.assign_stmt(target, value),
            Stmt::Modify(target, op, value) => self.modify(target, *op, value),
            Stmt::If(arms, otherwise) => self.if_stmt(arms, otherwise),
            Stmt::For(target, over, body) => self.for_stmt(target, over, body),
            Stmt::Def(var, function) => self.def(var, *function),
            Stmt::Return(value) => self.return_stmt(value.as_ref()),
            Stmt::Break => Ok(Flow::Break),
            Stmt::Continue => Ok(Flow::Continue),
        }
    }

    #[inline(never)]
    fn return_stmt(&mut self, value: Option<&Expr>) -> Eval<Flow> {
        value.map_or(Ok(Val::NONE), |value| self.eval(value)).map(Flow::Return)
    }

    #[inline(never)]
    fn assign_stmt(&mut self, target: &Target, value: &Expr) -> Eval<Flow> {
        let value = self.eval(value)?;
        self.assign(target, value)?;
        Ok(Flow::Next)
    }

    #[inline(never)]
    fn if_stmt(&mut self, arms: &[(Expr, Vec<Stmt>)], otherwise: &[Stmt]) -> Eval<Flow> {
        for (condition, body) in arms {
            if self.condition(condition)? {
                return self.inner_block(body);
            }
        }
        self.inner_block(otherwise)
    }

    fn inner_block(&mut self, block: &[Stmt]) -> Eval<Flow> {
        self.deeper(1)?;
        let flow = self.block(block)?;
        self.depth -= 1;
        Ok(flow)
    }

    pub(crate) fn condition(&mut self, condition: &Expr) -> Eval<bool> {
        let value = self.eval(condition)?;
        Ok(self.truth(&value))
    }

    #[inline(never)]
    fn for_stmt(&mut self, target: &Target, over: &Expr, body: &[Stmt]) -> Eval<Flow> {
        let iterable = self.eval(over)?;
        let mut items = self.iterate(&iterable).at(over.at)?;
        self.deeper(1)?;
        while let Some(item) = self.next(&mut items)? {
            self.assign(target, item)?;
            match self.block(body)? {
                Flow::Next | Flow::Continue => {}
                Flow::Break => break,
                returned @ Flow::Return(_) => {
                    self.finish(&items);
                    self.depth -= 1;
                    return Ok(returned);
                }
            }
        }
        self.depth -= 1;
        self.finish(&items);
        Ok(Flow::Next)
    }

    #[inline(never)]
    fn def(&mut self, var: &Var, function: u32) -> Eval<Flow> {
        let value = self.closure(function)?;
        self.store(var, value);
        Ok(Flow::Next)
    }

    pub(crate) fn closure(&mut self, function: u32) -> Eval<Val> {
        let code = self.code;
        let Some(definition) = code.functions.get(function as usize) else {
            return Err(Fault::new("there is no such function"));
        };
        let mut defaults = Vec::new();
        for param in &definition.params {
            if let crate::ir::ParamKind::Optional(default) = &param.kind {
                defaults.push(self.eval(default)?);
            }
        }
        let mut captures = Vec::with_capacity(definition.captures.len());
        for place in &definition.captures {
            let cell = match place {
                Place::Local(slot) => match self.stack.get(self.base + *slot as usize) {
                    Some(Slot::Cell(cell)) => Some(*cell),
                    _ => None,
                },
                Place::Captured(index) => self.captures.get(*index as usize).copied(),
                Place::Module(_) => None,
            };
            captures.push(cell.ok_or_else(|| Fault::new("a variable of an outer function is out of reach"))?);
        }
        let closure = Closure { code: function, defaults: defaults.into(), captures: captures.into() };
        self.heap.function(&mut self.meter, closure)
    }

    // ---- variables

    pub(crate) fn load(&mut self, var: &Var) -> Eval<Val> {
        let value = match var.place {
            Place::Module(slot) => match self.stack.get(slot as usize) {
                Some(Slot::Val(value)) => Some(value),
                _ => None,
            },
            Place::Local(slot) => match self.stack.get(self.base + slot as usize) {
                Some(Slot::Val(value)) => Some(value),
                Some(Slot::Cell(cell)) => self.heap.cells.get(*cell as usize).and_then(Option::as_ref),
                _ => None,
            },
            Place::Captured(index) => self
                .captures
                .get(index as usize)
                .and_then(|cell| self.heap.cells.get(*cell as usize))
                .and_then(Option::as_ref),
        };
        value.cloned().ok_or_else(|| {
            Fault::new(format!("`{}` is read before the program assigns it", var.name))
                .hint("a name that the program assigns anywhere is its own; give it another name")
        })
    }

    pub(crate) fn store(&mut self, var: &Var, value: Val) {
        let slot = match var.place {
            Place::Module(slot) => self.stack.get_mut(slot as usize),
            Place::Local(slot) => self.stack.get_mut(self.base + slot as usize),
            Place::Captured(_) => None,
        };
        match slot {
            Some(Slot::Cell(cell)) => {
                if let Some(cell) = self.heap.cells.get_mut(*cell as usize) {
                    *cell = Some(value);
                }
            }
            Some(slot) => *slot = Slot::Val(value),
            None => {}
        }
    }

    #[inline(never)]
    pub(crate) fn assign(&mut self, target: &Target, value: Val) -> Eval<()> {
        match &target.kind {
            TargetKind::Var(var) => {
                self.store(var, value);
                Ok(())
            }
            TargetKind::Index(inner) => {
                let object = self.eval(&inner.0)?;
                let index = self.eval(&inner.1)?;
                self.set_index(&object, index, value).at(target.at)
            }
            TargetKind::Key(object, key) => {
                let object = self.eval(object)?;
                self.set_index(&object, Val::text(key.clone()), value).at(target.at)
            }
            TargetKind::Unpack(targets) => self.unpack(targets, &value).at(target.at),
        }
    }

    fn unpack(&mut self, targets: &[Target], value: &Val) -> Eval<()> {
        self.deeper(1)?;
        let mut items = self.iterate(value)?;
        let mut taken = Vec::with_capacity(targets.len());
        while let Some(item) = self.next(&mut items)? {
            taken.push(item);
            if taken.len() > targets.len() {
                break;
            }
        }
        self.finish(&items);
        if taken.len() != targets.len() {
            let got = if taken.len() > targets.len() { "more" } else { "fewer" };
            return Err(Fault::new(format!(
                "{} values are needed to unpack, there are {got}",
                targets.len()
            )));
        }
        for (target, item) in targets.iter().zip(taken) {
            self.assign(target, item)?;
        }
        self.depth -= 1;
        Ok(())
    }

    #[inline(never)]
    fn modify(&mut self, target: &Target, op: BinOp, value: &Expr) -> Eval<Flow> {
        match &target.kind {
            TargetKind::Var(var) => {
                let old = self.load(var).at(target.at)?;
                let value = self.eval(value)?;
                let new = self.modified(op, old, &value).at(target.at)?;
                self.store(var, new);
            }
            TargetKind::Index(inner) => {
                let object = self.eval(&inner.0)?;
                let index = self.eval(&inner.1)?;
                self.modify_at(&object, index, op, value).at(target.at)?;
            }
            TargetKind::Key(object, key) => {
                let object = self.eval(object)?;
                self.modify_at(&object, Val::text(key.clone()), op, value).at(target.at)?;
            }
            TargetKind::Unpack(_) => {
                return Err(Fault::new("several values cannot be changed at once").at_offset(target.at));
            }
        }
        Ok(Flow::Next)
    }

    fn modify_at(&mut self, object: &Val, index: Val, op: BinOp, value: &Expr) -> Eval<()> {
        let old = self.index(object, &index)?;
        let value = self.eval(value)?;
        let new = self.modified(op, old, &value)?;
        self.set_index(object, index, new)
    }
}
