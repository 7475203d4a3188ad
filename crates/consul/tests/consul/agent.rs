//! [`Agent`]: a stand-in for Consul's agent, as far as services are registered and looked for.
//!
//! It was written from the published documentation. Each of its rules, and its source:
//!
//! 1. `PUT /v1/agent/service/register` registers or replaces the service of this `ID`. `Meta` has at most 64 pairs, keys of 128 characters
//!    out of `A-Z a-z 0-9 _ -`, values of 512. `Weights` are 1 and more. (`agent/service`, "Register Service")
//! 2. Its `Check` with a `TTL` is named `service:ID`, begins with `Status`, and is critical when it was not updated for that time.
//!    (`agent/service`, `agent/check`, "TTL")
//! 3. `PUT /v1/agent/check/pass/NAME` updates it, `.../warn/NAME` and `.../fail/NAME` set it otherwise; 404 if it is not known.
//!    (`agent/check`, "TTL Check Pass")
//! 4. `PUT /v1/agent/service/deregister/ID` removes the service with its check; 404 if it is not known. (`agent/service`)
//! 5. `GET /v1/health/service/NAME` lists nodes, services and checks; `tag` may be repeated, and all must be there. (`health`)
//! 6. With `index`, the answer waits until the index has passed it, for `wait`, by default 5 minutes and at most 10; a random
//!    sixteenth is added. `X-Consul-Index` is the index to ask with next. It is never 0, can go backwards when the state is restored,
//!    and an answer may come without a change. (`features/blocking`)
//! 7. `GET /v1/catalog/services` is an object of names. (`catalog`, "List Services")
//! 8. `X-Consul-Token` has the token; 403 for one that has no permission. (`api-docs`, "Authentication")
//! 9. A service in maintenance has a critical check `_service_maintenance:ID`. (`agent/service`, "Enable Maintenance Mode")
//!
//! Sources, all below <https://developer.hashicorp.com/consul/api-docs/>: `agent/service`, `agent/check`, `health`, `catalog`,
//! `features/blocking`, and the page itself.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::future::pending;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use axum::body::Body;
use axum::extract::{Path, RawQuery, State};
use axum::http::{HeaderMap, Response};
use axum::routing::{get, put};
use axum::{Json, Router};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until, timeout_at};

pub(crate) struct Agent {
    pub(crate) address: SocketAddr,
    shared: Arc<Shared>,
    _serving: JoinSet<()>,
}

struct Shared {
    state: Mutex<Catalog>,
    index: watch::Sender<u64>,
}

#[derive(Default)]
struct Catalog {
    services: BTreeMap<String, Registered>,
    token: Option<String>,
    faults: VecDeque<(u16, Option<u64>, String)>,
    requests: Vec<String>,
    /// Lists of instances are requested in vain.
    is_silent: bool,
}

struct Registered {
    service: Value,
    check: &'static str,
    ttl: Duration,
    /// The check is critical from then on.
    until: Instant,
    is_maintained: bool,
}

impl Agent {
    pub(crate) async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let shared = Arc::new(Shared { state: Mutex::default(), index: watch::Sender::new(10) });
        let router = Router::new()
            .route("/v1/agent/service/register", put(register))
            .route("/v1/agent/check/{status}/{check}", put(update))
            .route("/v1/agent/service/deregister/{id}", put(deregister))
            .route("/v1/health/service/{service}", get(health))
            .route("/v1/catalog/services", get(services))
            .with_state(Arc::clone(&shared));
        let mut serving = JoinSet::new();
        serving.spawn(async move { axum::serve(listener, router).await.unwrap() });
        serving.spawn(expire(Arc::clone(&shared)));
        Self { address, shared, _serving: serving }
    }

    /// Forgets all services, as an agent without its data does.
    pub(crate) fn forget(&self) {
        self.state().services.clear();
        self.shared.changed();
    }

    /// Puts a service there that others have registered.
    pub(crate) fn put(&self, service: Value) {
        self.shared.put(service, Duration::from_secs(3600));
    }

    /// Makes a service's check say this, until it is updated.
    pub(crate) fn set_check(&self, of: &str, status: &'static str) {
        for (_, service) in self.state().services.iter_mut().filter(|(id, _)| id.contains(of)) {
            service.check = status;
        }
        self.shared.changed();
    }

    pub(crate) fn maintain(&self, of: &str) {
        for (_, service) in self.state().services.iter_mut().filter(|(id, _)| id.contains(of)) {
            service.is_maintained = true;
        }
        self.shared.changed();
    }

    /// Restores an earlier state: the index goes backwards.
    pub(crate) fn set_index(&self, index: u64) {
        self.shared.index.send_replace(index);
    }

    pub(crate) fn require_token(&self, token: &str) {
        self.state().token = Some(token.to_owned());
    }

    /// Answers the next request in this way.
    pub(crate) fn fail_next(&self, status: u16, index: Option<u64>, body: impl Into<String>) {
        self.state().faults.push_back((status, index, body.into()));
    }

    /// Answers no further request for a list of instances.
    pub(crate) fn answer_no_more(&self) {
        self.state().is_silent = true;
    }

    /// Ends the queries that wait, without a change.
    pub(crate) fn wake(&self) {
        self.shared.changed();
    }

    pub(crate) fn requests(&self) -> Vec<String> {
        self.state().requests.clone()
    }

    fn state(&self) -> MutexGuard<'_, Catalog> {
        self.shared.state.lock().unwrap()
    }
}

