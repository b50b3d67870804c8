//! From the parser's tree to [`ir`](crate::ir): names become slots, and what is wrong whatever the data is said.

use std::collections::HashMap;
use std::sync::Arc;

use num_bigint::BigInt;
use starlark_syntax::codemap::{Span, Spanned};
use starlark_syntax::lexer::TokenInt;
use starlark_syntax::syntax::ast::{
    ArgumentP, AssignOp, AssignTarget, AstAssignTarget, AstExpr, AstLiteral, AstNoPayload, AstStmt, BinOp,
    CallArgsP, Clause as AstClause, Expr as Ast, FStringP, ForClause, Parameter, Stmt as AstStatement,
};

use crate::builtins::Builtin;
use crate::error::SyntaxError;
use crate::ir::{
    Args, Call, Callee, Clause, Code, Comprehension, Expr, FormatPart, Function, Item, Kind, Link, LinkKind,
    Name, Operation, Param, ParamKind, Place, Root, Stmt, Target, TargetKind, Var,
};
use crate::reference::{self, Reference};
use crate::syntax::{self, Offsets, Shape, Source};

type Lowered<T> = Result<T, SyntaxError>;

/// Parses and lowers.
pub(crate) fn compile(text: &str, shape: Shape) -> Lowered<(Source, Code, Vec<Reference>)> {
    let (source, offsets, statement) = syntax::parse(text, shape)?;
    let mut lowering = Lowering {
        source: &source,
        offsets: &offsets,
        code: Code::default(),
        scopes: vec![Scope::default()],
        references: Vec::new(),
        names: HashMap::new(),
    };
    lowering.module(statement, shape)?;
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

    fn error(&self, span: Span, message: impl Into<String>) -> SyntaxError {
        let (line, column) = self.source.position(self.at(span) as usize);
        SyntaxError { code: "EXPRESSION_SYNTAX", message: message.into(), line, column, hint: None }
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
        self.scopes.last_mut().ok_or_else(|| SyntaxError {
            code: "EXPRESSION_SYNTAX",
            message: "there is no scope here".to_owned(),
            line: 1,
            column: 1,
            hint: None,
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
        let (line, column) = self.source.position(at as usize);
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
                let function = self.function(name, &def.params, |lowering| {
                    lowering.declare_assigned(&def.body)?;
                    lowering.block(&def.body)
                })?;
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

    fn function(
        &mut self,
        name: Arc<str>,
        params: &[Spanned<Parameter>],
        body: impl FnOnce(&mut Self) -> Lowered<Vec<Stmt>>,
    ) -> Lowered<u32> {
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
        self.scopes.push(Scope::default());
        for (param, span) in &lowered {
            let name = param.name.clone();
            self.declare(&name, *span)?;
        }
        let body = body(self)?;
        let scope = self.scopes.pop().unwrap_or_default();
        let positional = positional.unwrap_or(lowered.len());
        self.code.functions.push(Function {
            name,
            params: lowered.into_iter().map(|(param, _)| param).collect(),
            positional,
            slots: scope.slots,
            cells: scope.cells,
            captures: scope.captures,
            body,
        });
        Ok(u32::try_from(self.code.functions.len() - 1).unwrap_or(u32::MAX))
    }

    // ---- expressions

    fn expr(&mut self, expr: &AstExpr) -> Lowered<Expr> {
        let at = self.at(expr.span);
        let kind = match &expr.node {
            Ast::Identifier(name) => self.name(&name.node.ident, at),
            Ast::Literal(literal) => self.literal(literal, expr.span)?,
            Ast::Dot(_, _) | Ast::Index(_) | Ast::Slice(_, _, _, _) | Ast::Call(_, _) => {
                return self.chain(expr);
            }
            Ast::Op(_, BinOp::And, _) => Kind::And(self.spine(expr, BinOp::And)?),
            Ast::Op(_, BinOp::Or, _) => Kind::Or(self.spine(expr, BinOp::Or)?),
            Ast::Op(_, _, _) => self.operations(expr)?,
            Ast::Not(inner) => Kind::Not(Box::new(self.expr(inner)?)),
            Ast::Minus(inner) => self.minus(inner)?,
            Ast::Plus(inner) => Kind::Plus(Box::new(self.expr(inner)?)),
            Ast::BitNot(inner) => Kind::BitNot(Box::new(self.expr(inner)?)),
            Ast::List(items) => Kind::List(self.exprs(items)?),
            Ast::Tuple(items) => Kind::Tuple(self.exprs(items)?),
            Ast::Dict(entries) => {
                let entries = entries.iter().map(|(key, value)| Ok((self.expr(key)?, self.expr(value)?)));
                Kind::Dict(entries.collect::<Lowered<_>>()?)
            }
            Ast::If(_) => self.ternary(expr)?,
            Ast::Lambda(lambda) => {
                let name = self.intern("lambda");
                Kind::Lambda(self.function(name, &lambda.params, |lowering| {
                    Ok(vec![Stmt::Return(Some(lowering.expr(&lambda.body)?))])
                })?)
            }
            Ast::ListComprehension(item, first, clauses) => {
                self.comprehension(first, clauses, |lowering| Ok(Item::List(lowering.expr(item)?)))?
            }
            Ast::DictComprehension(entry, first, clauses) => {
                self.comprehension(first, clauses, |lowering| {
                    Ok(Item::Dict(lowering.expr(&entry.0)?, lowering.expr(&entry.1)?))
                })?
            }
            Ast::FString(format) => self.format(&format.node, expr.span)?,
            Ast::Index2(_) => return Err(self.error(expr.span, "an index is one value")),
        };
        Ok(Expr { at, kind })
    }

    fn exprs(&mut self, exprs: &[AstExpr]) -> Lowered<Vec<Expr>> {
        exprs.iter().map(|expr| self.expr(expr)).collect()
    }

    fn name(&mut self, name: &str, at: u32) -> Kind {
        match name {
            "None" | "null" => return Kind::None,
            "True" | "true" => return Kind::Bool(true),
            "False" | "false" => return Kind::Bool(false),
            _ => {}
        }
        if let Some(var) = self.var(name) {
            return Kind::Var(var);
        }
        self.refer(name, at, Vec::new(), false);
        self.free(name)
    }

    fn free(&mut self, name: &str) -> Kind {
        let root = match name {
            "ctx" => Root::Ctx,
            "steps" => Root::Steps,
            "workflow" => Root::Workflow,
            "input" => Root::Input,
            _ => Root::Other,
        };
        Kind::Name(Name { text: self.intern(name), root })
    }

    fn literal(&mut self, literal: &AstLiteral, span: Span) -> Lowered<Kind> {
        Ok(match literal {
            AstLiteral::Int(int) => match &int.node {
                TokenInt::I32(int) => Kind::Int(i64::from(*int)),
                TokenInt::BigInt(int) => {
                    // The parser's big integers are of another version of the crate than ours.
                    let int = BigInt::from_signed_bytes_le(&int.to_signed_bytes_le());
                    i64::try_from(&int).map_or_else(|_| Kind::Big(Arc::new(int)), Kind::Int)
                }
            },
            AstLiteral::Float(float) => Kind::Float(float.node),
            AstLiteral::String(text) => Kind::Str(self.intern(&text.node)),
            AstLiteral::Bytes(_) => return Err(self.error(span, "there are no bytes in JSON; use a string")),
            AstLiteral::Ellipsis => return Err(self.error(span, "`...` means nothing here")),
        })
    }

    fn minus(&mut self, inner: &AstExpr) -> Lowered<Kind> {
        let inner = self.expr(inner)?;
        Ok(match inner.kind {
            Kind::Int(int) if int != i64::MIN => Kind::Int(-int),
            Kind::Float(float) => Kind::Float(-float),
            _ => Kind::Minus(Box::new(inner)),
        })
    }

    /// `a and b and c` is one list, not a tree.
    fn spine(&mut self, expr: &AstExpr, op: BinOp) -> Lowered<Vec<Expr>> {
        let mut operands = Vec::new();
        let mut left = expr;
        while let Ast::Op(further, found, right) = &left.node {
            if *found != op {
                break;
            }
            operands.push(right.as_ref());
            left = further;
        }
        operands.push(left);
        operands.into_iter().rev().map(|operand| self.expr(operand)).collect()
    }

    fn operations(&mut self, expr: &AstExpr) -> Lowered<Kind> {
        let mut spine = Vec::new();
        let mut left = expr;
        while let Ast::Op(further, op, right) = &left.node {
            if matches!(op, BinOp::And | BinOp::Or) {
                break;
            }
            spine.push((*op, further.as_ref(), right.as_ref()));
            left = further;
        }
        let first = self.expr(left)?;
        let mut operations = Vec::with_capacity(spine.len());
        let mut hyphens: Option<String> = None;
        for (op, left, right) in spine.into_iter().rev() {
            let hint = self.hyphen(op, left, right, &mut hyphens);
            let before = self.references.len();
            let right = self.expr(right)?;
            if let (Some(hint), Some(reference)) = (&hint, self.references.get_mut(before)) {
                reference.hint = Some(hint.to_string());
            }
            if let Ast::Literal(AstLiteral::String(key)) = &left.node
                && matches!(op, BinOp::In | BinOp::NotIn)
            {
                self.ask(&right, &key.node);
            }
            operations.push(Operation { op, at: right.at, right, hint });
        }
        Ok(Kind::Binary(Box::new(first), operations))
    }

    /// `steps.check-pods` is a subtraction. Says what was meant if the names stand close together.
    fn hyphen(
        &self,
        op: BinOp,
        left: &AstExpr,
        right: &AstExpr,
        name: &mut Option<String>,
    ) -> Option<Arc<str>> {
        let close = op == BinOp::Subtract && left.span.end().get() + 1 == right.span.begin().get();
        let mut first = right;
        while let Ast::Dot(inner, _) | Ast::Call(inner, _) = &first.node {
            first = inner;
        }
        let Ast::Identifier(second) = &first.node else { return None };
        if !close {
            *name = None;
            return None;
        }
        let (object, start) = match &left.node {
            Ast::Dot(object, key) => (Some(object), key.node.clone()),
            Ast::Identifier(key) => (None, key.node.ident.clone()),
            _ => (None, name.clone()?),
        };
        let whole = format!("{start}-{}", second.node.ident);
        *name = Some(whole.clone());
        let object = object.map_or_else(
            || "ctx".to_owned(),
            |object| {
                let start = self.at(object.span) as usize;
                let end = start + (object.span.end().get() - object.span.begin().get()) as usize;
                self.source.text.get(start..end).unwrap_or("ctx").to_owned()
            },
        );
        Some(
            format!("`{start}-{}` is a subtraction; write `{object}[\"{whole}\"]`", second.node.ident).into(),
        )
    }

    fn ternary(&mut self, expr: &AstExpr) -> Lowered<Kind> {
        let mut arms = Vec::new();
        let mut rest = expr;
        while let Ast::If(parts) = &rest.node {
            let (condition, then, otherwise) = parts.as_ref();
            arms.push((self.expr(condition)?, self.expr(then)?));
            rest = otherwise;
        }
        Ok(Kind::If(arms, Box::new(self.expr(rest)?)))
    }

    fn comprehension(
        &mut self,
        first: &ForClause,
        clauses: &[AstClause],
        item: impl FnOnce(&mut Self) -> Lowered<Item>,
    ) -> Lowered<Kind> {
        // The first iterable is evaluated outside, as in Starlark.
        let over = self.expr(&first.over)?;
        self.scope()?.layers.push(HashMap::new());
        // Slots are never reused, so that an inner layer cannot overwrite an outer one.
        let lowered = self.comprehension_inside(first, over, clauses, item);
        self.scope()?.layers.pop();
        lowered
    }

    fn comprehension_inside(
        &mut self,
        first: &ForClause,
        over: Expr,
        clauses: &[AstClause],
        item: impl FnOnce(&mut Self) -> Lowered<Item>,
    ) -> Lowered<Kind> {
        self.declare_target(&first.var)?;
        let mut lowered = vec![Clause::For(self.target(&first.var)?, over)];
        for clause in clauses {
            lowered.push(match clause {
                AstClause::If(condition) => Clause::If(self.expr(condition)?),
                AstClause::For(clause) => {
                    let over = self.expr(&clause.over)?;
                    self.declare_target(&clause.var)?;
                    Clause::For(self.target(&clause.var)?, over)
                }
            });
        }
        let item = item(self)?;
        Ok(Kind::Comprehension(Box::new(Comprehension { clauses: lowered, item })))
    }

    fn format(&mut self, format: &FStringP<AstNoPayload>, span: Span) -> Lowered<Kind> {
        let mut parts = Vec::new();
        let mut text = String::new();
        let mut expressions = format.expressions.iter();
        let mut rest = format.format.node.as_str();
        while let Some(at) = rest.find(['{', '}']) {
            text.push_str(rest.get(..at).unwrap_or_default());
            rest = rest.get(at..).unwrap_or_default();
            if let Some(behind) = rest.strip_prefix("{{") {
                text.push('{');
                rest = behind;
                continue;
            }
            if let Some(behind) = rest.strip_prefix("}}") {
                text.push('}');
                rest = behind;
                continue;
            }
            let (repr, behind) = match (rest.strip_prefix("{}"), rest.strip_prefix("{!r}")) {
                (Some(behind), _) => (false, behind),
                (_, Some(behind)) => (true, behind),
                _ => return Err(self.error(span, "the braces of this string do not match")),
            };
            rest = behind;
            let Some(expr) = expressions.next() else {
                return Err(self.error(span, "the braces of this string do not match"));
            };
            if !text.is_empty() {
                parts.push(FormatPart::Text(std::mem::take(&mut text).into()));
            }
            let expr = self.expr(expr)?;
            parts.push(if repr { FormatPart::Repr(expr) } else { FormatPart::Str(expr) });
        }
        text.push_str(rest);
        if !text.is_empty() {
            parts.push(FormatPart::Text(text.into()));
        }
        Ok(Kind::Format(parts))
    }

    // ---- keys, indices and calls

    fn chain(&mut self, expr: &AstExpr) -> Lowered<Expr> {
        let mut links = Vec::new();
        let mut base = expr;
        loop {
            base = match &base.node {
                Ast::Call(callee, _) if matches!(callee.node, Ast::Identifier(_)) => break,
                Ast::Call(callee, _) if self.is_json(callee) => break,
                Ast::Call(callee, args) => match &callee.node {
                    Ast::Dot(object, method) => {
                        links.push(Suffix::Method(method, args));
                        object
                    }
                    _ => {
                        links.push(Suffix::Call(base.span, args));
                        callee
                    }
                },
                Ast::Dot(object, key) => {
                    links.push(Suffix::Key(key));
                    object
                }
                Ast::Index(inner) => {
                    links.push(Suffix::Index(&inner.1));
                    &inner.0
                }
                Ast::Slice(object, start, stop, step) => {
                    links
                        .push(Suffix::Slice(base.span, [start.as_deref(), stop.as_deref(), step.as_deref()]));
                    object
                }
                _ => break,
            };
        }
        links.reverse();
        let at = self.at(base.span);
        let first = self.references.len();
        let first_expr = match &base.node {
            Ast::Call(callee, args) => Expr { at, kind: self.call(callee, args)? },
            _ => self.expr(base)?,
        };
        // The reference of the name itself is known to be the last one made if the base is a name.
        let mut keys = matches!(first_expr.kind, Kind::Name(_)).then(Vec::new);
        let mut optional = false;
        let mut lowered = Vec::with_capacity(links.len());
        for link in links {
            let constant = match &link {
                Suffix::Key(key) => Some((key.node.clone(), false)),
                Suffix::Index(index) => string(index).map(|key| (key, false)),
                Suffix::Method(method, args) if method.node == "get" => {
                    first_positional(args).and_then(string).map(|key| (key, true))
                }
                _ => None,
            };
            match (constant, &mut keys) {
                (Some((key, ask)), Some(keys)) if !optional => {
                    keys.push(key);
                    optional = ask;
                }
                _ => self.settle_keys(first, &mut keys, optional),
            }
            lowered.push(self.link(link)?);
        }
        self.settle_keys(first, &mut keys, optional);
        if lowered.is_empty() {
            return Ok(first_expr);
        }
        Ok(Expr { at, kind: Kind::Chain(Box::new(first_expr), lowered) })
    }

    fn settle_keys(&mut self, reference: usize, keys: &mut Option<Vec<String>>, optional: bool) {
        if let (Some(keys), Some(reference)) = (keys.take(), self.references.get_mut(reference)) {
            reference.keys = keys;
            reference.optional = optional;
        }
    }

    fn link(&mut self, link: Suffix<'_>) -> Lowered<Link> {
        Ok(match link {
            Suffix::Key(key) => Link { at: self.at(key.span), kind: LinkKind::Key(self.intern(&key.node)) },
            Suffix::Index(index) => {
                let index = self.expr(index)?;
                let at = index.at;
                let kind = match index.kind {
                    Kind::Str(key) => LinkKind::Key(key),
                    _ => LinkKind::Index(index),
                };
                Link { at, kind }
            }
            Suffix::Slice(span, [start, stop, step]) => {
                let mut part = |expr: Option<&AstExpr>| expr.map(|expr| self.expr(expr)).transpose();
                let parts = Box::new([part(start)?, part(stop)?, part(step)?]);
                Link { at: self.at(span), kind: LinkKind::Slice(parts) }
            }
            Suffix::Method(method, args) => {
                let at = self.at(method.span);
                let name = self.intern(&method.node);
                Link { at, kind: LinkKind::Method(name, self.args(args)?) }
            }
            Suffix::Call(span, args) => Link { at: self.at(span), kind: LinkKind::Call(self.args(args)?) },
        })
    }

    /// `json.encode` and `json.decode`, unless the program has a `json` of its own.
    fn is_json(&mut self, callee: &AstExpr) -> bool {
        matches!(&callee.node, Ast::Dot(object, method)
            if matches!(&object.node, Ast::Identifier(name) if name.node.ident == "json")
                && matches!(method.node.as_str(), "encode" | "decode"))
            && self.find("json").is_none()
    }

    fn call(&mut self, callee: &AstExpr, args: &CallArgsP<AstNoPayload>) -> Lowered<Kind> {
        let callee = match &callee.node {
            Ast::Dot(_, method) if method.node == "encode" => Callee::Builtin(Builtin::JsonEncode),
            Ast::Dot(_, _) => Callee::Builtin(Builtin::JsonDecode),
            Ast::Identifier(name) => {
                let name = name.node.ident.as_str();
                if let Some(var) = self.var(name) {
                    Callee::Var(var)
                } else if let Some(builtin) = Builtin::named(name) {
                    Callee::Builtin(builtin)
                } else {
                    let mut error = self.error(callee.span, format!("there is no function `{name}`"));
                    let near = crate::nearest::nearest(name, Builtin::names());
                    error.hint = near.map(|near| format!("did you mean `{near}`?"));
                    return Err(error);
                }
            }
            _ => return Err(self.error(callee.span, "this cannot be called")),
        };
        let args = self.args(args)?;
        if let (Callee::Builtin(Builtin::Hasattr | Builtin::Getattr), [object, key, ..]) =
            (&callee, args.positional.as_slice())
            && let Kind::Str(key) = &key.kind
        {
            let key = key.clone();
            self.ask(object, &key);
        }
        Ok(Kind::Call(Box::new(Call { callee, args })))
    }

    /// Notes that a key of a name is asked for.
    fn ask(&mut self, object: &Expr, key: &str) {
        let (base, links) = match &object.kind {
            Kind::Chain(base, links) => (base.as_ref(), links.as_slice()),
            _ => (object, [].as_slice()),
        };
        let Kind::Name(name) = &base.kind else { return };
        let keys = links.iter().map(|link| match &link.kind {
            LinkKind::Key(key) => Some(key.to_string()),
            _ => None,
        });
        if let Some(mut keys) = keys.collect::<Option<Vec<_>>>() {
            keys.push(key.to_owned());
            self.refer(&name.text, base.at, keys, true);
        }
    }

    fn args(&mut self, args: &CallArgsP<AstNoPayload>) -> Lowered<Args> {
        let mut lowered = Args::default();
        for arg in &args.args {
            match &arg.node {
                ArgumentP::Positional(value) => lowered.positional.push(self.expr(value)?),
                ArgumentP::Named(name, value) => {
                    let value = self.expr(value)?;
                    lowered.named.push((self.intern(&name.node), value));
                }
                ArgumentP::Args(value) => lowered.args = Some(Box::new(self.expr(value)?)),
                ArgumentP::KwArgs(value) => lowered.kwargs = Some(Box::new(self.expr(value)?)),
            }
        }
        Ok(lowered)
    }
}

enum Suffix<'a> {
    Key(&'a Spanned<String>),
    Index(&'a AstExpr),
    Slice(Span, [Option<&'a AstExpr>; 3]),
    Method(&'a Spanned<String>, &'a CallArgsP<AstNoPayload>),
    Call(Span, &'a CallArgsP<AstNoPayload>),
}

fn string(expr: &AstExpr) -> Option<String> {
    match &expr.node {
        Ast::Literal(AstLiteral::String(text)) => Some(text.node.clone()),
        _ => None,
    }
}

fn first_positional(args: &CallArgsP<AstNoPayload>) -> Option<&AstExpr> {
    match args.args.first().map(|arg| &arg.node) {
        Some(ArgumentP::Positional(value)) => Some(value),
        _ => None,
    }
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
