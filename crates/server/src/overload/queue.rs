//! [`AdmissionQueue`]: calls that wait for a place, in an order that is fair between callers. It has no clock and no tasks:
//! those are for [`super::admission`].
//!
//! Critical calls are before others, sheddable ones behind them. Within a class, the caller is next that has had the least of the
//! handlers' time: start-time fair queueing (Goyal, Vin and Cheng, 1996), the exact form of deficit round robin, with calls that
//! cost what their method takes. A caller that has had less than its share is first until it has caught up. Of one
//! caller, the oldest call is first, or, in overload, the newest, as in Facebook's adaptive LIFO (Maurer, "Fail at Scale", 2015): the oldest will
//! hardly be answered in time.

use std::collections::{BTreeMap, BTreeSet, HashMap};
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
    /// Callers with calls, and those that have had calls not long ago.
    callers: HashMap<u64, Caller<T>>,
    /// Those with calls, by what they have had.
    turns: BTreeSet<(Duration, u64)>,
    /// The most that a caller had had when it was last the next one.
    clock: Duration,
    len: usize,
}

/// The calls of one caller, by their numbers, with their costs.
#[derive(Debug)]
struct Caller<T> {
    calls: BTreeMap<u64, (Duration, T)>,
    /// The handlers' time that it has had, on the clock of its class.
    had: Duration,
}

/// The position of a call in the queue.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ticket {
    class: Criticality,
    caller: u64,
    number: u64,
}

/// The time of handlers that a call costs at least.
const MIN_COST: Duration = Duration::from_micros(10);
/// The callers without calls that are remembered in addition to as many as there are calls.
const MAX_IDLE_CALLERS: usize = 64;
/// A call costs this many usual ones at most.
const MAX_TURNS_PER_CALL: u32 = 16;
/// The usual calls that a caller may be behind the others: as many are served before the others' when it comes back.
const MAX_CREDIT: u32 = 16;

impl Ticket {
    /// Returns the class of the call.
    pub(crate) const fn class(self) -> Criticality {
        self.class
    }
}

impl<T> AdmissionQueue<T> {
    pub(crate) fn new() -> Self {
        Self { classes: [Class::new(), Class::new(), Class::new()], len: 0, last_number: 0 }
    }

    pub(crate) const fn len(&self) -> usize {
        self.len
    }

    /// Returns the number of calls of this class.
    pub(crate) const fn len_of(&self, class: Criticality) -> usize {
        self.classes[index(class)].len
    }

    /// Returns the number of callers with calls of this class.
    #[cfg(test)]
    fn callers(&self, class: Criticality) -> usize {
        self.classes[index(class)].callers.values().filter(|caller| !caller.calls.is_empty()).count()
    }

    /// Returns the class whose call is next.
    pub(crate) fn highest(&self) -> Option<Criticality> {
        let classes = [Criticality::Critical, Criticality::Default, Criticality::Sheddable];
        classes.into_iter().find(|class| self.classes[index(*class)].len > 0)
    }

