//! [`Snapshot`]: the data of the page, collected at most twice a second however many clients poll.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use axum::body::Bytes;
use farcall_server::{Overview, ServerHandle};
use serde::Serialize;
use serde_json::Value;
use tokio::sync::Mutex;
use tokio::time::Instant;
use tracing::error;

#[cfg(feature = "client")]
use farcall_client::{Channel, ChannelOverview, EndpointState};

use crate::hooks::ProgressRows;
use crate::options::HttpOptions;
use crate::progress::ProgressRow;

/// The time for which a collected snapshot is reused, so that many readers cost what one does.
const MAX_AGE: Duration = Duration::from_millis(500);
/// Methods with a history in a full snapshot, those with the most calls: some 1 MB of JSON.
const MAX_HISTORIES: usize = 200;
/// The rows in a snapshot of each list of the program.
const MAX_PROGRESS_ROWS: usize = 200;

/// The amount of data in a snapshot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Detail {
    /// Everything.
    Full,
    /// Without service descriptions and method histories, which change rarely and are most of the data.
    Brief,
}

/// The sources of the data, and the snapshots that were collected last.
pub(super) struct Snapshot {
    handle: Option<ServerHandle>,
    /// `true` if the methods can be called by plain HTTP.
    has_gateway: bool,
    progress: Vec<ProgressRows>,
    #[cfg(feature = "client")]
    channels: Vec<(String, Channel)>,
    // One snapshot each, bounded by what an overview lists.
    full: Mutex<Option<CachedSnapshot>>,
    brief: Mutex<Option<CachedSnapshot>>,
}

/// A snapshot as JSON, and the time when it was collected.
struct CachedSnapshot {
    collected_at: Instant,
    json: Bytes,
}

/// The JSON of a snapshot.
#[derive(Serialize)]
struct SnapshotBody {
    server: Option<Overview>,
    #[serde(flatten)]
    examples: Examples,
    channels: Vec<NamedChannel>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    progress: Vec<ProgressList>,
}

/// A list of the program in the JSON of a snapshot.
#[derive(Serialize)]
struct ProgressList {
    title: String,
    /// The number of rows, of which `rows` may have fewer.
    row_count: usize,
    rows: Vec<ProgressRow>,
}

/// Examples of values for each method, by its full name.
#[derive(Default, Serialize)]
struct Examples {
    /// The arguments.
    #[serde(rename = "examples", skip_serializing_if = "BTreeMap::is_empty")]
    arguments: BTreeMap<String, Value>,
    /// An item, for methods that take items.
    #[serde(rename = "item_examples", skip_serializing_if = "BTreeMap::is_empty")]
    items: BTreeMap<String, Value>,
    /// `true` if they can be called by plain HTTP.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    gateway: bool,
}

/// A channel in the JSON of a snapshot.
#[derive(Serialize)]
struct NamedChannel {
    name: String,
    /// The number of endpoints, of which `overview` may list fewer.
    #[cfg(feature = "client")]
    endpoint_count: usize,
    #[cfg(feature = "client")]
    #[serde(flatten)]
    overview: ChannelOverview,
}

impl Snapshot {
    pub(super) fn new(handle: Option<ServerHandle>, options: &HttpOptions) -> Self {
        Self {
            handle,
            has_gateway: options.has_gateway(),
            progress: options.progress.clone(),
            #[cfg(feature = "client")]
            channels: options.channels.clone(),
            full: Mutex::default(),
            brief: Mutex::default(),
        }
    }

    /// Returns the snapshot as JSON, at most [`MAX_AGE`] old.
    pub(super) async fn json(&self, detail: Detail) -> Bytes {
        let cached = match detail {
            Detail::Full => &self.full,
            Detail::Brief => &self.brief,
        };
        // Locked while collecting: concurrent requests get the same snapshot.
        let mut cached = cached.lock().await;
        if let Some(snapshot) = &*cached
            && snapshot.collected_at.elapsed() < MAX_AGE
        {
            return snapshot.json.clone();
        }
        let mut body = self.collect(detail);
        if detail == Detail::Full {
            body.examples = self.examples().await;
        }
        let json = Bytes::from(serde_json::to_vec(&body).expect("all keys of its maps are text"));
        *cached = Some(CachedSnapshot { collected_at: Instant::now(), json: json.clone() });
        json
    }

    fn collect(&self, detail: Detail) -> SnapshotBody {
        let mut server = self.handle.as_ref().map(ServerHandle::overview);
        if let Some(overview) = &mut server {
            match detail {
                Detail::Full => limit_histories(overview),
                Detail::Brief => make_brief(overview),
            }
        }
        let progress = self.progress.iter().map(ProgressList::new).collect();
        SnapshotBody { server, examples: Examples::default(), channels: self.channels(), progress }
    }

