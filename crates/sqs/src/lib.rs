//! Doorbells in two SQS queues: the serverless home's way of waking a scope.
//!
//! - [`Doorbell`] implements runtime's port of the same name. In Lambda only its sending half and its visibilities are used:
//!   Lambda receives, and deletes what it is not told to keep. Receiving is for processes that poll, and for tests.
//! - [`delivery`] makes of a message, as Lambda hands it over, what the handlers take.
//!
//! A message carries a scope and a hint, no authority and no state: one that comes twice, late or never costs time only. What
//! is sent says for whom it is fair: runs share a queue by [message group](message::group).
//!
//! This crate does not know what a scope is, what a handler does with it, or when it is due. It takes no time from a clock;
//! the pauses between its tries are tokio's.
//!
//! Start reading at `doorbell.rs`; `message.rs` has the body of a message, which nobody else knows.

mod doorbell;
mod error;
pub mod message;

pub use doorbell::Doorbell;
pub use doorbell::Queues;
pub use error::CODES;
pub use message::Unreadable;
pub use message::delivery;
