//! What happens to runs, told on an event bus of AWS: the serverless home's [`Notifier`](runtime::ports::Notifier).
//!
//! - [`Notifier`] implements runtime's port of the same name: `PutEvents`, in batches, what was not taken again;
//! - [`event`](mod@event) says what a notice looks like on the bus: that is an interface for others, and only grows.
//!
//! This crate does not know when anything is told, or whether it was told before: whoever listens tells the same from the new
//! by the `id` in the detail. It takes no time from a clock; its limits and pauses are tokio's.
//!
//! Start reading at `event.rs`.

mod error;
pub mod event;
mod notifier;

pub use error::CODES;
pub use notifier::Notifier;
