//! Every setting takes every value of its type, and is clamped, or refused with a sentence.

#![allow(clippy::unwrap_used, reason = "a test that cannot set up has failed")]

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use farcall_discovery::{
    Balancer, Candidate, Candidates, ConsistentHash, Discovery, DnsDiscovery, Endpoint, FileDiscovery,
    Instance, MemoryRegistry, PickRequest, Registered, Registrar, RegistrarError, Renewal, Subscription,
    keep_registered, publisher,
};
use farcall_test_support::extremes::{NUMBERS, TIMES, count_panics};
use farcall_transport::{Resolve, Resolving};
use tokio::time::{sleep, timeout};

/// Runs a source for 100 s of paused time, which is long enough for a few polls; it must still be there then.
async fn run(discovery: impl Discovery) -> Subscription {
    let (publisher, subscription) = publisher();
    let running = tokio::spawn(discovery.run(publisher));
    sleep(Duration::from_secs(100)).await;
    assert!(!running.is_finished(), "{:?}", running.await);
    running.abort();
    subscription
}

/// Resolves every name, or none.
struct Names(bool);

impl Resolve for Names {
    fn resolve<'a>(&'a self, _host: &'a str, port: u16) -> Resolving<'a> {
        let answer = self.0.then(|| vec![SocketAddr::from(([10, 0, 0, 1], port))]);
        Box::pin(std::future::ready(answer.ok_or_else(|| std::io::ErrorKind::NotFound.into())))
    }
}

#[tokio::test(start_paused = true)]
async fn every_interval_of_a_source_is_taken() {
    let before = count_panics();
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("list");
    std::fs::write(&path, "tcp@10.0.0.1:7001").unwrap();
    for time in TIMES {
        for resolves in [true, false] {
            let source = DnsDiscovery::new("tcp@arith.internal:7001").unwrap().resolver(Names(resolves));
            let list = run(source.poll_interval(time)).await;
            assert_eq!(list.borrow().endpoints.len(), usize::from(resolves), "{time:?}");
        }
        // Twice, since a file in an interval that is long is read once.
        let file = FileDiscovery::new(&path).poll_interval(time);
        let _ = run(file.clone()).await;
        let _ = run(Discovery::try_clone(&file).unwrap()).await;
    }
    assert_eq!(count_panics(), before);
}

#[tokio::test(start_paused = true)]
async fn every_time_to_live_in_memory_is_taken() {
    let before = count_panics();
    for time in TIMES {
        for own in [None, Some(0), Some(1), Some(u64::MAX)] {
            let registry = MemoryRegistry::with_ttl(time);
            let mut instance = Instance::new("T", "tcp@10.0.0.1:7001".parse().unwrap());
            instance.ttl_ms = own;
            // In paused time: a few heartbeats at the shortest intervals.
            let stop = sleep(Duration::from_secs(10));
            timeout(Duration::from_secs(20), keep_registered(registry.registrar(), instance, stop))
                .await
                .unwrap();
            let _ = run(registry.discovery("T")).await;
        }
    }
    assert_eq!(count_panics(), before);
}

/// Requests heartbeats after this time.
struct Heartbeats(Duration);

impl Registrar for Heartbeats {
    type Lease = ();

    fn describe(&self) -> String {
        "heartbeats".to_owned()
    }

    async fn register(&self, _: &Instance) -> Result<Registered<()>, RegistrarError> {
        Ok(Registered::new((), self.0))
    }

    async fn renew(&self, _: &Instance, (): &mut ()) -> Result<Renewal, RegistrarError> {
        Ok(Renewal::Renewed(self.0))
    }

    async fn deregister(&self, _: &Instance, (): ()) -> Result<(), RegistrarError> {
        Ok(())
    }
}

#[tokio::test(start_paused = true)]
async fn every_heartbeat_is_taken() {
    let before = count_panics();
    for time in TIMES {
        let instance = Instance::new("T", "tcp@10.0.0.1:7001".parse().unwrap());
        // In paused time: a few heartbeats at the intervals of common settings.
        let stop = sleep(Duration::from_secs(100));
        timeout(Duration::from_secs(200), keep_registered(Heartbeats(time), instance, stop)).await.unwrap();
    }
    assert_eq!(count_panics(), before);
}

#[tokio::test(start_paused = true)]
async fn every_load_factor_latency_and_weight_is_taken() {
    let before = count_panics();
    for number in NUMBERS {
        for weights in [[0, 0], [1, u16::MAX], [u16::MAX, u16::MAX]] {
            let candidate = |(index, weight): (usize, u16)| {
                let address = format!("tcp@10.0.0.1:{}", index + 1).parse().unwrap();
                let endpoint = Arc::new(Endpoint::new(address).with_weight(weight));
                let candidate = Candidate::new(index as u64, endpoint, Arc::default());
                for time in TIMES {
                    candidate.load.record_latency(time);
                }
                candidate
            };
            let all: Arc<[Candidate]> = weights.into_iter().enumerate().map(candidate).collect();
            let candidates = Candidates::new(Arc::clone(&all), all);
            let picker = ConsistentHash::by_key().load_factor(number).picker(&candidates);
            for key in [None, Some(&b"one"[..]), Some(b"two")] {
                assert!(picker.pick(&PickRequest::new(key, &[])) < 2);
                assert!(picker.pick(&PickRequest::new(key, &[0, 1])) < 2);
            }
        }
    }
    assert_eq!(count_panics(), before);
}
