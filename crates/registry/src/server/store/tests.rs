//! What the store promises, one by one, and at random against a model that is too simple to be wrong.

use std::collections::BTreeMap;

use farcall_discovery::State;
use farcall_transport::Address;
use proptest::prelude::*;

use super::*;
use crate::wire::{Answer, Instances, Put};

const TTL: Duration = Duration::from_secs(10);
const HEARTBEAT: Duration = Duration::from_secs(3);
const TIMES: Times = Times { ttl: TTL, heartbeat: HEARTBEAT };

struct Clock(Now);

impl Clock {
    fn new() -> Self {
        Self(Now { at: Instant::now(), clock: Timestamp::now() })
    }

    fn after(&mut self, time: Duration) -> Now {
        self.0.at += time;
        self.0
    }
}

fn store() -> (Store, Clock) {
    (Store::new("e".to_owned(), TIMES, 1000), Clock::new())
}

fn instance(service: &str, n: u16) -> Instance {
    Instance::new(service, Address::parse(&format!("10.0.0.1:{}", 1000 + n)).unwrap())
}

fn id(n: u16) -> String {
    instance("A", n).id
}

fn register_all(store: &mut Store, count: u16, now: Now) {
    for n in 0..count {
        store.register(instance("A", n), now).unwrap();
    }
}

fn list(store: &mut Store, view: &View) -> Vec<Listed> {
    let body = store.list("A", view);
    serde_json::from_slice::<Answer<Instances>>(&body).unwrap().body.instances
}

fn states(store: &mut Store) -> Vec<State> {
    store.all("A").into_iter().map(|listed| listed.state).collect()
}

#[test]
fn a_renewal_that_changes_nothing_moves_no_revision() {
    let (mut store, mut clock) = store();
    register_all(&mut store, 2, clock.0);
    let (rev, of_service) = (store.rev(), store.service_rev("A"));
    let now = clock.after(TTL / 2);
    store.register(instance("A", 0), now).unwrap();
    store.renew("A", &id(1), now).unwrap();
    assert_eq!((store.rev(), store.service_rev("A")), (rev, of_service));
    // And yet both count.
    assert_eq!(store.sweep(clock.after(TTL * 3 / 4).at).expired, 0);
}

#[test]
fn a_registration_replaces_what_an_earlier_one_said_and_keeps_when_it_came() {
    let (mut store, mut clock) = store();
    let first = Instance { zone: Some("a".to_owned()), ttl_ms: Some(5000), ..instance("A", 0) };
    store.register(first, clock.0).unwrap();
    let registered_at = store.one("A", &id(0)).unwrap().registered_at;
    let later = clock.after(Duration::from_secs(1));
    store.register(Instance { weight: 7, ..instance("A", 0) }, later).unwrap();
    let one = store.one("A", &id(0)).unwrap();
    assert_eq!((one.instance.weight, one.instance.zone, one.instance.ttl_ms), (7, None, Some(10_000)));
    assert_eq!((one.registered_at, one.rev), (registered_at, 2));
}

#[test]
fn an_override_lies_on_top_of_registrations_and_null_takes_it_back() {
    let (mut store, clock) = store();
    register_all(&mut store, 1, clock.0);
    let set = Patch { drain: Some(Some(true)), weight: Some(Some(3)) };
    let patched = store.patch("A", &id(0), set).unwrap();
    assert_eq!((patched.state, patched.instance.weight), (State::Draining, 3));
    store.register(Instance { weight: 50, ..instance("A", 0) }, clock.0).unwrap();
    let one = store.one("A", &id(0)).unwrap();
    assert_eq!((one.state, one.instance.weight), (State::Draining, 3));
    let back = store.patch("A", &id(0), Patch { drain: Some(None), weight: Some(None) }).unwrap();
    assert_eq!((back.state, back.instance.weight), (State::Up, 50));
    assert!(back.overrides.is_empty());
}

