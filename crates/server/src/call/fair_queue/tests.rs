//! The order of jobs.

use proptest::prelude::*;

use super::*;

const MS: Duration = Duration::from_millis(1);

/// Returns the flow of a client that is the only one of its peer.
fn flow(client: u64, method: usize) -> Flow {
    Flow { peer: client, client, method }
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
fn many_connections_get_a_peer_no_more_time() {
    let mut queue = FairQueue::new();
    for client in 100..1100 {
        queue.push(Flow { peer: 1, client, method: 7 }, (1, 1));
    }
    for _ in 0..100 {
        queue.push(flow(2, 7), (2, 1));
    }
    let log = run(&mut queue, 40);
    assert!(log.iter().filter(|label| **label == 1).count() <= 21, "{log:?}");
}

#[test]
fn one_connection_after_the_other_gets_a_peer_no_more_time() {
    let mut queue = FairQueue::new();
    for _ in 0..100 {
        queue.push(flow(2, 7), (2, 1));
    }
    let mut log = Vec::new();
    for client in 100..140 {
        queue.push(Flow { peer: 1, client, method: 7 }, (1, 1));
        log.extend(run(&mut queue, 1));
    }
    assert!((19..=21).contains(&log.iter().filter(|label| **label == 1).count()), "{log:?}");
}

#[test]
fn connections_of_a_peer_share_its_time() {
    let mut queue = FairQueue::new();
    for client in [1, 2] {
        for _ in 0..100 {
            queue.push(Flow { peer: 9, client, method: 7 }, (client, if client == 1 { 10 } else { 1 }));
        }
    }
    let log = run(&mut queue, 66);
    assert!((5..=8).contains(&log.iter().filter(|label| **label == 1).count()), "{log:?}");
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

/// Returns the queued jobs, and checks that each level counts and orders those that have some.
fn check<J>(level: &Level<J>) -> usize {
    let mut queued = 0;
    for node in level.nodes.values() {
        let in_node = match &node.content {
            Content::Nodes(nodes) => check(nodes),
            Content::Jobs(jobs) => jobs.queued.len(),
        };
        assert_eq!(in_node, node.queued);
        queued += in_node;
    }
    let busy = level.nodes.values().filter(|node| !node.is_idle()).count();
    let ordered: Vec<Key> = level.nodes.iter().filter_map(|(id, node)| node.key(*id)).collect();
    assert_eq!((busy, ordered.len()), (level.busy, level.order.len()));
    assert!(ordered.iter().all(|key| level.order.contains(key)));
    queued
}

proptest! {
    #[test]
    fn every_job_is_taken_or_removed_once(
        steps in proptest::collection::vec((0_u8..4, 0_u64..6, 0_usize..3, 0_u32..20), 1..200),
    ) {
        let mut queue = FairQueue::new();
        let (mut tickets, mut running, mut seen, mut pushed) = (Vec::new(), Vec::new(), 0, 0);
        for (step, client, method, takes) in steps {
            match step {
                0 | 1 => {
                    tickets.push(queue.push(Flow { peer: client / 2, client, method }, takes));
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
            prop_assert_eq!(check(&queue.peers), queue.queued);
        }
        for (takes, taken) in running {
            queue.finish(taken, takes * MS);
            seen += 1;
        }
        while let Some((takes, taken)) = queue.take() {
            queue.finish(taken, takes * MS);
            seen += 1;
        }
        prop_assert_eq!((seen, queue.len(), queue.peers.order.len()), (pushed, 0, 0));
    }
}
