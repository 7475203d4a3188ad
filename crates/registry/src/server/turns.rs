//! [`Turns`]: who waits for changes is told in small groups, a moment apart, so that nothing else has to
//! wait until all are.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// How many are told together. To tell one is a write to a socket, 20 to 50 µs of a processor: a
/// heartbeat that comes just then waits for a millisecond or two. Smaller groups cost more time in all, for each
/// begins with cold caches.
const GROUP: usize = 50;
/// The time between two groups: most of it is left to others.
const GAP: Duration = Duration::from_millis(5);
/// Within so many groups everybody has had a turn, within 150 ms: where more wait, groups are larger.
const MOST_GROUPS: usize = 30;

/// Hands out turns. See the module.
#[derive(Debug)]
pub(super) struct Turns {
    last: Mutex<Group>,
}

/// Those that are told together.
#[derive(Debug)]
struct Group {
    at: Instant,
    /// How many more it takes.
    room: usize,
}

impl Default for Turns {
    fn default() -> Self {
        Self { last: Mutex::new(Group { at: Instant::now(), room: 0 }) }
    }
}

impl Turns {
    /// The next turn, where so many wait at most; none if it is now. Who takes a turn and goes away leaves
    /// nothing behind but a gap.
    pub(super) fn take(&self, waiting: usize) -> Option<Instant> {
        let size = GROUP.max(waiting.div_ceil(MOST_GROUPS));
        let now = Instant::now();
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        if last.at + GAP <= now {
            *last = Group { at: now, room: size };
        } else if last.room == 0 {
            // The last group takes those for whom there is none any more: they came and went.
            let furthest = now + GAP * (MOST_GROUPS as u32);
            *last = Group { at: furthest.min(last.at + GAP), room: size };
        }
        last.room -= 1;
        (last.at > now).then_some(last.at)
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::advance;

    use super::*;

    /// When each of so many turns is, that are taken at once.
    fn delays(turns: &Turns, count: usize) -> Vec<Duration> {
        let now = Instant::now();
        (0..count).map(|_| turns.take(count).map_or(Duration::ZERO, |turn| turn - now)).collect()
    }

    #[tokio::test(start_paused = true)]
    async fn a_few_have_their_turn_at_once() {
        let turns = Turns::default();
        advance(GAP).await;
        assert_eq!(delays(&turns, GROUP), [Duration::ZERO; GROUP]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_thousand_have_it_in_groups_within_a_tenth_of_a_second() {
        let turns = Turns::default();
        advance(GAP).await;
        for (group, delays) in (0..).zip(delays(&turns, 1_000).chunks(GROUP)) {
            assert_eq!(*delays, [GAP * group; GROUP]);
        }
        assert_eq!(turns.take(1_000), Some(Instant::now() + Duration::from_millis(100)));
    }

    #[tokio::test(start_paused = true)]
    async fn very_many_have_it_within_150_milliseconds() {
        for count in [1_501, 10_000, 100_000] {
            let turns = Turns::default();
            // Also where others took turns and went away.
            for _ in 0..3 {
                let delays = delays(&turns, count);
                assert!(delays.is_sorted());
                let last = delays[count - 1];
                assert!(last > Duration::from_millis(140) && last <= Duration::from_millis(150), "{last:?}");
            }
        }
    }

    #[tokio::test(start_paused = true)]
    async fn after_a_silence_the_next_turn_is_at_once() {
        let turns = Turns::default();
        let last = delays(&turns, 1_000)[999];
        assert!(turns.take(1_000).is_some());
        advance(last + GAP * 2).await;
        assert_eq!(turns.take(1_000), None);
    }
}
