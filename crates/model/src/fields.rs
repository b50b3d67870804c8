//! The one table of all spellings.
