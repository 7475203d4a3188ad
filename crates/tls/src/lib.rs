//! Files that are read again when they change, and TLS configurations made of them.
//!
//! [`Reloaded`] keeps a value that is made of files: certificates, tokens. With the feature `rustls`,
//! on by default, [`Pem`] and [`Identity`] read certificates and keys, [`add_roots`] and
//! [`add_system_roots`] collect trusted authorities, and [`client_config`] and [`server_config`] make
//! configurations of them. What is spoken inside of TLS, and over which sockets, is left to the
//! crates above.
//!
//! ```
//! use std::path::PathBuf;
//! use std::time::Duration;
//!
//! use farcall_tls::{FileError, Reloaded};
//!
//! # let folder = tempfile::tempdir()?;
//! # let path = folder.path().join("limit");
//! std::fs::write(&path, "250\n")?;
//! let limit: Reloaded<u32> = Reloaded::load("limits", [path], Duration::from_secs(2), |files| {
//!     let text = String::from_utf8_lossy(&files[0].bytes);
//!     text.trim().parse().map_err(|_| FileError::new(&files[0].path, "has no number in it"))
//! })?;
//! assert_eq!(*limit.get(), 250);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

#![cfg_attr(docsrs, feature(doc_cfg))]

#[cfg(feature = "rustls")]
mod config;
#[cfg(feature = "rustls")]
mod error;
mod file;
#[cfg(feature = "rustls")]
mod pem;
mod reload;
mod reload_state;
#[cfg(feature = "rustls")]
mod roots;
mod wording;

#[cfg(feature = "rustls")]
pub use self::config::{ClientAuth, client_config, provider, server_config};
#[cfg(feature = "rustls")]
pub use self::error::{PemError, TlsError};
pub use self::file::{FileContent, FileError, read_file};
#[cfg(feature = "rustls")]
pub use self::pem::{ChainAndKey, Identity, Pem};
pub use self::reload::Reloaded;
pub use self::reload_state::{ReloadOutcome, ReloadState};
#[cfg(feature = "rustls")]
pub use self::roots::{add_roots, add_system_roots};
pub use self::wording::in_words;
