//! [`FairQueue`]: jobs in an order that divides time fairly, first between clients, then between each client's
//! methods. It has no clock and no threads: those are for [`super::offload`].
//!
//! This is start-time fair queueing, by Goyal, Vin and Cheng (1996): the next job is of the client that has had least
//! time, but an idle client saves up none. The time that a job takes is known only at its end; until then, it is
//! charged as what the client's jobs took before.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::Duration;

/// The origin of a job.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Flow {
    /// A number that distinguishes the connection, or the caller that comes over none, from the server's others.
    pub(crate) client: u64,
    /// A number that distinguishes the method from the server's others.
    pub(crate) method: usize,
}

/// The position of a job in the queue.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ticket {
    flow: Flow,
    number: u64,
}

/// A job that was taken: what is charged to its client until it has ended.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Taken {
    flow: Flow,
    charged: Duration,
}

/// Queued jobs.
pub(crate) struct FairQueue<J> {
    /// The clients with jobs, queued or taken, and those that have had more than their share.
    clients: HashMap<u64, Client<J>>,
    /// The clients with queued jobs: by their start tags, then by their first jobs.
    order: BTreeSet<(Duration, u64, u64)>,
    queued: usize,
    last_number: u64,
    /// The time that each client with jobs has had since the beginning, if it had them all the time.
    virtual_time: Duration,
    /// The number of clients with jobs.
    busy: usize,
}

/// The jobs of one client.
struct Client<J> {
    methods: HashMap<usize, MethodJobs<J>>,
    /// The start tag of its next job: the time that it has had.
    start: Duration,
    /// The same among its methods.
    virtual_time: Duration,
    queued: usize,
    taken: usize,
    /// The time of its last job. Charged in advance for the next.
    last: Duration,
}

/// The jobs of one method of a client.
struct MethodJobs<J> {
    /// In the order in which they came.
    jobs: BTreeMap<u64, J>,
    /// The time that the method has had.
    start: Duration,
}

/// The time that each job is charged with at least: to hand it over takes about as long.
const MIN_CHARGE: Duration = Duration::from_micros(10);
/// The number of clients without jobs that are remembered in addition to as many as have jobs.
const MAX_IDLE_CLIENTS: usize = 64;

impl<J> FairQueue<J> {
    pub(crate) fn new() -> Self {
        Self {
            clients: HashMap::new(),
            order: BTreeSet::new(),
            queued: 0,
            last_number: 0,
            virtual_time: Duration::ZERO,
            busy: 0,
        }
    }

    #[cfg(test)]
    pub(crate) const fn len(&self) -> usize {
        self.queued
    }

    pub(crate) const fn is_empty(&self) -> bool {
        self.queued == 0
    }

    /// Adds a job.
    pub(crate) fn push(&mut self, flow: Flow, job: J) -> Ticket {
        self.last_number += 1;
        // Not behind clients that have had less than their share: who comes now is none of those with many jobs.
        let virtual_time =
            self.order.first().map_or(self.virtual_time, |(start, ..)| self.virtual_time.min(*start));
        let number = self.last_number;
        let client = self.clients.entry(flow.client).or_insert_with(|| Client::new(virtual_time));
        if client.is_idle() {
            client.start = client.start.max(virtual_time);
            self.busy += 1;
        }
        let key = client.key(flow.client);
        client.push(flow.method, number, job);
        self.queued += 1;
        self.reorder(flow.client, key);
        Ticket { flow, number }
    }

    /// Removes a job that was not taken.
    pub(crate) fn remove(&mut self, ticket: Ticket) -> Option<J> {
        let Ticket { flow, number } = ticket;
        let client = self.clients.get_mut(&flow.client)?;
        let key = client.key(flow.client);
        let job = client.methods.get_mut(&flow.method)?.jobs.remove(&number)?;
        client.queued -= 1;
        self.queued -= 1;
        self.reorder(flow.client, key);
        self.settle(flow.client);
        Some(job)
    }

    /// Takes the next job.
    pub(crate) fn take(&mut self) -> Option<(J, Taken)> {
        let (_, _, client) = *self.order.first()?;
        self.take_of(client)
    }

    /// Takes the next job of a client that has none taken, and whose next job fits.
    pub(crate) fn take_unserved(&mut self, fits: impl Fn(&J) -> bool) -> Option<(J, Taken)> {
        let client = self.unserved(fits)?;
        self.take_of(client)
    }

    /// Returns `true` if [`FairQueue::take_unserved`] would take a job.
    pub(crate) fn has_unserved(&self, fits: impl Fn(&J) -> bool) -> bool {
        self.unserved(fits).is_some()
    }

    fn unserved(&self, fits: impl Fn(&J) -> bool) -> Option<u64> {
        let mut clients = self.order.iter().map(|(_, _, id)| *id);
        clients.find(|id| {
            let client = &self.clients[id];
            client.taken == 0 && client.first().is_some_and(&fits)
        })
    }

