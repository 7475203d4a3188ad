//! Private parsers, opened to the project's fuzz targets.

use crate::address::Address;
use crate::proxy::Proxy;
use crate::proxy_environment;

/// Finds the proxy for an address in environment variables. The error is its text.
///
/// # Errors
///
/// A variable is no proxy.
pub fn proxy_for(
    address: &Address,
    variable: impl Fn(&str) -> Option<String>,
) -> Result<Option<Proxy>, String> {
    proxy_environment::proxy_for(address, variable).map_err(|(name, error)| format!("{name}: {error}"))
}
