//! Stepwell: runtime.
