//! Tests of workflows: `*.test.yaml`, read and reported.
//!
//! Start reading at `file.rs`.

mod file;
mod trail;

pub use file::Answer;
pub use file::Answers;
pub use file::CallExpectation;
pub use file::Case;
pub use file::Control;
pub use file::Decision;
pub use file::ErrorExpectation;
pub use file::Expect;
pub use file::File;
pub use file::Invalid;
pub use file::Refused;
pub use file::Reply;
pub use file::Signal;
pub use file::Stub;
pub use file::Verb;
pub use trail::Inside;
pub use trail::Step;
pub use trail::Trail;