impl Shared {
    fn changed(&self) {
        self.index.send_modify(|index| *index += 1);
    }

    fn put(&self, mut service: Value, ttl: Duration) {
        let index = *self.index.borrow() + 1;
        let id = service["ID"].as_str().unwrap().to_owned();
        let mut state = self.state.lock().unwrap();
        let created =
            state.services.get(&id).map_or(index.into(), |known| known.service["CreateIndex"].clone());
        service["CreateIndex"] = created;
        service["ModifyIndex"] = index.into();
        service["Service"] = service["Name"].take();
        let registered =
            Registered { service, check: "passing", ttl, until: Instant::now() + ttl, is_maintained: false };
        state.services.insert(id, registered);
        drop(state);
        self.changed();
    }

    fn is_silent(&self) -> bool {
        self.state.lock().unwrap().is_silent
    }

    /// Checks the token, and answers what was to fail.
    fn refuse(&self, what: String, headers: &HeaderMap) -> Option<Response<Body>> {
        let mut state = self.state.lock().unwrap();
        state.requests.push(what);
        let sent = headers.get("x-consul-token").and_then(|value| value.to_str().ok());
        if state.token.is_some() && sent != state.token.as_deref() {
            return Some(text(403, "Permission denied: token with AccessorID lacks permission"));
        }
        let (status, index, body) = state.faults.pop_front()?;
        let mut response = Response::builder().status(status);
        if let Some(index) = index {
            response = response.header("X-Consul-Index", index);
        }
        Some(response.body(body.into()).unwrap())
    }
}

async fn register(
    State(shared): State<Arc<Shared>>,
    headers: HeaderMap,
    Json(mut service): Json<Value>,
) -> Response<Body> {
    if let Some(refused) = shared.refuse("register".to_owned(), &headers) {
        return refused;
    }
    let meta = service["Meta"].as_object().unwrap();
    let fits = |(key, value): (&String, &Value)| {
        key.len() <= 128
            && key.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_-".contains(&byte))
            && value.as_str().unwrap().chars().count() <= 512
    };
    if meta.len() > 64 || !meta.iter().all(fits) {
        return text(400, "Invalid Service Meta");
    }
    if service["Weights"]["Passing"].as_u64().unwrap() < 1 {
        return text(400, "Invalid Weights: Passing must be greater than 0");
    }
    let check = service.as_object_mut().unwrap().remove("Check").unwrap();
    assert_eq!(
        (&check["Status"], &check["DeregisterCriticalServiceAfter"]),
        (&json!("passing"), &json!("1m"))
    );
    let ttl = check["TTL"].as_str().unwrap().strip_suffix("ms").unwrap().parse().unwrap();
    shared.put(service, Duration::from_millis(ttl));
    Response::default()
}

async fn update(
    State(shared): State<Arc<Shared>>,
    Path((status, check)): Path<(String, String)>,
    headers: HeaderMap,
) -> Response<Body> {
    if let Some(refused) = shared.refuse(format!("{status} {check}"), &headers) {
        return refused;
    }
    let mut state = shared.state.lock().unwrap();
    let Some(service) = check.strip_prefix("service:").and_then(|id| state.services.get_mut(id)) else {
        return text(
            404,
            &format!("Unknown check ID \"{check}\". Ensure that the check ID is passed, not the check name."),
        );
    };
    service.until = Instant::now() + service.ttl;
    let now = match &*status {
        "pass" => "passing",
        "warn" => "warning",
        _ => "critical",
    };
    if std::mem::replace(&mut service.check, now) != now {
        shared.changed();
    }
    Response::default()
}

