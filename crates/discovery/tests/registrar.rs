//! `keep_registered` against places that fail in every way they can, in paused time.

#![allow(clippy::unwrap_used, reason = "all of it is test code")]

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use farcall_discovery::{
    Instance, Registered, Registrar, RegistrarError, RegistrarErrorKind, RegistrationState, Renewal,
    SourceError, keep_registered_with,
};
use farcall_transport::Address;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;

use self::Answer::{Fails, Grants, Hangs, Panics, PanicsAtOnce, Takes, Unknown};
use self::Request::{Deregister, Register, Renew};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Request {
    Register,
    Renew,
    Deregister,
}

/// The response of a place to a request.
#[derive(Clone)]
enum Answer {
    /// Success, and when the next heartbeat is due.
    Grants(Duration),
    Unknown,
    Fails,
    Hangs,
    Panics,
    /// Panics before there is a future.
    PanicsAtOnce,
    /// Answers this after a delay.
    Takes(Duration, Box<Answer>),
}

/// A place that follows a script, and repeats the last step of it.
#[derive(Clone)]
struct Place {
    requests: Arc<Mutex<Vec<(Instant, Request)>>>,
    script: Arc<Mutex<VecDeque<Answer>>>,
    farewell: Answer,
}

impl Place {
    fn new(script: impl IntoIterator<Item = Answer>) -> Self {
        let script = Arc::new(Mutex::new(script.into_iter().collect()));
        Self { requests: Arc::default(), script, farewell: Grants(Duration::ZERO) }
    }

    fn ask(&self, request: Request) -> impl Future<Output = Result<Renewal, RegistrarError>> + Send + use<> {
        self.requests.lock().unwrap().push((Instant::now(), request));
        let mut answer = if request == Deregister {
            self.farewell.clone()
        } else {
            let mut script = self.script.lock().unwrap();
            if script.len() > 1 { script.pop_front().unwrap() } else { script[0].clone() }
        };
        assert!(!matches!(answer, PanicsAtOnce), "no future");
        async move {
            if let Takes(time, then) = answer {
                sleep(time).await;
                answer = *then;
            }
            match answer {
                Grants(heartbeat) => Ok(Renewal::Renewed(heartbeat)),
                Unknown => Ok(Renewal::Unknown),
                Fails => Err(RegistrarError::new(RegistrarErrorKind::Rejected, "it says no")),
                Hangs => std::future::pending().await,
                Panics | PanicsAtOnce | Takes(..) => panic!("in the request"),
            }
        }
    }

    fn requests(&self) -> Vec<Request> {
        self.requests.lock().unwrap().iter().map(|(_, request)| *request).collect()
    }

    /// The time before each request but the first.
    fn gaps(&self) -> Vec<Duration> {
        self.requests.lock().unwrap().windows(2).map(|pair| pair[1].0 - pair[0].0).collect()
    }
}

impl Registrar for Place {
    type Lease = u32;

    fn describe(&self) -> String {
        "a place".to_owned()
    }

    fn register(&self, _: &Instance) -> impl Future<Output = Result<Registered<u32>, RegistrarError>> + Send {
        let answer = self.ask(Register);
        async {
            match answer.await? {
                Renewal::Renewed(heartbeat) => Ok(Registered::new(7, heartbeat)),
                other => panic!("a registration is not {other:?}"),
            }
        }
    }

    fn renew(
        &self,
        _: &Instance,
        lease: &mut u32,
    ) -> impl Future<Output = Result<Renewal, RegistrarError>> + Send {
        assert_eq!(*lease, 7);
        self.ask(Renew)
    }

    fn deregister(
        &self,
        _: &Instance,
        lease: u32,
    ) -> impl Future<Output = Result<(), RegistrarError>> + Send {
        assert_eq!(lease, 7);
        let answer = self.ask(Deregister);
        async { answer.await.map(drop) }
    }
}

/// A loop that runs.
struct Kept {
    place: Place,
    stop: CancellationToken,
    states: Arc<Mutex<Vec<RegistrationState>>>,
    task: JoinHandle<()>,
}

