//! Models of hand-overs, which shuttle runs with many schedules: `scripts/models`.
//!
//! What runs is the connection's own code, with the mutexes and atomics of [`shared`](super::shared) and
//! [`wake_batch`](super::wake_batch) replaced by shuttle's, at which it switches between tasks. It also does before operations of
//! [`steps`], which are one step each, as those of tokio's semaphores are. Time stands still, and memory is sequentially
//! consistent.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::task::{Poll, Wake, Waker};

use bytes::{Bytes, BytesMut};
use farcall_protocol::{Body, Codec, Flags, HeaderRef, Kind, MaxFrameBytes, MaxInFlight, Negotiated};
use farcall_test_support::frames::Frames;
use farcall_transport::{Address, Stream};
use futures::future::poll_fn;
use shuttle::rand::Rng;
use shuttle::{check_pct, check_random, future, thread};
use tokio::io::{AsyncWriteExt, DuplexStream, duplex};

use self::steps::RUNTIME_MAY_END;
use super::driver::Driver;
use super::handle::Handle;
use super::options::ConnectionOptions;
use super::place::PlaceKind;
use super::shared::Shared;
use super::wake_batch::WakeBatch;
use crate::error::Phase;

pub(super) mod steps;

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

/// A connection, as [`Connection::over`](super::Connection::over) makes it behind the handshake, whose server runs this many
/// calls at once. Returns the server's end.
fn connection(calls: usize, outbox_bytes: usize) -> (Arc<Handle>, Frames<DuplexStream>) {
    let (near, far) = duplex(256);
    let mut negotiated = Negotiated::new(Codec::default());
    negotiated.max_in_flight = MaxInFlight::new(calls);
    let options = ConnectionOptions::default().outbox_bytes(outbox_bytes);
    let address = Address::parse("tcp@server.example:1").unwrap();
    let shared = Arc::new(Shared::new(negotiated, address, &options));
    let driver = Driver::new(Stream::new(near), BytesMut::new(), Arc::clone(&shared), &options);
    // It runs on without its handle.
    drop(future::spawn(driver));
    (
        Arc::new(Handle::new(shared)),
        Frames::new(far, Codec::default(), MaxFrameBytes::DEFAULT, BytesMut::new()),
    )
}

/// Makes a call, and returns its answer; `false` if it failed.
async fn call(handle: &Arc<Handle>) -> bool {
    let body = Body::from(Bytes::from_static(b"\x07"));
    let request = handle.encode("T.echo", &body, None, Flags::NONE, None).unwrap();
    let mut phase = Phase::Queue;
    let Ok(place) = PlaceKind::Call.take(handle).await else { return false };
    let Ok(pending) = place.send(&request, &mut phase).await else { return false };
    pending.await.is_ok()
}

/// Answers requests, this many at a time, until `count` of them came or the client has left.
async fn answer(mut server: Frames<DuplexStream>, batch: usize, count: usize) -> usize {
    let mut answered = 0;
    let mut answers = Vec::new();
    while answered < count {
        let Some(message) = server.next().await else { break };
        if message.header.kind == Kind::Request {
            answered += 1;
            answers.extend(server.encode(&HeaderRef::new(Kind::Response, message.header.seq), &b"\x07"[..]));
        }
        if answered % batch == 0 || answered == count {
            let _ = server.stream.write_all(&std::mem::take(&mut answers)).await;
        }
    }
    // What comes behind is read, so that the client can end.
    while server.next().await.is_some() {}
    answered
}

/// Callers that append requests while the task takes them: each request is written once, and each caller is woken.
#[test]
fn callers_hand_requests_to_the_task_and_are_woken() {
    check(|| {
        let (handle, server) = connection(4, 4096);
        let serving = future::spawn(answer(server, 2, 3));
        let callers: Vec<_> = (0..2)
            .map(|_| {
                let handle = Arc::clone(&handle);
                thread::spawn(move || future::block_on(call(&handle)))
            })
            .collect();
        assert!(future::block_on(call(&handle)));
        assert!(callers.into_iter().all(|caller| caller.join().unwrap()));
        assert_eq!((handle.shared().in_flight(), PlaceKind::Call.free(&handle)), (0, 4));
        drop(handle);
        assert_eq!(future::block_on(serving).unwrap(), 3);
    });
}

/// More callers than places, and an outbox with room for one request: permits and room pass from one to the next.
#[test]
fn places_and_room_pass_from_one_caller_to_the_next() {
    check(|| {
        let (handle, server) = connection(2, 1);
        let serving = future::spawn(answer(server, 1, 3));
        let callers: Vec<_> = (0..3)
            .map(|_| {
                let handle = Arc::clone(&handle);
                thread::spawn(move || future::block_on(call(&handle)))
            })
            .collect();
        assert!(callers.into_iter().all(|caller| caller.join().unwrap()));
        assert_eq!((handle.shared().in_flight(), PlaceKind::Call.free(&handle)), (0, 2));
        drop(handle);
        assert_eq!(future::block_on(serving).unwrap(), 3);
    });
}

/// A caller that leaves while its answer comes, and one that waits for its place.
#[test]
fn caller_that_leaves_gives_its_place_back() {
    check(|| {
        let (handle, server) = connection(1, 4096);
        let serving = future::spawn(answer(server, 1, 2));
        let leaving = Arc::clone(&handle);
        let leaving = thread::spawn(move || {
            let mut call = Box::pin(call(&leaving));
            // Three polls, with whatever comes in between.
            for _ in 0..3 {
                let polled = future::block_on(poll_fn(|cx| Poll::Ready(call.as_mut().poll(cx))));
                if polled.is_ready() {
                    break;
                }
                thread::yield_now();
            }
        });
        assert!(future::block_on(call(&handle)));
        leaving.join().unwrap();
        drop(handle);
        future::block_on(serving).unwrap();
    });
}

/// A connection that is closed while calls are made: each ends, with its answer or an error, and the task ends.
#[test]
fn calls_end_when_the_connection_is_closed_among_them() {
    check(|| {
        let (handle, server) = connection(2, 4096);
        let serving = future::spawn(answer(server, 1, 8));
        let callers: Vec<_> = (0..2)
            .map(|_| {
                let handle = Arc::clone(&handle);
                thread::spawn(move || future::block_on(call(&handle)))
            })
            .collect();
        handle.shared().close();
        let succeeded = callers.into_iter().map(|caller| usize::from(caller.join().unwrap())).sum::<usize>();
        assert_eq!(handle.shared().in_flight(), 0);
        drop(handle);
        assert!(future::block_on(serving).unwrap() >= succeeded);
    });
}

struct Counted(AtomicUsize);

impl Wake for Counted {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, SeqCst);
    }
}

/// Callers that are woken together: by the runtime's next turn on another thread, by the connection's, or by its end.
#[test]
fn callers_of_a_batch_are_woken_once_each() {
    RUNTIME_MAY_END.store(true, SeqCst);
    check(|| {
        let counts: Vec<_> = (0..4).map(|_| Arc::new(Counted(AtomicUsize::new(0)))).collect();
        let mut wakers: Vec<_> = counts.iter().map(|count| Waker::from(Arc::clone(count))).collect();
        let mut batch = WakeBatch::new();
        let mut second = wakers.split_off(2);
        batch.wake(&mut wakers);
        if shuttle::rand::thread_rng().gen_bool(0.5) {
            batch.wake_pending();
        }
        batch.wake(&mut second);
        drop(batch);
        assert!(counts.iter().all(|count| count.0.load(SeqCst) == 1));
    });
    RUNTIME_MAY_END.store(false, SeqCst);
}
