//! Tests of [`Overload`] with handlers of which a number work at once, in paused time.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use farcall_protocol::Criticality;
use farcall_protocol::describe::StreamInfo;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, sleep_until};

use super::admission::{Applicant, Entry, Overload};
use crate::service::handler::{Handler, Request, Response, ResponseFuture};
use crate::service::method::Method;

const MS: Duration = Duration::from_millis(1);

struct Never;

impl Handler for Never {
    fn call(&self, _request: Request) -> ResponseFuture {
        ResponseFuture::ready(Response::new(bytes::Bytes::new()))
    }
}

/// A server without connections.
struct Server {
    overload: Arc<Overload>,
    method: Arc<Method>,
    places: Arc<Semaphore>,
    work: Duration,
    rate: f64,
}

/// Latencies of calls that were served, and the number of others, by caller.
type Outcome = [(Vec<Duration>, usize); 2];

impl Server {
    fn new(capacity: usize, work: Duration) -> Self {
        let method = Method::new("T.m".to_owned(), Arc::new(Never), &StreamInfo::default(), false, 0, false);
        let rate = capacity as f64 / work.as_secs_f64();
        Self {
            overload: Overload::new(1),
            method: Arc::new(method),
            places: Arc::new(Semaphore::new(capacity)),
            work,
            rate,
        }
    }

    async fn call(&self, caller: u64, criticality: Criticality, deadline: Option<Instant>) -> bool {
        let call = Applicant { method: &self.method, criticality, caller, deadline };
        let place = match self.overload.admit(&call, Instant::now()) {
            Entry::Start => self.overload.begin(&self.method, Instant::now()),
            Entry::Wait(wait) => wait.granted().await.ok(),
            Entry::Refuse(_) => None,
        };
        let Some(mut place) = place else { return false };
        let _worked_on = self.places.acquire().await;
        // No two calls take the same time.
        sleep(self.work.mul_f64(0.8 + 0.4 * fastrand::f64())).await;
        place.complete();
        true
    }

    /// Makes calls of two callers at these rates, as parts of the capacity.
    async fn load(self: &Arc<Self>, parts: [f64; 2], criticality: Criticality, time: Duration) -> Outcome {
        let outcome: Arc<Mutex<Outcome>> = Arc::default();
        let (mut random, mut calls) = (fastrand::Rng::new(), JoinSet::new());
        let (start, mut next) = (Instant::now(), 0.0);
        loop {
            next -= random.f64().max(1e-12).ln() / (self.rate * (parts[0] + parts[1]));
            let at = start + Duration::from_secs_f64(next);
            if at >= start + time {
                break;
            }
            sleep_until(at).await;
            let caller = usize::from(random.f64() * (parts[0] + parts[1]) >= parts[0]);
            let (server, outcome) = (Arc::clone(self), Arc::clone(&outcome));
            calls.spawn(async move {
                let began = Instant::now();
                let served = server.call(caller as u64, criticality, None).await;
                let of_caller = &mut outcome.lock().unwrap()[caller];
                if served {
                    of_caller.0.push(began.elapsed());
                } else {
                    of_caller.1 += 1;
                }
            });
        }
        calls.join_all().await;
        std::mem::take(&mut *outcome.lock().unwrap())
    }
}

fn p99(latencies: &mut [Duration]) -> Duration {
    latencies.sort_unstable();
    latencies[latencies.len() * 99 / 100]
}

#[tokio::test(start_paused = true)]
async fn overloaded_server_serves_what_it_can_in_twice_the_time() {
    for (capacity, work, times) in [(10, 20 * MS, 2.0), (10, 20 * MS, 5.0), (4, 100 * MS, 5.0)] {
        let server = Arc::new(Server::new(capacity, work));
        let [(mut unloaded, _), _] = server.load([0.3, 0.0], Criticality::Default, 1000 * work).await;
        server.load([times, 0.0], Criticality::Default, 100 * work).await;
        // 6,000 calls can be served. Of few, p99 would be that of one, and differ by a fifth from run to run.
        let time = 6000 / capacity as u32 * work;
        let [(mut served, _), _] = server.load([times, 0.0], Criticality::Default, time).await;
        let goodput = served.len() as f64 / 6000.0;
        let p99 = p99(&mut served).as_secs_f64() / p99(&mut unloaded).as_secs_f64();
        let overview = server.overload.overview();
        assert!(goodput > 0.9 && p99 < 2.0, "{goodput}, {p99}, {overview:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn callers_have_equal_shares_and_modest_ones_lose_little() {
    let server = Arc::new(Server::new(10, 20 * MS));
    server.load([5.0, 0.3], Criticality::Default, 3000 * MS).await;
    let [greedy, modest] = server.load([5.0, 0.3], Criticality::Default, 2000 * MS).await;
    assert!(modest.0.len() > 8 * modest.1 && greedy.0.len() > 500, "{}, {}", modest.0.len(), modest.1);
}