    /// Returns examples for each method; none without a server.
    async fn examples(&self) -> Examples {
        let mut examples = Examples::default();
        let Some(handle) = &self.handle else { return examples };
        let Ok(schema) = handle.schema().await else { return examples };
        examples.gateway = self.has_gateway;
        for (name, method) in schema.methods() {
            if let Some(item) = &method.items_in {
                examples.items.insert(name.clone(), schema.example(item));
            }
            examples.arguments.insert(name, schema.example_arguments(method));
        }
        examples
    }

    #[cfg(feature = "client")]
    fn channels(&self) -> Vec<NamedChannel> {
        self.channels.iter().map(|(name, channel)| NamedChannel::new(name, channel)).collect()
    }

    #[cfg(not(feature = "client"))]
    #[expect(clippy::unused_self, reason = "used with the feature `client`")]
    fn channels(&self) -> Vec<NamedChannel> {
        Vec::new()
    }
}

impl ProgressList {
    /// Asks the program. If its code panics, the list is empty.
    fn new(source: &ProgressRows) -> Self {
        let mut rows = catch_unwind(AssertUnwindSafe(|| (source.rows)())).unwrap_or_else(|_| {
            error!(
                title = source.title,
                "a function of `HttpOptions::progress` has panicked: its list is empty"
            );
            Vec::new()
        });
        let row_count = rows.len();
        rows.truncate(MAX_PROGRESS_ROWS);
        Self { title: source.title.clone(), row_count, rows }
    }
}

/// Removes what changes rarely.
fn make_brief(overview: &mut Overview) {
    overview.services = Vec::new();
    for method in &mut overview.methods {
        method.history = Vec::new();
    }
}

/// Keeps the histories of the methods with the most calls.
fn limit_histories(overview: &mut Overview) {
    let methods = &mut overview.methods;
    if methods.len() <= MAX_HISTORIES {
        return;
    }
    let mut by_calls: Vec<_> = methods.iter_mut().collect();
    by_calls.sort_by_key(|method| std::cmp::Reverse(method.total.calls));
    for method in by_calls.split_off(MAX_HISTORIES) {
        method.history = Vec::new();
    }
}

#[cfg(feature = "client")]
impl NamedChannel {
    /// Endpoints of a channel in a snapshot.
    const MAX_ENDPOINTS: usize = 200;

    fn new(name: &str, channel: &Channel) -> Self {
        let mut overview = channel.overview();
        let endpoint_count = overview.endpoints.len();
        // If not all fit, the unhealthy ones are kept: they are what a reader looks for.
        overview.endpoints.sort_by_key(|endpoint| match endpoint.state {
            EndpointState::Outside => 2,
            EndpointState::Healthy => 1,
            _ => 0,
        });
        overview.endpoints.truncate(Self::MAX_ENDPOINTS);
        Self { name: name.to_owned(), endpoint_count, overview }
    }
}

#[cfg(test)]
mod tests {
    use farcall_server::{Server, Service};

    use super::*;

    fn snapshot(methods: usize) -> Snapshot {
        let service = (0..methods).fold(Service::new("Many"), |service, n| {
            service.method(format!("method{n}"), |_: Value| async {})
        });
        let server = Server::builder().service(service).build().unwrap();
        Snapshot::new(Some(server.handle()), &HttpOptions::default())
    }

    #[tokio::test(start_paused = true)]
    async fn snapshot_is_collected_at_most_twice_a_second() {
        let snapshot = snapshot(1);
        let first = snapshot.json(Detail::Full).await;
        tokio::time::advance(MAX_AGE - Duration::from_millis(1)).await;
        assert_eq!(snapshot.json(Detail::Full).await, first);
        assert_ne!(snapshot.json(Detail::Brief).await, first);
        tokio::time::advance(Duration::from_millis(1)).await;
        assert_ne!(snapshot.json(Detail::Full).await, first);
    }

    #[test]
    fn histories_of_the_most_called_methods_are_kept() {
        let handle = snapshot(MAX_HISTORIES + 10).handle.unwrap();
        let mut overview = handle.overview();
        for (index, method) in overview.methods.iter_mut().enumerate() {
            method.history = vec![farcall_server::HistoryBucket::default()];
            method.total.calls = index as u64;
        }
        limit_histories(&mut overview);
        let kept = overview.methods.iter().map(|method| (method.total.calls, method.history.len()));
        assert!(kept.into_iter().all(|(calls, buckets)| buckets == usize::from(calls >= 10)));
    }
}
