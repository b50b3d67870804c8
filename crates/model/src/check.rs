//! What can only be seen from above.
