//! Adapters that live in the process: for tests, dry runs and the simulator.

mod clock;
mod store;

pub use clock::ManualClock;
pub use clock::SeededIds;
pub use store::Store;
