//! Follower, registrations and keys, for several tests.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use farcall_discovery::{
    Discovery, EndpointList, Instance, Registered, Registrar, Subscription, keep_registered, publisher,
};
use farcall_etcd::{EtcdDiscovery, EtcdLease, EtcdOptions, EtcdRegistrar};
use farcall_test_support::wait::{self, PATIENCE, within_patience};
use farcall_transport::Address;
use serde_json::{Value, json};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio::time::timeout;

use crate::server::EtcdServer;

/// Returns options that notice trouble soon, but do not mistake a busy machine for trouble.
pub(crate) fn config(endpoints: &str) -> EtcdOptions {
    EtcdOptions::new(endpoints)
        .unwrap()
        .ttl(Duration::from_secs(2))
        .request_timeout(Duration::from_secs(20))
        .check_after(Duration::from_millis(500))
}

pub(crate) fn instance(service: &str, port: u16) -> Instance {
    Instance::new(service, address(port))
}

pub(crate) fn address(port: u16) -> Address {
    Address::parse(&format!("tcp@10.0.0.1:{port}")).unwrap()
}

/// Follows a service in a task that ends with it.
pub(crate) struct Follower {
    subscription: Subscription,
    _task: AbortOnDrop,
}

pub(crate) struct AbortOnDrop(JoinHandle<()>);

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Follower {
    pub(crate) fn new(config: &EtcdOptions, service: &str) -> Self {
        let (publisher, subscription) = publisher();
        let discovery = EtcdDiscovery::new(config, service).unwrap();
        Self { subscription, _task: AbortOnDrop(tokio::spawn(discovery.run(publisher))) }
    }

    pub(crate) fn now(&self) -> EndpointList {
        self.subscription.borrow().clone()
    }

    /// Returns the ports of the list, which identify the instances of a test.
    pub(crate) fn ports(&self) -> Vec<u16> {
        ports(&self.now())
    }

    pub(crate) async fn until(
        &mut self,
        what: &str,
        reached: impl FnMut(&EndpointList) -> bool,
    ) -> EndpointList {
        let waited =
            timeout(PATIENCE, self.subscription.wait_for(reached)).await.map(|found| found.unwrap().clone());
        waited.unwrap_or_else(|_| panic!("waited for {what}; there is {:?}", self.now()))
    }

    /// Waits until exactly these ports are listed, and the list is confirmed.
    pub(crate) async fn until_ports(&mut self, expected: &[u16]) {
        let well = |found: &EndpointList| {
            found.confirmed.is_some() && found.failing.is_none() && ports(found) == expected
        };
        self.until(&format!("{expected:?}"), well).await;
    }

    /// Waits until `number` further attempts to read the list have failed.
    pub(crate) async fn until_further_failures(&mut self, number: usize) {
        for _ in 0..number {
            // Marks the current state as seen, so that only a later one wakes.
            self.subscription.borrow_and_update();
            within_patience("another failure", self.subscription.changed()).await.unwrap();
            assert!(self.now().failing.is_some(), "{:?}", self.now());
        }
    }

    /// Waits until the list is confirmed once more, which does not wake its subscribers.
    pub(crate) async fn until_confirmed_again(&self) {
        let confirmed = self.now().confirmed;
        wait::until("the list is confirmed again", || self.now().confirmed > confirmed).await;
    }

    /// Waits until it fails for this reason.
    pub(crate) async fn until_failing(&mut self, expected: &str) -> EndpointList {
        let failing = |found: &EndpointList| {
            found.failing.as_ref().is_some_and(|failing| failing.reason.contains(expected))
        };
        self.until(&format!("the failure `{expected}`"), failing).await
    }
}

fn ports(found: &EndpointList) -> Vec<u16> {
    found.endpoints.iter().filter_map(|endpoint| endpoint.address.port()).collect()
}

/// A server that keeps itself registered.
pub(crate) struct Kept {
    stop: oneshot::Sender<()>,
    task: JoinHandle<()>,
}

impl Kept {
    pub(crate) fn new(config: &EtcdOptions, instance: Instance) -> Self {
        let (stop, stopped) = oneshot::channel();
        let registrar = EtcdRegistrar::new(config).unwrap();
        let task = tokio::spawn(keep_registered(registrar, instance, async {
            let _ = stopped.await;
        }));
        Self { stop, task }
    }

    pub(crate) async fn stop(self) {
        self.stop.send(()).unwrap();
        within_patience("the registration ends", self.task).await.unwrap();
    }

    /// Kills it without notice. When this returns, it renews nothing any more.
    pub(crate) async fn crash(self) {
        self.task.abort();
        assert!(self.task.await.unwrap_err().is_cancelled());
    }
}

/// Registers an instance once; it stays for as long as its lease, which is long.
pub(crate) async fn register(config: &EtcdOptions, instance: &Instance) -> EtcdLease {
    let registrar = EtcdRegistrar::new(&config.clone().ttl(Duration::from_secs(3600))).unwrap();
    let Registered { lease, .. } = registrar.register(instance).await.unwrap();
    lease
}

pub(crate) fn base64(text: &str) -> String {
    STANDARD.encode(text)
}

/// Returns the value of a key, and the lease that holds it.
pub(crate) async fn value(etcd: &EtcdServer, key: &str) -> Option<(Value, String)> {
    let answer = etcd.ask("kv/range", json!({"key": base64(key)})).await;
    let kv = answer["kvs"].get(0)?;
    let value = STANDARD.decode(kv["value"].as_str()?).unwrap();
    Some((serde_json::from_slice(&value).unwrap(), kv["lease"].as_str().unwrap_or("0").to_owned()))
}

pub(crate) async fn put(etcd: &EtcdServer, key: &str, value: &str) {
    etcd.ask("kv/put", json!({"key": base64(key), "value": base64(value)})).await;
}

pub(crate) async fn delete(etcd: &EtcdServer, key: &str) {
    etcd.ask("kv/deleterange", json!({"key": base64(key)})).await;
}
