//! HTTP beside a farcall server: a way in where only HTTP passes, and pages about it.
//!
//! | path | answers |
//! | --- | --- |
//! | `/_farcall_` | connections for calls: `GET` with `Upgrade: farcall` (`http@`), `CONNECT` (`connect@`), WebSocket (`ws@`) |
//! | `/healthz` | 200: the process is there |
//! | `/readyz` | 200 while the server takes calls, 503 from when it begins to stop |
//! | `/metrics` | figures for Prometheus |
//! | `/rpc` | calls by plain HTTP, with JSON bodies, where `HttpOptions::gateway` turns them on |
//! | `/debug/farcall` | a page that shows what the server is doing, to this machine: [`HttpOptions::debug_page`] |
//!
//! A connection that was opened here is a connection like any other: the server's limits hold for
//! it, and the server drains it.
//!
//! ```
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! use farcall_http::HttpOptions;
//! use farcall_server::Server;
//! use farcall_transport::{Address, Listener};
//!
//! let server = Server::builder().listen("tcp@127.0.0.1:0").bind().await?;
//! let handle = server.handle();
//! let router = farcall_http::router(handle.clone(), HttpOptions::default());
//! let listener = Listener::bind(&Address::parse("127.0.0.1:0")?).await?;
//! println!("http://{}/metrics", listener.address().socket_addr().expect("it has one"));
//!
//! let http = farcall_http::serve(listener, router, async { handle.ended().await });
//! # handle.stop();
//! let signal = std::future::pending::<()>(); // a real one would wait for ctrl-c
//! tokio::join!(server.serve_until(signal), http);
//! # Ok(())
//! # }
//! ```

mod answer;
mod debug;
mod gate;
#[cfg(feature = "gateway")]
mod gateway;
mod metrics;
mod one_port;
mod opening;
mod options;
mod router;
mod serve;
mod write_limit;

pub use self::debug::DebugPage;
#[cfg(feature = "gateway")]
pub use self::gateway::Gateway;
pub use self::options::HttpOptions;
#[cfg(feature = "client")]
pub use self::router::client_router;
pub use self::router::router;
pub use self::serve::{ServeOptions, serve, serve_with};

/// The code in the document is run with the tests.
#[cfg(doctest)]
#[doc = include_str!("../../../docs/HTTP.md")]
struct Document;

/// As above; a part of it is about channels.
#[cfg(all(doctest, feature = "client"))]
#[doc = include_str!("../../../docs/OBSERVING.md")]
struct Observing;
