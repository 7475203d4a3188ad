//! The offload pool, with a clock and threads that the test runs by hand.

use std::collections::VecDeque;

use super::*;

/// A runtime whose time stands still until the test moves it, and whose workers run when the test
/// says so, on its own thread.
struct ManualRuntime {
    cores: usize,
    now: Mutex<Instant>,
    /// The time for which all its threads have been busy; `None` if that is not known.
    busy: Arc<Mutex<Option<Duration>>>,
    workers: Mutex<VecDeque<Box<dyn FnOnce() + Send>>>,
}

/// A job that records its label, which is that of its client, too, and that takes as long as it says.
struct Labelled {
    label: usize,
    is_short: bool,
    takes: Duration,
    runtime: Arc<ManualRuntime>,
    log: Arc<Mutex<Vec<usize>>>,
}

impl ManualRuntime {
    fn advance(&self, time: Duration) {
        *self.now.lock().unwrap() += time;
    }

    /// Runs the workers that were spawned, until no new ones are.
    fn run_workers(&self) {
        while let Some(worker) = self.pop_worker() {
            worker();
        }
    }

    fn pop_worker(&self) -> Option<Box<dyn FnOnce() + Send>> {
        self.workers.lock().unwrap().pop_front()
    }
}

impl OffloadRuntime for ManualRuntime {
    fn cores(&self) -> usize {
        self.cores
    }

    fn now(&self) -> Instant {
        *self.now.lock().unwrap()
    }

    fn spawn_worker(&self, worker: Box<dyn FnOnce() + Send>) {
        self.workers.lock().unwrap().push_back(worker);
    }

    fn thread_time(&self) -> Option<ThreadTime> {
        let busy = Arc::clone(&self.busy);
        Some(ThreadTime::new(move || *busy.lock().unwrap()))
    }
}

impl Job for Labelled {
    fn flow(&self) -> Flow {
        Flow { peer: 0, client: self.label as u64, method: 0 }
    }

    fn is_short(&self) -> bool {
        self.is_short
    }

    fn run(self: Box<Self>) {
        self.runtime.advance(self.takes);
        self.log.lock().unwrap().push(self.label);
    }

    fn cancel(self: Box<Self>) {}
}

/// A pool under test, and what its jobs have logged.
struct Fixture {
    runtime: Arc<ManualRuntime>,
    pool: Arc<OffloadPool>,
    tasks: TaskTracker,
    log: Arc<Mutex<Vec<usize>>>,
}

impl Fixture {
    fn new(cores: usize) -> Self {
        let runtime = Arc::new(ManualRuntime {
            cores,
            now: Mutex::new(Instant::now()),
            busy: Arc::default(),
            workers: Mutex::default(),
        });
        let pool = OffloadPool::new(Arc::clone(&runtime) as Arc<dyn OffloadRuntime>);
        Self { runtime, pool, tasks: TaskTracker::new(), log: Arc::default() }
    }

    fn enqueue(&self, label: usize, takes_ms: u64) -> Ticket {
        let (runtime, log) = (Arc::clone(&self.runtime), Arc::clone(&self.log));
        let takes = Duration::from_millis(takes_ms);
        let job = Labelled { label, is_short: takes_ms < 5, takes, runtime, log };
        self.pool.enqueue(Box::new(job), &self.tasks)
    }

    fn threads(&self) -> usize {
        self.pool.lock().threads
    }
}

#[test]
fn core_is_left_to_quick_calls_while_there_are_some() {
    let test = Fixture::new(3);
    test.pool.note_quick_call();
    for _ in 0..4 {
        test.enqueue(0, 1);
    }
    assert_eq!(test.threads(), 2);
    test.runtime.advance(QUICK_CALL_MEMORY);
    test.enqueue(0, 1);
    assert_eq!(test.threads(), 3);
    test.runtime.run_workers();
    assert_eq!((test.threads(), test.log.lock().unwrap().len()), (0, 5));
}

#[test]
fn single_core_still_gets_a_thread() {
    let test = Fixture::new(1);
    test.pool.note_quick_call();
    test.enqueue(0, 1);
    assert_eq!(test.threads(), 1);
}

#[test]
fn client_waits_for_one_job_of_another() {
    let test = Fixture::new(1);
    for client in [[5; 10], [1; 10]].concat() {
        test.enqueue(client, client as u64);
    }
    test.runtime.run_workers();
    let log = std::mem::take(&mut *test.log.lock().unwrap());
    assert_eq!(log[..2], [5, 1]);
    // It gets as much time as the other, not as many jobs.
    assert!(log[..12].iter().filter(|client| **client == 5).count() <= 3, "{log:?}");
}

