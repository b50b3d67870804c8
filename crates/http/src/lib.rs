//! The REST API: one axum router over the runtime, for every home.
//!
//! - [`Api`] answers requests, from wherever they come: a socket, or the CLI in the same process.
//! - [`bind`] and [`serve`] put it on this machine's loopback address; any other is refused, because there is no
//!   authentication yet. Requests that a web page elsewhere could have caused are refused too.
//! - A signed request to `/hooks/{workflow}/{name}` starts a run, once for each delivery; a home gives the [`Secrets`](runtime::ports::Secrets).
//! - A [`Home`] says what it can hold; what it cannot is refused when it is registered.
//! - Every error is JSON, `{code, message, hint?, details?}`, with a [`CODES`] entry or a code of the crates below.
//!
//! It deliberately knows nothing of stores, journals or workflows' semantics: it translates, and the
//! [runtime](runtime::Runtime) decides.
//!
//! Start reading at `api.rs`, the table of paths; `documents.rs` has the JSON of each.

mod api;
mod convert;
mod definitions;
mod documents;
mod error;
mod extract;
mod guard;
mod home;
mod hooks;
mod server;

pub use api::Api;
pub use api::Project;
pub use error::CODES;
pub use error::Error;
pub use extract::BODY_LIMIT;
pub use home::Home;
pub use hooks::HOOK_BODY_LIMIT;
pub use server::bind;
pub use server::serve;
