//! Stepwell: engine.
