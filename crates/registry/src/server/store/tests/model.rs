//! The store under random operations, compared with a model that is too simple to be wrong.

use proptest::prelude::*;

use super::*;

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

/// An instance of the model.
#[derive(Clone, Debug, PartialEq)]
struct ModelInstance {
    weight: u16,
    ttl: Duration,
    deadline: Instant,
    requested_ttl: bool,
    drain: bool,
    stale: bool,
}

impl ModelInstance {
    fn is_silent(&self, now: Instant) -> bool {
        let heartbeat = if self.requested_ttl { self.ttl / 3 } else { HEARTBEAT };
        let after = (self.ttl * 7 / 10).max(heartbeat * 6 / 5);
        self.stale || now >= self.deadline - self.ttl + after.min(self.ttl)
    }
}

#[derive(Default)]
struct Model {
    known: BTreeMap<(String, String), ModelInstance>,
    expired_drains: BTreeMap<(String, String), bool>,
}

impl Model {
    fn sweep(&mut self, now: Instant) {
        for service in names() {
            let of_service = |key: &(String, String)| key.0 == service;
            let due: Vec<_> =
                self.known.iter().filter(|(key, known)| of_service(key) && known.deadline <= now).collect();
            let all: Vec<_> = self.known.iter().filter(|(key, _)| of_service(key)).collect();
            let silent = all.iter().filter(|(_, known)| known.is_silent(now)).count();
            let withhold = silent >= 3 && silent as f64 / all.len() as f64 > 0.3;
            for key in due.into_iter().map(|(key, _)| key.clone()).collect::<Vec<_>>() {
                let known = self.known.get_mut(&key).unwrap();
                if withhold && !known.stale {
                    (known.stale, known.deadline) = (true, now + known.ttl);
                } else if self.known.remove(&key).unwrap().drain {
                    self.expired_drains.insert(key, true);
                }
            }
        }
    }
}

fn names() -> [String; 3] {
    ["".to_owned(), "A".to_owned(), "B".to_owned()]
}

/// The view of a client that applies events.
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
        other => panic!("unknown event: {other}"),
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn store_behaves_like_the_model(steps in prop::collection::vec(step(), 1..120)) {
        let (mut store, mut clock) = store();
        let mut model = Model::default();
        let (mut replica, mut at) = (Replica::new(), 0);
        for step in steps {
            let key = |service: u8, n: u16| (names()[usize::from(service)].clone(), id(n));
            match step {
                Step::Register { service, n, weight, ttl_ms } => {
                    let (name, id) = key(service, n);
                    store.register(instance(&name, n).weight(weight).ttl_ms(ttl_ms), claim(), clock.0).unwrap();
                    let ttl = ttl_ms.map_or(TTL, Duration::from_millis);
                    let key = (name, id);
                    let drain = match model.known.get(&key) {
                        Some(known) => known.drain,
                        None => model.expired_drains.remove(&key).is_some(),
                    };
                    let deadline = clock.0.at + ttl;
                    let requested_ttl = ttl_ms.is_some();
                    model.known.insert(key, ModelInstance { weight, ttl, deadline, requested_ttl, drain, stale: false });
                }
                Step::Renew { service, n } => {
                    let key = key(service, n);
                    let renewed = store.renew(&key.0, &key.1, None, clock.0);
                    prop_assert_eq!(renewed.is_some(), model.known.contains_key(&key));
                    if let Some(known) = model.known.get_mut(&key) {
                        (known.stale, known.deadline) = (false, clock.0.at + known.ttl);
                    }
                }
                Step::Delete { service, n } => {
                    let key = key(service, n);
                    let deleted = store.delete(&key.0, &key.1);
                    model.expired_drains.remove(&key);
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

            // The store has the instances of the model, in the same states.
            let mut seen = BTreeMap::new();
            for name in names() {
                for record in instances(&store, &name) {
                    seen.insert((name.clone(), record.instance.id.clone()), (record.state, record.instance.weight));
                }
            }
            let state = |known: &ModelInstance| match (known.drain, known.stale) {
                (true, _) => AdvertisedState::Draining,
                (_, true) => AdvertisedState::Stale,
                _ => AdvertisedState::Up,
            };
            let expected: BTreeMap<_, _> =
                model.known.iter().map(|(key, known)| (key.clone(), (state(known), known.weight))).collect();
            prop_assert_eq!(&seen, &expected);
            let of = |state| expected.values().filter(|(known, _)| *known == state).count();
            let (up, draining, stale) =
                (of(AdvertisedState::Up), of(AdvertisedState::Draining), of(AdvertisedState::Stale));
            let services = names().iter().filter(|name| expected.keys().any(|key| key.0 == **name)).count();
            let counts = Counts { services, instances: expected.len(), up, draining, stale, ..Counts::default() };
            prop_assert_eq!(store.counts(), counts);
            for name in names() {
                // The simple list is the sorted addresses of those that are up, or of the stale ones if none is.
                let of = |wanted| {
                    let accepts = seen.iter().filter(|(key, (state, weight))| {
                        key.0 == name && *weight > 0 && *state == wanted
                    });
                    accepts.map(|(key, _)| key.1.clone()).collect::<Vec<_>>()
                };
                let up = of(AdvertisedState::Up);
                let listed = if up.is_empty() { of(AdvertisedState::Stale) } else { up };
                let body = addresses(&store, &name).body.bytes();
                prop_assert_eq!(serde_json::from_slice::<Vec<String>>(&body).unwrap(), listed);
            }
            prop_assert_eq!(store.expiry.len(), expected.len());

            // A client that applies events has the same view as one that requests everything.
            let ChangesSince::Known { frames, rev } = store.since(None, at) else { panic!("so few changes are all kept") };
            frames.iter().for_each(|frame| apply(&mut replica, frame));
            at = rev;
            prop_assert_eq!(at, store.rev());
            let mut snapshots = Replica::new();
            for name in names() {
                let mut part = Replica::new();
                apply(&mut part, &store.snapshot(Some(&name)).1.bytes());
                snapshots.extend(part);
            }
            prop_assert_eq!(&replica, &snapshots);
            let mut whole = Replica::new();
            let (from, frame) = store.snapshot(None);
            apply(&mut whole, &frame.bytes());
            let ChangesSince::Known { frames, .. } = store.since(None, from) else { panic!("so few changes are all kept") };
            frames.iter().for_each(|frame| apply(&mut whole, frame));
            prop_assert_eq!(&whole, &snapshots);
        }
    }
}
