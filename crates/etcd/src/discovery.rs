//! [`EtcdDiscovery`]: follows the keys of a service, and publishes each change.
//!
//! It reads all keys, then watches from the next revision on. After a watch has ended for any reason, it
//! reads again, which finds the changes in between.

use std::convert::Infallible;
use std::time::Duration;

use farcall_discovery::source::{self, Outage};
use farcall_discovery::{Backoff, Discovery, Endpoint, Instance, Jitter, Publisher, other_services};
use tokio::time::{Instant, sleep, timeout, timeout_at};
use tracing::debug;

use crate::call_error::{CallError, CallErrorKind};
use crate::client::Client;
use crate::error::EtcdOptionsError;
use crate::keys::Keys;
use crate::listing::{Entries, Listing, MAX_KEYS};
use crate::options::EtcdOptions;
use crate::watch::Watch;
use crate::wire::{Base64, Int64, RangeAnswer, RangeRequest, WatchCreateRequest, WatchRequest};

/// The number of keys in a page; fewer if they make too long an answer.
const PAGE: i64 = 1000;
/// The number of other services that an empty list is explained with, and one more.
const NOTED_SERVICES: usize = 9;
/// Keys of no service that are passed over in a list of services.
const MAX_STRAY_KEYS: usize = 1000;
/// The pauses between reads that fail, and between watches that end soon.
const BACKOFF: Backoff =
    Backoff::new(Duration::from_millis(250), Duration::from_secs(5)).jitter(Jitter::Equal);
/// Changes that come within this time are published together: making a list of 10,000 costs milliseconds.
const GATHERING: Duration = Duration::from_millis(20);
/// The end of a watch that lasted this long is no sign of trouble.
const LASTING: Duration = Duration::from_secs(10);

/// Finds the instances of a service that an [`EtcdRegistrar`](crate::EtcdRegistrar) keeps in etcd.
///
/// Changes are published within 20 ms after etcd reports them. A crashed server's instance
/// stays until its lease expires. While etcd cannot be reached, or answers something that is not
/// etcd's, the last list stays in force, [`EndpointList::failing`](farcall_discovery::EndpointList::failing) has
/// the reason, and it is tried again after 0.25 s, 0.5 s … 5 s, until it succeeds.
///
/// A key whose value is no instance, as [`Instance::check`] has it, is left out with a warning in the
/// log, so that a wrong key that was written by hand does not hide the others. The key says
/// which service and id a value belongs to: a value may leave both out, and
/// `etcdctl put /farcall/v1/Arith/a '{"addr": "tcp@10.0.0.5:7001"}'` is enough. With more than
/// 100,000 keys the list is not taken.
#[derive(Debug)]
pub struct EtcdDiscovery {
    client: Client,
    listing: Listing,
    check_after: Duration,
}

impl EtcdDiscovery {
    /// Creates a discovery of this service; `""` is the plain list of servers. Nothing is sent yet.
    ///
    /// # Errors
    ///
    /// A setting or the name of the service is invalid; the error names it, and what is allowed.
    pub fn new(config: &EtcdOptions, service: &str) -> Result<Self, EtcdOptionsError> {
        Instance::check_service(service)?;
        let listing = Listing::new(Keys::new(&config.prefix, service));
        Ok(Self { client: Client::new(config)?, listing, check_after: config.check_after })
    }
}

impl Discovery for EtcdDiscovery {
    fn describe(&self) -> String {
        let service = match self.listing.keys().service() {
            "" => "servers",
            service => service,
        };
        format!("{service} at etcd {}", self.client.endpoints())
    }

    async fn run(mut self, publisher: Publisher) {
        let (client, keys) = (self.client.clone(), self.listing.keys().clone());
        let others = || async { services(&client, &keys, NOTED_SERVICES).await.ok().map(other_services) };
        source::run(&publisher, self.follow(&publisher), others).await;
    }

    fn try_clone(&self) -> Option<Self> {
        let listing = Listing::new(self.listing.keys().clone());
        Some(Self { client: self.client.clone(), listing, check_after: self.check_after })
    }
}

