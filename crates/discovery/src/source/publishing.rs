//! [`publish`]: lists that may be long, made and compared with the last one where no other task waits for it.

use super::aside::aside;
use crate::discovery::Publisher;
use crate::endpoint::Endpoint;
use crate::next_list::NextList;

/// Publishes a list that may be long. It does what [`Publisher::publish`] does, which takes time that grows with the list: on a
/// thread for blocking work if that would keep other tasks of this one waiting.
pub async fn publish(publisher: &Publisher, endpoints: Vec<Endpoint>) {
    let count = endpoints.len();
    publish_of(publisher, count, endpoints, std::mem::take).await;
}

/// Publishes the list that `endpoints` makes of a state, such as what is known of a service, and returns the state. The list
/// has about `count` endpoints; to make it belongs to what is done on the other thread.
pub async fn publish_of<S: Send + 'static>(
    publisher: &Publisher,
    count: usize,
    mut state: S,
    endpoints: impl FnOnce(&mut S) -> Vec<Endpoint> + Send + 'static,
) -> S {
    let last = publisher.last().endpoints;
    let bytes = count.max(last.len()).saturating_mul(size_of::<Endpoint>());
    let (state, next) = aside(bytes, move || {
        let next = NextList::new(endpoints(&mut state), last);
        (state, next)
    })
    .await;
    publisher.replace(next);
    state
}

#[cfg(test)]
mod tests {
    use std::thread;

    use super::*;
    use crate::discovery::publisher;

    fn endpoints(count: u16) -> Vec<Endpoint> {
        (0..count).map(|port| Endpoint::new(format!("tcp@a:{}", 1 + port).parse().unwrap())).collect()
    }

    #[tokio::test]
    async fn long_lists_are_made_on_another_thread_and_short_ones_here() {
        let (publisher, list) = publisher();
        let own = thread::current().id();
        // The last list counts as well, since both are compared.
        for (count, is_here) in [(100, true), (1000, false), (100, false), (100, true)] {
            let make = move |at: &mut Option<thread::ThreadId>| {
                *at = Some(thread::current().id());
                endpoints(count)
            };
            let at = publish_of(&publisher, count.into(), None, make).await;
            assert_eq!(at == Some(own), is_here, "{count}");
            assert_eq!(list.borrow().endpoints.len(), usize::from(count));
        }
    }

    #[tokio::test]
    async fn list_is_the_same_as_that_of_the_publisher() {
        let (publisher, mut list) = publisher();
        let (other, other_list) = crate::discovery::publisher();
        for count in [0, 3, 1000, 1000, 999] {
            let mut endpoints = endpoints(count);
            // The second of two with one address.
            endpoints.extend(endpoints.first().cloned().map(|first| first.with_weight(7)));
            let is_other =
                list.borrow().confirmed.is_none() || list.borrow().endpoints.len() != usize::from(count);
            list.mark_unchanged();
            publish(&publisher, endpoints.clone()).await;
            assert_eq!(list.has_changed().unwrap(), is_other, "{count}");
            other.publish(endpoints);
            assert_eq!(list.borrow().endpoints, other_list.borrow().endpoints);
        }
    }
}
