//! Whole histories of a home in one thread, under virtual time, from one seed: random workflows, people, crashes and
//! faults around the real runtime and engine; only the ports are simulated.
//!
//! - A [`plan`] is everything that a history is; a seed gives one, a file can hold one.
//! - A [`flow`] is a random workflow, and what people and signals do to its runs.
//! - [`history::play`] plays a plan over a [`world`], through processes that see it by simulated ports.
//! - The [`observation`]s of a history are all that happened at its ports, in order; a [`trace`] shows them to people.
//! - The [`invariants`] say what must hold of every history.
//! - The [`mod@reference`] says what a run must have come to, given what the world answered; it shares no code with the engine.
//! - The [`oracle`] holds a run's journals against it.
//! - [`shrink`] makes a plan that fails smaller; [`batch`] plays many.
//!
//! It deliberately knows no store, no queue and no network: a fault that a port allows is made here, on purpose.
//!
//! Start reading at [`plan`], then [`history`].

pub mod batch;
mod client;
mod doubles;
pub mod flow;
pub mod history;
mod home;
pub mod invariants;
pub mod observation;
pub mod oracle;
mod panics;
pub mod plan;
mod ports;
pub mod process;
mod queue;
pub mod reference;
mod replica;
pub mod shrink;
pub mod trace;
pub mod world;