    /// Adds a call that will take its handler about `cost`, where `turn` is the time of a usual one.
    pub(crate) fn push(
        &mut self,
        class: Criticality,
        caller: u64,
        cost: Duration,
        turn: Duration,
        call: T,
    ) -> Ticket {
        self.last_number += 1;
        let number = self.last_number;
        let turn = turn.max(MIN_COST);
        let cost = cost.clamp(MIN_COST, turn * MAX_TURNS_PER_CALL);
        self.classes[index(class)].push(caller, number, cost, turn * MAX_CREDIT, call);
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

    /// Takes the next call.
    pub(crate) fn take(&mut self, newest_first: bool) -> Option<T> {
        let of_class = self.classes.iter_mut().rev().find(|class| class.len > 0)?;
        let call = of_class.take(newest_first)?;
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
        Self { callers: HashMap::new(), turns: BTreeSet::new(), clock: Duration::ZERO, len: 0 }
    }

    fn push(&mut self, id: u64, number: u64, cost: Duration, credit: Duration, call: T) {
        let earliest = self.clock.saturating_sub(credit);
        let caller =
            self.callers.entry(id).or_insert_with(|| Caller { calls: BTreeMap::new(), had: earliest });
        if caller.calls.is_empty() {
            caller.had = caller.had.max(earliest);
            self.turns.insert((caller.had, id));
        }
        caller.calls.insert(number, (cost, call));
        self.len += 1;
        if self.callers.len() > 2 * self.len + MAX_IDLE_CALLERS {
            self.callers.retain(|_, caller| !caller.calls.is_empty());
        }
    }

    fn take(&mut self, newest_first: bool) -> Option<T> {
        let &(had, id) = self.turns.first()?;
        self.clock = self.clock.max(had);
        let caller = self.callers.get(&id)?;
        let next = if newest_first { caller.calls.last_key_value() } else { caller.calls.first_key_value() };
        let (&number, &(cost, _)) = next?;
        let call = self.remove(id, number)?;
        let caller = self.callers.get_mut(&id)?;
        caller.had += cost;
        if self.turns.remove(&(had, id)) {
            self.turns.insert((caller.had, id));
        }
        Some(call)
    }

    fn remove(&mut self, id: u64, number: u64) -> Option<T> {
        let caller = self.callers.get_mut(&id)?;
        let (_, call) = caller.calls.remove(&number)?;
        self.len -= 1;
        if caller.calls.is_empty() {
            self.turns.remove(&(caller.had, id));
        }
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
        std::iter::from_fn(|| queue.take(newest_first)).collect()
    }

    fn push_many(queue: &mut AdmissionQueue<&'static str>, caller: u64, cost: Duration, call: &'static str) {
        for _ in 0..100 {
            queue.push(Default, caller, cost, MS, call);
        }
    }

    #[test]
    fn critical_calls_are_first_and_sheddable_ones_last() {
        let mut queue = AdmissionQueue::new();
        for (class, call) in [(Default, "b"), (Sheddable, "a"), (Critical, "c"), (Default, "d")] {
            queue.push(class, 1, MS, MS, call);
        }
        assert_eq!(all(&mut queue, false), ["c", "b", "d", "a"]);
        assert_eq!(queue.len(), 0);
    }

    #[test]
    fn newest_call_of_a_caller_is_first_in_overload() {
        let mut queue = AdmissionQueue::new();
        let _ = ["a", "b", "c"].map(|call| queue.push(Default, 1, MS, MS, call));
        assert_eq!(all(&mut queue, true), ["c", "b", "a"]);
    }

    #[test]
    fn callers_take_turns_whatever_the_number_of_their_calls() {
        let mut queue = AdmissionQueue::new();
        push_many(&mut queue, 1, MS, "greedy");
        let _ = ["a", "b", "c"].map(|call| queue.push(Default, 2, MS, MS, call));
        let first: Vec<_> = (0..6).filter_map(|_| queue.take(false)).collect();
        assert_eq!(first.iter().filter(|call| **call == "greedy").count(), 3, "{first:?}");
    }

    #[test]
    fn caller_of_long_calls_gets_as_much_time_as_one_of_short_ones() {
        let mut queue = AdmissionQueue::new();
        push_many(&mut queue, 1, 10 * MS, "long");
        push_many(&mut queue, 2, MS, "short");
        let first: Vec<_> = (0..55).filter_map(|_| queue.take(false)).collect();
        assert_eq!(first.iter().filter(|call| **call == "long").count(), 5, "{first:?}");
    }

    #[test]
    fn callers_without_calls_are_forgotten_and_no_others() {
        let mut queue = AdmissionQueue::new();
        queue.push(Default, 0, MS, MS, "waits");
        for caller in 1..1000 {
            let ticket = queue.push(Default, caller, MS, MS, "leaves");
            assert_eq!(queue.remove(ticket), Some("leaves"));
            assert!(queue.classes[index(Default)].callers.len() <= 5 + MAX_IDLE_CALLERS);
        }
        assert_eq!(all(&mut queue, false), ["waits"]);
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
        let tickets = calls.map(|(class, caller, call)| queue.push(class, caller, MS, MS, call));
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
