//! Expressions. Each kind is a function of its own, so that the frames of the recursion stay small.

use std::collections::HashMap;
use std::sync::Arc;

use num_bigint::BigInt;
use starlark_syntax::codemap::Span;
use starlark_syntax::lexer::TokenInt;
use starlark_syntax::syntax::ast::{
    AstExpr, AstLiteral, AstNoPayload, BinOp, Clause as AstClause, Expr as Ast, FStringP, ForClause, LambdaP,
};

use super::{Body, Lowered, Lowering};
use crate::ir::{Clause, Comprehension, Expr, FormatPart, Item, Kind, Name, Operation, Root, Unary};

impl Lowering<'_> {
    pub(super) fn expr(&mut self, expr: &AstExpr) -> Lowered<Expr> {
        match &expr.node {
            Ast::Dot(_, _) | Ast::Index(_) | Ast::Slice(_, _, _, _) | Ast::Call(_, _) => self.chain(expr),
            _ => {
                let kind = self.kind(expr)?;
                Ok(Expr { at: self.at(expr.span), kind })
            }
        }
    }

    fn kind(&mut self, expr: &AstExpr) -> Lowered<Kind> {
        match &expr.node {
            Ast::Identifier(name) => Ok(self.name(&name.node.ident, expr.span)),
            Ast::Literal(literal) => self.literal(literal, expr.span),
            Ast::Op(_, BinOp::And, _) => self.spine(expr, BinOp::And).map(Kind::And),
            Ast::Op(_, BinOp::Or, _) => self.spine(expr, BinOp::Or).map(Kind::Or),
            Ast::Op(_, _, _) => self.operations(expr),
            Ast::Not(_) | Ast::Minus(_) | Ast::Plus(_) | Ast::BitNot(_) => self.unary(expr),
            Ast::List(items) => self.exprs(items).map(Kind::List),
            Ast::Tuple(items) => self.exprs(items).map(Kind::Tuple),
            Ast::Dict(entries) => self.dict(entries),
            Ast::If(_) => self.ternary(expr),
            Ast::Lambda(lambda) => self.lambda(lambda),
            Ast::ListComprehension(item, first, clauses) => self.comprehension(first, clauses, item, None),
            Ast::DictComprehension(entry, first, clauses) => {
                self.comprehension(first, clauses, &entry.0, Some(&entry.1))
            }
            Ast::FString(format) => self.format(&format.node, expr.span),
            _ => Err(self.error(expr.span, "an index is one value")),
        }
    }

    #[inline(never)]
    fn exprs(&mut self, exprs: &[AstExpr]) -> Lowered<Vec<Expr>> {
        let mut lowered = Vec::with_capacity(exprs.len());
        for expr in exprs {
            lowered.push(self.expr(expr)?);
        }
        Ok(lowered)
    }

    #[inline(never)]
    fn dict(&mut self, entries: &[(AstExpr, AstExpr)]) -> Lowered<Kind> {
        let mut lowered = Vec::with_capacity(entries.len());
        for (key, value) in entries {
            let key = self.expr(key)?;
            lowered.push((key, self.expr(value)?));
        }
        Ok(Kind::Dict(lowered))
    }

    #[inline(never)]
    fn lambda(&mut self, lambda: &LambdaP<AstNoPayload>) -> Lowered<Kind> {
        let name = self.intern("lambda");
        let function = self.function(name, &lambda.params, Body::Lambda(&lambda.body))?;
        Ok(Kind::Lambda(function))
    }

    /// `not - + ~ x` is one list of operators, outermost first.
    #[inline(never)]
    fn unary(&mut self, expr: &AstExpr) -> Lowered<Kind> {
        let mut operators = Vec::new();
        let mut rest = expr;
        loop {
            let (operator, inner) = match &rest.node {
                Ast::Not(inner) => (Unary::Not, inner),
                Ast::Minus(inner) => (Unary::Minus, inner),
                Ast::Plus(inner) => (Unary::Plus, inner),
                Ast::BitNot(inner) => (Unary::BitNot, inner),
                _ => break,
            };
            operators.push(operator);
            rest = inner;
        }
        let inner = self.expr(rest)?;
        if let [Unary::Minus] = operators.as_slice() {
            match inner.kind {
                Kind::Int(int) if int != i64::MIN => return Ok(Kind::Int(-int)),
                Kind::Float(float) => return Ok(Kind::Float(-float)),
                _ => {}
            }
        }
        Ok(Kind::Unary(operators, Box::new(inner)))
    }

    #[inline(never)]
    fn name(&mut self, name: &str, span: Span) -> Kind {
        match name {
            "None" | "null" => return Kind::None,
            "True" | "true" => return Kind::Bool(true),
            "False" | "false" => return Kind::Bool(false),
            _ => {}
        }
        if let Some(var) = self.var(name) {
            return Kind::Var(var);
        }
        let at = self.at(span);
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
        let mut lowered = Vec::with_capacity(operands.len());
        for operand in operands.into_iter().rev() {
            lowered.push(self.expr(operand)?);
        }
        Ok(lowered)
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
        let mut hyphens = None;
        for (op, left, right) in spine.into_iter().rev() {
            let hint = self.hyphen(op, left, right, &mut hyphens);
            operations.push(self.operation(op, right, hint)?);
            if matches!(op, BinOp::In | BinOp::NotIn)
                && let Ast::Literal(AstLiteral::String(key)) = &left.node
                && let Some(operation) = operations.last()
            {
                self.ask(&operation.right, &key.node);
            }
        }
        // All of a name that goes on share the hint of the whole name.
        let mut next: Option<Arc<str>> = None;
        for operation in operations.iter_mut().rev() {
            match (&operation.hint, next.clone()) {
                (Some(_), Some(whole)) => operation.hint = Some(whole),
                (None, whole) => operation.right_hint = whole,
                (Some(_), None) => {}
            }
            next.clone_from(&operation.hint);
        }
        Ok(Kind::Binary(Box::new(first), operations))
    }

    fn operation(&mut self, op: BinOp, right: &AstExpr, hint: Option<Arc<str>>) -> Lowered<Operation> {
        let before = self.references.len();
        let right = self.expr(right)?;
        if let (Some(hint), Some(reference)) = (&hint, self.references.get_mut(before)) {
            reference.hint = Some(hint.to_string());
        }
        Ok(Operation { op, at: right.at, right, hint, right_hint: None })
    }

    /// `steps.check-pods` is a subtraction. Says what was meant if the names stand close together.
    fn hyphen(
        &self,
        op: BinOp,
        left: &AstExpr,
        right: &AstExpr,
        hyphens: &mut Option<(String, String)>,
    ) -> Option<Arc<str>> {
        let close = op == BinOp::Subtract && left.span.end().get() + 1 == right.span.begin().get();
        let mut first = right;
        while let Ast::Dot(inner, _) | Ast::Call(inner, _) = &first.node {
            first = inner;
        }
        let before = hyphens.take().filter(|_| close);
        let (true, Ast::Identifier(second)) = (close, &first.node) else { return None };
        // `a.b-c-d` is one name, `1 - a.b-c` begins one.
        let left = match &left.node {
            Ast::Op(_, _, right) if before.is_none() => right,
            _ => left,
        };
        let (object, start) = match (&left.node, before) {
            (_, Some(before)) => before,
            (Ast::Dot(object, key), None) => {
                let start = self.at(object.span) as usize;
                let end = start + (object.span.end().get() - object.span.begin().get()) as usize;
                (self.source.text.get(start..end).unwrap_or("ctx").to_owned(), key.node.clone())
            }
            (Ast::Identifier(key), None) => ("ctx".to_owned(), key.node.ident.clone()),
            _ => return None,
        };
        let name = format!("{start}-{}", second.node.ident);
        let hint = format!("`{name}` is a subtraction; write `{object}[\"{name}\"]`");
        *hyphens = Some((object, name));
        Some(hint.into())
    }

    fn ternary(&mut self, expr: &AstExpr) -> Lowered<Kind> {
        let mut arms = Vec::new();
        let mut rest = expr;
        while let Ast::If(parts) = &rest.node {
            let (condition, then, otherwise) = parts.as_ref();
            let condition = self.expr(condition)?;
            arms.push((condition, self.expr(then)?));
            rest = otherwise;
        }
        Ok(Kind::If(arms, Box::new(self.expr(rest)?)))
    }

    #[inline(never)]
    fn comprehension(
        &mut self,
        first: &ForClause,
        clauses: &[AstClause],
        item: &AstExpr,
        value: Option<&AstExpr>,
    ) -> Lowered<Kind> {
        // The first iterable is evaluated outside, as in Starlark.
        let over = self.expr(&first.over)?;
        // Slots are never reused, so that an inner layer cannot overwrite an outer one.
        self.scope()?.layers.push(HashMap::new());
        let mut lowered = Vec::with_capacity(clauses.len() + 1);
        self.for_clause(first, over, &mut lowered)?;
        for clause in clauses {
            match clause {
                AstClause::If(condition) => lowered.push(Clause::If(self.expr(condition)?)),
                AstClause::For(clause) => {
                    let over = self.expr(&clause.over)?;
                    self.for_clause(clause, over, &mut lowered)?;
                }
            }
        }
        let item = self.expr(item)?;
        let item = match value {
            None => Item::List(item),
            Some(value) => Item::Dict(item, self.expr(value)?),
        };
        self.scope()?.layers.pop();
        Ok(Kind::Comprehension(Box::new(Comprehension { clauses: lowered, item })))
    }

    #[inline(never)]
    fn for_clause(&mut self, clause: &ForClause, over: Expr, lowered: &mut Vec<Clause>) -> Lowered<()> {
        self.declare_target(&clause.var)?;
        lowered.push(Clause::For(self.target(&clause.var)?, over));
        Ok(())
    }

    #[inline(never)]
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
}
