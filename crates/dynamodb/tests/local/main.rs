//! The store against DynamoDB Local, which the tests start themselves: the suites of runtime's ports, the comparison with the
//! store in memory, lost answers, and what a run costs.

// They are tests.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod conformance;
mod costs;
mod faults;
mod server;
mod wire;
