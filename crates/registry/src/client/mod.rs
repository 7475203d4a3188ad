//! Registers servers in a registry over HTTP, and finds them there.
//!
//! [`HttpRegistrar`] and [`HttpDiscovery`] take the URL of the registry: its origin,
//! `http://registry:7100`, or the whole path of its simple interface,
//! `http://registry:7100/registry`. Either way they use the full interface if the registry has it, otherwise the simple
//! one.
//!
//! ```
//! use farcall_discovery::Discovery;
//! use farcall_registry::client::HttpDiscovery;
//!
//! let discovery = HttpDiscovery::new("http://127.0.0.1:7100/registry", "Arith")?;
//! assert_eq!(discovery.describe(), "Arith at http://127.0.0.1:7100/registry");
//! # Ok::<(), farcall_registry::client::SettingsError>(())
//! ```
//!
//! Responses are not trusted: their size and time are limited, only a well-formed list replaces the last one,
//! redirects are not followed, and errors name the URL.

mod admin;
mod decode;
mod dialed_http;
mod discovery;
#[cfg(feature = "server")]
pub(crate) mod fuzzing;
mod http;
mod http_client;
mod list_state;
mod options;
mod polling;
mod registrar;
mod request_error;
mod response;
mod service_view;
mod settings;
mod source;
mod sse;
mod task;
mod token;
mod urls;
mod watching;

pub use self::admin::{AdminError, RegistryAdmin};
pub use self::discovery::HttpDiscovery;
pub use self::registrar::{HttpLease, HttpRegistrar};
pub use self::settings::{SettingsError, UrlError};
