//! From the parser's tree to [`ir`](crate::ir): names become slots, and what is wrong whatever the data is said.
//!
//! Here are names and statements; expressions are below.

mod chain;
mod expression;

use std::collections::HashMap;
use std::sync::Arc;

use starlark_syntax::codemap::{Span, Spanned};
use starlark_syntax::syntax::ast::{
    AssignOp, AssignTarget, AstAssignTarget, AstExpr, AstStmt, BinOp, Parameter, Stmt as AstStatement,
};

use crate::error::SyntaxError;
use crate::ir::{Code, Function, Param, ParamKind, Place, Stmt, Target, TargetKind, Var};
use crate::reference::{self, Positions, Reference};
use crate::syntax::{self, Offsets, Shape, Source};

/// Boxed: lowering recurses, and its results should be small.
type Lowered<T> = Result<T, Box<SyntaxError>>;

/// Parses and lowers.
pub(crate) fn compile(text: &str, shape: Shape) -> Result<(Source, Code, Vec<Reference>), SyntaxError> {
    let (source, offsets, statement) = syntax::parse(text, shape)?;
    let mut lowering = Lowering {
        source: &source,
        offsets: &offsets,
        code: Code::default(),
        scopes: vec![Scope::default()],
        references: Vec::new(),
        positions: Positions::new(&source.text),
        names: HashMap::new(),
    };
    lowering.module(statement, shape).map_err(|error| *error)?;
    let Lowering { mut code, mut references, scopes, .. } = lowering;
    code.slots = scopes.first().map_or(0, |scope| scope.slots);
    reference::settle(&mut references);
    Ok((source, code, references))
}

struct Lowering<'a> {
    source: &'a Source,
    offsets: &'a Offsets,
    code: Code,
    /// The module, then the functions around the current place.
    scopes: Vec<Scope>,
    references: Vec<Reference>,
    positions: Positions<'a>,
    names: HashMap<String, Arc<str>>,
}

/// The variables of the module or of one function.
#[derive(Default)]
struct Scope {
    /// Its own names, then those of the comprehensions around the current place.
    layers: Vec<HashMap<Arc<str>, u32>>,
    slots: u32,
    cells: Vec<u32>,
    captures: Vec<Place>,
}

impl Scope {
    fn find(&self, name: &str) -> Option<u32> {
        self.layers.iter().rev().find_map(|layer| layer.get(name).copied())
    }

    fn declare(&mut self, name: Arc<str>) -> u32 {
        let next = self.slots;
        if self.layers.is_empty() {
            self.layers.push(HashMap::new());
        }
        let Some(layer) = self.layers.last_mut() else { return next };
        let slot = *layer.entry(name).or_insert(next);
        self.slots += u32::from(slot == next);
        slot
    }
}

