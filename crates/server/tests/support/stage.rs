//! The service `T` with its test handlers, and the state they share with a test.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::task::Poll;

use farcall_context::{Context, Inherited};
use farcall_server::{Server, ServerBuilder};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use tokio::sync::Semaphore;
use tokio::time::{Instant, sleep};

use super::millis;

/// The state shared by a test and the handlers of `T`.
#[derive(Clone)]
pub struct Stage {
    /// `T.wait` takes one of its permits.
    pub gate: Arc<Semaphore>,
    /// The number of handlers that were started.
    pub begun: Arc<AtomicUsize>,
    /// The number of handlers that were started and not dropped.
    pub alive: Arc<AtomicUsize>,
}

impl Stage {
    pub fn begun(&self) -> usize {
        self.begun.load(SeqCst)
    }

    pub fn alive(&self) -> usize {
        self.alive.load(SeqCst)
    }

    pub fn enter(&self) -> Alive {
        self.begun.fetch_add(1, SeqCst);
        self.alive.fetch_add(1, SeqCst);
        Alive(Arc::clone(&self.alive))
    }
}

pub struct Alive(Arc<AtomicUsize>);

impl Drop for Alive {
    fn drop(&mut self) {
        self.0.fetch_sub(1, SeqCst);
    }
}

#[derive(Deserialize)]
pub struct Nothing {}

#[derive(Deserialize)]
pub struct Text {
    pub text: String,
}

#[derive(Deserialize)]
pub struct Count {
    pub n: u64,
}

/// Panics when it is dropped, unless a panic is under way.
struct Mine;

impl Drop for Mine {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            panic!("in a drop");
        }
    }
}

/// Panics when it is read, and when it is written.
struct Unusable;

impl<'de> Deserialize<'de> for Unusable {
    fn deserialize<D: Deserializer<'de>>(_: D) -> Result<Self, D::Error> {
        panic!("in a `Deserialize`")
    }
}

impl Serialize for Unusable {
    fn serialize<S: Serializer>(&self, _: S) -> Result<S::Ok, S::Error> {
        panic!("in a `Serialize`")
    }
}

/// A handler's view of its deadline, before and after an await.
#[derive(Serialize)]
struct Times {
    context_ms: Option<u64>,
    current_ms: Option<u64>,
    later_ms: Option<u64>,
    key: Option<String>,
}

pub fn stage() -> Stage {
    Stage { gate: Arc::new(Semaphore::new(0)), begun: Arc::default(), alive: Arc::default() }
}

/// The service `T`.
pub fn builder(stage: &Stage) -> ServerBuilder {
    let (wait, hang, count, chain) = (stage.clone(), stage.clone(), stage.clone(), stage.clone());
    let left = |at: Option<Instant>| at.map(|at| at.duration_since(Instant::now()).as_millis() as u64);
    Server::builder()
        .method("T.echo", |args: Text| async move { args.text })
        .method("T.count", move |_: Nothing| {
            let alive = count.enter();
            async move { drop(alive) }
        })
        .method("T.wait", move |_: Nothing| {
            let (stage, alive) = (wait.clone(), wait.enter());
            async move {
                let _alive = alive;
                stage.gate.acquire().await.unwrap().forget();
                "done"
            }
        })
        .method("T.hang", move |_: Nothing| {
            let alive = hang.enter();
            async move {
                let _alive = alive;
                std::future::pending::<()>().await;
            }
        })
        .method("T.sleep", |args: Count| async move {
            sleep(millis(args.n)).await;
            args.n
        })
        .method("T.yields", move |args: Count| {
            let alive = chain.enter();
            async move {
                let _alive = alive;
                for _ in 0..args.n {
                    tokio::task::yield_now().await;
                }
                args.n
            }
        })
        .method("T.big", |args: Count| async move { "x".repeat(args.n as usize) })
        .method("T.big_later", |args: Count| async move {
            sleep(millis(10)).await;
            "x".repeat(args.n as usize)
        })
        .method("T.noise", |args: Count| async move { noise(args.n as usize) })
        .method("T.panic_sync", |_: Nothing| -> std::future::Ready<()> { panic!("in the call") })
        .method("T.panic_first", |_: Nothing| async move {
            if true {
                panic!("in the first poll");
            }
        })
        .method("T.panic_later", |_: Nothing| async move {
            sleep(millis(1)).await;
            if true {
                panic!("in a later poll");
            }
        })
        .method("T.panic_drop", |_: Nothing| {
            let mine = Mine;
            std::future::poll_fn(move |_| {
                let _ = &mine;
                Poll::Ready(7)
            })
        })
        .method("T.panic_twice", |_: Nothing| {
            let mine = Mine;
            std::future::poll_fn(move |_| {
                let _ = &mine;
                if true {
                    panic!("in the first poll, and then in the drop");
                }
                Poll::Ready(())
            })
        })
        .method("T.panic_drop_later", |_: Nothing| {
            let mine = Mine;
            let mut sleep = Box::pin(sleep(millis(1)));
            std::future::poll_fn(move |cx| {
                let _ = &mine;
                sleep.as_mut().poll(cx)
            })
        })
        .method("T.panic_read", |_: Unusable| async move {})
        .method("T.panic_written", |_: Nothing| async move { Unusable })
        .method("T.panic_written_later", |_: Nothing| async move {
            sleep(millis(1)).await;
            Unusable
        })
        .method("T.times", move |cx: Context, _: Nothing| async move {
            let current_ms = left(Inherited::current().deadline);
            sleep(millis(10)).await;
            Times {
                context_ms: left(cx.deadline()),
                current_ms,
                later_ms: left(Inherited::current().deadline),
                key: Inherited::current().metadata.and_then(|all| all.get("key").map(str::to_owned)),
            }
        })
        .try_method("T.fails", |args: Text| async move { Err::<(), String>(args.text) })
}

/// Returns text that does not compress.
pub fn noise(bytes: usize) -> String {
    let mut state = 1_u32;
    let mut next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        char::from(b'0' + (state >> 24) as u8 % 75)
    };
    (0..bytes).map(|_| next()).collect()
}
