//! The journal and the catalog of Stepwell in one DynamoDB table: the store of the serverless home.
//!
//! A [`Store`] implements runtime's `Journal` and `Catalog` ports. A record is one item, written by a conditional put: the
//! number is given once because the item does not exist yet. What must come with it (a due entry, the run's summary, an
//! approval) comes in the same transaction. Lists are read from three indexes, which follow a little later; whatever is
//! read by its id is read consistently where its port says so. A body too large for an item goes to a [`Blobs`], which is S3.
//!
//! - [`table`](mod@table) says how the table must be made, as data and as a function;
//! - [`Store::new`] takes ready clients. Their retries are turned off: this crate's own loop knows which failure means what.
//!
//! What each method costs stands at its implementation, in requests. A read of up to 4 KiB costs one read unit if it must be
//! consistent and a half if not; a write of up to 1 KiB one write unit, and two inside a transaction; an index costs one for
//! each entry it is to change.
//!
//! This crate does not know what a record means, when anything is due to happen or who may write. It takes no time from a
//! clock (but for its timeouts, and the time of signatures) and makes no ids. Nothing outside it knows the name of an attribute.
//!
//! Start reading at `append.rs` (the one write that matters), with `keys.rs` (where everything stands) beside it; then
//! `request.rs` (what is tried again) and `payload.rs` (how a body becomes an attribute).

mod append;
mod catalog;
mod error;
mod item;
mod journal;
mod keys;
mod listing;
mod payload;
mod request;
mod s3;
mod store;
pub mod table;

pub use error::CODES;
pub use error::code;
pub use payload::Blobs;
pub use payload::MemoryBlobs;
pub use s3::S3Blobs;
pub use s3::S3Options;
pub use store::Options;
pub use store::Store;
