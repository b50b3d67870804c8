//! Stepwell: model.
