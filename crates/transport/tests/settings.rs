//! Every time of a dialer takes every value.

#![allow(clippy::unwrap_used, reason = "a test that cannot set up has failed")]

use std::time::Duration;

use farcall_test_support::extremes::{TIMES, count_panics};
use farcall_transport::{Address, Dialer, HumanDuration, Listener};

#[tokio::test]
async fn every_time_is_taken() {
    let before = count_panics();
    let listener = Listener::bind(&Address::parse("tcp@127.0.0.1:0").unwrap()).await.unwrap();
    let port = listener.address().port().unwrap();
    let settings: [fn(Dialer, Duration) -> Dialer; 3] =
        [Dialer::resolve_timeout, Dialer::connect_timeout, Dialer::attempt_delay];
    for time in TIMES {
        for with in settings {
            for host in ["127.0.0.1", "localhost"] {
                let address = Address::parse(&format!("tcp@{host}:{port}")).unwrap();
                if let Err(error) = with(Dialer::default(), time).dial(&address).await {
                    assert!(error.to_string().contains(' '), "{error}");
                }
            }
        }
        assert!(!HumanDuration(time).to_string().is_empty());
    }
    assert_eq!(count_panics(), before);
}
