//! Handlers and the drive loop of Stepwell, over ports that each home provides.

#[cfg(feature = "conformance")]
pub mod conformance;
mod error;
pub mod memory;
pub mod ports;
mod view;

pub use error::CODES;
pub use error::ControlError;
pub use error::Error;
pub use error::RegisterError;
pub use error::StartError;
pub use error::VoteError;
pub use view::Doing;
pub use view::PendingApproval;
pub use view::Position;
pub use view::Registration;
pub use view::RunView;
pub use view::SignalRequest;
pub use view::StartRequest;
pub use view::Started;
pub use view::TimelineEntry;
pub use view::Voted;
