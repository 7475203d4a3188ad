//! One suite of calls, cancels, deadlines, large bodies and broken connections, over every way to a
//! server.

#![allow(clippy::unwrap_used, reason = "a test that cannot set up has failed")]

mod support;

use farcall_client::RetryPolicy;
use farcall_protocol::{Code, Execution};
use serde_json::json;
use tokio::time::{sleep, timeout};

use crate::support::{MAX_FRAME, MS, PATIENCE, Relay, World, channel_to, no_args, until};

async fn many_calls_at_once_are_answered_each_with_its_own(scheme: &'static str) {
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

async fn an_error_arrives_with_its_code_and_execution(scheme: &'static str) {
    let world = World::new(scheme).await;
    let error = world.channel().call::<()>("Echo.fail", &no_args()).await.unwrap_err();
    assert_eq!((error.code(), error.execution()), (Code::Application, Execution::Done));
    let error = world.channel().call::<()>("Echo.nothing", &no_args()).await.unwrap_err();
    assert_eq!((error.code(), error.execution()), (Code::Unimplemented, Execution::Refused));
}

async fn a_call_that_is_dropped_stops_its_handler(scheme: &'static str) {
    let world = World::new(scheme).await;
    let channel = world.channel();
    let call = channel.call::<String>("Probe.sleep", &no_args()).start();
    world.wait_for_running(1).await;
    drop(call);
    world.wait_for_running(0).await;
    // The connection is as good as before.
    assert_eq!(channel.call::<String>("Probe.sleep", &json!({"ms": 1})).await.unwrap(), "awake");
    assert_eq!(world.handle.connections(), 1);
}

async fn a_deadline_ends_the_call_and_its_handler(scheme: &'static str) {
    let world = World::new(scheme).await;
    let channel = world.channel();
    channel.connect().await.unwrap();
    let call = channel.call::<String>("Probe.sleep", &no_args()).timeout(300 * MS);
    let error = timeout(PATIENCE, call).await.unwrap().unwrap_err();
    assert_eq!(error.code(), Code::DeadlineExceeded, "{error}");
    world.wait_for_running(0).await;
}

async fn ten_megabytes_go_both_ways(scheme: &'static str) {
    let world = World::new(scheme).await;
    let channel = world.channel();
    let text: String = (0..10_000_000_u32).map(|n| char::from(b'a' + (n % 23) as u8)).collect();
    let args = json!({ "text": text });
    let calls = [(); 2].map(|()| channel.call::<String>("Echo.echo", &args).start());
    for call in calls {
        let echoed = timeout(2 * PATIENCE, call).await.unwrap().unwrap();
        assert!(echoed == text, "{} bytes came back, or others", echoed.len());
    }
}

async fn what_is_too_large_fails_alone(scheme: &'static str) {
    let world = World::new(scheme).await;
    let channel = world.channel();
    channel.connect().await.unwrap();
    let args = json!({ "text": "x".repeat(MAX_FRAME) });
    let error = channel.call::<String>("Echo.echo", &args).await.unwrap_err();
    assert_eq!((error.code(), error.execution()), (Code::ResourceExhausted, Execution::NotSent));
    assert_eq!(channel.call::<String>("Echo.echo", &json!({"text": "small"})).await.unwrap(), "small");
    assert_eq!(world.handle.connections(), 1);
}

async fn a_connection_that_breaks_ends_its_calls_on_both_sides_and_the_next_dials_anew(scheme: &'static str) {
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

async fn a_client_that_leaves_is_gone_at_once(scheme: &'static str) {
    let world = World::new(scheme).await;
    let channel = world.channel();
    channel.connect().await.unwrap();
    assert_eq!(world.handle.connections(), 1);
    channel.close();
    until("the server has no connection", || world.handle.connections() == 0).await;
}

async fn a_server_that_stops_finishes_what_it_has_begun(scheme: &'static str) {
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

/// Each fact over each way.
macro_rules! suite {
    ($facts:tt over $($scheme:ident)*) => { $(suite!(@one $scheme $facts);)* };
    (@one $scheme:ident [$($fact:ident)*]) => {
        mod $scheme {
            $(
                #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                async fn $fact() {
                    super::$fact(stringify!($scheme)).await;
                }
            )*
        }
    };
}

suite! {
    [
        many_calls_at_once_are_answered_each_with_its_own
        an_error_arrives_with_its_code_and_execution
        a_call_that_is_dropped_stops_its_handler
        a_deadline_ends_the_call_and_its_handler
        ten_megabytes_go_both_ways
        what_is_too_large_fails_alone
        a_connection_that_breaks_ends_its_calls_on_both_sides_and_the_next_dials_anew
        a_client_that_leaves_is_gone_at_once
        a_server_that_stops_finishes_what_it_has_begun
    ]
    over tcp unix http connect ws https wss one_port_tcp one_port_ws one_port_tls one_port_https
}
