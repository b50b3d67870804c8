//! Stepwell: expression.
