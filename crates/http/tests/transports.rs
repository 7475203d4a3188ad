//! One suite of calls, cancellations, deadlines, large bodies and broken connections, over every
//! transport.

#![allow(clippy::unwrap_used, reason = "a test that cannot set up has failed")]

mod support;

use farcall_client::{CallError, RetryPolicy};
use farcall_protocol::{Bytes, Code, Execution};
use futures::StreamExt;
use serde_json::json;
use tokio::runtime::Builder;
use tokio::time::{sleep, timeout};

use crate::support::{MAX_FRAME, MS, PATIENCE, Relay, World, channel_to, no_args, until};

async fn concurrent_calls_get_their_own_results(scheme: &'static str) {
    let world = World::new(scheme).await;
    let channel = world.channel();
    let calls: Vec<_> = (0..300)
        .map(|n| channel.call::<String>("Echo.echo", &json!({"text": format!("call {n}")})).start())
        .collect();
    for (n, call) in calls.into_iter().enumerate() {
        assert_eq!(call.await.unwrap(), format!("call {n}"));
    }
    assert_eq!(world.handle.connections(), 1);
}

async fn errors_have_a_code_and_an_execution(scheme: &'static str) {
    let world = World::new(scheme).await;
    let error = world.channel().call::<()>("Echo.fail", &no_args()).await.unwrap_err();
    assert_eq!((error.code(), error.execution()), (Code::Application, Execution::Done));
    let error = world.channel().call::<()>("Echo.nothing", &no_args()).await.unwrap_err();
    assert_eq!((error.code(), error.execution()), (Code::Unimplemented, Execution::Refused));
}

async fn dropped_call_stops_its_handler(scheme: &'static str) {
    let world = World::new(scheme).await;
    let channel = world.channel();
    let call = channel.call::<String>("Probe.sleep", &no_args()).start();
    world.wait_for_running(1).await;
    drop(call);
    world.wait_for_running(0).await;
    // The connection stays usable.
    assert_eq!(channel.call::<String>("Probe.sleep", &json!({"ms": 1})).await.unwrap(), "awake");
    assert_eq!(world.handle.connections(), 1);
}

async fn deadline_ends_the_call_and_its_handler(scheme: &'static str) {
    let world = World::new(scheme).await;
    let channel = world.channel();
    channel.connect().await.unwrap();
    let call = channel.call::<String>("Probe.sleep", &no_args()).timeout(300 * MS);
    let error = timeout(PATIENCE, call).await.unwrap().unwrap_err();
    assert_eq!(error.code(), Code::DeadlineExceeded, "{error}");
    world.wait_for_running(0).await;
}

async fn ten_megabytes_round_trip(scheme: &'static str) {
    let world = World::new(scheme).await;
    let channel = world.channel();
    let text: String = (0..10_000_000_u32).map(|n| char::from(b'a' + (n % 23) as u8)).collect();
    let args = json!({ "text": text });
    let calls = [(); 2].map(|()| channel.call::<String>("Echo.echo", &args).start());
    for call in calls {
        let echoed = timeout(2 * PATIENCE, call).await.unwrap().unwrap();
        assert!(echoed == text, "the echoed text of {} bytes differs", echoed.len());
    }
}

async fn oversized_message_fails_alone(scheme: &'static str) {
    let world = World::new(scheme).await;
    let channel = world.channel();
    channel.connect().await.unwrap();
    let args = json!({ "text": "x".repeat(MAX_FRAME) });
    let error = channel.call::<String>("Echo.echo", &args).await.unwrap_err();
    assert_eq!((error.code(), error.execution()), (Code::ResourceExhausted, Execution::NotSent));
    assert_eq!(channel.call::<String>("Echo.echo", &json!({"text": "small"})).await.unwrap(), "small");
    assert_eq!(world.handle.connections(), 1);
}

async fn lost_connection_ends_its_calls_on_both_sides_and_the_next_call_redials(scheme: &'static str) {
    let world = World::new(scheme).await;
    let relay = Relay::before(&world).await;
    let channel = channel_to(&format!("{}@{}", world.scheme, relay.place));
    let call = channel.call::<String>("Probe.sleep", &no_args()).retry(RetryPolicy::fail_fast()).start();
    world.wait_for_running(1).await;
    relay.cut();
    let error = timeout(PATIENCE, call).await.unwrap().unwrap_err();
    assert_eq!((error.code(), error.execution()), (Code::Unavailable, Execution::Maybe), "{error}");
    world.wait_for_running(0).await;
    let echoed = channel.call::<String>("Echo.echo", &json!({"text": "again"}));
    assert_eq!(timeout(PATIENCE, echoed).await.unwrap().unwrap(), "again");
}

