//! [`ZoneFirst`]: endpoints of the client's own zone, and others where these are too few.

use std::collections::HashSet;

use twox_hash::XxHash3_64;

use super::{Balancer, Candidate, Candidates, KeySource, PickRequest, Picker};

/// Keeps calls in the client's zone, and lets any other balancer choose among the endpoints there.
///
/// ```
/// use farcall_discovery::{LeastLoaded, ZoneFirst};
///
/// let balancer = ZoneFirst::new("zone-a", LeastLoaded);
/// ```
///
/// As endpoints of the zone fail, what is left of them takes on more, up to 1.4 times its part; past
/// that the rest of the calls goes to other zones. So a zone of which 72% of the weight can be used
/// keeps all of its calls, and one of which half can be used keeps 70%. This is what Envoy does
/// between priorities, with its factor; and as there, where the other zones can't take on the rest
/// either, all that can be used shares it.
///
/// A zone that has no endpoint sends all to the others. A call that has been to all endpoints of the
/// zone goes to another. Which calls leave is chance; calls with a key leave by their keys, so that a
/// key's calls stay together.
///
/// It knows the health of the zone, not how many clients are there: where most clients are in one zone
/// and most endpoints in another, it overloads the former.
#[derive(Clone, Debug)]
pub struct ZoneFirst<B> {
    zone: String,
    inner: B,
}

#[derive(Debug)]
struct ZoneFirstPicker {
    here: Group,
    elsewhere: Group,
    /// The part of calls that stay, 0 to 1.
    kept: f64,
}

/// Endpoints of one side, and a picker that knows them only.
#[derive(Debug)]
struct Group {
    picker: Box<dyn Picker>,
    candidates: Candidates,
    /// Of each of its usable endpoints the index among all.
    indices: Box<[usize]>,
}

/// The factor by which the load of a zone's endpoints may grow when others of it fail.
const OVERPROVISIONED: f64 = 1.4;

/// For a hash of keys that has nothing to do with the one that places keys among endpoints.
const SPILL_SEED: u64 = 0x7370_696c;

impl<B: Balancer> ZoneFirst<B> {
    /// For a client in `zone`; `inner` chooses among the endpoints of a zone.
    #[must_use]
    pub fn new(zone: impl Into<String>, inner: B) -> Self {
        Self { zone: zone.into(), inner }
    }

    fn is_here(&self, candidate: &Candidate) -> bool {
        candidate.endpoint.zone.as_deref() == Some(&self.zone)
    }

    fn group(&self, candidates: &Candidates, here: bool) -> Group {
        let belongs = |candidate: &Candidate| self.is_here(candidate) == here;
        let of = |all: &[Candidate]| all.iter().filter(|one| belongs(one)).cloned().collect();
        let indices = (0..candidates.usable.len()).filter(|index| belongs(&candidates.usable[*index]));
        let indices = indices.collect();
        let candidates = Candidates { usable: of(&candidates.usable), known: of(&candidates.known) };
        Group { picker: self.inner.picker(&candidates), candidates, indices }
    }
}

impl<B: Balancer> Balancer for ZoneFirst<B> {
    fn picker(&self, candidates: &Candidates) -> Box<dyn Picker> {
        let (here, elsewhere) = (self.group(candidates, true), self.group(candidates, false));
        if here.indices.is_empty() || elsewhere.indices.is_empty() {
            return self.inner.picker(candidates);
        }
        let stays = here.can_take_on();
        let leaves = elsewhere.can_take_on().min(1.0 - stays);
        Box::new(ZoneFirstPicker { here, elsewhere, kept: stays / (stays + leaves) })
    }

    fn narrow(&self, found: &mut Vec<(Candidate, bool)>) {
        let (mut here, mut elsewhere): (Vec<_>, Vec<_>) =
            found.iter().cloned().partition(|(candidate, _)| self.is_here(candidate));
        self.inner.narrow(&mut here);
        self.inner.narrow(&mut elsewhere);
        if here.len() + elsewhere.len() < found.len() {
            let kept: HashSet<u64> =
                here.iter().chain(&elsewhere).map(|(candidate, _)| candidate.id).collect();
            found.retain(|(candidate, _)| kept.contains(&candidate.id));
        }
    }

