//! [`Figures`]: what the page reads, put together at most twice a second however many look.

use std::time::Duration;

use axum::body::Bytes;
use farcall_server::{Overview, ServerHandle};
use serde::Serialize;
use tokio::sync::Mutex;
use tokio::time::Instant;

#[cfg(feature = "client")]
use farcall_client::{Channel, ChannelOverview, EndpointState};

use crate::options::HttpOptions;

/// For so long an answer is given again, so that many readers cost what one does.
const KEPT_FOR: Duration = Duration::from_millis(500);
/// The most methods whose history is told, the ones with the most calls: some 1 MB of JSON.
const MOST_HISTORIES: usize = 200;

/// How much is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Detail {
    /// Everything.
    Full,
    /// Without descriptions of services and the history of methods: what changes seldom, and is most of it.
    Brief,
}

/// What there is to be told of, and what was told last.
pub(super) struct Figures {
    handle: Option<ServerHandle>,
    #[cfg(feature = "client")]
    channels: Vec<(String, Channel)>,
    // One answer each, whose size is bounded by what an overview lists.
    full: Mutex<Option<Told>>,
    brief: Mutex<Option<Told>>,
}

/// An answer, and when it was true.
struct Told {
    at: Instant,
    json: Bytes,
}

/// What is answered.
#[derive(Serialize)]
struct Answer {
    server: Option<Overview>,
    channels: Vec<NamedChannel>,
}

/// A channel, as an answer has it.
#[derive(Serialize)]
struct NamedChannel {
    name: String,
    /// How many endpoints there are, more than are listed perhaps.
    #[cfg(feature = "client")]
    endpoint_count: usize,
    #[cfg(feature = "client")]
    #[serde(flatten)]
    overview: ChannelOverview,
}

impl Figures {
    pub(super) fn new(handle: Option<ServerHandle>, settings: &HttpOptions) -> Self {
        #[cfg(not(feature = "client"))]
        let _ = settings;
        Self {
            handle,
            #[cfg(feature = "client")]
            channels: settings.channels.clone(),
            full: Mutex::default(),
            brief: Mutex::default(),
        }
    }

    /// The figures as JSON, at most [`KEPT_FOR`] old.
    pub(super) async fn json(&self, extent: Detail) -> Bytes {
        let told = match extent {
            Detail::Full => &self.full,
            Detail::Brief => &self.brief,
        };
        // Held while it is put together: whoever asks meanwhile gets the same.
        let mut told = told.lock().await;
        if let Some(told) = &*told
            && told.at.elapsed() < KEPT_FOR
        {
            return told.json.clone();
        }
        let json = Bytes::from(serde_json::to_vec(&self.answer(extent)).expect("it has no maps but of text"));
        *told = Some(Told { at: Instant::now(), json: json.clone() });
        json
    }

    fn answer(&self, extent: Detail) -> Answer {
        let mut server = self.handle.as_ref().map(ServerHandle::overview);
        if let Some(overview) = &mut server {
            match extent {
                Detail::Full => bound_histories(overview),
                Detail::Brief => leave_out(overview),
            }
        }
        Answer { server, channels: self.channels() }
    }

    #[cfg(feature = "client")]
    fn channels(&self) -> Vec<NamedChannel> {
        self.channels.iter().map(|(name, channel)| NamedChannel::new(name, channel)).collect()
    }

    #[cfg(not(feature = "client"))]
    #[expect(clippy::unused_self, reason = "with the feature `client` it has channels")]
    fn channels(&self) -> Vec<NamedChannel> {
        Vec::new()
    }
}

/// Takes out what changes seldom.
fn leave_out(overview: &mut Overview) {
    overview.services = Vec::new();
    for method in &mut overview.methods {
        method.history = Vec::new();
    }
}

/// Keeps the histories of the methods that were called most.
fn bound_histories(overview: &mut Overview) {
    let methods = &mut overview.methods;
    if methods.len() <= MOST_HISTORIES {
        return;
    }
    let mut by_calls: Vec<_> = methods.iter_mut().collect();
    by_calls.sort_by_key(|method| std::cmp::Reverse(method.total.calls));
    for method in by_calls.split_off(MOST_HISTORIES) {
        method.history = Vec::new();
    }
}

#[cfg(feature = "client")]
impl NamedChannel {
    /// The most endpoints of a channel that are told.
    const MOST_ENDPOINTS: usize = 200;

    fn new(name: &str, channel: &Channel) -> Self {
        let mut overview = channel.overview();
        let endpoint_count = overview.endpoints.len();
        // Where not all are told, those are that somebody looks for.
        overview.endpoints.sort_by_key(|endpoint| endpoint.state == EndpointState::Healthy);
        overview.endpoints.truncate(Self::MOST_ENDPOINTS);
        Self { name: name.to_owned(), endpoint_count, overview }
    }
}

#[cfg(test)]
mod tests {
    use farcall_server::{Server, Service};
    use serde_json::Value;

    use super::*;

    fn figures(methods: usize) -> Figures {
        let service = (0..methods).fold(Service::new("Many"), |service, n| {
            service.method(format!("method{n}"), |_: Value| async {})
        });
        let server = Server::builder().service(service).build().unwrap();
        Figures::new(Some(server.handle()), &HttpOptions::default())
    }

    #[tokio::test(start_paused = true)]
    async fn however_many_look_it_is_put_together_twice_a_second() {
        let figures = figures(1);
        let first = figures.json(Detail::Full).await;
        tokio::time::advance(KEPT_FOR - Duration::from_millis(1)).await;
        assert_eq!(figures.json(Detail::Full).await, first);
        assert_ne!(figures.json(Detail::Brief).await, first);
        tokio::time::advance(Duration::from_millis(1)).await;
        assert_ne!(figures.json(Detail::Full).await, first);
    }

    #[test]
    fn the_histories_of_the_methods_that_are_called_most_are_told() {
        let handle = figures(MOST_HISTORIES + 10).handle.unwrap();
        let mut overview = handle.overview();
        for (index, method) in overview.methods.iter_mut().enumerate() {
            method.history = vec![farcall_server::HistoryBucket::default()];
            method.total.calls = index as u64;
        }
        bound_histories(&mut overview);
        let told = overview.methods.iter().map(|method| (method.total.calls, method.history.len()));
        assert!(told.into_iter().all(|(calls, steps)| steps == usize::from(calls >= 10)));
    }
}
