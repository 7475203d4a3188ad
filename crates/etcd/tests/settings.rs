//! Every setting takes every value of its type, and is clamped, or refused with a sentence.

#![allow(clippy::unwrap_used, reason = "a test that cannot set up has failed")]

use std::time::Duration;

use farcall_discovery::{Discovery, Instance, Registrar, publisher};
use farcall_etcd::{EtcdDiscovery, EtcdOptions, EtcdRegistrar};
use farcall_test_support::extremes::{TIMES, count_panics};
use tokio::time::timeout;

#[tokio::test]
async fn every_time_is_taken_or_refused() {
    let before = count_panics();
    let settings: [fn(EtcdOptions, Duration) -> EtcdOptions; 3] =
        [EtcdOptions::ttl, EtcdOptions::request_timeout, EtcdOptions::check_after];
    for time in TIMES {
        for with in settings {
            // No server listens at this address.
            let options = with(EtcdOptions::new("http://127.0.0.1:1").unwrap(), time);
            let registrar = match EtcdRegistrar::new(&options) {
                Ok(registrar) => registrar,
                Err(error) => {
                    assert!(error.to_string().contains(' '), "{error}");
                    continue;
                }
            };
            let instance = Instance::new("T", "tcp@10.0.0.1:7001".parse().unwrap());
            assert!(registrar.register(&instance).await.is_err());
            let (publisher, mut list) = publisher();
            let running = tokio::spawn(EtcdDiscovery::new(&options, "T").unwrap().run(publisher));
            timeout(Duration::from_secs(60), list.changed()).await.unwrap().unwrap();
            assert!(!running.is_finished());
            running.abort();
        }
    }
    assert_eq!(count_panics(), before);
}