async fn closed_client_is_disconnected_at_once(scheme: &'static str) {
    let world = World::new(scheme).await;
    let channel = world.channel();
    channel.connect().await.unwrap();
    assert_eq!(world.handle.connections(), 1);
    channel.close();
    until("the server has no connection", || world.handle.connections() == 0).await;
}

async fn stopping_server_finishes_its_calls(scheme: &'static str) {
    let world = World::new(scheme).await;
    let channel = world.channel();
    let call = channel.call::<String>("Probe.sleep", &json!({"ms": 500})).start();
    world.wait_for_running(1).await;
    world.handle.stop();
    assert_eq!(call.await.unwrap(), "awake");
    timeout(PATIENCE, world.ended).await.unwrap().unwrap();
    sleep(MS).await;
    let late = channel.call::<String>("Echo.echo", &json!({"text": "late"})).retry(RetryPolicy::fail_fast());
    assert_eq!(timeout(PATIENCE, late).await.unwrap().unwrap_err().code(), Code::Unavailable);
}

async fn one_way_calls_arrive_though_the_runtime_ends(scheme: &'static str) {
    const CALLS: u64 = 300;
    let world = World::new(scheme).await;
    let runtimes: [fn() -> Builder; 2] = [Builder::new_current_thread, Builder::new_multi_thread];
    for (runtime, rounds) in runtimes.into_iter().zip(1..) {
        let address = world.address();
        let client = move || {
            let runtime = runtime().enable_all().build().unwrap();
            runtime.block_on(async {
                let channel = channel_to(&address);
                for n in 0..CALLS {
                    let text = "x".repeat(n as usize);
                    channel.notify("Echo.echo", &json!({ "text": text })).await.unwrap();
                }
            });
        };
        tokio::task::spawn_blocking(client).await.unwrap();
        let calls = || {
            let methods = world.handle.overview().methods;
            methods.iter().find(|method| method.name == "Echo.echo").map(|method| method.total.calls)
        };
        until("all one-way calls have come", || calls() == Some(rounds * CALLS)).await;
    }
}

async fn close_is_ready_when_the_server_has_read_all(scheme: &'static str) {
    let world = World::new(scheme).await;
    let channel = world.channel();
    channel.call::<String>("Echo.echo", &json!({"text": "x"})).await.unwrap();
    let call = channel.call::<String>("Probe.sleep", &json!({"ms": 50})).start();
    let (closed, awake) = tokio::join!(channel.close(), call);
    closed.unwrap();
    assert_eq!(awake.unwrap(), "awake");
    until("the server has no connection", || world.handle.connections() == 0).await;
}

async fn streams_pass_in_both_directions(scheme: &'static str) {
    let world = World::new(scheme).await;
    let channel = world.channel();
    let mut numbers = channel.call::<u64>("Feed.count", &(5, 2005)).receive::<u64>().await.unwrap();
    let received: Vec<u64> = numbers.by_ref().map(Result::unwrap).collect().await;
    assert_eq!((received, numbers.finish().await.unwrap()), ((5..2005).collect(), 2000));

    let mut sum = channel.call::<i64>("Feed.sum", &no_args()).send_items::<i64>().await.unwrap();
    for number in 1..=2000 {
        assert!(sum.send(number).await.unwrap());
    }
    assert_eq!(sum.finish().await.unwrap(), 2_001_000);

    let echo = channel.call::<u64>("Feed.echo", &no_args()).exchange::<Bytes, Bytes>().await.unwrap();
    let (mut sink, mut items) = echo.split();
    let sizes = || (0..200_usize).map(|n| if n % 20 == 0 { 700_000 } else { n * 37 });
    let sending = tokio::spawn(async move {
        for size in sizes() {
            assert!(sink.send(Bytes::from(vec![7; size])).await.unwrap());
        }
        sink.finish().await.unwrap()
    });
    for size in sizes() {
        let item = timeout(PATIENCE, items.next()).await.unwrap().unwrap().unwrap();
        assert!(item.len() == size && item.iter().all(|byte| *byte == 7));
    }
    assert!(items.next().await.is_none());
    assert_eq!((items.finish().await.unwrap(), sending.await.unwrap()), (200, 200));
    let connection = channel.connection().unwrap();
    until("nothing is left", || connection.held_by_streams() == (0, 0, 0)).await;
}

