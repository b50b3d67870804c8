//! What the Lambda functions of the serverless home share: each of them is a [`Function`] and nothing else.
//!
//! - [`run`] is a function's `main`: it reads the environment, makes the clients once, and answers invocations until the
//!   environment is shut down;
//! - [`Configuration`] is that environment;
//! - messages of the two queues go to the handlers of [`runtime`] ([`Step`], [`Resume`]), HTTP requests to [`http_api`]
//!   ([`Start`], [`Approval`], [`Api`]), what the bus tells to whatever workflow listens ([`Start`]), and each minute [`Sweep`]
//!   looks at what is due.
//!
//! This crate decides nothing: it hands over what came, with the time that is left of the invocation, and says which messages
//! are to come again. It errs only when the work could not be stored, or nobody rung for it.
//!
//! A program holds what its own function needs and no more: only `step` can perform an action, only those behind API Gateway
//! have the API. So the functions are types, and nothing here asks at run time which one it is in.
//!
//! Start reading at `function.rs`, then `messages.rs`, the way of a doorbell; `web.rs` has that of a request.

mod bus;
mod clients;
mod configuration;
mod function;
mod gateway;
mod home;
mod http;
mod logs;
mod messages;
mod start;
mod sweep;
mod web;

pub use configuration::Configuration;
pub use configuration::Endpoints;
pub use configuration::Misconfigured;
pub use function::Function;
pub use function::Invocation;
pub use function::run;
pub use messages::Resume;
pub use messages::Step;
pub use start::Start;
pub use sweep::Sweep;
pub use web::Api;
pub use web::Approval;
