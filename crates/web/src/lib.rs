//! Parts that farcall's HTTP servers share: the debug page's server (`farcall-http`) and the registry.
//!
//! | part | provides |
//! | --- | --- |
//! | [`Page`] | one HTML document with its own style and scripts, and the policy that confines it |
//! | [`OriginCheck`] | refuses requests that a foreign web page made a browser send |
//! | [`WriteTimeout`] | ends a connection whose peer takes nothing, and bounds how many may |
//! | `Connections` | an accept loop with a limit on connections, a share for each peer, graceful shutdown and abort |
//! | `ByteShares` | memory that the requests of all peers share, of which each peer has a part |
//! | `BodyBuffer` | a body as it comes, which counts in them |
//! | `Discards` | the rest of refused bodies, few of them at a time |
//! | `serve_http1` | one HTTP/1.1 connection that ends after its current request at shutdown |
//!
//! Routes, authentication and TLS are the servers' own.
//!
//! ```
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # #[cfg(feature = "serve")] {
//! use std::convert::Infallible;
//! use std::time::Duration;
//!
//! use axum::response::{IntoResponse, Response};
//! use farcall_web::{Connections, serve_http1};
//! use tokio::net::TcpListener;
//!
//! let listener = TcpListener::bind("127.0.0.1:0").await?;
//! let connections = Connections::new(1024);
//! let shutdown = connections.shutdown_token().clone();
//! let accept = connections.accept(&listener, |stream, _peer, activity| {
//!     let shutdown = shutdown.clone();
//!     async move {
//!         let hello = |_request| async { Ok::<Response, Infallible>("hello".into_response()) };
//!         let header_timeout = Some(Duration::from_secs(10));
//!         // The peer learns of an error by the closed connection.
//!         let _ = serve_http1(stream, hello, header_timeout, &shutdown, activity).await;
//!     }
//! });
//! # let signal = async {};
//! tokio::select! {
//!     () = accept => {}
//!     () = signal => {} // a real one waits for ctrl-c
//! }
//! connections.shut_down(Some(Duration::from_secs(3))).await;
//! # }
//! # Ok(())
//! # }
//! ```

#![cfg_attr(docsrs, feature(doc_cfg))]

#[cfg(feature = "serve")]
mod accept;
mod authority;
#[cfg(feature = "serve")]
mod body_buffer;
#[cfg(feature = "serve")]
mod busy_body;
#[cfg(feature = "serve")]
mod byte_shares;
#[cfg(feature = "serve")]
mod connection_table;
#[cfg(feature = "serve")]
mod discards;
mod hang_up;
#[cfg(feature = "serve")]
mod head_refusal;
#[cfg(feature = "serve")]
mod http1;
#[cfg(feature = "serve")]
mod http_stream;
mod origin;
mod page;
#[cfg(feature = "serve")]
mod turned_body;
#[cfg(feature = "serve")]
mod turns;
mod write_timeout;

#[cfg(feature = "serve")]
pub use self::accept::{AbortGuard, Accept, Connections};
pub use self::authority::{Authority, Origin};
#[cfg(feature = "serve")]
pub use self::body_buffer::BodyBuffer;
#[cfg(feature = "serve")]
pub use self::byte_shares::{ByteShares, HeldBytes};
#[cfg(feature = "serve")]
pub use self::connection_table::{BusyGuard, ConnectionActivity};
#[cfg(feature = "serve")]
pub use self::discards::Discards;
#[cfg(feature = "serve")]
pub use self::http_stream::HttpStream;
#[cfg(feature = "serve")]
pub use self::http1::serve_http1;
pub use self::origin::{OriginCheck, OriginError};
pub use self::page::{Page, PageBuilder};
pub use self::write_timeout::{StalledPeers, WriteTimeout};