#[test]
fn an_override_outlives_expiry_but_not_a_delete() {
    let (mut store, mut clock) = store();
    register_all(&mut store, 2, clock.0);
    for n in 0..2 {
        store.patch("A", &id(n), Patch { drain: Some(Some(true)), weight: None }).unwrap();
    }
    let now = clock.after(TTL);
    assert!(store.delete("A", &id(1)));
    assert_eq!(store.sweep(now.at).expired, 1);
    register_all(&mut store, 2, now);
    assert_eq!(states(&mut store), [State::Draining, State::Up]);
}

#[test]
fn three_in_ten_expire_and_four_are_held_back() {
    for (silent, expired, held_back) in [(3, 3, 0), (4, 0, 4)] {
        let (mut store, mut clock) = store();
        register_all(&mut store, 10, clock.0);
        let now = clock.after(TTL / 2);
        for n in silent..10 {
            store.renew("A", &id(n), now).unwrap();
        }
        let swept = store.sweep(clock.after(TTL / 2).at);
        assert_eq!((swept.expired, swept.held_back), (expired, held_back));
    }
}

#[test]
fn those_that_fell_silent_together_are_held_back_though_they_expire_apart() {
    let (mut store, mut clock) = store();
    for n in 0..10 {
        store.register(instance("A", n), clock.0).unwrap();
        clock.after(HEARTBEAT / 10);
    }
    // Nobody is heard of again: the first to expire has the others for company.
    let mut swept = Swept::default();
    for _ in 0..40 {
        let now = store.sweep(clock.after(TTL / 20).at);
        swept.expired += now.expired;
        swept.held_back += now.held_back;
        if swept.held_back == 10 {
            break;
        }
    }
    assert_eq!((swept.expired, swept.held_back), (0, 10));
    assert_eq!(states(&mut store), [State::Stale; 10]);
}

#[test]
fn those_that_are_heard_of_hold_nobody_back() {
    let (mut store, mut clock) = store();
    register_all(&mut store, 10, clock.0);
    // The last one is dead; the others are late with each heartbeat, and come.
    let mut expired = 0;
    while expired == 0 {
        let now = clock.after(TTL / 2);
        expired = store.sweep(now.at).expired;
        for n in 0..9 {
            store.renew("A", &id(n), now).unwrap();
        }
    }
    assert_eq!(store.counts().instances, 9);
}

#[test]
fn fewer_than_three_are_never_held_back() {
    let (mut store, mut clock) = store();
    register_all(&mut store, 2, clock.0);
    assert_eq!(store.sweep(clock.after(TTL).at).expired, 2);
    assert_eq!(store.counts(), Counts::default());
}

#[test]
fn stale_ones_are_served_where_no_other_is_and_go_after_one_more_ttl() {
    let (mut store, mut clock) = store();
    register_all(&mut store, 3, clock.0);
    let now = clock.after(TTL);
    assert_eq!(store.sweep(now.at).held_back, 3);
    assert_eq!(states(&mut store), [State::Stale; 3]);
    assert_eq!(store.addresses("A").count, 3);
    assert_eq!(list(&mut store, &View::default()).len(), 3);

    // One comes back: the others are not served beside it, unless asked for.
    store.renew("A", &id(1), now).unwrap();
    assert_eq!(store.addresses("A").header.as_deref(), Some("tcp@10.0.0.1:1001"));
    assert_eq!(list(&mut store, &View::default()).len(), 1);
    assert_eq!(list(&mut store, &View { stale: true, ..View::default() }).len(), 3);

    assert_eq!(store.sweep(clock.after(TTL - Duration::from_millis(1)).at), Swept::default());
    store.renew("A", &id(1), clock.0).unwrap();
    assert_eq!(store.sweep(clock.after(Duration::from_millis(1)).at).expired, 2);
    assert_eq!(states(&mut store), [State::Up]);
}

