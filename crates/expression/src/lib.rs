//! Starlark and `{{ templates }}` over JSON: one value type, one path language, limits that hold.
//!
//! - [`Value`] is JSON: immutable, cheap to clone, integers of any size.
//! - [`Path`] reads and writes places in the context.
//! - [`Expression`] and [`Program`] are Starlark; [`Template`] and [`Tree`] are texts and JSON with expressions in them.
//! - [`Environment`] says what names mean; [`Names`] what is known of the workflow; [`Budget`] what may be used.
//!
//! It deliberately knows no clock, no randomness, no I/O, no states and no runs: the same expression on the same
//! data gives the same value and uses the same budget, on every machine, for ever. Secrets are recognised
//! ([`SecretSlot`]) and never resolved here.
//!
//! Start reading at `expression.rs`: a source is checked and parsed (`syntax.rs`), lowered (`lower.rs` to `ir.rs`), walked
//! (`eval.rs`, over `val.rs`, paid for in `meter.rs`) and turned back into JSON (`freeze.rs`).

// A fault is boxed where it is made, because it travels boxed.
#![allow(clippy::unnecessary_box_returns)]
// `start`, `stop` and `step` are the words of slices and ranges.
#![allow(clippy::similar_names)]

mod access;
mod budget;
mod builtins;
mod call;
mod environment;
mod error;
mod eval;
mod expression;
mod freeze;
mod ir;
mod json;
mod lookup;
mod lower;
mod meter;
mod methods;
mod names;
mod nearest;
mod number;
mod ops;
mod path;
mod reference;
mod secret;
mod statements;
mod strings;
mod syntax;
mod template;
mod text;
mod tree;
mod val;
mod value;

pub use budget::Budget;
pub use environment::Data;
pub use environment::Environment;
pub use environment::Special;
pub use error::CODES;
pub use error::EvalError;
pub use error::EvalErrorKind;
pub use error::SyntaxError;
pub use expression::Expression;
pub use expression::Program;
pub use names::Mark;
pub use names::Names;
pub use names::NamesBuilder;
pub use path::Path;
pub use path::PathError;
pub use path::Segment;
pub use path::is_reserved;
pub use reference::Reference;
pub use secret::Part;
pub use secret::SecretRef;
pub use secret::SecretSlot;
pub use secret::SecretSource;
pub use syntax::SOURCE_LIMIT;
pub use template::TEMPLATE_LIMIT;
pub use template::Template;
pub use template::TemplateOptions;
pub use tree::Rendered;
pub use tree::Tree;
pub use tree::TreeError;
pub use tree::TreeOptions;
pub use value::DEPTH_LIMIT;
pub use value::JsonError;
pub use value::Object;
pub use value::Value;
