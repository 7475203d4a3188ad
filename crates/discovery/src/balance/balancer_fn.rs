//! [`balancer_fn`]: a balancer from a closure.

use std::fmt;
use std::sync::Arc;

use super::{Balancer, Candidate, Candidates, PickRequest, Picker};

/// Creates a balancer that calls a closure for each call. The closure gets the usable endpoints and the request,
/// and returns an index among them.
///
/// ```
/// use farcall_discovery::balancer_fn;
///
/// // Always the first that the call has not been to: the others are there in case it fails.
/// let in_order = balancer_fn(|usable, request| {
///     usable.iter().position(|candidate| !request.has_tried(candidate)).unwrap_or(0)
/// });
/// ```
///
/// One that prepares something whenever the endpoints change implements [`Balancer`] itself.
pub fn balancer_fn<F>(choose: F) -> BalancerFn<F>
where
    F: Fn(&[Candidate], &PickRequest<'_>) -> usize + Send + Sync + 'static,
{
    BalancerFn { choose: Arc::new(choose) }
}

/// See [`balancer_fn`].
pub struct BalancerFn<F> {
    choose: Arc<F>,
}

struct PickerFn<F> {
    choose: Arc<F>,
    usable: Arc<[Candidate]>,
}

impl<F> Balancer for BalancerFn<F>
where
    F: Fn(&[Candidate], &PickRequest<'_>) -> usize + Send + Sync + 'static,
{
    fn picker(&self, candidates: &Candidates) -> Box<dyn Picker> {
        let (choose, usable) = (Arc::clone(&self.choose), Arc::clone(&candidates.usable));
        Box::new(PickerFn { choose, usable })
    }

    fn describe(&self) -> String {
        "a closure".to_owned()
    }
}

impl<F> Picker for PickerFn<F>
where
    F: Fn(&[Candidate], &PickRequest<'_>) -> usize + Send + Sync + 'static,
{
    fn pick(&self, request: &PickRequest<'_>) -> usize {
        let picked = (self.choose)(&self.usable, request);
        if picked < self.usable.len() { picked } else { 0 }
    }
}

impl<F> fmt::Debug for BalancerFn<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BalancerFn").finish_non_exhaustive()
    }
}

impl<F> fmt::Debug for PickerFn<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PickerFn").field("usable", &self.usable).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::super::test_support::candidates;
    use super::*;

    #[test]
    fn closure_chooses_and_what_is_no_endpoint_is_the_first_one() {
        let all = candidates(&[1, 1, 1]);
        let ids: Vec<u64> = all.usable.iter().map(|candidate| candidate.id).collect();
        let balancer = balancer_fn(|usable: &[Candidate], request: &PickRequest<'_>| {
            request.tried.len() + 2 * usize::from(usable.is_empty())
        });
        let picker = balancer.picker(&all);
        for tried in 0..=3 {
            let picked = picker.pick(&PickRequest::new(None, &ids[..tried]));
            assert_eq!(picked, if tried < 3 { tried } else { 0 });
        }
        assert_eq!(balancer.describe(), "a closure");
    }
}
