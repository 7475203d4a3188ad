//! HTTP for a farcall server: connections where only HTTP passes, and pages about the server.
//!
//! | path | answers |
//! | --- | --- |
//! | `/_farcall_` | connections for calls: `GET` with `Upgrade: farcall` (`http@`), `CONNECT` (`connect@`), WebSocket (`ws@`) |
//! | `/healthz` | 200: the process is running |
//! | `/readyz` | 200 while the server accepts calls, 503 once it is stopping or a [check](HttpOptions::ready_check) fails |
//! | `/metrics` | metrics for Prometheus: of the server, of channels, and [others](HttpOptions::metrics_text) |
//! | `/rpc` | calls by plain HTTP, with JSON bodies, if enabled by `HttpOptions::gateway` |
//! | `/debug/farcall` | a page about the server's activity, for this machine only: [`HttpOptions::debug_page`] |
//!
//! A connection that was opened here is like any other: the server's limits apply to it, and the
//! server drains it.
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

#![cfg_attr(docsrs, feature(doc_cfg))]

mod debug;
#[cfg(feature = "gateway")]
mod gateway;
mod hooks;
mod metrics;
mod options;
mod peer;
mod progress;
mod protocol_sniff;
mod readiness;
mod router;
mod serve;
mod state;
mod text_response;
mod upgrade;

pub use self::debug::DebugPage;
#[cfg(feature = "gateway")]
pub use self::gateway::Gateway;
pub use self::options::HttpOptions;
pub use self::progress::ProgressRow;
#[cfg(feature = "client")]
pub use self::router::client_router;
pub use self::router::router;
pub use self::serve::{ServeOptions, serve, serve_with};
