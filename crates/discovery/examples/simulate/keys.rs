//! The number of keys that move when an endpoint leaves or joins.

use std::sync::Arc;

use farcall_discovery::{Balancer, Candidate, Candidates, ConsistentHash, PickRequest};

use crate::run::endpoint;

/// The changes that one more endpoint, the last of `n`, makes; read backwards, those when it leaves.
pub(crate) struct Moved {
    /// The part of keys that belong to another endpoint than before.
    pub(crate) keys: f64,
    /// The part of them that moved between two endpoints that were there all the time.
    pub(crate) needlessly: f64,
    /// The same, as [`Moved::keys`], where the endpoint is the key's hash modulo `n`.
    pub(crate) modulo: f64,
    /// The most keys that one of `n` has, against the mean.
    pub(crate) fullest: f64,
}

const KEYS: u64 = 50_000;

pub(crate) fn moved(n: usize) -> Moved {
    let (before, after) = (owners(n - 1), owners(n));
    let part = |count: usize| count as f64 / KEYS as f64;
    let moves = || before.iter().zip(&after).filter(|(before, after)| before != after);
    let needless = moves().filter(|(_, after)| **after != n - 1).count();
    // Any good hash does for a comparison.
    let modulo =
        |n: usize| move |key: u64| key.wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(32) % n as u64;
    let modulo_moves = (0..KEYS).filter(|key| modulo(n)(*key) != modulo(n - 1)(*key)).count();
    let mut counts = vec![0_usize; n];
    after.iter().for_each(|owner| counts[*owner] += 1);
    let fullest = counts.into_iter().max().unwrap_or(0);
    Moved {
        keys: part(moves().count()),
        needlessly: part(needless),
        modulo: part(modulo_moves),
        fullest: part(fullest) * n as f64,
    }
}

/// The endpoint of each key among `n`.
fn owners(n: usize) -> Vec<usize> {
    let candidate = |index: usize| Candidate::new(index as u64, Arc::new(endpoint(index)), Arc::default());
    let usable: Arc<[Candidate]> = (0..n).map(candidate).collect();
    let picker = ConsistentHash::by_key().picker(&Candidates::new(Arc::clone(&usable), usable));
    let owner = |key: u64| picker.pick(&PickRequest::new(Some(key.to_string().as_bytes()), &[]));
    (0..KEYS).map(owner).collect()
}