    fn take_of(&mut self, id: u64) -> Option<(J, Taken)> {
        let client = self.clients.get_mut(&id)?;
        let key = client.key(id);
        let (method, job) = client.take()?;
        let charged = client.last;
        client.start += charged;
        client.taken += 1;
        self.queued -= 1;
        self.reorder(id, key);
        Some((job, Taken { flow: Flow { client: id, method }, charged }))
    }

    /// Ends a job that was taken, after the time that it took.
    pub(crate) fn finish(&mut self, taken: Taken, took: Duration) {
        let Taken { flow, charged } = taken;
        let took = took.max(MIN_CHARGE);
        self.virtual_time += took / u32::try_from(self.busy).unwrap_or(u32::MAX).max(1);
        let Some(client) = self.clients.get_mut(&flow.client) else { return };
        let key = client.key(flow.client);
        client.start = (client.start + took).saturating_sub(charged);
        client.taken -= 1;
        client.last = took;
        if let Some(method) = client.methods.get_mut(&flow.method) {
            method.start += took;
        }
        self.reorder(flow.client, key);
        self.settle(flow.client);
    }

    /// Moves a client to its place in the order. `old` is its key before it changed.
    fn reorder(&mut self, id: u64, old: Option<(Duration, u64, u64)>) {
        let new = self.clients.get(&id).and_then(|client| client.key(id));
        if old != new {
            old.map(|old| self.order.remove(&old));
            self.order.extend(new);
        }
    }

    /// Forgets a client without jobs, unless it has had more than its share; and all such clients if there are many.
    fn settle(&mut self, id: u64) {
        let Some(client) = self.clients.get_mut(&id) else { return };
        if !client.is_idle() {
            return;
        }
        self.busy -= 1;
        client.methods.clear();
        if client.start <= self.virtual_time {
            self.clients.remove(&id);
        } else if self.clients.len() > 2 * self.busy + MAX_IDLE_CLIENTS {
            self.clients.retain(|_, client| !client.is_idle());
        }
    }
}

impl<J> Client<J> {
    fn new(virtual_time: Duration) -> Self {
        Self {
            methods: HashMap::new(),
            start: virtual_time,
            virtual_time: Duration::ZERO,
            queued: 0,
            taken: 0,
            last: MIN_CHARGE,
        }
    }

    const fn is_idle(&self) -> bool {
        self.queued == 0 && self.taken == 0
    }

    /// Returns its place among the clients with queued jobs; `None` if it has none.
    fn key(&self, id: u64) -> Option<(Duration, u64, u64)> {
        let first = self.methods.values().filter_map(|method| method.jobs.keys().next()).min()?;
        Some((self.start, *first, id))
    }

    fn push(&mut self, method: usize, number: u64, job: J) {
        let virtual_time = self.virtual_time;
        let method = self
            .methods
            .entry(method)
            .or_insert_with(|| MethodJobs { jobs: BTreeMap::new(), start: virtual_time });
        if method.jobs.is_empty() {
            method.start = method.start.max(virtual_time);
        }
        method.jobs.insert(number, job);
        self.queued += 1;
    }

    /// Returns the method of the next job: the one that has had least time.
    fn next(&self) -> Option<usize> {
        let queued = self.methods.iter().filter_map(|(id, method)| {
            let first = method.jobs.keys().next()?;
            Some((method.start, *first, *id))
        });
        queued.min().map(|(_, _, id)| id)
    }

    fn first(&self) -> Option<&J> {
        self.methods.get(&self.next()?)?.jobs.values().next()
    }

