//! The adapters of the serverless home are the same engine: with real requests to DynamoDB Local and to `LocalStack`'s SQS and
//! S3, which the tests start themselves.
//!
//! - `corpus.rs`: the conformance corpus, the examples and the acceptance cases, under a virtual clock;
//! - `doorbell.rs`: SQS as it is, by the port's suite and by what is its own;
//! - `blobs.rs`: values that no item holds, in S3;
//! - `forget.rs`: runs that are over go to the end, whoever dies meanwhile;
//! - `queue.rs` and `quiet.rs`: how a queue whose delays are real, and sweeps, keep to a virtual clock.

// They are tests.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod blobs;
mod corpus;
mod doorbell;
mod forget;
mod queue;
mod quiet;
mod servers;
mod wire;
