//! A workflow as typed values: parsed, validated, with every issue at its place.
//!
//! - [`parse`] reads YAML or JSON and gives a [`Workflow`] or [`Issue`]s, all at once, each with a [`Code`], a JSON
//!   pointer, a line and column, and mostly a hint; [`render_issues`] prints them with the source.
//! - [`agent::parse`] does the same for the definition of an agent.
//! - [`Schema`] is a JSON Schema that fills in defaults and says what does not fit.
//! - [`duration`] reads lengths of time, here and at run time.
//!
//! It deliberately knows nothing of runs, clocks, files or networks: what it says depends on the text alone (and on the
//! agents and workflows it is told of).
//!
//! Start reading at `workflow.rs`, the result. Then the way there: `yaml.rs` (a tree that knows its places), `fields.rs`
//! (the one table of all spellings), `read.rs` (the dialect: from the tree to typed states), `check.rs` (what can only
//! be seen from above: reachability, names, schemas).

pub mod agent;
mod check;
mod duration;
mod fields;
mod filter;
mod issue;
mod located;
mod read;
mod render;
mod schema;
mod workflow;
mod yaml;

pub use agent::Agent;
pub use agent::AgentCatalog;
pub use duration::DURATION_HELP;
pub use duration::DurationError;
pub use duration::MAX_DURATION;
pub use duration::duration;
pub use duration::parse_duration;
pub use filter::EventFilter;
pub use issue::Code;
pub use issue::Issue;
pub use issue::Severity;
pub use located::Located;
pub use read::Options;
pub use read::Parsed;
pub use read::parse;
pub use render::render_issues;
pub use schema::Schema;
pub use schema::SchemaError;
pub use schema::Violation;
pub use workflow::Action;
pub use workflow::Aggregation;
pub use workflow::Approval;
pub use workflow::Block;
pub use workflow::Branch;
pub use workflow::Catch;
pub use workflow::Condition;
pub use workflow::Fail;
pub use workflow::Foreach;
pub use workflow::Join;
pub use workflow::JoinMode;
pub use workflow::Kind;
pub use workflow::Millis;
pub use workflow::Missed;
pub use workflow::OnFailure;
pub use workflow::OnReject;
pub use workflow::OnTimeout;
pub use workflow::Operation;
pub use workflow::OutputValue;
pub use workflow::Parallel;
pub use workflow::Retry;
pub use workflow::Schedule;
pub use workflow::Signal;
pub use workflow::Signature;
pub use workflow::State;
pub use workflow::StateId;
pub use workflow::SubWorkflow;
pub use workflow::Switch;
pub use workflow::Transform;
pub use workflow::Trigger;
pub use workflow::Try;
pub use workflow::Wait;
pub use workflow::Webhook;
pub use workflow::While;
pub use workflow::Workflow;