async fn ends_of_streams_are_told_apart(scheme: &'static str) {
    let world = World::new(scheme).await;
    let channel = world.channel();
    let first = channel.call::<u64>("Feed.first", &(3,)).send_items::<i64>().await.unwrap();
    let mut first = first;
    let mut sent = 0;
    while first.send(sent).await.unwrap() {
        sent += 1;
    }
    assert_eq!(first.finish().await.unwrap(), 3);

    let call = channel.call_fallible::<(), String>("Feed.fail_after", &(2,));
    let mut numbers = call.receive::<u64>().await.unwrap();
    for number in 0..2 {
        assert_eq!(numbers.next().await.unwrap().unwrap(), number);
    }
    let failed = CallError::Application("as asked".to_owned());
    assert_eq!(numbers.next().await.unwrap().unwrap_err(), failed);
    assert_eq!(numbers.finish().await.unwrap_err(), failed);

    let plain = channel.call::<()>("Echo.echo", &no_args()).receive::<u64>().await;
    let plain = match plain {
        Ok(mut items) => items.next().await.unwrap().unwrap_err(),
        Err(error) => error,
    };
    assert_eq!((plain.code(), plain.execution()), (Code::InvalidArgument, Execution::Refused));
    let streaming = channel.call::<u64>("Feed.count", &(1, 2)).await.unwrap_err();
    assert_eq!((streaming.code(), streaming.execution()), (Code::InvalidArgument, Execution::Refused));
}

async fn dropped_stream_stops_its_handler(scheme: &'static str) {
    let world = World::new(scheme).await;
    let channel = world.channel();
    let mut ticks = channel.call::<()>("Feed.ticks", &no_args()).receive::<u64>().await.unwrap();
    for number in 0..3 {
        assert_eq!(ticks.next().await.unwrap().unwrap(), number);
    }
    world.wait_for_running(1).await;
    drop(ticks);
    world.wait_for_running(0).await;
    let connection = channel.connection().unwrap();
    until("nothing is left", || connection.held_by_streams() == (0, 0, 0)).await;
    assert_eq!(world.handle.connections(), 1);
}

async fn cut_stream_is_never_complete(scheme: &'static str) {
    let world = World::new(scheme).await;
    let relay = Relay::before(&world).await;
    let channel = channel_to(&format!("{}@{}", world.scheme, relay.place));
    let mut ticks = channel.call::<()>("Feed.ticks", &no_args()).receive::<u64>().await.unwrap();
    assert_eq!(ticks.next().await.unwrap().unwrap(), 0);
    relay.cut();
    let error = loop {
        match timeout(PATIENCE, ticks.next()).await.unwrap() {
            Some(Ok(_)) => {}
            Some(Err(error)) => break error,
            None => panic!("a stream that was cut looks complete"),
        }
    };
    assert_eq!((error.code(), error.execution()), (Code::Unavailable, Execution::Maybe), "{error}");
    assert!(ticks.next().await.is_none());
    world.wait_for_running(0).await;
}

/// Defines each test for each scheme.
macro_rules! suite {
    ($tests:tt over $($scheme:ident)*) => { $(suite!(@one $scheme $tests);)* };
    (@one $scheme:ident [$($test:ident)*]) => {
        mod $scheme {
            $(
                #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                async fn $test() {
                    super::$test(stringify!($scheme)).await;
                }
            )*
        }
    };
}

suite! {
    [
        concurrent_calls_get_their_own_results
        errors_have_a_code_and_an_execution
        dropped_call_stops_its_handler
        deadline_ends_the_call_and_its_handler
        ten_megabytes_round_trip
        oversized_message_fails_alone
        lost_connection_ends_its_calls_on_both_sides_and_the_next_call_redials
        closed_client_is_disconnected_at_once
        one_way_calls_arrive_though_the_runtime_ends
        close_is_ready_when_the_server_has_read_all
        stopping_server_finishes_its_calls
        streams_pass_in_both_directions
        ends_of_streams_are_told_apart
        dropped_stream_stops_its_handler
        cut_stream_is_never_complete
    ]
    over tcp unix http connect ws https wss one_port_tcp one_port_ws one_port_tls one_port_https
}