#[test]
fn a_delete_is_never_held_back() {
    let (mut store, mut clock) = store();
    register_all(&mut store, 4, clock.0);
    store.sweep(clock.after(TTL).at);
    for n in 0..4 {
        assert!(store.delete("A", &id(n)));
        assert!(!store.delete("A", &id(n)));
    }
    assert_eq!(store.counts().instances, 0);
}

#[test]
fn neither_drained_nor_weightless_ones_are_served_by_address() {
    let (mut store, clock) = store();
    register_all(&mut store, 3, clock.0);
    store.patch("A", &id(0), Patch { drain: Some(Some(true)), weight: None }).unwrap();
    store.register(Instance { weight: 0, ..instance("A", 1) }, clock.0).unwrap();
    assert_eq!(store.addresses("A").body, r#"["tcp@10.0.0.1:1002"]"#);
}

#[test]
fn addresses_are_sorted_and_each_is_there_once() {
    let (mut store, clock) = store();
    for (id, n) in [("z", 2), ("y", 1), ("x", 2)] {
        store.register(Instance { id: id.to_owned(), ..instance("A", n) }, clock.0).unwrap();
    }
    let addresses = store.addresses("A");
    assert_eq!(addresses.header.as_deref(), Some("tcp@10.0.0.1:1001,tcp@10.0.0.1:1002"));
    assert_eq!(addresses.count, 2);
}

#[test]
fn a_line_of_addresses_that_is_too_long_is_left_out_whole() {
    let (mut store, clock) = store();
    register_all(&mut store, 460, clock.0);
    let addresses = store.addresses("A");
    assert_eq!((addresses.count, addresses.header.is_none()), (460, true));
    assert_eq!(serde_json::from_slice::<Vec<String>>(&addresses.body).unwrap().len(), 460);
    for n in 400..460 {
        store.delete("A", &id(n));
    }
    assert_eq!(store.addresses("A").header.as_ref().map(String::len), Some(400 * 18 - 1));
}

#[test]
fn past_the_bound_new_ones_are_refused_and_old_ones_renewed() {
    let clock = Clock::new();
    let mut store = Store::new("e".to_owned(), TIMES, 1);
    register_all(&mut store, 1, clock.0);
    assert_eq!(store.register(instance("A", 1), clock.0), Err(Full));
    assert!(store.register(instance("A", 0), clock.0).is_ok());
    store.delete("A", &id(0));
    assert!(store.register(instance("A", 1), clock.0).is_ok());
}

#[test]
fn services_that_come_and_go_leave_a_bounded_trace() {
    let (mut store, clock) = store();
    for n in 0..5000 {
        let name = format!("S{n}");
        store.register(instance(&name, 0), clock.0).unwrap();
        store.delete(&name, &id(0));
    }
    assert_eq!(store.services.len(), MAX_EMPTY);
    assert_eq!(store.expiry.len(), 0);
    // Who knew the list of a forgotten one is told that it moved.
    assert!(store.service_rev("S0") >= 2);
    assert_eq!(store.since(Some("S0"), 1), Since::Lost);
}

#[test]
fn a_watcher_of_a_quiet_service_misses_nothing_while_others_change_much() {
    let (mut store, clock) = store();
    register_all(&mut store, 1, clock.0);
    let known = store.rev();
    for n in 0..10_000 {
        store.register(Instance { weight: 1 + n, ..instance("B", 0) }, clock.0).unwrap();
    }
    assert_eq!(store.since(Some("A"), known), Since::Changes { frames: Vec::new(), rev: store.rev() });
    store.register(instance("A", 1), clock.0).unwrap();
    let Since::Changes { frames, rev } = store.since(Some("A"), known) else { panic!("nothing was lost") };
    assert_eq!((frames.len(), rev), (1, store.rev()));
    assert_eq!(store.since(None, known), Since::Lost);
    assert_eq!(store.since(None, store.rev() + 1), Since::Lost);
    assert_eq!(store.since(Some("B"), known), Since::Lost);
}

#[test]
fn changes_come_in_batches_that_end_where_the_next_begins() {
    let (mut store, clock) = store();
    register_all(&mut store, 600, clock.0);
    for service in [None, Some("A")] {
        let (mut at, mut seen) = (0, 0);
        while at < store.rev() {
            let Since::Changes { frames, rev } = store.since(service, at) else { panic!("nothing was lost") };
            assert!(!frames.is_empty() && rev > at);
            (at, seen) = (rev, seen + frames.len());
        }
        assert_eq!(seen, 600);
    }
}

#[test]
fn an_event_is_the_instance_as_it_is_listed() {
    let (mut store, clock) = store();
    let odd = Instance {
        metadata: BTreeMap::from([("k\n".to_owned(), "\"<b>\r\n".to_owned())]),
        ..instance("A", 0)
    };
    store.register(odd, clock.0).unwrap();
    let Since::Changes { frames, .. } = store.since(None, 0) else { panic!("nothing was lost") };
    let text = std::str::from_utf8(&frames[0]).unwrap();
    let data = text.strip_prefix("event: put\nid: e-1\ndata: ").unwrap().strip_suffix("\n\n").unwrap();
    assert!(!data.contains(['\n', '\r']));
    let put: Answer<Put> = serde_json::from_str(data).unwrap();
    assert_eq!((put.rev, put.body.service.as_str()), (1, "A"));
    assert_eq!(vec![put.body.instance], list(&mut store, &View::default()));
}

#[test]
fn warming_is_said_everywhere_until_it_ends() {
    let (mut store, mut clock) = store();
    store.warm_until(clock.0.at + TTL);
    register_all(&mut store, 1, clock.0);
    let warming = |store: &mut Store| {
        let list = store.list("A", &View::default());
        let bodies = [list, store.services(), store.snapshot(None).1, store.snapshot(Some("A")).1];
        bodies.map(|body| String::from_utf8(body.to_vec()).unwrap().contains(r#""warming":true"#))
    };
    assert_eq!(warming(&mut store), [true; 4]);
    store.renew("A", &id(0), clock.after(TTL)).unwrap();
    assert!(store.sweep(clock.0.at).warmed);
    assert_eq!(warming(&mut store), [false; 4]);
    assert!(!store.sweep(clock.0.at).warmed);
}

#[test]
fn what_is_saved_is_restored_with_a_full_ttl_and_overrides_apart() {
    let (mut store, mut clock) = store();
    register_all(&mut store, 5, clock.0);
    store.patch("A", &id(1), Patch { drain: Some(Some(true)), weight: Some(Some(9)) }).unwrap();
    store.register(Instance { ttl_ms: Some(60_000), ..instance("", 7) }, clock.0).unwrap();
    let mut saved = store.saved_frame();
    let mut after = None;
    while let Some((instances, last)) = store.save_after(after.as_ref(), 2) {
        saved.instances.extend(instances);
        after = Some(last);
    }
    let saved: Saved = serde_json::from_slice(&serde_json::to_vec(&saved).unwrap()).unwrap();

    let mut restored = Store::new("f".to_owned(), TIMES, 1000);
    let now = clock.after(TTL * 5);
    restored.restore(saved, now);
    assert_eq!(restored.counts(), store.counts());
    assert_eq!(restored.sweep((now.at + TTL) - Duration::from_millis(1)), Swept::default());
    let back = restored.patch("A", &id(1), Patch { drain: Some(None), weight: Some(None) }).unwrap();
    assert_eq!((back.state, back.instance.weight), (State::Up, 100));
    assert_eq!(back.registered_at, store.one("A", &id(1)).unwrap().registered_at);
}

#[derive(Clone, Debug)]
enum Step {
    Register { service: u8, n: u16, weight: u16, ttl_ms: Option<u64> },
    Renew { service: u8, n: u16 },
    Delete { service: u8, n: u16 },
    Drain { service: u8, n: u16, drain: Option<bool> },
    Pass { millis: u64 },
}

fn step() -> impl Strategy<Value = Step> {
    let (service, n) = (0..3u8, 0..6u16);
    prop_oneof![
        4 => (service.clone(), n.clone(), prop::sample::select(vec![0, 1, 100]),
              prop::option::of(prop::sample::select(vec![3000, 20_000])))
            .prop_map(|(service, n, weight, ttl_ms)| Step::Register { service, n, weight, ttl_ms }),
        3 => (service.clone(), n.clone()).prop_map(|(service, n)| Step::Renew { service, n }),
        1 => (service.clone(), n.clone()).prop_map(|(service, n)| Step::Delete { service, n }),
        1 => (service, n, prop::option::of(any::<bool>()))
            .prop_map(|(service, n, drain)| Step::Drain { service, n, drain }),
        3 => (0..6000u64).prop_map(|millis| Step::Pass { millis }),
    ]
}

/// What is known of an instance, by the model.
#[derive(Clone, Debug, PartialEq)]
struct Known {
    weight: u16,
    ttl: Duration,
    deadline: Instant,
    own_ttl: bool,
    drain: bool,
    stale: bool,
}

impl Known {
    fn is_silent(&self, now: Instant) -> bool {
        let heartbeat = if self.own_ttl { self.ttl / 3 } else { HEARTBEAT };
        let after = (self.ttl * 7 / 10).max(heartbeat * 6 / 5);
        self.stale || now >= self.deadline - self.ttl + after.min(self.ttl)
    }
}

#[derive(Default)]
struct Model {
    known: BTreeMap<(String, String), Known>,
    kept: BTreeMap<(String, String), bool>,
}

impl Model {
    fn sweep(&mut self, now: Instant) {
        for service in names() {
            let of_service = |key: &(String, String)| key.0 == service;
            let due: Vec<_> =
                self.known.iter().filter(|(key, known)| of_service(key) && known.deadline <= now).collect();
            let all: Vec<_> = self.known.iter().filter(|(key, _)| of_service(key)).collect();
            let silent = all.iter().filter(|(_, known)| known.is_silent(now)).count();
            let hold = silent >= 3 && silent as f64 / all.len() as f64 > 0.3;
            for key in due.into_iter().map(|(key, _)| key.clone()).collect::<Vec<_>>() {
                let known = self.known.get_mut(&key).unwrap();
                if hold && !known.stale {
                    (known.stale, known.deadline) = (true, now + known.ttl);
                } else if self.known.remove(&key).unwrap().drain {
                    self.kept.insert(key, true);
                }
            }
        }
    }
}

fn names() -> [String; 3] {
    ["".to_owned(), "A".to_owned(), "B".to_owned()]
}

/// What a client that applies events knows.
type Replica = BTreeMap<(String, String), serde_json::Value>;

fn apply(replica: &mut Replica, frame: &[u8]) {
    let text = std::str::from_utf8(frame).unwrap();
    let (event, rest) = text.strip_prefix("event: ").unwrap().split_once('\n').unwrap();
    let data: serde_json::Value = serde_json::from_str(rest.split_once("data: ").unwrap().1).unwrap();
    let text = |value: &serde_json::Value| value.as_str().unwrap().to_owned();
    match event {
        "put" => {
            let instance = &data["instance"];
            replica.insert((text(&data["service"]), text(&instance["id"])), instance.clone());
        }
        "delete" => {
            replica.remove(&(text(&data["service"]), text(&data["id"])));
        }
        "snapshot" => {
            replica.clear();
            for instance in data["instances"].as_array().unwrap() {
                replica.insert((text(&instance["service"]), text(&instance["id"])), instance.clone());
            }
        }
        other => panic!("no such event: {other}"),
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn the_store_does_what_the_model_does(steps in prop::collection::vec(step(), 1..120)) {
        let (mut store, mut clock) = store();
        let mut model = Model::default();
        let (mut replica, mut at) = (Replica::new(), 0);
        for step in steps {
            let key = |service: u8, n: u16| (names()[usize::from(service)].clone(), id(n));
            match step {
                Step::Register { service, n, weight, ttl_ms } => {
                    let (name, id) = key(service, n);
                    store.register(Instance { weight, ttl_ms, ..instance(&name, n) }, clock.0).unwrap();
                    let ttl = ttl_ms.map_or(TTL, Duration::from_millis);
                    let key = (name, id);
                    let drain = match model.known.get(&key) {
                        Some(known) => known.drain,
                        None => model.kept.remove(&key).is_some(),
                    };
                    let deadline = clock.0.at + ttl;
                    let own_ttl = ttl_ms.is_some();
                    model.known.insert(key, Known { weight, ttl, deadline, own_ttl, drain, stale: false });
                }
                Step::Renew { service, n } => {
                    let key = key(service, n);
                    let renewed = store.renew(&key.0, &key.1, clock.0);
                    prop_assert_eq!(renewed.is_some(), model.known.contains_key(&key));
                    if let Some(known) = model.known.get_mut(&key) {
                        (known.stale, known.deadline) = (false, clock.0.at + known.ttl);
                    }
                }
                Step::Delete { service, n } => {
                    let key = key(service, n);
                    let deleted = store.delete(&key.0, &key.1);
                    model.kept.remove(&key);
                    prop_assert_eq!(deleted, model.known.remove(&key).is_some());
                }
                Step::Drain { service, n, drain } => {
                    let key = key(service, n);
                    let patched = store.patch(&key.0, &key.1, Patch { drain: Some(drain), weight: None });
                    prop_assert_eq!(patched.is_some(), model.known.contains_key(&key));
                    if let Some(known) = model.known.get_mut(&key) {
                        known.drain = drain == Some(true);
                    }
                }
                Step::Pass { millis } => {
                    let now = clock.after(Duration::from_millis(millis)).at;
                    store.sweep(now);
                    model.sweep(now);
                }
            }

            // The same instances, in the same states.
            let mut seen = BTreeMap::new();
            for name in names() {
                for listed in store.all(&name) {
                    seen.insert((name.clone(), listed.instance.id.clone()), (listed.state, listed.instance.weight));
                }
            }
            let state = |known: &Known| match (known.drain, known.stale) {
                (true, _) => State::Draining,
                (_, true) => State::Stale,
                _ => State::Up,
            };
            let expected: BTreeMap<_, _> =
                model.known.iter().map(|(key, known)| (key.clone(), (state(known), known.weight))).collect();
            prop_assert_eq!(&seen, &expected);
            prop_assert_eq!(store.counts().instances, expected.len());
            prop_assert_eq!(store.expiry.len(), expected.len());

            // Who follows the events knows what who asks for everything is told.
            let Since::Changes { frames, rev } = store.since(None, at) else { panic!("few changes are all kept") };
            frames.iter().for_each(|frame| apply(&mut replica, frame));
            at = rev;
            prop_assert_eq!(at, store.rev());
            let mut asked = Replica::new();
            for name in names() {
                let mut part = Replica::new();
                apply(&mut part, &store.snapshot(Some(&name)).1);
                asked.extend(part);
            }
            prop_assert_eq!(&replica, &asked);
            let mut whole = Replica::new();
            let (from, frame) = store.snapshot(None);
            apply(&mut whole, &frame);
            let Since::Changes { frames, .. } = store.since(None, from) else { panic!("few changes are all kept") };
            frames.iter().for_each(|frame| apply(&mut whole, frame));
            prop_assert_eq!(&whole, &asked);
        }
    }
}
