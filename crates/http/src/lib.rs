//! Stepwell: http.
