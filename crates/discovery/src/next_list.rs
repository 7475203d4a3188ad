//! [`NextList`]: the list that comes next, compared with the last one. Publishing it is left to
//! [`Publisher`](crate::Publisher).

use std::sync::Arc;

use crate::endpoint::Endpoint;

/// A list that is ready to be published. To make one takes time that grows with it; to publish it does not.
#[derive(Debug)]
pub(crate) struct NextList {
    /// The list that it was compared with.
    last: Arc<[Arc<Endpoint>]>,
    /// In the order of addresses. `None` if it has the same endpoints as the last one.
    changed: Option<Arc<[Arc<Endpoint>]>>,
}

impl NextList {
    /// Compares these endpoints with the last list. Of several with the same address the first counts.
    pub(crate) fn new(mut endpoints: Vec<Endpoint>, last: Arc<[Arc<Endpoint>]>) -> Self {
        // Stable, so that the first of several stays first.
        endpoints.sort_by(|a, b| a.address.cmp(&b.address));
        endpoints.dedup_by(|later, first| later.address == first.address);
        let same =
            last.len() == endpoints.len() && last.iter().zip(&endpoints).all(|(old, new)| **old == *new);
        let changed = (!same).then(|| share(endpoints, &last));
        Self { last, changed }
    }

    /// Puts the list in place of the last one; returns `true` if it is another one.
    pub(crate) fn replace(self, list: &mut Arc<[Arc<Endpoint>]>) -> bool {
        // It was compared with another one if two lists were published at the same time.
        let is_last = Arc::ptr_eq(&self.last, list);
        match self.changed {
            None if is_last => false,
            changed => {
                *list = changed.unwrap_or(self.last);
                true
            }
        }
    }
}

/// The list, with what did not change taken from the last one. Both are sorted.
fn share(endpoints: Vec<Endpoint>, last: &[Arc<Endpoint>]) -> Arc<[Arc<Endpoint>]> {
    let mut last = last.iter().peekable();
    let mut shared = Vec::with_capacity(endpoints.len());
    for endpoint in endpoints {
        while last.next_if(|old| old.address < endpoint.address).is_some() {}
        shared.push(match last.next_if(|old| ***old == endpoint) {
            Some(old) => Arc::clone(old),
            None => Arc::new(endpoint),
        });
    }
    shared.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn endpoint(host: &str, weight: u16) -> Endpoint {
        Endpoint::new(format!("tcp@{host}:1").parse().unwrap()).with_weight(weight)
    }

    fn list(hosts: &[&str]) -> Vec<Endpoint> {
        hosts.iter().map(|host| endpoint(host, 100)).collect()
    }

    #[test]
    fn endpoints_that_did_not_change_are_shared_with_the_last_list() {
        let last: Vec<_> = ["a", "b", "d", "e"].map(|host| Arc::new(endpoint(host, 100))).into();
        // `a` is gone, `c` is new, and `d` has another weight.
        let list = vec![endpoint("b", 100), endpoint("c", 100), endpoint("d", 7), endpoint("e", 100)];
        let shared = share(list.clone(), &last);
        assert!(shared.iter().map(|endpoint| &**endpoint).eq(&list));
        let is_shared: Vec<_> =
            shared.iter().map(|one| last.iter().any(|old| Arc::ptr_eq(old, one))).collect();
        assert_eq!(is_shared, [true, false, false, true]);
    }

    #[test]
    fn list_that_was_compared_with_another_one_replaces_what_is_there() {
        let mut published = Arc::default();
        let first = NextList::new(list(&["a"]), Arc::clone(&published));
        let second = NextList::new(list(&["b"]), Arc::clone(&published));
        let third = NextList::new(list(&[]), Arc::clone(&published));
        for (next, hosts) in [(first, &["a"][..]), (second, &["b"]), (third, &[])] {
            assert!(next.replace(&mut published));
            assert!(published.iter().map(|endpoint| (**endpoint).clone()).eq(list(hosts)));
        }
        assert!(!NextList::new(list(&[]), Arc::clone(&published)).replace(&mut published));
    }
}
