//! Models of hand-overs, which shuttle runs with many schedules: `scripts/models`.
//!
//! What runs is the code of [`handler_task`], which is compiled here once more beside a handler of the model's own, and the pool
//! of [`offload`](super::offload), whose mutex and atomics are replaced by shuttle's, at which it switches between threads.
//! Tokio's primitives are as they are: each of their operations is one step. Time stands still, and memory is sequentially
//! consistent.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::task::{Context, Waker};

use futures::future::AbortHandle;
use shuttle::sync::Mutex;
use shuttle::{check_pct, check_random, future, thread};
use tokio::time::Instant;
use tokio_util::task::TaskTracker;

use self::handler_task::HandlerTask;
use self::running::{Event, RunningHandler, StopReason};
use super::offload::{Job, OffloadPool};
use super::offload_runtime::OffloadRuntime;
use super::{fair_queue, offload};
use crate::server::Server;
use crate::server::state::ServerState;

#[path = "handler_task.rs"]
#[allow(dead_code, reason = "compiled for the model")]
mod handler_task;
mod running;

/// Runs workers on threads of shuttle's.
#[derive(Debug)]
struct ShuttleRuntime;

impl OffloadRuntime for ShuttleRuntime {
    fn cores(&self) -> usize {
        2
    }

    fn now(&self) -> Instant {
        Instant::now()
    }

    fn spawn_worker(&self, worker: Box<dyn FnOnce() + Send>) {
        thread::spawn(worker);
    }
}

/// Runs a model with schedules of both kinds: at random, and with few changes of priorities.
fn check(model: impl Fn() + Send + Sync + 'static) {
    let schedules = std::env::var("FARCALL_MODEL_SCHEDULES").map_or(500, |text| text.parse().unwrap());
    // For its clock: timers are made, and none of them expires.
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
    let _entered = runtime.enter();
    let model = Arc::new(model);
    let random = Arc::clone(&model);
    check_random(move || random(), schedules);
    check_pct(move || model(), schedules, 3);
}

fn server() -> Arc<ServerState> {
    let server = Server::builder().offload_runtime(ShuttleRuntime).build().unwrap();
    Arc::clone(&server.handle().inner().state)
}

/// Polls a handler in place, as a call is started, and then in its task, while what it waits for happens at any time. Returns
/// the reason of its end.
fn run(events: usize, slow: &'static [bool], abort: bool) -> (Option<StopReason>, usize) {
    let event = Arc::new(Event::default());
    let ended = Arc::new(Mutex::new(None));
    let mut handler = RunningHandler::new(server(), Arc::clone(&event), events, slow, Arc::clone(&ended));
    let happening = Arc::clone(&event);
    let happens = thread::spawn(move || (0..events).for_each(|_| happening.happen()));
    // The first poll of a call is made with a waker that does nothing.
    if handler.poll(&mut Context::from_waker(Waker::noop())).is_ready() {
        handler.finish(StopReason::Completed);
    } else {
        let (aborting, registration) = AbortHandle::new_pair();
        let task = future::spawn(HandlerTask::new(handler).run(registration));
        if abort {
            aborting.abort();
        }
        future::block_on(task).unwrap();
    }
    happens.join().unwrap();
    let reason = ended.lock().unwrap().take();
    (reason, event.seen())
}

/// The task polls again by itself, so that what happened between the poll in place and the move is not lost.
#[test]
fn handler_that_was_polled_in_place_misses_no_wake_up_when_it_moves() {
    check(|| assert_eq!(run(2, &[], false), (Some(StopReason::Completed), 2)));
}

/// A wake-up that comes while a poll is under way on another thread leads to another poll.
#[test]
fn offloaded_polls_miss_no_wake_up() {
    check(|| assert_eq!(run(2, &[true, true, true, true], false), (Some(StopReason::Completed), 2)));
}

/// A handler that goes back and forth between the task and the pool.
#[test]
fn polls_that_alternate_miss_no_wake_up() {
    check(|| assert_eq!(run(3, &[true, false, true, false], false), (Some(StopReason::Completed), 3)));
}

/// A call that is cancelled at any time ends once, also while it is polled on another thread or waits for one.
#[test]
fn cancelled_call_ends_once() {
    check(|| {
        let (reason, _) = run(2, &[true, false, true, true], true);
        assert!(matches!(reason, Some(StopReason::Completed | StopReason::Cancelled)), "{reason:?}");
    });
}

/// A job that notes its end.
struct Noted {
    client: u64,
    ran: Arc<AtomicUsize>,
    cancelled: Arc<AtomicUsize>,
}

impl Job for Noted {
    fn flow(&self) -> fair_queue::Flow {
        fair_queue::Flow { peer: 0, client: self.client, method: 0 }
    }

    fn is_short(&self) -> bool {
        self.client == 1
    }

    fn run(self: Box<Self>) {
        thread::yield_now();
        self.ran.fetch_add(1, SeqCst);
    }

    fn cancel(self: Box<Self>) {
        self.cancelled.fetch_add(1, SeqCst);
    }
}

/// Jobs that come while threads are about to end: each is run or cancelled, once.
#[test]
fn each_job_is_run_or_cancelled_once() {
    check(|| {
        let pool = OffloadPool::new(Arc::new(ShuttleRuntime));
        let tasks = TaskTracker::new();
        let (ran, cancelled) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        let queueing: Vec<_> = (0..2)
            .map(|client| {
                let (pool, tasks) = (Arc::clone(&pool), tasks.clone());
                let (ran, cancelled) = (Arc::clone(&ran), Arc::clone(&cancelled));
                thread::spawn(move || {
                    let job = || Noted { client, ran: Arc::clone(&ran), cancelled: Arc::clone(&cancelled) };
                    let first = pool.enqueue(Box::new(job()), &tasks);
                    pool.note_quick_call();
                    pool.enqueue(Box::new(job()), &tasks);
                    pool.add_thread_if_late(&tasks);
                    pool.cancel(first);
                })
            })
            .collect();
        queueing.into_iter().for_each(|thread| thread.join().unwrap());
        tasks.close();
        future::block_on(tasks.wait());
        assert_eq!(ran.load(SeqCst) + cancelled.load(SeqCst), 4);
    });
}