fn keep(place: Place) -> Kept {
    let instance = Instance::new("Arith", Address::parse("tcp@10.0.0.5:7001").unwrap());
    let (stop, states) = (CancellationToken::new(), Arc::<Mutex<Vec<_>>>::default());
    let report = {
        let states = Arc::clone(&states);
        move |state| states.lock().unwrap().push(state)
    };
    let keeping = keep_registered_with(place.clone(), instance, stop.clone().cancelled_owned(), report);
    Kept { place, stop, states, task: tokio::spawn(keeping) }
}

impl Kept {
    /// Stops it, and returns the time that it took to end and its requests meanwhile.
    async fn stop(self) -> (Duration, Vec<Request>) {
        let (before, begun) = (self.place.requests().len(), Instant::now());
        self.stop.cancel();
        timeout(secs(60), self.task).await.expect("it ends").unwrap();
        (begun.elapsed(), self.place.requests().split_off(before))
    }

    fn states(&self) -> Vec<RegistrationState> {
        self.states.lock().unwrap().clone()
    }
}

const fn secs(n: u64) -> Duration {
    Duration::from_secs(n)
}

const fn millis(n: u64) -> Duration {
    Duration::from_millis(n)
}

/// Timers go by whole milliseconds.
const TICK: Duration = millis(2);
const LIMIT: Duration = millis(2_000).saturating_add(TICK);

fn takes(time: Duration, then: Answer) -> Answer {
    Takes(time, Box::new(then))
}

#[tokio::test(start_paused = true)]
async fn failures_are_retried_after_1_2_4_to_15_seconds_with_jitter() {
    let kept = keep(Place::new([Fails]));
    sleep(secs(24 * 60 * 60)).await;
    let gaps = kept.place.gaps();
    for (n, gap) in gaps.iter().enumerate() {
        let longest = secs(if n < 4 { 1 << n } else { 15 });
        assert!((longest / 2..=longest + TICK).contains(gap), "pause {n} is {gap:?}");
    }
    assert!(gaps.len() >= 24 * 60 * 60 / 15, "{}", gaps.len());
    let late = &gaps[10..];
    assert!(late.iter().min().unwrap() < &secs(9) && late.iter().max().unwrap() > &secs(13), "no jitter");
    assert!(kept.place.requests().iter().all(|request| *request == Register));
}

#[tokio::test(start_paused = true)]
async fn retries_come_at_least_as_often_as_renewals() {
    let kept = keep(Place::new([Grants(secs(2)), Fails]));
    sleep(secs(600)).await;
    let gaps = kept.place.gaps();
    assert!(gaps.iter().all(|gap| *gap <= secs(2) + TICK), "{gaps:?}");
    let hangs = keep(Place::new([Grants(secs(2)), Hangs]));
    sleep(secs(600)).await;
    let gaps = hangs.place.gaps();
    assert!(gaps.iter().all(|gap| *gap <= secs(4) + TICK), "a request may take as long: {gaps:?}");
}

#[tokio::test(start_paused = true)]
async fn success_resets_the_pauses() {
    let script = [Fails, Fails, Fails, Fails, Grants(secs(60)), Fails, Fails];
    let kept = keep(Place::new(script));
    sleep(secs(90)).await;
    // Four pauses, a heartbeat, and the first pause again.
    let gaps = kept.place.gaps();
    assert!(gaps[3] >= secs(4) && gaps[4] >= secs(54) && gaps[5] <= secs(1) + TICK, "{gaps:?}");
}

#[tokio::test(start_paused = true)]
async fn request_without_an_answer_is_given_up_after_10_seconds() {
    let kept = keep(Place::new([Hangs]));
    sleep(secs(12)).await;
    assert!((millis(10_500)..=secs(11) + TICK).contains(&kept.place.gaps()[0]));
    let [RegistrationState::Failing(SourceError { reason, .. })] = &kept.states()[..] else {
        panic!("one state")
    };
    assert_eq!(&**reason, "no answer within 10 s");
}

