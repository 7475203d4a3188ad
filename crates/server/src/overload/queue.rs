//! [`AdmissionQueue`]: calls that wait for a place, in an order that is fair between callers. It has no clock and no tasks:
//! those are for [`super::admission`].
//!
//! Critical calls are before others, sheddable ones behind them. Within a class, callers take turns by deficit round robin
//! (Shreedhar and Varghese, 1995): each turn gives a caller as much of the handlers' time as the others, whether its calls are
//! short or long; who comes newly is first, as in fq_codel (RFC 8290). Of one caller, the oldest call is first, or, in overload, the newest, as in Facebook's adaptive LIFO (Maurer,
//! "Fail at Scale", 2015): the oldest will hardly be answered in time.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::time::Duration;

use farcall_protocol::Criticality;

/// Calls that wait. Bounded by its user, who calls [`AdmissionQueue::evict`].
#[derive(Debug)]
pub(crate) struct AdmissionQueue<T> {
    classes: [Class<T>; Criticality::COUNT],
    len: usize,
    last_number: u64,
}

/// The calls of one class.
#[derive(Debug)]
struct Class<T> {
    /// Callers with calls, and those that have had calls since their last turn.
    callers: HashMap<u64, Caller<T>>,
    /// The same callers, in the order of their turns.
    turns: VecDeque<u64>,
    len: usize,
}

/// The calls of one caller, by their numbers.
#[derive(Debug)]
struct Caller<T> {
    calls: BTreeMap<u64, (Duration, T)>,
    /// The time of handlers that it may have before it is the next one's turn.
    deficit: Duration,
}

/// The position of a call in the queue.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ticket {
    class: Criticality,
    caller: u64,
    number: u64,
}

/// The time of handlers that a caller gets in its turn, and that a call costs at least.
const MIN_COST: Duration = Duration::from_micros(10);
/// The callers without calls that are remembered in addition to as many as there are calls.
const MAX_IDLE_CALLERS: usize = 64;
/// A call counts as this many turns at most, so that the search for the next one ends soon.
const MAX_TURNS_PER_CALL: u32 = 16;

impl<T> AdmissionQueue<T> {
    pub(crate) fn new() -> Self {
        Self { classes: [Class::new(), Class::new(), Class::new()], len: 0, last_number: 0 }
    }

    pub(crate) const fn len(&self) -> usize {
        self.len
    }

    pub(crate) const fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Returns the number of callers with calls of this class.
    #[cfg(test)]
    fn callers(&self, class: Criticality) -> usize {
        self.classes[index(class)].callers.values().filter(|caller| !caller.calls.is_empty()).count()
    }

    /// Returns `true` if calls of this caller wait in this class.
    pub(crate) fn has_calls_of(&self, class: Criticality, caller: u64) -> bool {
        self.classes[index(class)].callers.get(&caller).is_some_and(|caller| !caller.calls.is_empty())
    }

    /// Adds a call that will take its handler about `cost`.
    pub(crate) fn push(&mut self, class: Criticality, caller: u64, cost: Duration, call: T) -> Ticket {
        self.last_number += 1;
        let number = self.last_number;
        let of_class = &mut self.classes[index(class)];
        of_class.push(caller, number, cost.max(MIN_COST), call);
        self.len += 1;
        Ticket { class, caller, number }
    }

    /// Removes a call that was not taken.
    pub(crate) fn remove(&mut self, ticket: Ticket) -> Option<T> {
        let Ticket { class, caller, number } = ticket;
        let of_class = &mut self.classes[index(class)];
        let call = of_class.remove(caller, number)?;
        self.len -= 1;
        Some(call)
    }

    /// Takes the next call. `turn` is the time of handlers that each caller gets in its turn, about that of one call.
    pub(crate) fn take(&mut self, newest_first: bool, turn: Duration) -> Option<T> {
        let of_class = self.classes.iter_mut().rev().find(|class| class.len > 0)?;
        let call = of_class.take(newest_first, turn.max(MIN_COST))?;
        self.len -= 1;
        Some(call)
    }

    /// Removes a call to make room for one of this class: the oldest of the caller that has most, in the lowest class. `None` if
    /// there are only calls of higher classes.
    pub(crate) fn evict(&mut self, class: Criticality) -> Option<T> {
        let lower = &mut self.classes[..=index(class)];
        let of_class = lower.iter_mut().find(|class| class.len > 0)?;
        let (&caller, largest) = of_class.callers.iter().max_by_key(|(_, caller)| caller.calls.len())?;
        let (&number, _) = largest.calls.first_key_value()?;
        let call = of_class.remove(caller, number)?;
        self.len -= 1;
        Some(call)
    }
}

impl<T> Class<T> {
    fn new() -> Self {
        Self { callers: HashMap::new(), turns: VecDeque::new(), len: 0 }
    }

