//! [`KubernetesDiscovery`]: lists the slices of a service, and follows their changes.
//!
//! It lists, then watches from the list's version on. A watch that ends is followed by another one from the last version
//! that was seen; only a version that the API server has forgotten makes it list again.

use std::collections::BTreeSet;
use std::convert::Infallible;
use std::time::Duration;

use farcall_discovery::source::{self, Outage};
use farcall_discovery::{Backoff, Discovery, Endpoint, Jitter, Publisher, SourceError, other_services};
use farcall_transport::Scheme;
use tokio::time::{Instant, sleep, timeout, timeout_at};
use tracing::debug;

use crate::call_error::CallError;
use crate::client::{Client, SERVICE_LABEL};
use crate::error::{KubernetesOptionsError, NameKind, check_name};
use crate::limits::{LIST_TIME_FACTOR, MAX_SERVICE_BYTES, MAX_SERVICE_NAME, MAX_SLICES};
use crate::options::KubernetesOptions;
use crate::slice_table::{Selection, SliceTable};
use crate::watch::{Watch, WatchEvent};
use crate::wire::Slice;

/// The number of slices in a page; fewer if they make too long an answer.
const PAGE: usize = 50;
/// The number of slices that are read for the note of an empty list.
const NOTED_SLICES: usize = 100;
/// The pauses after failures, and between watches that end soon.
const BACKOFF: Backoff =
    Backoff::new(Duration::from_millis(500), Duration::from_secs(15)).jitter(Jitter::Equal);
/// Changes that come within this time are published together.
const GATHERING: Duration = Duration::from_millis(20);
/// The end of a watch that lasted this long is no sign of trouble.
const LASTING: Duration = Duration::from_secs(10);

/// Finds the endpoints of a service by its EndpointSlices.
///
/// Changes are published within 20 ms after the API server reports them. While it cannot be reached, or answers something that
/// is not an API server's, the last list stays in force,
/// [`EndpointList::failing`](farcall_discovery::EndpointList::failing) has the reason, and it is tried again after
/// 0.5 s, 1 s … 15 s, of which a random half to whole is waited, or when the API server says (`Retry-After`, up to 60 s).
/// At most 100,000 endpoints are used; with more than 10,000 slices, or more than 256 MiB of JSON in them, the list is not taken.
///
/// With the schemes `tls`, `https` and `wss` servers are dialed by their IP addresses. Certificates are seldom issued for those:
/// set the name that they have in the client's TLS settings.
#[derive(Debug)]
#[must_use = "a discovery does nothing until it is run"]
pub struct KubernetesDiscovery {
    client: Client,
    service: String,
    namespace: String,
    /// The URL of the API server, for display.
    api: String,
    watch_for: Duration,
    selection: Selection,
    table: SliceTable,
    /// The version after which changes are to be reported; empty if the slices have to be listed.
    version: String,
}

impl KubernetesDiscovery {
    /// Creates a discovery of a service: `name`, or `name.namespace`. Nothing is sent yet.
    ///
    /// # Errors
    ///
    /// An option or the name of the service is invalid; the error names it, and what is allowed.
    pub fn new(options: &KubernetesOptions, service: &str) -> Result<Self, KubernetesOptionsError> {
        options.check()?;
        let (service, namespace) = service.split_once('.').unwrap_or((service, &options.namespace));
        check_name(NameKind::Service, service)?;
        check_name(NameKind::Namespace, namespace)?;
        Ok(Self {
            client: Client::new(options, namespace),
            service: service.to_owned(),
            namespace: namespace.to_owned(),
            api: options.api.as_str().trim_end_matches('/').to_owned(),
            watch_for: options.watch_for,
            selection: Selection { scheme: Scheme::Tcp, port: None, zone: None },
            table: SliceTable::default(),
            version: String::new(),
        })
    }

    /// Sets the name of the port, as the service has it. Default: its only TCP port. Of a service with several, one has to be named.
    ///
    /// # Errors
    ///
    /// The name is not one that a port can have.
    pub fn port(mut self, name: &str) -> Result<Self, KubernetesOptionsError> {
        check_name(NameKind::Port, name)?;
        self.selection.port = Some(name.to_owned());
        Ok(self)
    }

    /// Sets the scheme by which servers are dialed. Default: plain TCP.
    ///
    /// # Errors
    ///
    /// The scheme is that of unix sockets.
    pub fn scheme(mut self, scheme: Scheme) -> Result<Self, KubernetesOptionsError> {
        if scheme == Scheme::Unix {
            return Err(KubernetesOptionsError::Scheme(scheme));
        }
        self.selection.scheme = scheme;
        Ok(self)
    }