#[tokio::test(start_paused = true)]
async fn renewals_come_after_nine_tenths_to_the_whole_heartbeat() {
    let kept = keep(Place::new([Grants(secs(100)), Grants(secs(240))]));
    sleep(secs(24 * 60 * 60)).await;
    let gaps = kept.place.gaps();
    assert!((secs(90)..=secs(100) + TICK).contains(&gaps[0]), "{gaps:?}");
    let renewals = &gaps[1..];
    assert!(renewals.iter().all(|gap| (secs(216)..=secs(240) + TICK).contains(gap)), "{gaps:?}");
    assert!(renewals.iter().max().unwrap().abs_diff(*renewals.iter().min().unwrap()) > secs(10), "no jitter");
    assert_eq!(kept.place.requests()[..3], [Register, Renew, Renew]);
}

#[tokio::test(start_paused = true)]
async fn extreme_heartbeats_neither_spin_nor_overflow() {
    for heartbeat in [Duration::ZERO, Duration::from_nanos(1)] {
        let kept = keep(Place::new([Grants(heartbeat)]));
        sleep(secs(10)).await;
        let requests = kept.place.requests().len();
        assert!((90..=112).contains(&requests), "{requests} in 10 s");
        kept.stop().await;
    }
    let kept = keep(Place::new([Grants(Duration::MAX)]));
    sleep(secs(25 * 60 * 60)).await;
    assert_eq!(kept.place.requests(), [Register, Renew]);
}

#[tokio::test(start_paused = true)]
async fn unknown_instance_is_registered_again_at_once() {
    let kept = keep(Place::new([Grants(secs(10)), Unknown, Grants(secs(10))]));
    sleep(secs(15)).await;
    assert_eq!(kept.place.requests(), [Register, Renew, Register]);
    assert!(kept.place.gaps()[1] <= TICK, "{:?}", kept.place.gaps());
}

#[tokio::test(start_paused = true)]
async fn registry_that_forgets_at_once_is_called_with_pauses() {
    let script = [Grants(Duration::ZERO), Unknown].into_iter().cycle().take(1000);
    let kept = keep(Place::new(script));
    sleep(secs(10)).await;
    let requests = kept.place.requests().len();
    assert!((180..=224).contains(&requests), "{requests} in 10 s");
}

#[tokio::test(start_paused = true)]
async fn failed_renewal_is_retried_with_the_same_lease() {
    let kept = keep(Place::new([Grants(secs(10)), Fails, Grants(secs(10))]));
    sleep(secs(13)).await;
    assert_eq!(kept.place.requests(), [Register, Renew, Renew]);
}

