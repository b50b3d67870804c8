//! Tests of workflows: `*.test.yaml` files, run by the real engine and runtime with stubbed agents, scripted decisions and
//! a virtual clock.
//!
//! - [`File::parse`] reads a test file; every problem has its place.
//! - [`run`] runs the tests of files, each in a home of its own ([`in_memory`], or any other), over several cores.
//! - [`Rehearsal`] plays a test for its history, in a process that may die at any call it makes.
//! - [`Report`] says what was not as expected, as a diff; [`Narrator`] says what happened, for timelines.
//!
//! The clock is tokio's paused time: it jumps to the next timer when nothing else can happen, so an hour's wait takes no
//! time, and what happens is the same on every machine.
//!
//! It deliberately knows no state type and no semantics: a test passes when journals, calls and outcome are as the file
//! says, whoever made them.
//!
//! Start reading at `file.rs` (what a test can say), then `case.rs` (how it is performed) and `check.rs`.

mod at_once;
mod case;
mod check;
mod file;
mod history;
mod journey;
mod narrate;
mod process;
mod rehearsal;
mod report;
mod run;
mod stubs;
mod trail;
mod world;

pub use at_once::AtOnce;
pub use at_once::at_once;
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
pub use history::EventPattern;
pub use history::HistoryExpectation;
pub use history::HistoryLine;
pub use narrate::Line;
pub use narrate::Narrator;
pub use narrate::Tone;
pub use process::Conditions;
pub use process::Mishap;
pub use rehearsal::Account;
pub use rehearsal::Called;
pub use rehearsal::End;
pub use rehearsal::Noted;
pub use rehearsal::Rehearsal;
pub use report::Failure;
pub use report::Report;
pub use run::run;
pub use trail::Inside;
pub use trail::Step;
pub use trail::Trail;
pub use world::Home;
pub use world::Homes;
pub use world::in_memory;