    fn push(&mut self, id: u64, number: u64, cost: Duration, call: T) {
        let caller = self.callers.entry(id).or_insert_with(|| {
            // Before those that have been here for longer: a caller with few calls does not wait for those with many. It is
            // behind them when it has had its turn.
            self.turns.push_front(id);
            Caller { calls: BTreeMap::new(), deficit: cost }
        });
        caller.calls.insert(number, (cost, call));
        self.len += 1;
        if self.turns.len() > 2 * self.len + MAX_IDLE_CALLERS {
            self.callers.retain(|_, caller| !caller.calls.is_empty());
            self.turns.retain(|id| self.callers.contains_key(id));
        }
    }

    fn take(&mut self, newest_first: bool, turn: Duration) -> Option<T> {
        // Each round gives each caller a turn, and a call costs a bounded number of them.
        loop {
            let id = *self.turns.front()?;
            let caller = self.callers.get_mut(&id)?;
            let next =
                if newest_first { caller.calls.last_key_value() } else { caller.calls.first_key_value() };
            let Some((&number, &(cost, _))) = next else {
                // It has had its turn since its last call was taken.
                self.callers.remove(&id);
                self.turns.pop_front();
                continue;
            };
            let cost = cost.min(turn * MAX_TURNS_PER_CALL);
            if caller.deficit >= cost {
                caller.deficit -= cost;
                return self.remove(id, number);
            }
            caller.deficit += turn;
            self.turns.rotate_left(1);
        }
    }

    fn remove(&mut self, caller: u64, number: u64) -> Option<T> {
        let entry = self.callers.get_mut(&caller)?;
        let (_, call) = entry.calls.remove(&number)?;
        self.len -= 1;
        Some(call)
    }
}

const fn index(class: Criticality) -> usize {
    match class {
        Criticality::Critical => 2,
        Criticality::Sheddable => 0,
        _ => 1,
    }
}

#[cfg(test)]
mod tests {
    use Criticality::{Critical, Default, Sheddable};

    use super::*;

    const MS: Duration = Duration::from_millis(1);

    fn all(queue: &mut AdmissionQueue<&'static str>, newest_first: bool) -> Vec<&'static str> {
        std::iter::from_fn(|| queue.take(newest_first, MS)).collect()
    }

    fn push_many(queue: &mut AdmissionQueue<&'static str>, caller: u64, cost: Duration, call: &'static str) {
        for _ in 0..100 {
            queue.push(Default, caller, cost, call);
        }
    }

    #[test]
    fn critical_calls_are_first_and_sheddable_ones_last() {
        let mut queue = AdmissionQueue::new();
        for (class, call) in [(Default, "b"), (Sheddable, "a"), (Critical, "c"), (Default, "d")] {
            queue.push(class, 1, MS, call);
        }
        assert_eq!(all(&mut queue, false), ["c", "b", "d", "a"]);
        assert!(queue.is_empty());
    }

    #[test]
    fn newest_call_of_a_caller_is_first_in_overload() {
        let mut queue = AdmissionQueue::new();
        let _ = ["a", "b", "c"].map(|call| queue.push(Default, 1, MS, call));
        assert_eq!(all(&mut queue, true), ["c", "b", "a"]);
    }

    #[test]
    fn callers_take_turns_whatever_the_number_of_their_calls() {
        let mut queue = AdmissionQueue::new();
        push_many(&mut queue, 1, MS, "greedy");
        let _ = ["a", "b", "c"].map(|call| queue.push(Default, 2, MS, call));
        let first: Vec<_> = (0..6).filter_map(|_| queue.take(false, MS)).collect();
        assert_eq!(first.iter().filter(|call| **call == "greedy").count(), 3, "{first:?}");
    }

    #[test]
    fn caller_of_long_calls_gets_as_much_time_as_one_of_short_ones() {
        let mut queue = AdmissionQueue::new();
        push_many(&mut queue, 1, 10 * MS, "long");
        push_many(&mut queue, 2, MS, "short");
        let first: Vec<_> = (0..55).filter_map(|_| queue.take(false, MS)).collect();
        assert_eq!(first.iter().filter(|call| **call == "long").count(), 5, "{first:?}");
    }

    #[test]
    fn oldest_call_of_the_lowest_class_makes_room() {
        let mut queue = AdmissionQueue::new();
        let calls = [
            (Critical, 1, "a"),
            (Default, 1, "b"),
            (Default, 2, "c"),
            (Default, 2, "d"),
            (Sheddable, 3, "e"),
        ];
        let tickets = calls.map(|(class, caller, call)| queue.push(class, caller, MS, call));
        assert_eq!(queue.callers(Default), 2);
        assert_eq!(queue.evict(Default), Some("e"));
        assert_eq!(queue.evict(Sheddable), None);
        assert_eq!(queue.evict(Default), Some("c"), "that caller has most");
        assert_eq!(queue.remove(tickets[1]), Some("b"));
        assert_eq!(queue.remove(tickets[1]), None);
        assert_eq!(
            (queue.evict(Critical), queue.evict(Critical), queue.evict(Critical)),
            (Some("d"), Some("a"), None)
        );
        assert_eq!((queue.len(), queue.callers(Default)), (0, 0));
    }
}