async fn deregister(
    State(shared): State<Arc<Shared>>,
    Path(id): Path<String>,
    headers: HeaderMap,
) -> Response<Body> {
    if let Some(refused) = shared.refuse(format!("deregister {id}"), &headers) {
        return refused;
    }
    if shared.state.lock().unwrap().services.remove(&id).is_none() {
        return text(
            404,
            &format!(
                "Unknown service ID \"{id}\". Ensure that the service ID is passed, not the service name."
            ),
        );
    }
    shared.changed();
    Response::default()
}

async fn health(
    State(shared): State<Arc<Shared>>,
    Path(name): Path<String>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
) -> Response<Body> {
    let query = query.unwrap_or_default();
    if let Some(refused) = shared.refuse(format!("health {name}?{query}"), &headers) {
        return refused;
    }
    if shared.is_silent() {
        return pending().await;
    }
    let pairs: Vec<(&str, &str)> = query.split('&').filter_map(|pair| pair.split_once('=')).collect();
    let of = |wanted: &str| pairs.iter().find(|(name, _)| *name == wanted).map(|(_, value)| *value);
    if let Some(index) = of("index").map(|index| index.parse::<u64>().unwrap()).filter(|index| *index > 0) {
        let wait = of("wait").map_or(300, |wait| wait.strip_suffix('s').unwrap().parse().unwrap());
        let until = Instant::now() + Duration::from_secs(wait.min(600));
        // Also an index before it ends the wait: the state is another one.
        let mut now = shared.index.subscribe();
        let _ = timeout_at(until, now.wait_for(|now| *now != index)).await;
    }
    let index = *shared.index.borrow();
    let state = shared.state.lock().unwrap();
    let has_tags = |service: &Value| {
        let tags = service["Tags"].as_array();
        let mut wanted = pairs.iter().filter(|(name, _)| *name == "tag");
        wanted.all(|(_, tag)| tags.is_some_and(|tags| tags.contains(&json!(tag))))
    };
    let entries =
        state.services.iter().filter(|(_, of)| of.service["Service"] == *name && has_tags(&of.service));
    let entries: Vec<_> = entries
        .map(|(id, of)| {
            let mut checks = vec![
                json!({"CheckID": "serfHealth", "Status": "passing"}),
                json!({"CheckID": format!("service:{id}"), "Status": of.check}),
            ];
            if of.is_maintained {
                checks.push(json!({"CheckID": format!("_service_maintenance:{id}"), "Status": "critical"}));
            }
            json!({"Node": {"Node": "n1", "Address": "127.0.0.1"}, "Service": of.service, "Checks": checks})
        })
        .collect();
    let body = Value::from(entries).to_string();
    Response::builder().header("X-Consul-Index", index).body(body.into()).unwrap()
}

async fn services(State(shared): State<Arc<Shared>>, headers: HeaderMap) -> Response<Body> {
    if let Some(refused) = shared.refuse("services".to_owned(), &headers) {
        return refused;
    }
    let state = shared.state.lock().unwrap();
    let mut names = HashMap::from([("consul", json!([]))]);
    names.extend(state.services.values().map(|of| (of.service["Service"].as_str().unwrap(), json!([]))));
    Response::new(json!(names).to_string().into())
}

/// Makes checks critical when their time is over.
async fn expire(shared: Arc<Shared>) {
    let mut changes = shared.index.subscribe();
    loop {
        let next = {
            let mut state = shared.state.lock().unwrap();
            let (now, mut expired) = (Instant::now(), false);
            for service in state.services.values_mut().filter(|of| of.until <= now && of.check != "critical")
            {
                service.check = "critical";
                expired = true;
            }
            if expired {
                shared.changed();
            }
            let running = state.services.values().filter(|of| of.check != "critical");
            running.map(|of| of.until).min().unwrap_or(now + Duration::from_secs(3600))
        };
        tokio::select! {
            () = sleep_until(next) => {}
            changed = changes.changed() => changed.unwrap(),
        }
    }
}

fn text(status: u16, text: &str) -> Response<Body> {
    Response::builder().status(status).body(text.to_owned().into()).unwrap()
}
