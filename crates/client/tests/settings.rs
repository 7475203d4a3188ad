//! Every setting takes every value of its type, and is clamped, or refused with a sentence.

#![allow(clippy::unwrap_used, reason = "a test that cannot set up has failed")]

use std::time::Duration;

use farcall_client::{
    CallError, Channel, ChannelBuilder, Connection, ConnectionOptions, OutlierDetection, RetryBudget,
    RetryPolicy,
};
use farcall_discovery::StaticList;
use farcall_protocol::KeepAlive;
use farcall_server::Server;
use farcall_test_support::extremes::{COUNTS, NUMBERS, TIMES, count_panics};
use farcall_transport::{Address, Dialer, PeerAddress, Stream};

type With<S, V> = fn(S, V) -> S;

const OPTION_TIMES: [With<ConnectionOptions, Duration>; 9] = [
    ConnectionOptions::connect_timeout,
    ConnectionOptions::handle_timeout,
    ConnectionOptions::write_timeout,
    ConnectionOptions::answer_timeout,
    |options, time| options.keep_alive(KeepAlive::default().idle(time)),
    |options, time| options.keep_alive(KeepAlive::default().timeout(time)),
    |options, time| options.dialer(Dialer::default().resolve_timeout(time)),
    |options, time| options.dialer(Dialer::default().connect_timeout(time)),
    |options, time| options.dialer(Dialer::default().attempt_delay(time)),
];

const OPTION_COUNTS: [With<ConnectionOptions, usize>; 2] =
    [ConnectionOptions::outbox_bytes, ConnectionOptions::max_frame_bytes];

const CHANNEL_TIMES: [With<ChannelBuilder, Duration>; 2] =
    [ChannelBuilder::timeout, |builder, time| builder.retry(RetryPolicy::hedge_after(time))];

const CHANNEL_COUNTS: [With<ChannelBuilder, usize>; 3] = [
    ChannelBuilder::connections,
    |builder, count| builder.retry(RetryPolicy::fail_over().max_attempts(count as u32)),
    |builder, count| builder.outlier_detection(OutlierDetection::failures(count as u32)),
];

/// Uses the channel in every way that a setting may matter for. Each call ends; how is another question.
async fn use_channel(channel: &Channel) {
    for time in TIMES {
        let call = channel.call::<i64>("T.sleep", &(5,)).idempotent().timeout(time);
        say(call.await);
    }
    say(channel.call::<i64>("T.sleep", &(60_000,)).timeout(Duration::from_secs(120)).await);
    let _ = channel.notify("T.sleep", &(0,)).await;
    let _ = channel.flush().await;
    let _ = channel.retries_left();
    let _ = channel.close().await;
}

/// Asserts that an error is no panic.
fn say(outcome: Result<i64, CallError>) {
    if let Err(error) = outcome {
        assert!(!error.to_string().contains("panicked"), "{error}");
    }
}

fn server() -> Server {
    let sleep = async |(ms,): (u64,)| {
        tokio::time::sleep(Duration::from_millis(ms)).await;
        7_i64
    };
    Server::builder().method("T.sleep", sleep).build().unwrap()
}

async fn use_options(options: ConnectionOptions) {
    let (near, far) = tokio::io::duplex(1024);
    server().handle().serve_stream(Stream::new(far), PeerAddress::Memory);
    let address = Address::parse("tcp@10.0.0.3:7001").unwrap();
    match Connection::over(Stream::new(near), &address, &options).await {
        Ok(connection) => use_channel(&Channel::from(connection)).await,
        Err(error) => assert!(!error.to_string().contains("panicked"), "{error}"),
    }
}

#[tokio::test(start_paused = true)]
async fn every_option_of_a_connection_takes_every_value() {
    let before = count_panics();
    for time in TIMES {
        for with in OPTION_TIMES {
            use_options(with(ConnectionOptions::default(), time)).await;
        }
        let all = OPTION_TIMES.iter().fold(ConnectionOptions::default(), |options, with| with(options, time));
        use_options(all).await;
    }
    for count in COUNTS {
        for with in OPTION_COUNTS {
            use_options(with(ConnectionOptions::default(), count)).await;
        }
    }
    assert_eq!(count_panics(), before);
}

/// Here time is real, since there are sockets.
#[tokio::test]
async fn every_option_of_a_channel_takes_every_value() {
    let before = count_panics();
    let quick = async |(_,): (u64,)| 7_i64;
    let server = Server::builder().method("T.sleep", quick).listen("tcp@127.0.0.1:0").bind().await.unwrap();
    let address = server.addresses().next().unwrap().clone();
    tokio::spawn(server.serve());
    let builders = || {
        let list = StaticList::new([address.to_string()]).unwrap();
        [Channel::builder().to(address.clone()), Channel::builder().discover(list)]
    };
    for time in TIMES {
        for with in CHANNEL_TIMES {
            for builder in builders() {
                use_channel(&with(builder, time).build().unwrap()).await;
            }
        }
        for with in OPTION_TIMES {
            for builder in builders() {
                let options = with(ConnectionOptions::default(), time);
                use_channel(&builder.options(options).timeout(Duration::from_secs(60)).build().unwrap())
                    .await;
            }
        }
    }
    for count in COUNTS {
        for with in CHANNEL_COUNTS {
            for builder in builders() {
                use_channel(&with(builder, count).build().unwrap()).await;
            }
        }
    }
    for one in NUMBERS {
        for other in NUMBERS {
            let budget = RetryBudget::new(one, other);
            let channel = Channel::builder().to(address.clone()).retry_budget(budget).build().unwrap();
            assert!(channel.retries_left() >= 0.0, "{budget:?}: {}", channel.retries_left());
            say(channel.call::<i64>("T.sleep", &(0,)).await);
            assert!(channel.retries_left() >= 0.0, "{budget:?}: {}", channel.retries_left());
        }
    }
    assert_eq!(count_panics(), before);
}
