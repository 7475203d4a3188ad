//! Servers with more calls than they can serve, in virtual time.

use std::time::Duration;

use farcall::protocol::{Code, Criticality, Execution};

#[path = "../../examples/overload/load.rs"]
#[allow(dead_code, reason = "the example uses all of it")]
mod load;

use self::load::{MIXED, Mix, Mode, Waiting, connect, evenly, load};

const S: Duration = Duration::from_secs(1);
const HANDLERS: Waiting = Waiting { capacity: 5, work: Duration::from_millis(20) };

#[tokio::test(start_paused = true)]
async fn overloaded_server_goes_on_serving_what_it_can() {
    let server = HANDLERS.serve(Mode::Adaptive);
    let channels = [connect(&server).await, connect(&server).await, connect(&server).await];
    let rate = |times: f64| evenly(&channels, times * HANDLERS.rate());
    // A p99 of fewer calls would be that of a few.
    let unloaded = load(&rate(0.3), MIXED, 20 * S).await.p99();
    load(&rate(3.0), MIXED, 2 * S).await;
    let mut during = load(&rate(4.0), MIXED, 14 * S).await;
    let goodput = during.goodput(14 * S) / HANDLERS.rate();
    assert!(goodput > 0.9, "{goodput}");
    let p99 = during.p99();
    assert!(p99 < 2 * unloaded, "{p99:?} of {unloaded:?}");
    let lost =
        [Criticality::Critical, Criticality::Default, Criticality::Sheddable].map(|class| during.lost(class));
    assert!(lost[0] == 0 && lost[1] > 0 && lost[2] > 0, "{lost:?}");
    let overview = server.overload().unwrap();
    assert!((4..=10).contains(&overview.limit), "{overview:?}");
    assert!(overview.refused.overloaded > 0 && overview.refused.sheddable > 0, "{overview:?}");
    let recovery = load(&rate(0.7), MIXED, 3 * S).await.recovery();
    assert!(recovery < 2 * S, "{recovery:?}");
}

#[tokio::test(start_paused = true)]
async fn greedy_caller_costs_the_others_little() {
    let server = HANDLERS.serve(Mode::Adaptive);
    let calls =
        [(connect(&server).await, 4.0 * HANDLERS.rate()), (connect(&server).await, 0.3 * HANDLERS.rate())];
    load(&calls, Mix::default(), 2 * S).await;
    let outcome = load(&calls, Mix::default(), 3 * S).await;
    let [greedy, modest] = outcome.channels[..] else { panic!("there are two") };
    assert!(modest.served * 100 >= modest.made * 85, "{modest:?}, {greedy:?}");
    assert!(greedy.served > modest.served, "{modest:?}, {greedy:?}");
}

#[tokio::test(start_paused = true)]
async fn call_that_cannot_end_in_time_is_refused_before_it_starts() {
    let server = HANDLERS.serve(Mode::Adaptive);
    let channel = connect(&server).await;
    for _ in 0..20 {
        channel.call::<()>("Work.run", &()).await.unwrap();
    }
    let hurried = channel.call::<()>("Work.run", &()).timeout(Duration::from_millis(10));
    let error = hurried.await.unwrap_err();
    assert_eq!((error.code(), error.execution()), (Code::DeadlineExceeded, Execution::Refused));
    assert_eq!(server.overload().unwrap().refused.deadline, 1);
    // Nothing else is refused without load.
    channel.call::<()>("Work.run", &()).criticality(Criticality::Sheddable).await.unwrap();
}
