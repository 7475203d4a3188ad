//! The instances of a measurement: who they are, and the requests about them.

use std::time::{Duration, Instant};

use anyhow::Context;
use serde_json::json;

use super::http::{Connection, request};

/// Instances, spread evenly over services.
#[derive(Clone, Debug)]
pub(super) struct Population {
    host: String,
    instances: u32,
    /// None: all in the plain list.
    services: Option<u32>,
}

impl Population {
    pub(super) fn new(host: &str, instances: u32, services: u32) -> Self {
        Self { host: host.to_owned(), instances, services: Some(services.min(instances)) }
    }

    /// All in the service without a name.
    pub(super) fn plain(host: &str, instances: u32) -> Self {
        Self { host: host.to_owned(), instances, services: None }
    }

    pub(super) fn instances(&self) -> u32 {
        self.instances
    }

    pub(super) fn services(&self) -> u32 {
        self.services.unwrap_or(1)
    }

    /// The service of an instance, by number; the first instances are one of each service.
    pub(super) fn service_of(&self, instance: u32) -> u32 {
        instance % self.services()
    }

    pub(super) fn service_name(&self, service: u32) -> String {
        self.services.map_or_else(String::new, |_| format!("service-{service:05}"))
    }

    /// Registers an instance, with as much said of it as in earnest.
    pub(super) fn registration(&self, instance: u32, version: &str) -> Vec<u8> {
        let addr = addr(instance);
        let service = self.service_name(self.service_of(instance));
        let body = json!({
            "service": service,
            "id": addr,
            "addr": addr,
            "zone": format!("zone-{}", instance % 3),
            "version": version,
            "metadata": {"rack": format!("r{}", instance % 40), "commit": "8f3c1b2"},
        });
        let headers = "Content-Type: application/json\r\n";
        request(&self.host, "PUT", &self.path(instance), headers, body.to_string().as_bytes())
    }

    pub(super) fn heartbeat(&self, instance: u32) -> Vec<u8> {
        request(&self.host, "POST", &format!("{}/heartbeat", self.path(instance)), "", b"")
    }

    /// Watches a service, or all.
    pub(super) fn watch(&self, service: Option<u32>) -> Vec<u8> {
        let query =
            service.map_or_else(String::new, |service| format!("?service={}", self.service_name(service)));
        request(&self.host, "GET", &format!("/v1/watch{query}"), "Accept: text/event-stream\r\n", b"")
    }

    pub(super) fn get(&self, path: &str, headers: &str) -> Vec<u8> {
        request(&self.host, "GET", path, headers, b"")
    }

    fn path(&self, instance: u32) -> String {
        let name = self.service_name(self.service_of(instance));
        let service = if name.is_empty() { "~" } else { &name };
        format!("/v1/services/{service}/instances/{}", addr(instance))
    }
}

fn addr(instance: u32) -> String {
    format!("tcp@10.{}.{}.{}:7001", instance >> 16, instance >> 8 & 255, instance & 255)
}

/// Registers all instances, one after the other, and returns the time that this took.
pub(super) fn register(address: &str, population: &Population) -> anyhow::Result<Duration> {
    let mut connection = Connection::open(address)?;
    let began = Instant::now();
    for n in 0..population.instances() {
        connection
            .call(&population.registration(n, "1.4.0"))
            .with_context(|| format!("registering number {n}"))?;
    }
    Ok(began.elapsed())
}