    /// Sets the client's zone, so that Kubernetes's topology hints count: endpoints that are meant for other zones are called if
    /// no other can be. Default: none, and hints do not count.
    ///
    /// As for kube-proxy, they count only while all endpoints that are ready have hints, and one is for this zone. To prefer
    /// the own zone without hints, use the balancer `ZoneFirst`.
    pub fn zone(mut self, zone: impl Into<String>) -> Self {
        self.selection.zone = Some(zone.into());
        self
    }

    /// Returns the names of all services of the namespace that have EndpointSlices, in their order. With more than 10,000 slices there is no list.
    ///
    /// # Errors
    ///
    /// The API server cannot be reached, or refuses it; the error has the reason.
    pub async fn services(&self) -> Result<Vec<String>, SourceError> {
        let mut services = BTreeSet::new();
        // Of a whole namespace, only the names are kept: its slices would be hundreds of megabytes.
        let listed = list_pages(&self.client, None, |page| services.extend(services_of(page))).await;
        listed.map_err(|error| SourceError::new(error.to_string()))?;
        Ok(services.into_iter().collect())
    }
}

impl Discovery for KubernetesDiscovery {
    fn describe(&self) -> String {
        format!("{}.{} at Kubernetes {}", self.service, self.namespace, self.api)
    }

    async fn run(mut self, publisher: Publisher) {
        let client = self.client.clone();
        let others = || async {
            let list = client.list(None, NOTED_SLICES, "").await.ok()?;
            Some(other_services(services_of(list.items).collect::<BTreeSet<_>>()))
        };
        source::run(&publisher, self.follow(&publisher), others).await;
    }

    fn try_clone(&self) -> Option<Self> {
        Some(Self {
            client: self.client.clone(),
            service: self.service.clone(),
            namespace: self.namespace.clone(),
            api: self.api.clone(),
            watch_for: self.watch_for,
            selection: self.selection.clone(),
            table: SliceTable::default(),
            version: String::new(),
        })
    }
}

/// Returns the services that the slices are of.
fn services_of(slices: Vec<Slice>) -> impl Iterator<Item = String> {
    let names = slices.into_iter().filter_map(|mut slice| slice.metadata.labels.remove(SERVICE_LABEL));
    names.filter(|name| name.len() <= MAX_SERVICE_NAME)
}

/// Lists all slices, of a service or of the namespace, and hands over each page as it comes, within limits of number, bytes and
/// time. Returns their version.
async fn list_pages(
    client: &Client,
    service: Option<&str>,
    each: impl FnMut(Vec<Slice>),
) -> Result<String, CallError> {
    let limit = client.request_timeout().saturating_mul(LIST_TIME_FACTOR);
    timeout(limit, all_pages(client, service, each)).await.unwrap_or(Err(CallError::ListTimeout(limit)))
}

async fn all_pages(
    client: &Client,
    service: Option<&str>,
    mut each: impl FnMut(Vec<Slice>),
) -> Result<String, CallError> {
    let (mut listed, mut bytes, mut after, mut limit) = (0, 0, String::new(), PAGE);
    loop {
        let page = match client.list(service, limit, &after).await {
            Err(CallError::TooLong(_)) if limit > 1 => {
                limit /= 2;
                continue;
            }
            outcome => outcome?,
        };
        // A page without slices counts as one, so that pages end.
        listed += page.items.len().max(1);
        if listed > MAX_SLICES {
            return Err(CallError::TooManySlices(MAX_SLICES));
        }
        // Of a whole namespace, only the names are kept.
        bytes += page.items.iter().map(|slice| slice.bytes).sum::<usize>();
        if service.is_some() && bytes > MAX_SERVICE_BYTES {
            return Err(CallError::TooManyBytes(MAX_SERVICE_BYTES));
        }
        each(page.items);
        if page.metadata.r#continue.is_empty() {
            return Ok(page.metadata.resource_version);
        }
        if page.metadata.r#continue == after {
            return Err(CallError::InvalidAnswer("a page continues with itself".to_owned()));
        }
        after = page.metadata.r#continue;
    }
}

