//! What the runtime asks of the world. Each home provides these; nothing else of it is known here.

mod agents;
mod catalog;
mod clock;
mod doorbell;
mod error;
mod journal;

pub use agents::Agents;
pub use agents::Call;
pub use agents::CallError;
pub use catalog::ApprovalFilter;
pub use catalog::ApprovalRow;
pub use catalog::Catalog;
pub use catalog::Definition;
pub use catalog::DefinitionKind;
pub use catalog::DueRow;
pub use catalog::Page;
pub use catalog::PageRequest;
pub use catalog::Registered;
pub use catalog::RunFilter;
pub use catalog::RunStatus;
pub use catalog::RunSummary;
pub use catalog::WaiterRow;
pub use clock::Clock;
pub use clock::Ids;
pub use doorbell::Delivery;
pub use doorbell::Doorbell;
pub use doorbell::Hint;
pub use doorbell::Queue;
pub use doorbell::Ring;
pub use error::AppendError;
pub use error::StoreError;
pub use error::StoreErrorKind;
pub use journal::Extra;
pub use journal::Journal;
pub use journal::Lease;
pub use journal::Loaded;