/// Returns the first services below the same prefix, up to `max`, one request for each: a service may have any number of keys.
pub(crate) async fn services(client: &Client, keys: &Keys, max: usize) -> Result<Vec<String>, CallError> {
    let (mut services, mut stray) = (Vec::new(), 0);
    let (root, end) = (keys.root().as_bytes().to_vec(), keys.root_end());
    let mut start = root.clone();
    while services.len() < max && stray <= MAX_STRAY_KEYS {
        let request = RangeRequest {
            key: Base64(start.clone()),
            range_end: Some(Base64(end.clone())),
            limit: Int64(1),
            keys_only: true,
            ..RangeRequest::default()
        };
        let answer: RangeAnswer = client.call("kv/range", &request).await?;
        let Some(kv) = answer.kvs.first() else { break };
        let (service, next) = keys.service_at(&kv.key.0);
        start = next;
        stray += usize::from(service.is_none());
        services.extend(service);
    }
    Ok(services)
}

impl EtcdDiscovery {
    async fn follow(&mut self, publisher: &Publisher) -> Infallible {
        let mut outage = Outage::new("etcd", self.describe(), BACKOFF);
        let mut watches = BACKOFF;
        let mut was_short = false;
        let mut pause = Duration::ZERO;
        loop {
            sleep(pause).await;
            if let Err(error) = self.read().await {
                pause = outage.failed(publisher, &error);
                continue;
            }
            outage.end();
            self.publish(publisher).await;

            let began = Instant::now();
            let Err(error) = self.watch(publisher).await;
            let lasted = began.elapsed();
            debug!(place = outage.place(), %error, ?lasted, "a watch ended; reading the list again");
            // The first watch that ends soon may be chance, and the list may have changed already. If none
            // lasts, the list is read every few seconds, which is good enough.
            let is_short = lasted < LASTING;
            pause = if is_short && was_short {
                watches.next_pause()
            } else {
                watches.reset();
                Duration::ZERO
            };
            was_short = is_short;
        }
    }

    /// Publishes what is known.
    async fn publish(&mut self, publisher: &Publisher) {
        let (count, empty) = (self.listing.len(), Listing::new(self.listing.keys().clone()));
        let listing = std::mem::replace(&mut self.listing, empty);
        self.listing = source::publish_of(publisher, count, listing, |listing| listing.endpoints()).await;
    }

    /// Reads all keys as of one revision.
    async fn read(&mut self) -> Result<(), CallError> {
        const METHOD: &str = "kv/range";
        let keys = self.listing.keys().clone();
        let mut entries = Entries::new();
        let mut seen = 0;
        let mut request = RangeRequest {
            key: keys.start().into(),
            range_end: Some(Base64(keys.end())),
            limit: Int64(PAGE),
            ..RangeRequest::default()
        };
        loop {
            let answer: RangeAnswer = match self.client.call(METHOD, &request).await {
                Err(CallError { kind: CallErrorKind::TooLong(_), .. }) if request.limit.0 > 1 => {
                    request.limit.0 /= 2;
                    continue;
                }
                outcome => outcome?,
            };
            // Further pages are as of the first one's revision, so that together they are one list.
            if request.revision.0 == 0 {
                request.revision = answer.header.revision;
            }
            if answer.kvs.is_empty() && answer.more {
                let kind = CallErrorKind::InvalidAnswer("an empty page, and more to come".to_owned());
                return Err(self.client.error_here(METHOD, kind));
            }
            let next = answer.kvs.last().filter(|_| answer.more).map(|last| last.key.0.clone());
            seen += answer.kvs.len();
            if seen > MAX_KEYS {
                return Err(self.client.error_here(METHOD, CallErrorKind::TooManyKeys(MAX_KEYS)));
            }
            entries.extend(self.listing.entries(answer.kvs));
            let Some(mut next) = next else { break };
            next.push(0); // the least key after the last one
            request.key = Base64(next);
        }
        let replaced = self.listing.replace(entries, request.revision.0);
        source::aside(replaced.len().saturating_mul(size_of::<Endpoint>()), move || drop(replaced)).await;
        Ok(())
    }