impl KubernetesDiscovery {
    async fn follow(&mut self, publisher: &Publisher) -> Infallible {
        let mut outage = Outage::new("Kubernetes", self.describe(), BACKOFF);
        let mut watches = BACKOFF;
        let mut was_short = false;
        loop {
            let step = match self.version.is_empty() {
                true => self.list().await.map(|()| None),
                false => self.open().await.map(Some),
            };
            let mut watch = match step {
                Ok(step) => {
                    outage.end();
                    self.publish(publisher).await;
                    let Some(watch) = step else { continue };
                    watch
                }
                Err(CallError::Expired(reason)) if !self.version.is_empty() => {
                    debug!(place = outage.place(), reason, "the version is forgotten; listing again");
                    self.version.clear();
                    if was_short {
                        sleep(watches.next_pause()).await;
                    }
                    was_short = true;
                    continue;
                }
                Err(error) => {
                    let pause = outage.failed(publisher, &error);
                    sleep(error.retry_after().map_or(pause, |requested| requested.max(pause))).await;
                    continue;
                }
            };
            let began = Instant::now();
            let outcome = self.watch(&mut watch.stream, watch.until, publisher).await;
            let lasted = began.elapsed();
            match outcome {
                Ok(()) => debug!(place = outage.place(), ?lasted, "a watch ended; another one goes on"),
                Err(error @ CallError::Unreachable(_)) => {
                    debug!(place = outage.place(), %error, ?lasted, "a watch broke; another one goes on");
                }
                // The version is forgotten, or what it reports cannot be used: another watch would end in the same way.
                Err(error) => {
                    debug!(place = outage.place(), %error, ?lasted, "a watch failed; listing again");
                    self.version.clear();
                }
            }
            // The first one that ends soon may be chance. If none lasts, the pauses grow to some seconds.
            let is_short = lasted < LASTING.min(self.watch_for / 2);
            if is_short && was_short {
                sleep(watches.next_pause()).await;
            } else if !is_short {
                watches.reset();
            }
            was_short = is_short;
        }
    }

    /// Lists all slices.
    async fn list(&mut self) -> Result<(), CallError> {
        let mut slices = Vec::new();
        self.version =
            list_pages(&self.client, Some(&self.service), |mut page| slices.append(&mut page)).await?;
        let mut table = std::mem::take(&mut self.table);
        let count =
            slices.iter().map(|slice| slice.endpoints.len()).sum::<usize>().max(table.endpoint_count());
        self.table = source::aside(count.saturating_mul(size_of::<Endpoint>()), move || {
            table.replace(slices);
            table
        })
        .await;
        Ok(())
    }

    /// Opens a watch from the last version on.
    async fn open(&self) -> Result<OpenWatch, CallError> {
        // Spread, so that clients that were started together do not come back together.
        let time = self.watch_for.mul_f64(0.75 + 0.5 * fastrand::f64());
        let stream = self.client.watch(&self.service, &self.version, time).await?;
        // The API server ends it before that. If not, the connection has died without a sign.
        let until = Instant::now() + time + self.client.request_timeout();
        Ok(OpenWatch { stream, until })
    }

    /// Publishes the changes that a watch reports, until it ends.
    async fn watch(
        &mut self,
        watch: &mut Watch,
        end: Instant,
        publisher: &Publisher,
    ) -> Result<(), CallError> {
        loop {
            // Time that runs out loses nothing of the watch: its `next` can be dropped.
            let Ok(next) = timeout_at(end, watch.next()).await else { return Ok(()) };
            let Some(event) = next? else { return Ok(()) };
            if !self.apply(event) {
                publisher.confirm();
                continue;
            }
            // Changes that arrive together, such as those of a rollout, are published as one.
            let until = Instant::now() + GATHERING;
            let ended = loop {
                match timeout_at(until, watch.next()).await {
                    Err(_) => break None,
                    Ok(Ok(Some(event))) => self.apply(event),
                    Ok(Ok(None)) => break Some(Ok(())),
                    Ok(Err(error)) => break Some(Err(error)),
                };
            };
            if self.table.len() > MAX_SLICES {
                return Err(CallError::TooManySlices(MAX_SLICES));
            }
            if self.table.bytes() > MAX_SERVICE_BYTES {
                return Err(CallError::TooManyBytes(MAX_SERVICE_BYTES));
            }
            // Published before the end of the watch is handled: listing again may take long.
            self.publish(publisher).await;
            if let Some(ended) = ended {
                return ended;
            }
        }
    }

    /// Applies an event. Returns `false` if it changes nothing.
    fn apply(&mut self, event: WatchEvent) -> bool {
        let changes = !matches!(event, WatchEvent::Bookmark(_));
        let version = match event {
            WatchEvent::Put(mut slice) => {
                let version = std::mem::take(&mut slice.metadata.resource_version);
                self.table.put(slice);
                version
            }
            WatchEvent::Delete(slice) => {
                self.table.delete(&slice);
                slice.metadata.resource_version
            }
            WatchEvent::Bookmark(version) => version,
        };
        // Versions are opaque: the last one counts, not the greatest.
        if !version.is_empty() {
            self.version = version;
        }
        changes
    }

    /// Publishes what is known.
    async fn publish(&mut self, publisher: &Publisher) {
        let (table, selection) = (std::mem::take(&mut self.table), self.selection.clone());
        let bytes = table.endpoint_count().saturating_mul(size_of::<Endpoint>());
        let (table, endpoints) = source::aside(bytes, move || {
            let endpoints = table.endpoints(&selection);
            (table, endpoints)
        })
        .await;
        self.table = table;
        match endpoints {
            Ok(endpoints) => source::publish(publisher, endpoints).await,
            Err(error) => publisher.failed(error.to_string()),
        }
    }
}

/// A watch, and when it is over.
struct OpenWatch {
    stream: Watch,
    until: Instant,
}
