//! [`TurnQueue`]: the order in which connections go on whose work does not fit into one turn. How long a turn is, and what
//! is done in it, is left to their tasks.

use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use tokio::runtime::Handle;
use tokio::task::yield_now;

use crate::peer::PeerKey;

/// A queue of tasks with more to do than fits into a turn. A few of them are woken at a time, and the next ones after the
/// tasks have run that are ready by then: so what becomes ready meanwhile waits for those few, however many
/// wait here. Peers take turns, then the tasks of each. A clone shares it.
///
/// A task that has been woken holds no place: one that does nothing with its turn stops no other.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use std::future::poll_fn;
/// use farcall_transport::{PeerAddress, TurnQueue};
///
/// let queue = TurnQueue::new(4);
/// let peer = PeerAddress::Tcp("10.0.0.1:7001".parse()?).key();
/// let mut place = queue.place(peer);
/// for part in 0..3 {
///     poll_fn(|cx| place.poll_turn(cx)).await;
///     println!("works at part {part}");
/// }
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct TurnQueue(Arc<Queue>);

#[derive(Debug)]
struct Queue {
    /// The tasks that are woken at a time, for each thread of the runtime.
    at_once: usize,
    waiting: Mutex<Waiting>,
}

#[derive(Debug, Default)]
struct Waiting {
    /// The peers of which tasks wait, in the order of their turns.
    turns: VecDeque<PeerKey>,
    /// Their tasks. Bounded by the number of [`TurnPlace`]s: each is in it once.
    by_peer: HashMap<PeerKey, VecDeque<Arc<Ticket>>>,
    /// `true` while a task wakes those that wait.
    is_pacing: bool,
}

#[derive(Debug)]
struct Ticket {
    is_waiting: AtomicBool,
    waker: Mutex<Option<Waker>>,
}

/// The place of one task in a [`TurnQueue`].
#[derive(Debug)]
pub struct TurnPlace {
    queue: TurnQueue,
    peer: PeerKey,
    /// `None` until it has waited for the first time.
    ticket: Option<Arc<Ticket>>,
    /// `true` if a turn was asked for and not yet taken.
    is_due: bool,
}

impl TurnQueue {
    /// Creates a queue that wakes this many tasks at a time for each thread of the runtime, at least one. With more, those
    /// that wait do more before others run.
    #[must_use]
    pub fn new(at_once: usize) -> Self {
        Self(Arc::new(Queue { at_once: at_once.max(1), waiting: Mutex::default() }))
    }

    /// Returns a place for a task that works for `peer`.
    #[must_use]
    pub fn place(&self, peer: PeerKey) -> TurnPlace {
        TurnPlace { queue: self.clone(), peer, ticket: None, is_due: false }
    }

    /// Adds a task, and begins to wake those that wait if none does.
    fn push(&self, peer: PeerKey, ticket: Arc<Ticket>) {
        let mut waiting = self.lock();
        let of_peer = waiting.by_peer.entry(peer).or_default();
        let is_first = of_peer.is_empty();
        of_peer.push_back(ticket);
        if is_first {
            waiting.turns.push_back(peer);
        }
        if !std::mem::replace(&mut waiting.is_pacing, true) {
            drop(waiting);
            // Its end, also with the runtime, wakes all that wait; so does a place without a runtime.
            let pace = Pace { queue: self.clone(), is_done: false };
            if let Ok(runtime) = Handle::try_current() {
                runtime.spawn(pace.run());
            }
        }
    }

