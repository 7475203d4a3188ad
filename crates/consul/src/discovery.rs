//! [`ConsulDiscovery`]: follows the instances of a service by blocking queries.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::convert::Infallible;
use std::time::Duration;

use farcall_discovery::source::{self, Outage, aside};
use farcall_discovery::{
    Backoff, Discovery, Endpoint, Instance, Jitter, Publisher, SourceError, other_services,
};
use farcall_transport::Scheme;
use farcall_transport::log::LogThrottle;
use serde_json::Value;
use tokio::task::yield_now;
use tokio::time::{Instant, sleep};
use tracing::warn;

use crate::call_error::CallError;
use crate::client::{Answer, Client, segment};
use crate::entry::{endpoint, own_name, service_name};
use crate::error::ConsulOptionsError;
use crate::options::ConsulOptions;
use crate::wire::HealthEntry;

/// The header of the index of an answer.
const INDEX_HEADER: &str = "X-Consul-Index";
/// The most instances of a service: as many as from the other sources.
const MAX_INSTANCES: usize = 100_000;
/// Instances that are looked at before other tasks run.
const INSTANCES_AT_ONCE: usize = 128;
/// The number of services that an empty list is explained with.
const MAX_SERVICES: usize = 1000;
/// The pauses after failures.
const BACKOFF: Backoff =
    Backoff::new(Duration::from_millis(500), Duration::from_secs(15)).jitter(Jitter::Equal);
/// The pauses between answers that come soon: Consul's guide wants queries to have a limited rate.
const RATE: Backoff =
    Backoff::new(Duration::from_millis(10), Duration::from_millis(500)).jitter(Jitter::Equal);
/// An answer that took this long was waited for.
const WAITED: Duration = Duration::from_secs(1);

/// Finds the instances of a service in Consul, also those that others than a
/// [`ConsulRegistrar`](crate::ConsulRegistrar) have registered.
///
/// Changes are published when Consul answers. While it cannot be reached, or answers something that is not Consul's, the last
/// list stays in force, [`EndpointList::failing`](farcall_discovery::EndpointList::failing) has the reason, and it is
/// tried again after 0.5 s, 1 s … 15 s, of which a random half to whole is waited. With more than 100,000 instances the list is not taken.
#[derive(Clone, Debug)]
#[must_use = "a discovery does nothing until it is run"]
pub struct ConsulDiscovery {
    client: Client,
    service: String,
    scheme: Scheme,
    tags: Vec<String>,
    datacenter: Option<String>,
    wait: Duration,
}

impl ConsulDiscovery {
    /// Creates a discovery of this service; `""` is the plain list of servers. Nothing is sent yet.
    ///
    /// # Errors
    ///
    /// An option or the name of the service is invalid; the error names it, and what is allowed.
    pub fn new(options: &ConsulOptions, service: &str) -> Result<Self, ConsulOptionsError> {
        Instance::check_service(service)?;
        Ok(Self {
            client: Client::new(options)?,
            service: service.to_owned(),
            scheme: Scheme::Tcp,
            tags: options.tags.clone(),
            datacenter: options.datacenter.clone(),
            wait: Duration::from_secs(options.wait.as_secs().max(1)),
        })
    }

    /// Sets the scheme of instances that others have registered. Default: plain TCP.
    ///
    /// # Errors
    ///
    /// The scheme is that of unix sockets.
    pub fn scheme(mut self, scheme: Scheme) -> Result<Self, ConsulOptionsError> {
        if scheme == Scheme::Unix {
            return Err(ConsulOptionsError::Scheme(scheme));
        }
        self.scheme = scheme;
        Ok(self)
    }

    /// Returns the names of all services that the agent knows, of farcall and of others, without Consul's own; `""` is the plain list of
    /// servers.
    ///
    /// # Errors
    ///
    /// The agent cannot be reached, or answers something else; the error has the reason.
    pub async fn services(&self) -> Result<Vec<String>, SourceError> {
        self.service_names().await.map_err(|error| SourceError::new(error.to_string()))
    }
}

impl Discovery for ConsulDiscovery {
    fn describe(&self) -> String {
        let service = if self.service.is_empty() { "servers" } else { &self.service };
        format!("{service} at Consul {}", self.client.place())
    }

    async fn run(self, publisher: Publisher) {
        let others = || async {
            {
                let names = self.service_names().await.ok()?;
                Some(other_services(names.into_iter().take(MAX_SERVICES)))
            }
        };
        source::run(&publisher, self.follow(&publisher), others).await;
    }

