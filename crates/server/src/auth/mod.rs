//! Authentication of connections and authorization of calls.

pub(crate) mod authenticate;
pub(crate) mod authorize;
pub(crate) mod tokens;
