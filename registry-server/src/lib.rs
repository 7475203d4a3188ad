//! The farcall registry as a program, and as a server to embed in another program.
//!
//! [`run`] is the whole program: command line, logs, signals, exit code. [`Server`] serves `farcall-registry`'s HTTP
//! interface on sockets, with TLS, limits of time and of connections, and tokens and certificates that are read again
//! when they change.
//!
//! ```
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! use farcall_registry::server::RegistryOptions;
//! use registry_server::{Config, Server};
//!
//! let server = Server::bind(Config::new(RegistryOptions::default()).listen("127.0.0.1:0")).await?;
//! println!("open {}", server.urls().next().expect("there is one address"));
//! # async fn ctrl_c() {}
//! server.serve(ctrl_c()).await?;
//! # Ok(())
//! # }
//! ```

mod config;
mod connection;
mod error;
mod files;
mod logging;
mod options;
mod reload;
mod run;
mod server;
mod tls;
mod tokens;

pub use self::config::Config;
pub use self::error::{ConfigError, ConfigSyntaxError, ServerError, TokenError};
pub use self::run::run;
pub use self::server::Server;
