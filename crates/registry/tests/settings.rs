//! Every setting of the registry and of its clients takes every value of its type, and is clamped, or refused with a
//! sentence.

#![allow(clippy::unwrap_used, reason = "a test that cannot set up has failed")]

use std::time::Duration;

use farcall_discovery::{Discovery, Instance, Registrar, publisher};
use farcall_registry::client::{HttpDiscovery, HttpRegistrar};
use farcall_registry::server::{Registry, RegistryOptions};
use farcall_test_support::extremes::{COUNTS, TIMES, count_panics};
use tokio::time::{sleep, timeout};

type With<S, V> = fn(S, V) -> S;

const REGISTRARS: [With<HttpRegistrar, Duration>; 3] =
    [HttpRegistrar::ttl, HttpRegistrar::heartbeat, HttpRegistrar::timeout];

const DISCOVERIES: [With<HttpDiscovery, Duration>; 6] = [
    HttpDiscovery::timeout,
    HttpDiscovery::poll_interval,
    HttpDiscovery::wait,
    HttpDiscovery::silence,
    |discovery, time| discovery.backoff(time, Duration::from_secs(1)),
    |discovery, time| discovery.backoff(Duration::from_secs(1), time),
];

const TIME_OPTIONS: [With<RegistryOptions, Duration>; 2] = [RegistryOptions::ttl, RegistryOptions::heartbeat];

const COUNT_OPTIONS: [With<RegistryOptions, usize>; 3] =
    [RegistryOptions::max_instances, RegistryOptions::max_watchers, RegistryOptions::max_body_bytes];

/// Serves a registry, and returns its URL.
async fn serve(options: RegistryOptions) -> Result<String, String> {
    let registry = Registry::open(options).await.map_err(|error| error.to_string())?;
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let router = registry.router(&[address]);
    tokio::spawn(async move { axum::serve(listener, router).await });
    Ok(format!("http://{address}"))
}

/// Registers, renews and deregisters; each request may fail with a sentence.
async fn use_registrar(registrar: &HttpRegistrar) {
    let instance = Instance::new("Arith", "tcp@10.0.0.5:7001".parse().unwrap());
    match registrar.register(&instance).await {
        Ok(mut registered) => {
            let _ = registrar.renew(&instance, &mut registered.lease).await;
            let _ = registrar.deregister(&instance, registered.lease).await;
        }
        Err(error) => assert!(!error.to_string().is_empty()),
    }
}

#[tokio::test]
async fn every_time_of_a_client_is_taken() {
    let before = count_panics();
    let url = serve(RegistryOptions::default()).await.unwrap();
    // And one where nobody answers.
    for url in [&url, "http://127.0.0.1:1"] {
        for time in TIMES {
            for with in REGISTRARS {
                use_registrar(&with(HttpRegistrar::new(url).unwrap(), time)).await;
            }
            for with in DISCOVERIES {
                let (publisher, mut list) = publisher();
                let discovery = with(HttpDiscovery::new(url, "Arith").unwrap(), time);
                let running = tokio::spawn(discovery.run(publisher));
                // Until it has found, or failed to find, something; a timeout of nothing never does either.
                let _ = timeout(Duration::from_secs(5), list.changed()).await;
                assert!(!running.is_finished(), "{:?}", running.await);
                running.abort();
            }
        }
    }
    assert_eq!(count_panics(), before);
}

#[tokio::test]
async fn every_option_of_a_registry_is_taken_or_refused() {
    let before = count_panics();
    let default = RegistryOptions::default;
    let times = TIMES.into_iter().flat_map(|time| TIME_OPTIONS.map(|with| with(default(), time)));
    let counts = COUNTS.into_iter().flat_map(|count| COUNT_OPTIONS.map(|with| with(default(), count)));
    for options in times.chain(counts) {
        match serve(options).await {
            Ok(url) => {
                use_registrar(&HttpRegistrar::new(&url).unwrap().timeout(Duration::from_secs(60))).await;
                let (publisher, mut list) = publisher();
                let running = tokio::spawn(HttpDiscovery::new(&url, "Arith").unwrap().run(publisher));
                let _ = timeout(Duration::from_secs(60), list.changed()).await;
                running.abort();
            }
            Err(sentence) => assert!(sentence.contains(' '), "{sentence}"),
        }
    }
    // The registry expires instances meanwhile.
    sleep(Duration::from_millis(50)).await;
    assert_eq!(count_panics(), before);
}
