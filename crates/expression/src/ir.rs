//! What a source is lowered to: slots instead of names, chains instead of nested accesses.

use std::sync::Arc;

use num_bigint::BigInt;
use starlark_syntax::syntax::ast::BinOp;

use crate::builtins::Builtin;

/// A lowered expression or program.
#[derive(Debug, Default)]
pub(crate) struct Code {
    /// The statements in front of the result.
    pub(crate) body: Vec<Stmt>,
    /// The result.
    pub(crate) result: Option<Expr>,
    /// Functions, `def` and `lambda`.
    pub(crate) functions: Vec<Function>,
    /// How many variables there are outside of functions.
    pub(crate) slots: u32,
}

/// An expression, and the offset of its first byte in the source as written.
#[derive(Debug)]
pub(crate) struct Expr {
    pub(crate) at: u32,
    pub(crate) kind: Kind,
}

#[derive(Debug)]
pub(crate) enum Kind {
    None,
    Bool(bool),
    Int(i64),
    Big(Arc<BigInt>),
    Float(f64),
    Str(Arc<str>),
    Var(Var),
    Name(Name),
    /// What stands in front, and the keys, indices and calls behind it, in order.
    Chain(Box<Expr>, Vec<Link>),
    Call(Box<Call>),
    List(Vec<Expr>),
    Tuple(Vec<Expr>),
    Dict(Vec<(Expr, Expr)>),
    /// Operators of one spine: `a + b - c` is a, [+ b, - c].
    Binary(Box<Expr>, Vec<Operation>),
    And(Vec<Expr>),
    Or(Vec<Expr>),
    /// Operators in front, outermost first.
    Unary(Vec<Unary>, Box<Expr>),
    /// Conditions, each with its value, and the value where none holds.
    If(Vec<(Expr, Expr)>, Box<Expr>),
    Comprehension(Box<Comprehension>),
    Lambda(u32),
    Format(Vec<FormatPart>),
}

/// Something that the program assigns.
#[derive(Clone, Debug)]
pub(crate) struct Var {
    pub(crate) place: Place,
    pub(crate) name: Arc<str>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    /// A slot outside of functions.
    Module(u32),
    /// A slot of the running function.
    Local(u32),
    /// A cell of an outer function.
    Captured(u32),
}

/// A name that the program does not assign.
#[derive(Clone, Debug)]
pub(crate) struct Name {
    pub(crate) text: Arc<str>,
    pub(crate) root: Root,
}

/// The names that always mean the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Root {
    Ctx,
    Steps,
    Workflow,
    Input,
    Other,
}

#[derive(Debug)]
pub(crate) struct Link {
    pub(crate) at: u32,
    pub(crate) kind: LinkKind,
}

#[derive(Debug)]
pub(crate) enum LinkKind {
    Key(Arc<str>),
    Index(Expr),
    Slice(Box<[Option<Expr>; 3]>),
    Method(Arc<str>, Args),
    Call(Args),
}

/// A call of a name.
#[derive(Debug)]
pub(crate) struct Call {
    pub(crate) callee: Callee,
    pub(crate) args: Args,
}

#[derive(Debug)]
pub(crate) enum Callee {
    Var(Var),
    Builtin(Builtin),
}

#[derive(Debug, Default)]
pub(crate) struct Args {
    pub(crate) positional: Vec<Expr>,
    pub(crate) named: Vec<(Arc<str>, Expr)>,
    pub(crate) spread: Option<Box<Expr>>,
    pub(crate) kwargs: Option<Box<Expr>>,
}

#[derive(Debug)]
pub(crate) struct Operation {
    pub(crate) op: BinOp,
    pub(crate) at: u32,
    pub(crate) right: Expr,
    /// What was probably meant: `steps["check-pods"]` for `steps.check-pods`.
    pub(crate) hint: Option<Arc<str>>,
    /// The same, where the name begins with the right operand.
    pub(crate) right_hint: Option<Arc<str>>,
}

#[derive(Clone, Copy, Debug)]
pub(crate) enum Unary {
    Not,
    Minus,
    Plus,
    BitNot,
}

#[derive(Debug)]
pub(crate) enum FormatPart {
    Text(Arc<str>),
    Str(Expr),
    Repr(Expr),
}

#[derive(Debug)]
pub(crate) struct Comprehension {
    pub(crate) clauses: Vec<Clause>,
    pub(crate) item: Item,
}

#[derive(Debug)]
pub(crate) enum Item {
    List(Expr),
    Dict(Expr, Expr),
}

#[derive(Debug)]
pub(crate) enum Clause {
    For(Target, Expr),
    If(Expr),
}

#[derive(Debug)]
pub(crate) struct Target {
    pub(crate) at: u32,
    pub(crate) kind: TargetKind,
}

#[derive(Debug)]
pub(crate) enum TargetKind {
    Var(Var),
    Index(Box<(Expr, Expr)>),
    Key(Box<Expr>, Arc<str>),
    Unpack(Vec<Target>),
}

#[derive(Debug)]
pub(crate) enum Stmt {
    Expr(Expr),
    Assign(Target, Expr),
    Modify(Target, BinOp, Expr),
    /// Conditions, each with its block, and the block where none holds.
    If(Vec<(Expr, Vec<Stmt>)>, Vec<Stmt>),
    For(Target, Expr, Vec<Stmt>),
    Def(Var, u32),
    Return(Option<Expr>),
    Break,
    Continue,
}

#[derive(Debug)]
pub(crate) struct Function {
    pub(crate) name: Arc<str>,
    pub(crate) params: Vec<Param>,
    /// How many of the parameters can be given by position.
    pub(crate) positional: usize,
    pub(crate) slots: u32,
    /// Slots that inner functions share.
    pub(crate) cells: Vec<u32>,
    /// Where the captured cells are in the function around: its own slots or its captured ones.
    pub(crate) captures: Vec<Place>,
    pub(crate) body: Vec<Stmt>,
}

#[derive(Debug)]
pub(crate) struct Param {
    pub(crate) name: Arc<str>,
    pub(crate) kind: ParamKind,
}

#[derive(Debug)]
pub(crate) enum ParamKind {
    Required,
    Optional(Expr),
    Args,
    Kwargs,
}
