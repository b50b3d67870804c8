//! Nothing but `tests/agreement.rs`. It is a package of its own because the `starlark` crate turns on features of `serde_json`
//! that the product does not have, and whatever is built together with it would have them too.
