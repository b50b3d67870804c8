//! Stepwell: sqlite.