    /// No code of others runs under this lock, so a poisoned one holds a consistent state.
    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.0.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Waiting {
    /// Removes and returns the task whose turn it is.
    fn pop(&mut self) -> Option<Arc<Ticket>> {
        let peer = self.turns.pop_front()?;
        let of_peer = self.by_peer.get_mut(&peer)?;
        let ticket = of_peer.pop_front();
        if of_peer.is_empty() {
            self.by_peer.remove(&peer);
        } else {
            self.turns.push_back(peer);
        }
        ticket
    }
}

impl Ticket {
    fn wake(&self) {
        let waker = {
            let mut waker = self.waker();
            self.is_waiting.store(false, Ordering::Release);
            waker.take()
        };
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    fn waker(&self) -> MutexGuard<'_, Option<Waker>> {
        self.waker.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl TurnPlace {
    /// Queues the task, unless it waits already, and has it woken when its turn has come. The task may be
    /// polled before.
    pub fn wait(&mut self, cx: &Context<'_>) {
        let ticket = self.ticket.get_or_insert_with(|| {
            Arc::new(Ticket { is_waiting: AtomicBool::new(false), waker: Mutex::default() })
        });
        {
            let mut waker = ticket.waker();
            match &mut *waker {
                Some(waker) => waker.clone_from(cx.waker()),
                None => *waker = Some(cx.waker().clone()),
            }
            // Under the lock: either it is woken by this waker, or it waits no more.
            if ticket.is_waiting.swap(true, Ordering::AcqRel) {
                return;
            }
        }
        self.queue.push(self.peer, Arc::clone(ticket));
    }

    /// Waits for the next turn: queues the task, and is ready when its turn has come.
    pub fn poll_turn(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if self.is_due
            && !self.ticket.as_ref().is_some_and(|ticket| ticket.is_waiting.load(Ordering::Acquire))
        {
            self.is_due = false;
            return Poll::Ready(());
        }
        self.is_due = true;
        self.wait(cx);
        Poll::Pending
    }
}

impl Drop for TurnPlace {
    /// Lets go of the task, whose place in the queue remains until its turn.
    fn drop(&mut self) {
        if let Some(ticket) = &self.ticket {
            ticket.waker().take();
        }
    }
}

/// The task that wakes those that wait.
struct Pace {
    queue: TurnQueue,
    /// `true` once none waited, so that another task may have begun.
    is_done: bool,
}

impl Pace {
    async fn run(mut self) {
        // All threads have something to do, and what becomes ready waits for as many on each.
        let threads = Handle::current().metrics().num_workers().max(1);
        let at_once = self.queue.0.at_once.saturating_mul(threads);
        let mut due = Vec::new();
        loop {
            // Once the thread has run its ready tasks, and looked for new events.
            yield_now().await;
            {
                let mut waiting = self.queue.lock();
                due.extend(std::iter::from_fn(|| waiting.pop()).take(at_once));
                if due.is_empty() {
                    waiting.is_pacing = false;
                    drop(waiting);
                    self.is_done = true;
                    return;
                }
            }
            due.drain(..).for_each(|ticket: Arc<Ticket>| ticket.wake());
        }
    }
}

impl Drop for Pace {
    /// Wakes all if the runtime ends: tasks of another one may wait, too.
    fn drop(&mut self) {
        if self.is_done {
            return;
        }
        let mut waiting = self.queue.lock();
        waiting.is_pacing = false;
        let left: Vec<_> = std::iter::from_fn(|| waiting.pop()).collect();
        drop(waiting);
        left.iter().for_each(|ticket| ticket.wake());
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;
    use std::sync::atomic::AtomicUsize;
    use std::time::Duration;

    use super::*;
    use crate::peer::PeerAddress;

    const AT_ONCE: usize = 4;

    fn peer(number: u8) -> PeerKey {
        PeerAddress::Tcp(([10, 0, 0, number], 7).into()).key()
    }

    /// Starts tasks that take turn after turn, and count them.
    fn work(queue: &TurnQueue, peer: PeerKey, count: usize) -> Vec<Arc<AtomicUsize>> {
        let start = |_| {
            let (mut place, turns) = (queue.place(peer), Arc::<AtomicUsize>::default());
            let counter = Arc::clone(&turns);
            tokio::spawn(async move {
                loop {
                    poll_fn(|cx| place.poll_turn(cx)).await;
                    counter.fetch_add(1, Ordering::Relaxed);
                }
            });
            turns
        };
        (0..count).map(start).collect()
    }

    fn sum(turns: &[Arc<AtomicUsize>]) -> usize {
        turns.iter().map(|turns| turns.load(Ordering::Relaxed)).sum()
    }

    #[tokio::test]
    async fn few_of_many_tasks_run_before_one_that_becomes_ready() {
        let queue = TurnQueue::new(AT_ONCE);
        let busy = work(&queue, peer(1), 500);
        yield_now().await;
        for _ in 0..100 {
            let before = sum(&busy);
            // Its task runs in between, as that of a request that comes.
            tokio::spawn(async {}).await.unwrap();
            let ran = sum(&busy) - before;
            assert!(ran <= 2 * AT_ONCE, "{ran}");
        }
        while sum(&busy) < 5_000 {
            yield_now().await;
        }
        // Each in its turn.
        let turns: Vec<_> = busy.iter().map(|turns| turns.load(Ordering::Relaxed)).collect();
        assert!(turns.iter().all(|turns| (9..=11).contains(turns)), "{turns:?}");
    }

    #[tokio::test]
    async fn peers_take_turns() {
        let queue = TurnQueue::new(AT_ONCE);
        let (many, one) = (work(&queue, peer(1), 500), work(&queue, peer(2), 1));
        while sum(&one) < 1_000 {
            yield_now().await;
        }
        // At each waking two of the peers, or those of the first alone while the second works.
        assert!(sum(&many) <= (AT_ONCE + 1) * 1_000, "{}", sum(&many));
    }

    #[tokio::test]
    async fn task_that_leaves_or_does_nothing_stops_no_other() {
        let queue = TurnQueue::new(1);
        let mut idle: Vec<_> = (0..10).map(|_| queue.place(peer(1))).collect();
        poll_fn(|cx| {
            idle.iter_mut().for_each(|place| assert!(place.poll_turn(cx).is_pending()));
            Poll::Ready(())
        })
        .await;
        idle.truncate(5);
        let working = work(&queue, peer(1), 1);
        while sum(&working) < 10 {
            yield_now().await;
        }
        // Those that were woken go on whenever they like.
        poll_fn(|cx| {
            idle.iter_mut().for_each(|place| assert!(place.poll_turn(cx).is_ready()));
            Poll::Ready(())
        })
        .await;
        // And nothing is left once none waits.
        drop((idle, working));
    }

    #[test]
    fn tasks_go_on_in_the_next_runtime() {
        let runtime = || tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let queue = TurnQueue::new(1);
        let mut places: Vec<_> = (0..3).map(|_| queue.place(peer(1))).collect();
        runtime().block_on(poll_fn(|cx| {
            places.iter_mut().for_each(|place| assert!(place.poll_turn(cx).is_pending()));
            Poll::Ready(())
        }));
        runtime().block_on(async {
            let all = async {
                for place in &mut places {
                    poll_fn(|cx| place.poll_turn(cx)).await;
                    poll_fn(|cx| place.poll_turn(cx)).await;
                }
            };
            tokio::time::timeout(Duration::from_secs(60), all).await.unwrap();
        });
        assert!(!queue.lock().is_pacing || queue.lock().by_peer.is_empty());
    }
}