/// Is run while another job occupies the pool's only thread.
struct WhileRunning<F>(F);

impl<F: FnOnce() + Send> Job for WhileRunning<F> {
    fn flow(&self) -> Flow {
        Flow { peer: 0, client: 1000, method: 0 }
    }

    fn is_short(&self) -> bool {
        false
    }

    fn run(self: Box<Self>) {
        (self.0)();
    }

    fn cancel(self: Box<Self>) {}
}

#[test]
fn short_job_of_another_client_gets_a_thread_beside_a_long_one() {
    let test = Arc::new(Fixture::new(1));
    let inner = Arc::clone(&test);
    let job = WhileRunning(move || {
        // A long job of another client, and more of this one, have to wait.
        inner.enqueue(1, 500);
        inner.enqueue(1000, 1);
        inner.runtime.advance(EXPRESS_PATIENCE);
        inner.pool.add_thread_if_late(&inner.tasks);
        assert!(inner.runtime.pop_worker().is_none());
        inner.enqueue(2, 1);
        inner.pool.add_thread_if_late(&inner.tasks);
        assert_eq!(inner.pool.lock().express, 1);
        inner.runtime.run_workers();
        assert_eq!((inner.pool.lock().express, &inner.log.lock().unwrap()[..]), (0, &[2][..]));
        // One that comes while the thread for it is about to start needs no other one.
        for client in 10..20 {
            inner.enqueue(client, 1);
            inner.pool.add_thread_if_late(&inner.tasks);
        }
        assert_eq!(inner.pool.lock().express, MAX_EXPRESS_THREADS);
        inner.runtime.run_workers();
        assert_eq!(inner.log.lock().unwrap().len(), 11);
    });
    test.pool.enqueue(Box::new(job), &test.tasks);
    test.runtime.run_workers();
    assert_eq!((test.threads(), test.pool.lock().express), (0, 0));
    assert_eq!(test.log.lock().unwrap().len(), 13);
}

/// The same as a short job.
struct WhileShort<F>(F);

impl<F: FnOnce() + Send> Job for WhileShort<F> {
    fn flow(&self) -> Flow {
        Flow { peer: 0, client: 1000, method: 0 }
    }

    fn is_short(&self) -> bool {
        true
    }

    fn run(self: Box<Self>) {
        (self.0)();
    }

    fn cancel(self: Box<Self>) {}
}

#[test]
fn short_jobs_get_no_thread_beside_other_short_ones() {
    let test = Arc::new(Fixture::new(1));
    let inner = Arc::clone(&test);
    let job = WhileShort(move || {
        for client in 1..5 {
            inner.enqueue(client, 4);
        }
        inner.runtime.advance(EXPRESS_PATIENCE);
        inner.pool.add_thread_if_late(&inner.tasks);
        assert!(inner.runtime.pop_worker().is_none(), "each has its turn");
        // The job turns out to be long.
        inner.runtime.advance(SHORT_JOB);
        inner.pool.add_thread_if_late(&inner.tasks);
        assert_eq!(inner.pool.lock().express, 1);
        inner.runtime.run_workers();
        assert_eq!(inner.log.lock().unwrap().len(), 4);
    });
    test.pool.enqueue(Box::new(job), &test.tasks);
    test.runtime.run_workers();
    assert_eq!((test.threads(), test.pool.lock().express), (0, 0));
}

#[test]
fn thread_whose_job_panics_is_uncounted() {
    struct Panics;

    impl Job for Panics {
        fn flow(&self) -> Flow {
            Flow { peer: 0, client: 0, method: 0 }
        }

        fn is_short(&self) -> bool {
            false
        }

        fn run(self: Box<Self>) {
            panic!("as the drop of user data may");
        }

        fn cancel(self: Box<Self>) {}
    }

    let test = Fixture::new(1);
    test.pool.enqueue(Box::new(Panics), &test.tasks);
    let worker = test.runtime.pop_worker().unwrap();
    std::panic::catch_unwind(std::panic::AssertUnwindSafe(worker)).unwrap_err();
    assert_eq!(test.threads(), 0);
    assert!(test.tasks.is_empty(), "the server's stop would wait for it");
}

#[test]
fn thread_that_never_starts_is_uncounted() {
    let test = Fixture::new(1);
    test.enqueue(0, 1);
    drop(test.runtime.pop_worker());
    assert_eq!(test.threads(), 0);
    assert!(test.tasks.is_empty(), "the server's stop would wait for it");
}

