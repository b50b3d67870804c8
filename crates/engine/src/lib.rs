//! The pure core of Stepwell: what a run is, and what happens next.
//!
//! A [`Scope`] is one sequential line of a run: the root, a branch, an iteration. Its whole state is the fold of its
//! [`Record`]s. [`decide`] takes a scope, something that happened ([`Stimulus`]) and an [`Env`], and answers with events
//! and what to do [next](Next). Whoever calls it appends the events as the next record, or drops them and the scope when
//! another writer was first.
//!
//! This crate knows no clock, no randomness, no I/O and no store: time and entropy are arguments. The fold evaluates no
//! expression; what an expression gave is in the events, so a journal means the same under every later engine.
//!
//! Start reading at [`decide`], then [`Event`].

mod advance;
mod approval;
pub mod code;
mod decide;
mod enter;
mod error;
mod evaluate;
mod event;
mod fold;
mod id;
mod inbox;
mod join;
mod record;
mod retry;
mod scope;

pub use decide::Budget;
pub use decide::Decision;
pub use decide::Env;
pub use decide::Failure;
pub use decide::Next;
pub use decide::Refusal;
pub use decide::Stimulus;
pub use decide::decide;
pub use error::Error;
pub use error::error_type;
pub use event::ApprovalRequested;
pub use event::BlockRole;
pub use event::ChildEnded;
pub use event::Event;
pub use event::Inherited;
pub use event::Outcome;
pub use event::Parent;
pub use event::RunStarted;
pub use event::ScopeStarted;
pub use event::Trigger;
pub use event::Vote;
pub use id::ChildKey;
pub use id::RunId;
pub use id::ScopeKey;
pub use id::ScopePath;
pub use id::StepId;
pub use inbox::Inbox;
pub use inbox::Signal;
pub use record::Encoded;
pub use record::FORMAT;
pub use record::Record;
pub use record::Unreadable;
pub use record::hash;
pub use scope::Activity;
pub use scope::Claim;
pub use scope::Clocks;
pub use scope::ForkContext;
pub use scope::ForkView;
pub use scope::ReplayError;
pub use scope::Scope;
pub use scope::SubworkflowView;
