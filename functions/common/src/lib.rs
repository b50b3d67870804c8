//! What the Lambda functions of the serverless home share: each of them is a [`Function`] and nothing else.
//!
//! - [`run`] is a function's `main`: it reads the environment, makes the clients once, and answers invocations until the
//!   environment is shut down;
//! - [`Configuration`] is that environment; [`Home`] the runtime and the API over table, bucket, queues and bus;
//! - messages of the two queues go to the handlers of [`runtime`], HTTP requests to [`http_api`], and what the bus tells to
//!   whatever workflow listens.
//!
//! This crate decides nothing: it hands over what came, with the time that is left of the invocation, and says which messages
//! are to come again. It errs only when the work could not be stored, or nobody rung for it.
//!
//! Start reading at `messages.rs`, the way of a doorbell; `web.rs` has that of a request.

mod bus;
mod configuration;
mod function;
mod home;
mod logs;
mod messages;
mod sweep;
mod web;

pub use configuration::Configuration;
pub use configuration::Misconfigured;
pub use function::Function;
pub use function::run;
pub use home::Home;
pub use messages::Invocation;
pub use messages::resume;
pub use messages::step;
