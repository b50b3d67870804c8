//! Adapters that live in the process: for tests, dry runs and the simulator. The [`Doorbell`] is the embedded home's, too.

mod clock;
mod doorbell;
mod fault;
mod store;
mod virtual_clock;

pub use clock::ManualClock;
pub use clock::SeededIds;
pub use doorbell::Doorbell;
pub use fault::Fault;
pub use fault::Faulty;
pub use fault::INJECTED;
pub use store::Store;
pub use virtual_clock::VirtualClock;