#[test]
fn only_queued_jobs_can_be_cancelled() {
    let test = Fixture::new(1);
    let taken = test.enqueue(0, 1);
    test.runtime.run_workers();
    assert!(!test.pool.cancel(taken));
    let queued = test.enqueue(0, 1);
    assert!(test.pool.cancel(queued));
    assert!(!test.pool.cancel(queued));
    assert_eq!(test.pool.lock().queue.len(), 0);
    test.runtime.run_workers();
    assert_eq!(test.log.lock().unwrap().len(), 1);
}

/// Adds a thread to the pool whenever it runs, and expects one only if the pool is stalled.
struct Stalls {
    pool: Arc<OffloadPool>,
    runtime: Arc<ManualRuntime>,
    tasks: TaskTracker,
}

impl Job for Stalls {
    fn flow(&self) -> Flow {
        Flow { peer: 0, client: 0, method: 0 }
    }

    fn is_short(&self) -> bool {
        false
    }

    fn run(self: Box<Self>) {
        let Self { pool, runtime, tasks } = *self;
        let add_thread = || {
            pool.add_thread_if_late(&tasks);
            pool.lock().threads
        };
        runtime.advance(STALL_THRESHOLD);
        assert_eq!(add_thread(), 1, "no job is queued");
        let job = Labelled {
            label: 1,
            is_short: false,
            takes: Duration::ZERO,
            runtime: Arc::clone(&runtime),
            log: Arc::default(),
        };
        pool.enqueue(Box::new(job), &tasks);
        assert_eq!(add_thread(), 1, "the job has only just been queued");
        runtime.advance(STALL_THRESHOLD);
        assert_eq!(add_thread(), 2);
        // The new thread runs while this job still occupies its own.
        runtime.run_workers();
        assert_eq!(pool.lock().queue.len(), 0);
    }

    fn cancel(self: Box<Self>) {}
}

#[test]
fn stalled_pool_gets_another_thread() {
    let test = Fixture::new(1);
    let job = Stalls {
        pool: Arc::clone(&test.pool),
        runtime: Arc::clone(&test.runtime),
        tasks: test.tasks.clone(),
    };
    test.pool.enqueue(Box::new(job), &test.tasks);
    test.runtime.run_workers();
    assert_eq!((test.threads(), test.pool.lock().stalled), (0, 0));
}

#[test]
fn pool_whose_jobs_work_gets_no_other_thread_for_long() {
    let test = Arc::new(Fixture::new(1));
    let inner = Arc::clone(&test);
    *test.runtime.busy.lock().unwrap() = Some(Duration::ZERO);
    let job = WhileRunning(move || {
        inner.enqueue(1, 500);
        // For each second, its thread is busy for this part of it.
        let second = |percent: u32| {
            inner.runtime.advance(STALL_THRESHOLD);
            *inner.runtime.busy.lock().unwrap().as_mut().unwrap() += STALL_THRESHOLD * percent / 100;
            inner.pool.add_thread_if_late(&inner.tasks);
            inner.threads()
        };
        assert_eq!([second(100), second(51)], [1, 1]);
        assert_eq!(second(49), 2, "it waits");
        inner.enqueue(1, 500);
        assert_eq!([second(0), second(0)], [2, 2], "the added thread has not begun yet");
        inner.runtime.run_workers();
    });
    test.pool.enqueue(Box::new(job), &test.tasks);
    test.runtime.run_workers();
    assert_eq!(test.threads(), 0);
    let state = test.pool.lock();
    assert_eq!((state.stalled, state.running.len()), (0, 0));
}

#[test]
fn job_that_works_for_very_long_gets_another_thread() {
    let test = Arc::new(Fixture::new(1));
    let inner = Arc::clone(&test);
    *test.runtime.busy.lock().unwrap() = Some(Duration::ZERO);
    let job = WhileRunning(move || {
        inner.enqueue(1, 500);
        let mut seconds = 0;
        while inner.threads() == 1 {
            inner.runtime.advance(STALL_THRESHOLD);
            *inner.runtime.busy.lock().unwrap().as_mut().unwrap() += STALL_THRESHOLD;
            inner.pool.add_thread_if_late(&inner.tasks);
            seconds += 1;
        }
        assert_eq!(STALL_THRESHOLD * seconds, BUSY_STALL_THRESHOLD);
        inner.runtime.run_workers();
    });
    test.pool.enqueue(Box::new(job), &test.tasks);
    test.runtime.run_workers();
    assert_eq!((test.threads(), test.pool.lock().stalled), (0, 0));
}