    fn key(&self) -> KeySource {
        self.inner.key()
    }

    fn describe(&self) -> String {
        format!("zone `{}` first, {}", self.zone, self.inner.describe())
    }
}

impl Group {
    /// Returns the picker's choice, as an index among all; `None` if the call has tried it already.
    fn pick(&self, request: &PickRequest<'_>) -> Option<usize> {
        let picked = self.picker.pick(request);
        if request.has_been_to(&self.candidates.usable, picked) {
            return None;
        }
        Some(self.indices.get(picked).or(self.indices.first()).copied().unwrap_or_default())
    }

    /// Which part of the calls it can take on that it takes when all of it can be used, at most 1.
    fn can_take_on(&self) -> f64 {
        let weight = |of: &[Candidate]| of.iter().map(Candidate::weight).sum::<u64>() as f64;
        // Who makes candidates by hand may leave out of the known what is usable.
        let known = weight(&self.candidates.known).max(1.0);
        (weight(&self.candidates.usable) / known * OVERPROVISIONED).min(1.0)
    }
}

impl ZoneFirstPicker {
    fn stays(&self, key: Option<&[u8]>) -> bool {
        if self.kept >= 1.0 {
            return true;
        }
        let chance = key.map_or_else(fastrand::f64, |key| {
            XxHash3_64::oneshot_with_seed(SPILL_SEED, key) as f64 / u64::MAX as f64
        });
        chance < self.kept
    }
}

impl Picker for ZoneFirstPicker {
    fn pick(&self, request: &PickRequest<'_>) -> usize {
        let (first, second) = match self.stays(request.key) {
            true => (&self.here, &self.elsewhere),
            false => (&self.elsewhere, &self.here),
        };
        let untried = first.pick(request).or_else(|| second.pick(request));
        // It has been to all: as if it had been nowhere.
        untried.or_else(|| first.pick(&PickRequest { tried: &[], ..*request })).unwrap_or_default()
    }