    fn take(&mut self) -> Option<(usize, J)> {
        let id = self.next()?;
        let method = self.methods.get_mut(&id)?;
        let (_, job) = method.jobs.pop_first()?;
        self.virtual_time = self.virtual_time.max(method.start);
        self.queued -= 1;
        Some((id, job))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const MS: Duration = Duration::from_millis(1);

    fn flow(client: u64, method: usize) -> Flow {
        Flow { client, method }
    }

    /// Takes and ends the next jobs, one after the other. A job is its label, and the milliseconds that it takes.
    fn run(queue: &mut FairQueue<(u64, u32)>, jobs: usize) -> Vec<u64> {
        let next = |_| {
            let ((label, takes), taken) = queue.take()?;
            queue.finish(taken, takes * MS);
            Some(label)
        };
        (0..jobs).map_while(next).collect()
    }

    #[test]
    fn client_with_one_job_does_not_queue_behind_the_jobs_of_another() {
        let mut queue = FairQueue::new();
        for _ in 0..300 {
            queue.push(flow(1, 7), (1, 25));
        }
        run(&mut queue, 10);
        // The same method; even if the one under way cannot be interrupted, it is the next.
        let (_, taken) = queue.take().unwrap();
        queue.push(flow(2, 7), (2, 1));
        queue.finish(taken, 25 * MS);
        assert_eq!(run(&mut queue, 1), [2]);
    }

    #[test]
    fn clients_share_time_and_not_jobs() {
        let mut queue = FairQueue::new();
        for _ in 0..100 {
            queue.push(flow(1, 7), (1, 10));
            queue.push(flow(2, 7), (2, 1));
        }
        let log = run(&mut queue, 66);
        let of_first = log.iter().filter(|label| **label == 1).count();
        assert!((5..=8).contains(&of_first), "{of_first} of {}", log.len());
    }

    #[test]
    fn methods_of_a_client_share_its_time() {
        let mut queue = FairQueue::new();
        for _ in 0..20 {
            queue.push(flow(1, 5), (5, 5));
            queue.push(flow(1, 6), (6, 1));
        }
        let log = run(&mut queue, 12);
        assert_eq!(log.iter().filter(|label| **label == 5).count(), 2, "{log:?}");
    }

    #[test]
    fn many_methods_get_a_client_no_more_time() {
        let mut queue = FairQueue::new();
        for n in 0..100 {
            queue.push(flow(1, n), (1, 1));
        }
        for _ in 0..100 {
            queue.push(flow(2, 0), (2, 1));
        }
        let log = run(&mut queue, 40);
        assert!(log.iter().filter(|label| **label == 1).count() <= 21, "{log:?}");
    }

    #[test]
    fn idle_client_saves_up_no_time() {
        let mut queue = FairQueue::new();
        queue.push(flow(2, 7), (2, 1));
        run(&mut queue, 1);
        for _ in 0..100 {
            queue.push(flow(1, 7), (1, 1));
        }
        run(&mut queue, 50);
        for _ in 0..50 {
            queue.push(flow(2, 7), (2, 1));
        }
        let log = run(&mut queue, 20);
        assert!(log.iter().filter(|label| **label == 1).count() >= 9, "{log:?}");
    }

    #[test]
    fn jobs_that_run_are_charged_before_they_end() {
        let mut queue = FairQueue::new();
        for client in [1, 2] {
            queue.push(flow(client, 7), (client, 10));
            queue.push(flow(client, 7), (client, 10));
        }
        run(&mut queue, 2);
        for client in [1, 2] {
            queue.push(flow(client, 7), (client, 10));
        }
        // Two threads take one of each client, rather than two of one.
        let both = [queue.take().unwrap().0.0, queue.take().unwrap().0.0];
        assert_ne!(both[0], both[1]);
    }

    #[test]
    fn unserved_clients_are_those_without_a_running_job() {
        let mut queue = FairQueue::new();
        for _ in 0..2 {
            queue.push(flow(1, 7), (1, 500));
            queue.push(flow(2, 7), (2, 500));
        }
        queue.push(flow(3, 7), (3, 1));
        let (job, _) = queue.take().unwrap();
        assert_eq!(job.0, 1);
        let is_short = |job: &(u64, u32)| job.1 < 5;
        assert_eq!(queue.take_unserved(is_short).unwrap().0.0, 3);
        assert!(queue.take_unserved(is_short).is_none());
    }

    proptest! {
        #[test]
        fn every_job_is_taken_or_removed_once(
            steps in proptest::collection::vec((0_u8..4, 0_u64..5, 0_usize..3, 0_u32..20), 1..200),
        ) {
            let mut queue = FairQueue::new();
            let (mut tickets, mut running, mut seen, mut pushed) = (Vec::new(), Vec::new(), 0, 0);
            for (step, client, method, takes) in steps {
                match step {
                    0 | 1 => {
                        tickets.push(queue.push(flow(client, method), takes));
                        pushed += 1;
                    }
                    2 => running.extend(queue.take()),
                    _ => {
                        if let Some(ticket) = tickets.pop() {
                            seen += usize::from(queue.remove(ticket).is_some());
                        }
                        if let Some((takes, taken)) = running.pop() {
                            queue.finish(taken, takes * MS);
                            seen += 1;
                        }
                    }
                }
                let queued: usize = queue.clients.values().map(|client| client.queued).sum();
                let busy = queue.clients.values().filter(|client| !client.is_idle()).count();
                let ordered = queue.clients.values().filter(|client| client.queued > 0).count();
                prop_assert_eq!((queued, busy, ordered), (queue.queued, queue.busy, queue.order.len()));
            }
            for (takes, taken) in running {
                queue.finish(taken, takes * MS);
                seen += 1;
            }
            while let Some((takes, taken)) = queue.take() {
                queue.finish(taken, takes * MS);
                seen += 1;
            }
            prop_assert_eq!((seen, queue.len(), queue.order.len()), (pushed, 0, 0));
        }
    }
}