    fn try_clone(&self) -> Option<Self> {
        Some(self.clone())
    }
}

impl ConsulDiscovery {
    async fn follow(&self, publisher: &Publisher) -> Infallible {
        let mut outage = Outage::new("Consul", self.describe(), BACKOFF);
        let (mut rate, log_of_entries) = (RATE, LogThrottle::new());
        let mut index = 0;
        loop {
            let asked = Instant::now();
            match self.ask(index, &log_of_entries).await {
                Ok((answered, endpoints)) => {
                    outage.end();
                    source::publish(publisher, endpoints).await;
                    index = next_index(index, answered);
                    if asked.elapsed() > WAITED {
                        rate.reset();
                    }
                    sleep(rate.next_pause()).await;
                }
                Err(error) => {
                    // The next one is answered at once: a query that waits would not tell that Consul is back.
                    index = 0;
                    sleep(outage.failed(publisher, &error)).await;
                }
            }
        }
    }

    /// Asks for the instances, when the index is not this one any more.
    async fn ask(&self, index: u64, log: &LogThrottle) -> Result<(u64, Vec<Endpoint>), CallError> {
        let path = format!("/v1/health/service/{}", segment(service_name(&self.service)));
        let (wait_text, index_text) = (format!("{}s", self.wait.as_secs()), index.to_string());
        let mut query: Vec<(&str, &str)> = self.tags.iter().map(|tag| ("tag", &**tag)).collect();
        if let Some(datacenter) = &self.datacenter {
            query.push(("dc", datacenter));
        }
        let mut wait = Duration::ZERO;
        if index > 0 {
            query.extend([("index", &*index_text), ("wait", &*wait_text)]);
            wait = self.wait;
        }
        let answer: Answer<Vec<HealthEntry>> = self.client.get(&path, &query, wait).await?;
        let header = answer.headers.get(INDEX_HEADER).and_then(|value| value.to_str().ok()?.parse().ok());
        let answered =
            header.ok_or_else(|| CallError::InvalidAnswer(format!("it has no header {INDEX_HEADER}")))?;
        let mut entries = answer.body;
        if entries.len() > MAX_INSTANCES {
            return Err(CallError::TooMany(MAX_INSTANCES));
        }
        let tags = self.tags.clone();
        let sorted = aside(entries.len().saturating_mul(size_of::<HealthEntry>()), move || {
            // Of several with one address the last registered counts: the first in the list.
            entries.sort_by_key(|entry| Reverse(entry.service.create_index));
            // Consul before 1.3 looks at one tag only.
            entries.retain(|entry| tags.iter().all(|tag| entry.service.tags.contains(tag)));
            entries
        });
        let mut entries = sorted.await.into_iter();
        let mut endpoints = Vec::with_capacity(entries.len());
        while entries.len() > 0 {
            for entry in entries.by_ref().take(INSTANCES_AT_ONCE) {
                match endpoint(&entry, self.scheme) {
                    Ok(endpoint) => endpoints.extend(endpoint),
                    Err(reason) => {
                        if let Some(line) = log.permit() {
                            let suppressed = line.suppressed;
                            warn!(instance = %entry, reason, suppressed, "an instance in Consul is left out");
                        }
                    }
                }
            }
            yield_now().await;
        }
        Ok((answered, endpoints))
    }

    async fn service_names(&self) -> Result<Vec<String>, CallError> {
        let query: Vec<_> = self.datacenter.iter().map(|name| ("dc", &**name)).collect();
        let answer: Answer<BTreeMap<String, Value>> =
            self.client.get("/v1/catalog/services", &query, Duration::ZERO).await?;
        let names = answer.body.into_keys().filter(|name| name != "consul");
        Ok(names.map(|name| own_name(&name).to_owned()).collect())
    }
}

/// Returns the index of the next query, as Consul's guide to blocking queries has it: one that went backwards, such as after Consul's state
/// was restored, is 0; and an answer without one must not make the next query come back at once.
const fn next_index(sent: u64, answered: u64) -> u64 {
    if answered < sent {
        0
    } else if answered == 0 {
        1
    } else {
        answered
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn index_that_goes_backwards_begins_again() {
        assert_eq!(next_index(0, 7), 7);
        assert_eq!(next_index(7, 7), 7);
        assert_eq!(next_index(7, 6), 0);
        assert_eq!(next_index(7, 0), 0);
        assert_eq!(next_index(0, 0), 1, "a query with the index 0 does not wait");
    }
}