    fn is_spare(&self, index: usize) -> bool {
        let is_spare_of =
            |group: &Group| group.indices.binary_search(&index).is_ok_and(|at| group.picker.is_spare(at));
        is_spare_of(&self.here) || is_spare_of(&self.elsewhere)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::super::test_support::{chance_bound, count, endpoint, of};
    use super::*;
    use crate::{ConsistentHash, LeastLoaded, Random, RoundRobin};

    /// Creates endpoints in zone `a`, then in `b`, of all of which these can be used.
    fn zones(a: usize, b: usize, usable: impl Fn(usize) -> bool) -> Candidates {
        let all = of((0..a + b).map(|place| endpoint(place).with_zone(if place < a { "a" } else { "b" })));
        let usable = (0..a + b).filter(|place| usable(*place)).map(|place| all.known[place].clone());
        Candidates { usable: usable.collect(), ..all }
    }

    fn share_of_zone_a(candidates: &Candidates, picks: usize) -> f64 {
        fastrand::seed(11);
        let picked = count(&*ZoneFirst::new("a", Random).picker(candidates), picks, candidates.usable.len());
        let in_a =
            candidates.usable.iter().zip(picked).filter(|(one, _)| one.endpoint.zone.as_deref() == Some("a"));
        in_a.map(|(_, picked)| picked).sum::<usize>() as f64 / picks as f64
    }

    #[test]
    fn the_zone_keeps_its_calls_while_enough_of_it_can_be_used() {
        assert_eq!(share_of_zone_a(&zones(4, 4, |_| true), 1_000), 1.0);
        assert_eq!(share_of_zone_a(&zones(4, 4, |place| place > 0), 1_000), 1.0, "three of four");
    }

    #[test]
    fn calls_beyond_the_zones_capacity_go_elsewhere() {
        const PICKS: usize = 20_000;
        for (usable, share) in [(2, 0.7), (1, 0.35)] {
            let seen = share_of_zone_a(&zones(4, 4, |place| place >= 4 - usable), PICKS);
            assert!((seen - share).abs() * PICKS as f64 <= chance_bound(PICKS, share), "{seen}, not {share}");
        }
        // Half is left here, which could take on 0.7, and a tenth there, which takes on 0.14.
        let (seen, share) =
            (share_of_zone_a(&zones(2, 10, |place| (1..3).contains(&place)), PICKS), 0.7 / 0.84);
        assert!((seen - share).abs() * PICKS as f64 <= chance_bound(PICKS, share), "{seen}, not {share}");
    }

    #[test]
    fn zone_without_endpoints_uses_all_others() {
        let candidates = zones(2, 4, |place| place >= 2);
        let picked = count(&*ZoneFirst::new("a", RoundRobin).picker(&candidates), 400, 4);
        assert_eq!(picked, [100; 4]);
        let picked = count(&*ZoneFirst::new("nowhere", RoundRobin).picker(&candidates), 400, 4);
        assert_eq!(picked, [100; 4]);
    }

    #[test]
    fn call_that_has_been_everywhere_in_the_zone_goes_elsewhere() {
        let candidates = zones(2, 2, |_| true);
        let picker = ZoneFirst::new("a", LeastLoaded).picker(&candidates);
        let ids: Vec<u64> = candidates.usable.iter().map(|candidate| candidate.id).collect();
        for _ in 0..100 {
            assert_eq!(picker.pick(&PickRequest { key: None, tried: &ids[..1] }), 1);
            assert!(picker.pick(&PickRequest { key: None, tried: &ids[..2] }) >= 2);
            assert_eq!(picker.pick(&PickRequest { key: None, tried: &ids[..3] }), 3);
            assert!(
                picker.pick(&PickRequest { key: None, tried: &ids }) < 2,
                "all tried: its own zone again"
            );
        }
        // Not the first candidate of all, which is in the other zone.
        let picker = ZoneFirst::new("b", LeastLoaded).picker(&candidates);
        assert!(picker.pick(&PickRequest { key: None, tried: &ids }) >= 2);
    }

    #[test]
    fn the_calls_of_a_key_stay_together_where_some_leave_the_zone() {
        let candidates = zones(4, 4, |place| place >= 2);
        let balancer = ZoneFirst::new("a", ConsistentHash::by_metadata("user"));
        assert_eq!(balancer.key(), KeySource::Metadata("user".to_owned()));
        let picker = balancer.picker(&candidates);
        let pick = |key: usize| picker.pick(&PickRequest { key: Some(&key.to_be_bytes()), tried: &[] });
        let picked: Vec<usize> = (0..2_000).map(pick).collect();
        assert!((0..2_000).all(|key| pick(key) == picked[key]));
        let stayed = picked.iter().filter(|index| **index < 2).count() as f64;
        assert!((stayed - 1_400.0).abs() <= chance_bound(2_000, 0.7), "{stayed} of 2,000 stayed");
    }

    #[test]
    fn description_names_the_inner_balancer() {
        let inner: Arc<dyn Balancer> = Arc::new(ConsistentHash::by_argument("user").load_factor(1.5));
        let of_users = "consistent hash by the argument `user`, load factor 1.5";
        assert_eq!(ZoneFirst::new("a", inner).describe(), format!("zone `a` first, {of_users}"));
        let unbounded = ConsistentHash::by_metadata("user").unbounded().describe();
        assert_eq!(unbounded, "consistent hash by the metadata `user`, unbounded");
    }

    #[test]
    fn any_balancer_fits_into_it_behind_a_pointer_too() {
        let inner: Arc<dyn Balancer> = Arc::new(RoundRobin);
        let picked = count(&*ZoneFirst::new("a", inner).picker(&zones(2, 2, |_| true)), 100, 4);
        assert_eq!(picked, [50, 50, 0, 0]);
    }
}
