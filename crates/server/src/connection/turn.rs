//! [`Turn`]: the time that a connection works before it lets other tasks run. [`BusyConnections`] shortens the turns while
//! many connections have more to do than fits into one, and lets them wait for theirs.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::task::{Context, Poll};
use std::time::Duration;

use farcall_transport::{PeerKey, TurnPlace, TurnQueue};
use tokio::time::Instant;

use crate::limits::{MAX_ROUND, MAX_TURN, MIN_TURN, READ_BYTES_PER_MICROSECOND};
use crate::yield_turn::yield_turn;

/// The busy connections that have full turns: together they take [`MAX_ROUND`].
const FULL_TURNS: usize = (MAX_ROUND.as_nanos() / MAX_TURN.as_nanos()) as usize;

/// The connections that are woken for their next turns before others run, for each thread of the runtime, if many are busy: with
/// turns of 20 µs, a call that comes meanwhile waits for 100 µs.
const WOKEN_AT_ONCE: usize = 5;

/// The connections of a server whose last turn ended before they had done everything.
#[derive(Debug)]
pub(crate) struct BusyConnections {
    count: AtomicUsize,
    /// Those that wait for their next turn, of which few run before a connection to which a call comes meanwhile.
    waiting: TurnQueue,
}

impl Default for BusyConnections {
    fn default() -> Self {
        Self { count: AtomicUsize::new(0), waiting: TurnQueue::new(WOKEN_AT_ONCE) }
    }
}

/// The turn of a connection.
#[derive(Debug)]
pub(super) struct Turn {
    connections: Arc<BusyConnections>,
    /// The end of this turn's time; `None` before the turn's first message.
    end: Option<Instant>,
    /// The most bytes that one read of this turn takes.
    max_read: usize,
    /// `true` if it is counted in `connections`.
    is_busy: bool,
    peer: PeerKey,
    /// The place among those that wait; `None` until the connection has had one, which few ever do.
    place: Option<Box<TurnPlace>>,
}

impl BusyConnections {
    /// Returns the length of a turn.
    #[inline]
    fn turn(&self) -> Duration {
        let busy = self.count.load(Relaxed);
        if busy <= FULL_TURNS { MAX_TURN } else { shortened(busy) }
    }

    fn are_many(&self) -> bool {
        self.count.load(Relaxed) > FULL_TURNS
    }
}

/// Returns the length of a turn while this number of connections is busy, whose full turns would take too long.
#[cold]
fn shortened(busy: usize) -> Duration {
    (MAX_ROUND / u32::try_from(busy).unwrap_or(u32::MAX)).max(MIN_TURN)
}

/// Returns the bytes that a read takes in a turn of this length at most.
const fn max_read(turn: Duration) -> usize {
    turn.as_micros() as usize * READ_BYTES_PER_MICROSECOND
}

impl Turn {
    pub(super) const fn new(connections: Arc<BusyConnections>, peer: PeerKey) -> Self {
        Self { connections, end: None, max_read: max_read(MAX_TURN), is_busy: false, peer, place: None }
    }

    /// Begins the next turn, and returns its length. Its time runs from its first message on.
    #[inline]
    pub(super) fn begin(&mut self) -> Duration {
        self.end = None;
        let turn = self.connections.turn();
        self.max_read = if turn == MAX_TURN { max_read(MAX_TURN) } else { max_read(turn) };
        turn
    }

    /// Returns the most bytes that one read takes: the time of a read is not known before it is over.
    #[inline]
    pub(super) const fn max_read(&self) -> usize {
        self.max_read
    }

    /// Returns the end of the turn, which has begun by `now`.
    #[inline]
    pub(super) fn end(&mut self, now: Instant) -> Instant {
        let connections = &self.connections;
        *self.end.get_or_insert_with(|| now + connections.turn())
    }

    /// Ends the turn at this time.
    #[inline]
    pub(super) fn end_at(&mut self, end: Instant) {
        self.end = Some(end);
    }

    /// Returns `true` if other tasks are to run. By a time that is known: no clock is read for it.
    #[inline]
    pub(super) fn is_over(&self, now: Instant) -> bool {
        self.end.is_some_and(|end| now >= end)
    }

    /// Counts the connection as busy if its turn was over by `now` and it has more to do, or as one that waits.
    #[inline]
    pub(super) fn note_end(&mut self, now: Instant, has_more: bool) {
        let is_busy = has_more && self.is_over(now);
        if is_busy != self.is_busy {
            self.set_busy(is_busy);
        }
    }

    /// Has this task polled again for its next turn, once others have run: all of them that are ready, or a few of the
    /// busy connections at a time, if these are many.
    pub(super) fn wait<T>(&mut self, cx: &mut Context<'_>) -> Poll<T> {
        if !self.connections.are_many() {
            return yield_turn(cx);
        }
        let place = || Box::new(self.connections.waiting.place(self.peer));
        self.place.get_or_insert_with(place).wait(cx);
        Poll::Pending
    }

    #[cold]
    fn set_busy(&mut self, is_busy: bool) {
        self.is_busy = is_busy;
        if is_busy {
            self.connections.count.fetch_add(1, Relaxed);
        } else {
            self.connections.count.fetch_sub(1, Relaxed);
        }
    }
}

impl Drop for Turn {
    /// Takes a connection that ends in the middle of its work out of the count.
    fn drop(&mut self) {
        if self.is_busy {
            self.set_busy(false);
        }
    }
}

#[cfg(test)]
mod tests {
    use farcall_transport::PeerAddress;

    use super::*;

    fn turn(connections: &Arc<BusyConnections>) -> Turn {
        Turn::new(Arc::clone(connections), PeerAddress::Memory.key())
    }

    #[tokio::test(start_paused = true)]
    async fn turns_of_many_busy_connections_take_one_round_together() {
        let connections = Arc::new(BusyConnections::default());
        let now = Instant::now();
        let mut turns: Vec<Turn> = (0..200).map(|_| turn(&connections)).collect();
        for (busy, turn) in turns.iter_mut().enumerate() {
            let length = connections.turn();
            assert!(length <= MAX_TURN && length >= MIN_TURN);
            let round = length * u32::try_from(busy).unwrap();
            assert!(round <= MAX_ROUND || length == MIN_TURN, "{busy}: {round:?}");
            let end = turn.end(now);
            assert_eq!(end - now, length);
            assert!(!turn.is_over(now));
            turn.note_end(end, true);
        }
        assert_eq!(connections.turn(), MIN_TURN);
        // Half of them have done everything, and the others end.
        for turn in turns.iter_mut().take(100) {
            turn.begin();
            turn.note_end(now, true);
        }
        drop(turns);
        assert_eq!(connections.turn(), MAX_TURN);
        assert_eq!(connections.count.load(Relaxed), 0);
    }

    #[test]
    fn reads_take_no_longer_than_the_turns_of_many_busy_connections() {
        let connections = Arc::new(BusyConnections::default());
        let mut turn = turn(&connections);
        for (busy, bytes) in [(0, 200 * 1024), (10, 200 * 1024), (20, 100 * 1024), (500, 20 * 1024)] {
            connections.count.store(busy, Relaxed);
            turn.begin();
            assert_eq!(turn.max_read(), bytes, "{busy}");
        }
    }
}