#[tokio::test(start_paused = true)]
async fn panic_of_the_registrar_is_a_failure() {
    for panics in [Panics, PanicsAtOnce] {
        let mut place = Place::new([panics.clone(), Grants(secs(10)), panics.clone(), Grants(secs(10))]);
        place.farewell = panics;
        let kept = keep(place);
        sleep(secs(13)).await;
        assert_eq!(kept.place.requests(), [Register, Register, Renew, Renew]);
        let RegistrationState::Failing(SourceError { reason, .. }) = &kept.states()[0] else {
            panic!("it failed")
        };
        assert!(reason.starts_with("the registrar panicked: "), "{reason}");
        let (time, requests) = kept.stop().await;
        assert!(time <= TICK && requests == [Deregister], "{time:?}, {requests:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn stop_between_heartbeats_deregisters_at_once() {
    let kept = keep(Place::new([Grants(secs(10))]));
    sleep(secs(5)).await;
    let (time, requests) = kept.stop().await;
    assert!(time <= TICK && requests == [Deregister], "{time:?}, {requests:?}");
}

#[tokio::test(start_paused = true)]
async fn registration_in_flight_at_the_stop_is_completed_and_deregistered() {
    let kept = keep(Place::new([takes(millis(1_500), Grants(secs(10)))]));
    sleep(millis(100)).await;
    let (time, requests) = kept.stop().await;
    assert!((millis(1_395)..=LIMIT).contains(&time) && requests == [Deregister], "{time:?}, {requests:?}");
}

#[tokio::test(start_paused = true)]
async fn renewal_in_flight_at_the_stop_leaves_time_to_deregister() {
    // One that ends in time ends first, so that it can't arrive behind the end.
    for (renewal, expected) in [(takes(millis(500), Grants(secs(10))), millis(500)), (Hangs, secs(1))] {
        let kept = keep(Place::new([Grants(secs(10)), renewal]));
        while kept.place.requests().len() < 2 {
            sleep(millis(1)).await;
        }
        let (time, requests) = kept.stop().await;
        assert!(time.abs_diff(expected) <= TICK * 2 && requests == [Deregister], "{time:?}, {requests:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn unknown_instance_is_not_registered_again_while_stopping() {
    let kept = keep(Place::new([Grants(secs(10)), takes(millis(500), Unknown)]));
    while kept.place.requests().len() < 2 {
        sleep(millis(1)).await;
    }
    let (time, requests) = kept.stop().await;
    assert!(time <= millis(500) + TICK && requests.is_empty(), "{time:?}, {requests:?}");
}

#[tokio::test(start_paused = true)]
async fn stop_takes_at_most_2_seconds_if_the_registry_hangs() {
    let kept = keep(Place::new([Hangs]));
    sleep(secs(1)).await;
    let (time, requests) = kept.stop().await;
    assert!(time <= LIMIT && requests.is_empty(), "{time:?}, {requests:?}");

    // The registration's last moments, and its end, share them.
    let slow = takes(millis(1_500), Grants(secs(10)));
    for script in [vec![Grants(secs(10))], vec![slow], vec![Grants(secs(10)), Hangs]] {
        let mut place = Place::new(script);
        place.farewell = Hangs;
        let kept = keep(place);
        sleep(millis(10)).await;
        let states = Arc::clone(&kept.states);
        let (time, requests) = kept.stop().await;
        assert!(time <= LIMIT && requests == [Deregister], "{time:?}, {requests:?}");
        let last = states.lock().unwrap().last().cloned().unwrap();
        let RegistrationState::Failing(SourceError { reason, .. }) = last else { panic!("{last:?}") };
        assert!(reason.starts_with("not deregistered: no answer within "), "{reason}");
    }
}

#[tokio::test(start_paused = true)]
async fn registry_that_never_answered_gets_no_deregistration() {
    let kept = keep(Place::new([Fails]));
    sleep(secs(100)).await;
    let (time, requests) = kept.stop().await;
    assert!(time <= TICK && requests.is_empty(), "{time:?}, {requests:?}");
}

#[tokio::test(start_paused = true)]
async fn stop_before_the_start_registers_nothing() {
    let kept = keep(Place::new([Grants(secs(10))]));
    let place = kept.place.clone();
    kept.stop().await;
    assert!(place.requests().is_empty());
}

#[tokio::test(start_paused = true)]
async fn each_change_of_state_is_reported_once() {
    let kept = keep(Place::new([Fails, Fails, Grants(secs(1)), Grants(secs(1)), Unknown, Grants(secs(1))]));
    let begun = Instant::now();
    sleep(secs(60)).await;
    let states = Arc::clone(&kept.states);
    kept.stop().await;
    let states = states.lock().unwrap().clone();
    use RegistrationState::{Deregistered, Failing as Fail, Registered};
    let [Fail(first), Fail(second), Registered { since }, Deregistered] = &states[..] else {
        panic!("{states:?}")
    };
    assert_eq!((&*first.reason, first.since), ("it says no", second.since));
    assert!(first.since - begun <= TICK && *since > first.since);
    assert!(states[2].to_string().starts_with("registered for 5"), "{}", states[2]);
    sleep(secs(30)).await;
    assert_eq!(states[0].to_string(), "failing for 90 s: it says no");
}
