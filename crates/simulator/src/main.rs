//! `stepwell-sim`: runs histories and says what broke.

fn main() {}
