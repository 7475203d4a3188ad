//! The farcall client: connections, channels, and the calls made over them.
//!
//! A [`Channel`] dials when it is first used and again when its connection broke. A [`Call`] is a
//! builder that is awaited; [`Call::start`] sends it now and lets it be awaited later.
//! Every error says whether the work may have happened ([`RpcError::execution`]).
//!
//! ```no_run
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! use std::time::Duration;
//! use farcall_client::Channel;
//!
//! let channel = Channel::to("tcp@127.0.0.1:7001")?;
//! let product: i64 = channel
//!     .call("Arith.multiply", &serde_json::json!({"a": 6, "b": 7}))
//!     .timeout(Duration::from_millis(200))
//!     .await?;
//! assert_eq!(product, 42);
//! # Ok(())
//! # }
//! ```

#![cfg_attr(docsrs, feature(doc_cfg))]

mod call;
mod channel;
mod connection;
mod deadline;
mod endpoints;
mod error;
mod totals;

pub use self::call::attempt_report::{AttemptReason, AttemptReport};
pub use self::call::broadcast::{Broadcast, BroadcastError, EndpointFailure, EndpointReply};
pub use self::call::interceptor::{Intercepted, Interceptor, Next, interceptor};
pub use self::call::layer::CallService;
pub use self::call::request::Request;
pub use self::call::response_future::ResponseFuture;
pub use self::call::retry_budget::RetryBudget;
pub use self::call::retry_policy::RetryPolicy;
pub use self::call::stream::exchange::Exchange;
pub use self::call::stream::receiving::ItemStream;
pub use self::call::stream::registry::{StreamMetrics, StreamOverview};
pub use self::call::stream::sending::ItemSink;
pub use self::call::stream::{Exchanges, Receives, Sends, StreamCall};
pub use self::call::{Call, CallFuture, StartedCall};
pub use self::channel::Channel;
pub use self::channel::builder::ChannelBuilder;
pub use self::channel::metrics::{ChannelMetrics, LatencyHistogram};
pub use self::channel::overview::{ChannelOverview, EndpointOverview, EndpointState, ReportedLoadOverview};
pub use self::connection::Connection;
pub use self::connection::closing::Closing;
pub use self::connection::open_report::{OpenPhase, OpenReport};
pub use self::connection::options::ConnectionOptions;
pub use self::connection::response::Response;
pub use self::endpoints::outlier_detection::OutlierDetection;
pub use self::endpoints::status::{EndpointStatus, Health};
pub use self::error::{BuildError, CallError, Phase, RpcError};
