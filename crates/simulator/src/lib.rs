//! Whole histories of a home in one thread, under virtual time, from one seed: random workflows, people, crashes and
//! faults around the real runtime and engine; only the ports are simulated.
//!
//! - A [`flow`] is a random workflow, and what people and signals do to its runs.
//! - The [`observation`]s of a history are all that happened at its ports, in order.
//! - The [`invariants`] say what must hold of every history.
//! - The [`reference`] says what a run must have come to, given what the world answered; it shares no code with the engine.
//!
//! It deliberately knows no store, no queue and no network: a fault that a port allows is made here, on purpose.
//!
//! Start reading at [`observation`].

pub mod flow;
pub mod invariants;
pub mod observation;
pub mod reference;