impl Lowering<'_> {
    fn at(&self, span: Span) -> u32 {
        u32::try_from(self.offsets.original(span.begin().get() as usize)).unwrap_or(u32::MAX)
    }

    #[cold]
    #[inline(never)]
    fn error(&self, span: Span, message: impl Into<String>) -> Box<SyntaxError> {
        let (line, column) = self.source.position(self.at(span) as usize);
        let message = message.into();
        Box::new(SyntaxError { code: "EXPRESSION_SYNTAX", message, line, column, hint: None })
    }

    fn intern(&mut self, text: &str) -> Arc<str> {
        if let Some(text) = self.names.get(text) {
            return text.clone();
        }
        let shared: Arc<str> = text.into();
        self.names.insert(text.to_owned(), shared.clone());
        shared
    }

    fn module(&mut self, statement: AstStmt, shape: Shape) -> Lowered<()> {
        if shape == Shape::Expression {
            let span = statement.span;
            let AstStatement::Expression(result) = statement.node else {
                return Err(self.error(span, "one expression is expected"));
            };
            self.code.result = Some(self.expr(&result)?);
            return Ok(());
        }
        self.declare_assigned(&statement)?;
        let mut statements = match statement.node {
            AstStatement::Statements(statements) => statements,
            node => vec![Spanned { span: statement.span, node }],
        };
        let last = statements.pop();
        for statement in &statements {
            let mut body = std::mem::take(&mut self.code.body);
            self.stmt(statement, &mut body)?;
            self.code.body = body;
        }
        self.last(last, statement.span)
    }

    /// The last statement must be an expression; `a; b` on the last line is a block of its own in the tree.
    fn last(&mut self, statement: Option<AstStmt>, whole: Span) -> Lowered<()> {
        let span = statement.as_ref().map_or(whole, |statement| statement.span);
        match statement.map(|statement| statement.node) {
            Some(AstStatement::Expression(result)) => {
                self.code.result = Some(self.expr(&result)?);
                Ok(())
            }
            Some(AstStatement::Statements(mut statements)) => {
                let last = statements.pop();
                for statement in &statements {
                    let mut body = std::mem::take(&mut self.code.body);
                    self.stmt(statement, &mut body)?;
                    self.code.body = body;
                }
                self.last(last, span)
            }
            other => {
                let mut error =
                    self.error(span, "the last statement must be an expression: its value is the output");
                if let Some(AstStatement::Assign(assign)) = other
                    && let AssignTarget::Identifier(name) = &assign.lhs.node
                {
                    error.hint = Some(format!("add a last line `{}`", name.node.ident));
                }
                Err(error)
            }
        }
    }

    // ---- names

    fn scope(&mut self) -> Lowered<&mut Scope> {
        self.scopes.last_mut().ok_or_else(|| {
            let message = "there is no scope here".to_owned();
            Box::new(SyntaxError { code: "EXPRESSION_SYNTAX", message, line: 1, column: 1, hint: None })
        })
    }

    fn declare(&mut self, name: &str, span: Span) -> Lowered<()> {
        if matches!(name, "True" | "False" | "None" | "true" | "false" | "null") {
            return Err(self.error(span, format!("`{name}` is a constant and cannot be assigned")));
        }
        let name = self.intern(name);
        self.scope()?.declare(name);
        Ok(())
    }

    /// Declares what a block assigns, its nested blocks included, its functions' own variables not.
    fn declare_assigned(&mut self, statement: &AstStmt) -> Lowered<()> {
        match &statement.node {
            AstStatement::Assign(assign) => self.declare_target(&assign.lhs),
            AstStatement::AssignModify(target, _, _) => self.declare_target(target),
            AstStatement::Def(def) => self.declare(&def.name.node.ident, def.name.span),
            AstStatement::For(inner) => {
                self.declare_target(&inner.var)?;
                self.declare_assigned(&inner.body)
            }
            AstStatement::If(_, body) => self.declare_assigned(body),
            AstStatement::IfElse(_, bodies) => {
                let mut bodies = bodies;
                loop {
                    self.declare_assigned(&bodies.0)?;
                    match &bodies.1.node {
                        AstStatement::IfElse(_, further) => bodies = further,
                        _ => return self.declare_assigned(&bodies.1),
                    }
                }
            }
            AstStatement::Statements(statements) => {
                statements.iter().try_for_each(|statement| self.declare_assigned(statement))
            }
            _ => Ok(()),
        }
    }

    fn declare_target(&mut self, target: &AstAssignTarget) -> Lowered<()> {
        match &target.node {
            AssignTarget::Identifier(name) => self.declare(&name.node.ident, name.span),
            AssignTarget::Tuple(targets) => targets.iter().try_for_each(|target| self.declare_target(target)),
            AssignTarget::Index(_) | AssignTarget::Dot(_, _) => Ok(()),
        }
    }

    /// Where a name is, if the program assigns it.
    fn find(&mut self, name: &str) -> Option<Place> {
        let innermost = self.scopes.len().checked_sub(1)?;
        for level in (1..=innermost).rev() {
            if let Some(slot) = self.scopes.get(level).and_then(|scope| scope.find(name)) {
                if level == innermost {
                    return Some(Place::Local(slot));
                }
                return self.capture(level, slot);
            }
        }
        self.scopes.first().and_then(|scope| scope.find(name)).map(Place::Module)
    }

    /// Hands a slot of an outer function down to the current one.
    fn capture(&mut self, level: usize, slot: u32) -> Option<Place> {
        let owner = self.scopes.get_mut(level)?;
        if !owner.cells.contains(&slot) {
            owner.cells.push(slot);
        }
        let mut place = Place::Local(slot);
        for scope in self.scopes.get_mut(level + 1..)? {
            let index = scope.captures.iter().position(|capture| *capture == place).unwrap_or_else(|| {
                scope.captures.push(place);
                scope.captures.len() - 1
            });
            place = Place::Captured(u32::try_from(index).ok()?);
        }
        Some(place)
    }

    fn var(&mut self, name: &str) -> Option<Var> {
        let place = self.find(name)?;
        Some(Var { place, name: self.intern(name) })
    }

    fn refer(&mut self, name: &str, at: u32, keys: Vec<String>, optional: bool) {
        let (line, column) = self.positions.at(at as usize);
        let offset = at as usize;
        self.references.push(Reference {
            name: name.to_owned(),
            keys,
            optional,
            offset,
            line,
            column,
            hint: None,
        });
    }

    // ---- statements

    fn block(&mut self, statement: &AstStmt) -> Lowered<Vec<Stmt>> {
        let mut block = Vec::new();
        self.stmt(statement, &mut block)?;
        Ok(block)
    }

    fn stmt(&mut self, statement: &AstStmt, out: &mut Vec<Stmt>) -> Lowered<()> {
        match &statement.node {
            AstStatement::Statements(statements) => {
                return statements.iter().try_for_each(|statement| self.stmt(statement, out));
            }
            AstStatement::Pass => {}
            AstStatement::Break => out.push(Stmt::Break),
            AstStatement::Continue => out.push(Stmt::Continue),
            AstStatement::Return(value) => {
                let value = value.as_ref().map(|value| self.expr(value)).transpose()?;
                out.push(Stmt::Return(value));
            }
            AstStatement::Expression(expr) => {
                let expr = self.expr(expr)?;
                out.push(Stmt::Expr(expr));
            }
            AstStatement::Assign(assign) => {
                let value = self.expr(&assign.rhs)?;
                let target = self.target(&assign.lhs)?;
                out.push(Stmt::Assign(target, value));
            }
            AstStatement::AssignModify(target, op, value) => {
                let target = self.target(target)?;
                let value = self.expr(value)?;
                out.push(Stmt::Modify(target, binary(*op), value));
            }
            AstStatement::If(condition, body) => {
                let condition = self.expr(condition)?;
                let body = self.block(body)?;
                out.push(Stmt::If(vec![(condition, body)], Vec::new()));
            }
            AstStatement::IfElse(condition, bodies) => {
                let mut arms = vec![(self.expr(condition)?, self.block(&bodies.0)?)];
                let mut rest = &bodies.1;
                while let AstStatement::IfElse(condition, bodies) = &rest.node {
                    arms.push((self.expr(condition)?, self.block(&bodies.0)?));
                    rest = &bodies.1;
                }
                let otherwise = self.block(rest)?;
                out.push(Stmt::If(arms, otherwise));
            }
            AstStatement::For(inner) => {
                let over = self.expr(&inner.over)?;
                let target = self.target(&inner.var)?;
                let body = self.block(&inner.body)?;
                out.push(Stmt::For(target, over, body));
            }
            AstStatement::Def(def) => {
                let name = self.intern(&def.name.node.ident);
                let function = self.function(name, &def.params, Body::Def(&def.body))?;
                if let Some(var) = self.var(&def.name.node.ident) {
                    out.push(Stmt::Def(var, function));
                }
            }
            AstStatement::Load(_) => return Err(self.error(statement.span, "there is no `load`")),
        }
        Ok(())
    }

    fn target(&mut self, target: &AstAssignTarget) -> Lowered<Target> {
        let at = self.at(target.span);
        let kind = match &target.node {
            AssignTarget::Identifier(name) => {
                let Some(var) = self.var(&name.node.ident) else {
                    return Err(self.error(target.span, "this cannot be assigned here"));
                };
                TargetKind::Var(var)
            }
            AssignTarget::Tuple(targets) => {
                TargetKind::Unpack(targets.iter().map(|target| self.target(target)).collect::<Lowered<_>>()?)
            }
            AssignTarget::Index(inner) => {
                TargetKind::Index(Box::new((self.expr(&inner.0)?, self.expr(&inner.1)?)))
            }
            AssignTarget::Dot(object, key) => {
                let object = Box::new(self.expr(object)?);
                TargetKind::Key(object, self.intern(&key.node))
            }
        };
        Ok(Target { at, kind })
    }

    #[inline(never)]
    fn function(&mut self, name: Arc<str>, params: &[Spanned<Parameter>], body: Body<'_>) -> Lowered<u32> {
        let (params, positional) = self.params(params)?;
        self.scopes.push(Scope::default());
        for (param, span) in &params {
            let name = param.name.clone();
            self.declare(&name, *span)?;
        }
        let body = match body {
            Body::Def(body) => {
                self.declare_assigned(body)?;
                self.block(body)?
            }
            Body::Lambda(result) => vec![Stmt::Return(Some(self.expr(result)?))],
        };
        let Scope { slots, cells, captures, .. } = self.scopes.pop().unwrap_or_default();
        let params = params.into_iter().map(|(param, _)| param).collect();
        self.code.functions.push(Function { name, params, positional, slots, cells, captures, body });
        Ok(u32::try_from(self.code.functions.len() - 1).unwrap_or(u32::MAX))
    }

    /// The parameters, and how many of them can be given by position.
    #[inline(never)]
    fn params(&mut self, params: &[Spanned<Parameter>]) -> Lowered<(Vec<(Param, Span)>, usize)> {
        let mut lowered = Vec::with_capacity(params.len());
        let mut positional = None;
        for param in params {
            let (ident, kind) = match &param.node {
                Parameter::Normal(name, _, None) => (name, ParamKind::Required),
                Parameter::Normal(name, _, Some(default)) => (name, ParamKind::Optional(self.expr(default)?)),
                Parameter::Args(name, _) => {
                    positional = positional.or(Some(lowered.len()));
                    (name, ParamKind::Args)
                }
                Parameter::KwArgs(name, _) => {
                    positional = positional.or(Some(lowered.len()));
                    (name, ParamKind::Kwargs)
                }
                Parameter::NoArgs | Parameter::Slash => {
                    positional = positional.or(Some(lowered.len()));
                    continue;
                }
            };
            lowered.push((Param { name: self.intern(&ident.node.ident), kind }, ident.span));
        }
        let positional = positional.unwrap_or(lowered.len());
        Ok((lowered, positional))
    }
}

/// What a function does.
#[derive(Clone, Copy)]
enum Body<'a> {
    Def(&'a AstStmt),
    Lambda(&'a AstExpr),
}

fn binary(op: AssignOp) -> BinOp {
    match op {
        AssignOp::Add => BinOp::Add,
        AssignOp::Subtract => BinOp::Subtract,
        AssignOp::Multiply => BinOp::Multiply,
        AssignOp::Divide => BinOp::Divide,
        AssignOp::FloorDivide => BinOp::FloorDivide,
        AssignOp::Percent => BinOp::Percent,
        AssignOp::BitAnd => BinOp::BitAnd,
        AssignOp::BitOr => BinOp::BitOr,
        AssignOp::BitXor => BinOp::BitXor,
        AssignOp::LeftShift => BinOp::LeftShift,
        AssignOp::RightShift => BinOp::RightShift,
    }
}
