//! [`Turns`]: lets other tasks run while the peer of a connection sends requests without end.
//!
//! hyper serves up to 16 requests that have come together, however long they take, and then wakes its own task. A thread
//! whose tasks wake themselves looks for new events only after 61 of them: peers that are no flood waited for a
//! thousand requests of those that are.

use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::sync::Mutex;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use tokio::task::yield_now;

/// The time that a connection takes from others at once, as long as no single request takes longer.
const MAX_TURN: Duration = Duration::from_micros(200);

/// The turns of one connection.
#[derive(Debug, Default)]
pub(crate) struct Turns(Mutex<Turn>);

#[derive(Debug, Default)]
struct Turn {
    /// The time of the polls of this turn that have ended.
    spent: Duration,
    /// The begin of the poll under way.
    polled: Option<Instant>,
}

impl Turns {
    /// Runs the future of the connection, in turns.
    pub(crate) async fn run<F: Future>(&self, mut connection: Pin<&mut F>) -> F::Output {
        poll_fn(|cx| {
            if self.begin_poll() {
                return yield_turn(cx);
            }
            let polled = connection.as_mut().poll(cx);
            self.end_poll();
            polled
        })
        .await
    }

    /// Called before a request is handled: waits for the next turn if this one is over.
    pub(crate) async fn next(&self) {
        let is_over = self.with(|turn| {
            let is_over = turn.taken() >= MAX_TURN;
            if is_over {
                *turn = Turn::default();
            }
            is_over
        });
        if is_over {
            yield_now().await;
        }
    }

    /// Begins a poll. Returns `true` if this turn is over, and the next one has to be waited for.
    fn begin_poll(&self) -> bool {
        self.with(|turn| {
            let is_over = turn.spent >= MAX_TURN;
            *turn = if is_over { Turn::default() } else { Turn { polled: Some(Instant::now()), ..*turn } };
            is_over
        })
    }

    fn end_poll(&self) {
        self.with(|turn| *turn = Turn { spent: turn.taken(), polled: None });
    }

    fn with<R>(&self, change: impl FnOnce(&mut Turn) -> R) -> R {
        change(&mut self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner))
    }
}

impl Turn {
    fn taken(&self) -> Duration {
        self.spent + self.polled.map_or(Duration::ZERO, |begin| begin.elapsed())
    }
}

/// Has this task polled again once its thread has run the other ready tasks, and looked for new events.
fn yield_turn<T>(cx: &mut Context<'_>) -> Poll<T> {
    if pin!(yield_now()).poll(cx).is_ready() {
        cx.waker().wake_by_ref();
    }
    Poll::Pending
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::{TcpListener, TcpStream};

    use super::*;

    /// A future that wakes itself, and takes time in each poll.
    async fn busy(polls: &AtomicUsize) {
        poll_fn(|cx| {
            polls.fetch_add(1, Ordering::Relaxed);
            std::thread::sleep(MAX_TURN);
            cx.waker().wake_by_ref();
            Poll::<()>::Pending
        })
        .await;
    }

    #[tokio::test]
    async fn events_of_sockets_are_seen_between_turns() {
        static POLLS: AtomicUsize = AtomicUsize::new(0);
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mut near = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let (mut far, _) = listener.accept().await.unwrap();
        let flood = tokio::spawn(async {
            let connection = pin!(busy(&POLLS));
            Turns::default().run(connection).await;
        });
        let mut polls = [0; 5];
        for polls in &mut polls {
            let before = POLLS.load(Ordering::Relaxed);
            near.write_all(b"x").await.unwrap();
            far.read_exact(&mut [0]).await.unwrap();
            *polls = POLLS.load(Ordering::Relaxed) - before;
        }
        polls.sort_unstable();
        // Loopback delivers before a write returns, mostly: a busy machine may do it later. Without turns the event is seen 61 polls later.
        assert!(polls[2] < 10, "{polls:?} polls of another connection");
        flood.abort();
    }

    #[tokio::test]
    async fn request_after_a_long_one_waits_for_the_next_turn() {
        let turns = Turns::default();
        let (first, second) = (AtomicUsize::new(0), AtomicUsize::new(0));
        let requests = pin!(async {
            for _ in 0..3 {
                turns.next().await;
                first.fetch_add(1, Ordering::Relaxed);
                std::thread::sleep(MAX_TURN);
            }
        });
        let other = async {
            while first.load(Ordering::Relaxed) < 3 {
                second.fetch_add(1, Ordering::Relaxed);
                yield_now().await;
            }
        };
        tokio::join!(turns.run(requests), other);
        assert!(second.load(Ordering::Relaxed) >= 2, "{second:?}");
    }
}
