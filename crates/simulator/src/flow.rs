//! Random workflows, and what people do to their runs.
