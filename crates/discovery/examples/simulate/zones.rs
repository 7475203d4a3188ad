//! Which part of the calls stays in the client's zone as endpoints of it fail.

use std::sync::Arc;

use farcall_discovery::{Balancer, Candidate, Candidates, PickRequest, Random, ZoneFirst};

use crate::run::endpoint;

/// Endpoints of each of the two zones.
pub(crate) const EACH: usize = 5;
const PICKS: usize = 20_000;

/// Returns the part of calls that stays in a zone of which this many endpoints can be used, if the other is
/// whole.
pub(crate) fn kept(usable: usize) -> f64 {
    fastrand::seed(42);
    let candidate = |index: usize| {
        let zone = if index < EACH { "here" } else { "there" };
        Candidate::new(index as u64, Arc::new(endpoint(index).with_zone(zone)), Arc::default())
    };
    let known: Arc<[Candidate]> = (0..2 * EACH).map(candidate).collect();
    let usable: Arc<[Candidate]> = known[EACH - usable..].into();
    let picker = ZoneFirst::new("here", Random).picker(&Candidates::new(Arc::clone(&usable), known));
    let stays = |_: &usize| usable[picker.pick(&PickRequest::default())].id < EACH as u64;
    (0..PICKS).filter(stays).count() as f64 / PICKS as f64
}