    /// Publishes the changes that a watch reports from the list's revision on, until it ends.
    async fn watch(&mut self, publisher: &Publisher) -> Result<Infallible, CallError> {
        let keys = self.listing.keys();
        let request = WatchRequest {
            create_request: WatchCreateRequest {
                key: keys.start().into(),
                range_end: Base64(keys.end()),
                start_revision: Int64(self.listing.revision() + 1),
                progress_notify: true,
                fragment: true,
            },
        };
        let mut watch = self.client.watch(&request).await?;
        let endpoint = watch.endpoint();
        let client = self.client.clone();
        let ended = |kind| client.error(endpoint, Watch::METHOD, kind);
        loop {
            // Time that runs out loses nothing of the watch: its `next` can be dropped.
            let Ok(next) = timeout(self.check_after, watch.next()).await else {
                self.check(endpoint).await?;
                publisher.confirm();
                continue;
            };
            let message = next.map_err(ended)?;
            if message.events.is_empty() {
                // A notice of progress: all changes up to this revision have been reported.
                self.listing.nothing_until(message.header.revision.0);
                publisher.confirm();
                continue;
            }
            self.listing.apply(message.events);
            // Changes that arrive together, such as when many servers start, are published as one.
            let until = Instant::now() + GATHERING;
            let mut end = None;
            while end.is_none()
                && let Ok(next) = timeout_at(until, watch.next()).await
            {
                match next {
                    Ok(message) => self.listing.apply(message.events),
                    Err(error) => end = Some(error),
                }
            }
            if self.listing.len() > MAX_KEYS {
                return Err(ended(CallErrorKind::TooManyKeys(MAX_KEYS)));
            }
            // Published before the end of the watch is handled: reading the list again may take long.
            self.publish(publisher).await;
            if let Some(error) = end {
                return Err(ended(error));
            }
        }
    }

    /// Checks that a silent watch has missed no change. The endpoint of the watch is asked, and an answer needs
    /// a majority of the cluster, so that a member that is cut off from it is detected.
    async fn check(&mut self, endpoint: usize) -> Result<(), CallError> {
        let error = match self.missed(endpoint).await {
            Ok(false) => return Ok(()),
            Ok(true) => {
                let kind = CallErrorKind::WatchEnded("it does not report changes".to_owned());
                self.client.error(endpoint, Watch::METHOD, kind)
            }
            Err(error) => error,
        };
        self.client.leave(endpoint);
        Err(error)
    }

    /// Returns `true` if etcd has other keys than the list.
    async fn missed(&mut self, endpoint: usize) -> Result<bool, CallError> {
        let keys = self.listing.keys();
        // Requests no key, only the revision: in most silences nothing was written.
        let request = RangeRequest { key: keys.start().into(), count_only: true, ..RangeRequest::default() };
        let answer: RangeAnswer = self.client.call_at(endpoint, "kv/range", &request).await?;
        if answer.header.revision.0 == self.listing.revision() {
            return Ok(false);
        }
        // Something was written, perhaps for other services. A put gives one of our keys a newer revision, and
        // deletions alone leave fewer of them.
        let request = RangeRequest {
            key: keys.start().into(),
            range_end: Some(Base64(keys.end())),
            limit: Int64(1),
            sort_target: Some("MOD"),
            sort_order: Some("DESCEND"),
            keys_only: true,
            ..RangeRequest::default()
        };
        let answer: RangeAnswer = self.client.call_at(endpoint, "kv/range", &request).await?;
        let newest = answer.kvs.first().map_or(0, |kv| kv.mod_revision.0);
        if (newest, answer.count.0) != (self.listing.newest(), self.listing.len() as i64) {
            return Ok(true);
        }
        self.listing.nothing_until(answer.header.revision.0);
        Ok(false)
    }
}
