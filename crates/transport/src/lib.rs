//! Addresses, dialing and listening for farcall.
//!
//! An [`Address`] locates a server, a [`Dialer`] opens a [`Stream`] to it, and a
//! [`Listener`] takes the streams that others open. What is sent over a stream is left to the
//! crates above.
//!
//! ```
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! use farcall_transport::{Address, Dialer, Listener};
//! use tokio::io::{AsyncReadExt, AsyncWriteExt};
//!
//! let listener = Listener::bind(&Address::parse("127.0.0.1:0")?).await?;
//! let mut near = Dialer::default().dial(listener.address()).await?;
//! let (mut far, peer) = listener.accept().await?;
//! println!("{peer} is here");
//!
//! near.write_all(b"hello").await?;
//! let mut received = [0; 5];
//! far.read_exact(&mut received).await?;
//! assert_eq!(&received, b"hello");
//! # Ok(())
//! # }
//! ```
//!
//! Built in are the schemes `tcp` and `unix`, and with the feature `tls`, which is on by default,
//! `tls`. With the feature `http`, `http`, `connect` and `https` can be dialed, and all of them through
//! forward proxies; with the feature `ws`, `ws` and `wss`. The other [`Scheme`]s parse, and dialing or listening at them
//! fails with an error that names it. The crate is for Unix-like systems, and for `wasm32-unknown-unknown` in a browser: there
//! it dials `ws` and `wss` by the browser's own WebSockets, without the features `http`, `tls` and `ws`, and does not listen.

#![cfg_attr(docsrs, feature(doc_cfg))]

#[cfg(all(target_family = "wasm", any(feature = "http", feature = "tls", feature = "ws")))]
compile_error!(
    "in a browser, `ws@` and `wss@` addresses are dialed by the browser itself: build farcall-transport without the features \
     `http`, `tls` and `ws` (`farcall = { default-features = false, features = [\"client\", \"macros\", \"msgpack\"] }`)"
);

#[cfg(not(target_family = "wasm"))]
mod accept_error;
mod address;
mod address_error;
#[cfg(target_family = "wasm")]
mod browser_socket;
mod buffer_pool;
mod certificate;
mod dial;
/// Parsers of private modules, for the project's fuzz targets; they change without notice.
#[cfg(feature = "http")]
#[doc(hidden)]
pub mod fuzzing;
mod hang_up;
mod host;
#[cfg(feature = "http")]
mod http_upgrade;
mod human;
#[cfg(not(target_family = "wasm"))]
mod listen;
pub mod log;
mod peer;
#[cfg(feature = "http")]
mod prefixed;
#[cfg(feature = "http")]
mod proxy;
#[cfg(feature = "http")]
mod proxy_environment;
#[cfg(not(target_family = "wasm"))]
mod resolve;
mod scheme;
#[cfg(not(target_family = "wasm"))]
mod send_buffer;
#[cfg(not(target_family = "wasm"))]
mod socket_file;
mod stream;
mod timer;
#[cfg(feature = "tls")]
mod tls;
#[cfg(not(target_family = "wasm"))]
mod turn_queue;
#[cfg(not(target_family = "wasm"))]
mod unsent;
#[cfg(feature = "ws")]
mod websocket;

#[cfg(not(target_family = "wasm"))]
pub use accept_error::{is_exhaustion, is_transient};
pub use address::Address;
pub use address_error::{AddressError, HostErrorKind};
pub use buffer_pool::BufferPool;
pub use certificate::{PeerCertificate, SubjectName, TlsInfo};
pub use dial::{
    Attempt, Attempts, Connect, Connecting, DialError, DialErrorKind, DialPhase, DialProgress, Dialer,
};
pub use farcall_protocol::text::Excerpt;
pub use farcall_tls::FileError;
pub use hang_up::has_peer_closed;
#[cfg(feature = "http")]
pub use http_upgrade::HttpUpgradeError;
pub use human::HumanDuration;
#[cfg(not(target_family = "wasm"))]
pub use listen::{ListenError, Listener};
pub use peer::{PeerAddress, PeerKey};
#[cfg(feature = "http")]
pub use proxy::{Proxy, ProxyError};
#[cfg(not(target_family = "wasm"))]
pub use resolve::{Resolve, Resolving, SystemResolver};
pub use scheme::Scheme;
#[cfg(not(target_family = "wasm"))]
pub use send_buffer::SendBuffer;
pub use stream::Stream;
pub use timer::Timer;
#[cfg(feature = "tls")]
pub use tls::{
    Alpn, PemError, TlsCause, TlsClient, TlsClientBuilder, TlsError, TlsErrorKind, TlsServer,
    TlsServerBuilder,
};
#[cfg(not(target_family = "wasm"))]
pub use turn_queue::{TurnPlace, TurnQueue};
#[cfg(feature = "ws")]
pub use websocket::{serve_websocket, websocket_accept};
