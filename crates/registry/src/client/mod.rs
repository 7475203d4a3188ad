//! Registering servers in a registry over HTTP, and finding them there.
//!
//! [`HttpRegistrar`] and [`HttpDiscovery`] take the URL of the registry: its origin,
//! `http://registry:7100`, or the whole path of its simple interface,
//! `http://registry:7100/registry`. Either way they speak the full interface where the registry has
//! it, and the simple one where it has nothing else.
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
//! What a registry answers is taken for what it is: text from a network. Answers are bounded in size
//! and time, only a well-formed list replaces the last one, redirects are not followed, and what is
//! wrong is said in a sentence that names the URL.

mod backoff;
mod discovery;
mod failure;
mod http;
mod http_client;
mod known;
mod lists;
mod polling;
mod registrar;
mod settings;
mod sse;
mod token;
mod urls;
mod watching;

pub use self::discovery::HttpDiscovery;
pub use self::registrar::{HttpLease, HttpRegistrar};
pub use self::settings::SettingsError;
