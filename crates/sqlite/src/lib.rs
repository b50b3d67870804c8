//! The journal and the catalog of Stepwell in one SQLite file: the store of the embedded home.
//!
//! A [`Store`] implements runtime's `Journal` and `Catalog` ports. One thread writes: it takes every write that waits,
//! commits them as one transaction and answers each, so that one fsync is shared by all runs that wait for it. An append
//! that conflicts costs its neighbours nothing. Reads run beside it on a few threads of their own; what the write-ahead
//! log has gathered goes into the file on yet another. A write that was answered survives a crash of process and machine.
//!
//! This crate does not know what a record means, when anything is due to happen or who may write: it keeps bytes under
//! (scope, number) and rows for lists. It takes no time from a clock and makes no ids.
//!
//! Start reading at [`Store::open`], then `writer` (how groups are committed) and `session` (what an append does), with
//! `schema.sql` beside them.

mod catalog;
mod checkpoint;
mod codec;
mod error;
mod journal;
mod lock;
mod readers;
mod schema;
mod scopes;
mod session;
mod store;
mod writer;

#[cfg(test)]
mod tests;

pub use error::CODES;
pub use error::code;
pub use lock::Holder;
pub use lock::holder;
pub use store::Options;
pub use store::Stats;
pub use store::Store;
