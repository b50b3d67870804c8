//! Keys, indices and calls behind a value, and what they say the expression reads.

use starlark_syntax::codemap::{Span, Spanned};
use starlark_syntax::syntax::ast::{ArgumentP, AstExpr, AstLiteral, AstNoPayload, CallArgsP, Expr as Ast};

use super::{Lowered, Lowering};
use crate::builtins::Builtin;
use crate::ir::{Args, Call, Callee, Expr, Kind, Link, LinkKind};

impl Lowering<'_> {
    pub(super) fn chain(&mut self, expr: &AstExpr) -> Lowered<Expr> {
        let (base, suffixes) = self.suffixes(expr);
        let at = self.at(base.span);
        let first = self.references.len();
        let base = match &base.node {
            Ast::Call(callee, args) => Expr { at, kind: self.call(callee, args)? },
            _ => self.expr(base)?,
        };
        if suffixes.is_empty() {
            return Ok(base);
        }
        // A name that is read has just made the reference at `first`.
        if matches!(base.kind, Kind::Name(_)) {
            self.refer_keys(first, &suffixes);
        }
        let mut links = Vec::with_capacity(suffixes.len());
        for suffix in &suffixes {
            links.push(self.link(suffix)?);
        }
        Ok(Expr { at, kind: Kind::Chain(Box::new(base), links) })
    }

    /// What stands behind a value, in order, and the value.
    #[inline(never)]
    fn suffixes<'t>(&mut self, expr: &'t AstExpr) -> (&'t AstExpr, Vec<Suffix<'t>>) {
        let mut suffixes = Vec::new();
        let mut base = expr;
        loop {
            base = match &base.node {
                Ast::Call(callee, _) if matches!(callee.node, Ast::Identifier(_)) || self.is_json(callee) => {
                    break;
                }
                Ast::Call(callee, args) => {
                    if let Ast::Dot(object, method) = &callee.node {
                        suffixes.push(Suffix::Method(method, args));
                        object
                    } else {
                        suffixes.push(Suffix::Call(base.span, args));
                        callee
                    }
                }
                Ast::Dot(object, key) => {
                    suffixes.push(Suffix::Key(key));
                    object
                }
                Ast::Index(inner) => {
                    suffixes.push(Suffix::Index(&inner.1));
                    &inner.0
                }
                Ast::Slice(object, start, stop, step) => {
                    let parts = [start.as_deref(), stop.as_deref(), step.as_deref()];
                    suffixes.push(Suffix::Slice(base.span, parts));
                    object
                }
                _ => break,
            };
        }
        suffixes.reverse();
        (base, suffixes)
    }

    /// Adds the constant keys that are read behind a name to its reference.
    fn refer_keys(&mut self, reference: usize, suffixes: &[Suffix<'_>]) {
        let Some(reference) = self.references.get_mut(reference) else { return };
        for suffix in suffixes {
            let (key, asked) = match suffix {
                Suffix::Key(key) => (Some(key.node.clone()), false),
                Suffix::Index(index) => (string(index), false),
                Suffix::Method(method, args) if method.node == "get" => {
                    (first_positional(args).and_then(string), true)
                }
                _ => (None, false),
            };
            let Some(key) = key else { return };
            reference.keys.push(key);
            reference.optional = asked;
            if asked {
                return;
            }
        }
    }

    fn link(&mut self, link: &Suffix<'_>) -> Lowered<Link> {
        match link {
            Suffix::Key(key) => {
                let at = self.at(key.span);
                Ok(Link { at, kind: LinkKind::Key(self.intern(&key.node)) })
            }
            Suffix::Index(index) => self.index(index),
            Suffix::Slice(span, parts) => self.slice(*span, *parts),
            Suffix::Method(method, args) => self.method(method, args),
            Suffix::Call(span, args) => {
                let at = self.at(*span);
                Ok(Link { at, kind: LinkKind::Call(self.args(args)?) })
            }
        }
    }

    #[inline(never)]
    fn index(&mut self, index: &AstExpr) -> Lowered<Link> {
        let index = self.expr(index)?;
        let at = index.at;
        let kind = match index.kind {
            Kind::Str(key) => LinkKind::Key(key),
            _ => LinkKind::Index(index),
        };
        Ok(Link { at, kind })
    }

    #[inline(never)]
    fn slice(&mut self, span: Span, parts: [Option<&AstExpr>; 3]) -> Lowered<Link> {
        let mut lowered = Box::new([None, None, None]);
        for (lowered, part) in lowered.iter_mut().zip(parts) {
            if let Some(part) = part {
                *lowered = Some(self.expr(part)?);
            }
        }
        Ok(Link { at: self.at(span), kind: LinkKind::Slice(lowered) })
    }

    #[inline(never)]
    fn method(&mut self, method: &Spanned<String>, args: &CallArgsP<AstNoPayload>) -> Lowered<Link> {
        let name = self.intern(&method.node);
        let args = self.args(args)?;
        Ok(Link { at: self.at(method.span), kind: LinkKind::Method(name, args) })
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
    pub(super) fn ask(&mut self, object: &Expr, key: &str) {
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
                ArgumentP::Args(value) => lowered.spread = Some(Box::new(self.expr(value)?)),
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
