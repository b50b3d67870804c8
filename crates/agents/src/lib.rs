//! Whatever has an effect outside the engine: agents, HTTP calls, log lines.
//!
//! - [`Actions`] implements the runtime's port [`Agents`](runtime::ports::Agents): it performs one action, once, and
//!   says whether an error was the action's own answer.
//! - [`Definitions`] is where it finds the agents that a run pinned; any catalog is one.
//! - [`request`] and [`output`] say what an agent is given and what its answer means, as pure functions: stubs in tests
//!   must mean the same.
//! - A program runs in a process group of its own, which never outlives its call; [`Options::process_table`] lets the next
//!   engine end those of a killed one.
//!
//! It deliberately knows nothing of journals, retries, approvals or what comes next in a workflow; it keeps no state
//! that matters, and nothing here may decide whether an action is performed. A secret is known only here, during one
//! call, and is taken out of whatever comes back.
//!
//! Start reading at `actions.rs`.

mod actions;
mod command;
mod error;
mod http;
mod log;
pub mod output;
mod registry;
pub mod request;
mod secret;
mod stub;
mod template;
#[cfg(test)]
mod tests;

pub use actions::Actions;
pub use actions::Options;
pub use command::ProcessTableError;
pub use error::Code;
pub use registry::Definitions;
pub use registry::Source;
pub use secret::Secrets;
pub use stub::matches;
