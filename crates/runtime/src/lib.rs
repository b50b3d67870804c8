//! Handlers and the drive loop of Stepwell, over ports that each home provides.

pub mod ports;
