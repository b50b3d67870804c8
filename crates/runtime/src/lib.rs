//! Runs workflows durably, over ports that each home provides: the four handlers and the loop they share.
//!
//! - A [`Runtime`] is made of [`Ports`]; it [starts](Runtime::start) runs, shows and controls them.
//! - A [`Service`] works for it in a process that stays: answers doorbells, sweeps, fires schedules.
//! - [`handlers`] are the same as plain functions, for homes that call them with one message.
//! - [`memory`] has adapters that live in memory; `conformance` (a feature) what every adapter must pass.
//!
//! The order is always: persist, then ring, then acknowledge. Messages carry no authority, heads in memory none either: a
//! conditional append decides. So a crash at any point, a doorbell that comes twice, late or not at all, loses nothing.
//!
//! It deliberately knows no database, no queue, no HTTP and no model provider, and takes time, ids and randomness from its
//! [`ports`]: a simulator runs exactly this code. What a workflow means is the business of `engine`.
//!
//! Start reading at `drive.rs`, the loop; then `tend.rs`, which makes good what crashes left.

mod claims;
mod commit;
#[cfg(feature = "conformance")]
pub mod conformance;
mod control;
mod definitions;
mod desk;
mod drive;
mod error;
mod extras;
pub mod handlers;
mod heads;
mod inboxes;
pub mod memory;
mod notices;
mod nursery;
mod open;
mod perform;
mod plans;
pub mod ports;
mod runtime;
mod schedule;
mod service;
mod start;
mod status;
mod sweep;
mod system;
mod tend;
mod timeline;
mod trouble;
mod view;
mod watch;

pub use error::CODES;
pub use error::ControlError;
pub use error::Error;
pub use error::RegisterError;
pub use error::StartError;
pub use error::VoteError;
pub use runtime::Options;
pub use runtime::Ports;
pub use runtime::Runtime;
pub use service::Service;
pub use service::ServiceOptions;
pub use system::SystemClock;
pub use system::SystemIds;
pub use view::Doing;
pub use view::PendingApproval;
pub use view::Position;
pub use view::Registration;
pub use view::RunView;
pub use view::SignalRequest;
pub use view::StartRequest;
pub use view::Started;
pub use view::TimelineEntry;
pub use view::Voted;
