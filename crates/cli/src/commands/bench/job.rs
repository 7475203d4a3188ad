//! [`Job`]: one call of a run, a plain or a streaming one.

use std::sync::Arc;
use std::time::{Duration, Instant};

use farcall::client::{ItemSink, ItemStream, Request, StreamCall};
use farcall::protocol::describe::StreamInfo;
use farcall::{Channel, RpcError};
use serde::de::IgnoredAny;
use serde::{Serialize, Serializer};
use tokio_util::sync::CancellationToken;
use tower_service::Service;

use crate::targets::settings::Settings;
use crate::value::Value;

/// The time limit of each call, or of the first item, without `--timeout`.
pub(super) const DEFAULT_TIMEOUT: Duration = Duration::from_secs(10);

/// The calls of a run, all alike.
pub(super) trait Job: Clone + Send + Sync + 'static {
    /// Makes one call. A call that lasts is cut off when `end` is cancelled.
    fn run(&mut self, end: &CancellationToken) -> impl Future<Output = Done> + Send;

    /// Returns the traffic of streams so far; `None` if the calls have no items.
    fn traffic(&self) -> Option<Traffic>;
}

/// The outcome of a call.
#[derive(Debug, Default)]
pub(super) struct Done {
    pub(super) error: Option<RpcError>,
    /// When the first item came.
    pub(super) first: Option<Instant>,
    /// `true` if the call was cut off by the end of the run.
    pub(super) is_cut: bool,
}

/// The items of streaming calls, in both directions.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Traffic {
    pub(super) items: u64,
    pub(super) bytes: u64,
}

/// A plain call.
#[derive(Clone, Debug)]
pub(super) struct PlainCall {
    pub(super) channel: Channel,
    pub(super) request: Request,
}

impl Job for PlainCall {
    async fn run(&mut self, _end: &CancellationToken) -> Done {
        let outcome = Service::call(&mut self.channel, self.request.clone()).await;
        Done { error: outcome.err(), ..Done::default() }
    }

    fn traffic(&self) -> Option<Traffic> {
        None
    }
}

/// A streaming call.
#[derive(Clone, Debug)]
pub(super) struct StreamingCall {
    channel: Channel,
    method: Arc<str>,
    arguments: Arc<Value>,
    metadata: Arc<Vec<(String, String)>>,
    first_within: Duration,
    takes: bool,
    /// The items that are sent, one after the other, and again from the first.
    items: Arc<Vec<Item>>,
    /// The number of items to send.
    to_send: u64,
    /// The number of items to take; `None` takes all.
    to_take: Option<u64>,
}

/// An item to send, shared by all calls.
#[derive(Clone, Debug)]
struct Item(Arc<Value>);

impl Serialize for Item {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.0.serialize(serializer)
    }
}

impl StreamingCall {
    /// Creates a call that sends `items`, and as many as `limit` says if it does, and takes at most as many.
    pub(super) fn new(
        channel: &Channel,
        settings: &Settings,
        method: &str,
        streams: &StreamInfo,
        arguments: Value,
        items: Vec<Value>,
        limit: Option<u64>,
    ) -> Self {
        let to_send = if items.is_empty() { 0 } else { limit.unwrap_or(items.len() as u64) };
        Self {
            channel: channel.clone(),
            method: method.into(),
            arguments: Arc::new(arguments),
            metadata: Arc::new(settings.metadata.clone()),
            first_within: settings.timeout.unwrap_or(DEFAULT_TIMEOUT),
            takes: streams.takes,
            items: Arc::new(items.into_iter().map(|item| Item(Arc::new(item))).collect()),
            to_send,
            to_take: limit.filter(|_| streams.sends),
        }
    }

    /// Returns a call that ends after one item.
    pub(super) fn probe(&self) -> Self {
        Self { to_send: self.to_send.min(1), to_take: Some(1), ..self.clone() }
    }

    async fn exchange(&self, done: &mut Done, end: &CancellationToken) -> Result<(), RpcError> {
        let mut call = self.channel.call::<IgnoredAny>(self.method.to_string(), &*self.arguments);
        for (key, value) in &*self.metadata {
            call = call.metadata(key, value);
        }
        if !self.takes {
            let items = self.limited(call.receive::<IgnoredAny>()).await?;
            return self.take(items, done, end).await;
        }
        let (sink, items) = self.limited(call.exchange::<Item, IgnoredAny>()).await?.split();
        tokio::select! {
            // The call is over when its items are. What is not sent yet is not wanted any more.
            biased;
            taken = self.take(items, done, end) => taken,
            Err(error) = self.send(sink, end) => Err(error),
        }
    }

    fn limited<K>(&self, call: StreamCall<K, IgnoredAny>) -> StreamCall<K, IgnoredAny> {
        call.first_within(self.first_within)
    }

    async fn send(
        &self,
        mut sink: ItemSink<Item, IgnoredAny>,
        end: &CancellationToken,
    ) -> Result<(), RpcError> {
        let sending = async {
            for item in self.items.iter().cycle().take(usize::try_from(self.to_send).unwrap_or(usize::MAX)) {
                if !sink.send(item.clone()).await? {
                    break;
                }
            }
            Ok(())
        };
        let outcome = tokio::select! {
            // An item that was not sent is not wanted any more.
            outcome = sending => outcome,
            () = end.cancelled() => Ok(()),
        };
        sink.end();
        outcome
    }

    /// Takes the items, until there are enough or the run ends.
    async fn take(
        &self,
        mut items: ItemStream<IgnoredAny, IgnoredAny>,
        done: &mut Done,
        end: &CancellationToken,
    ) -> Result<(), RpcError> {
        let mut taken = 0;
        let ended = end.cancelled();
        tokio::pin!(ended);
        loop {
            let next = tokio::select! {
                biased;
                next = items.next() => next,
                // Dropping the items cancels the call.
                () = &mut ended => {
                    done.is_cut = true;
                    return Ok(());
                }
            };
            match next {
                Some(item) => _ = item?,
                None => break,
            }
            if taken == 0 {
                done.first = Some(Instant::now());
            }
            taken += 1;
            if self.to_take == Some(taken) {
                // There are enough: dropping the items cancels the call, whose method need not notice that it should stop.
                return Ok(());
            }
        }
        items.finish().await?;
        Ok(())
    }
}

impl Job for StreamingCall {
    async fn run(&mut self, end: &CancellationToken) -> Done {
        let mut done = Done::default();
        let outcome = self.exchange(&mut done, end).await;
        // What was cut off has no outcome.
        done.error = outcome.err().filter(|_| !done.is_cut);
        done
    }

    fn traffic(&self) -> Option<Traffic> {
        let streams = self.channel.metrics().streams;
        Some(Traffic {
            items: streams.items_sent + streams.items_received,
            bytes: streams.bytes_sent + streams.bytes_received,
        })
    }
}
