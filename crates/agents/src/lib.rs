//! Stepwell: agents.
