//! [`ApiServer`]: a stand-in for Kubernetes's API server, as far as EndpointSlices are listed and watched.
//!
//! It was written from the published documentation. Each of its rules, and its source:
//!
//! 1. A list has the version of the whole collection, and each object the one of its last change. Versions are opaque: they are
//!    to be handed back as they are. (`api-concepts`, "Resource versions")
//! 2. `limit` bounds a page, `continue` requests the next one, and all pages are as of the version of the first. A page that
//!    goes on from a version that was compacted is answered `410 Gone`. ("Retrieving large results sets in chunks")
//! 3. `watch=1&resourceVersion=V` streams JSON objects, one a line, with all changes after `V`: `ADDED`, `MODIFIED`,
//!    `DELETED`. An object that stops matching the selector is `DELETED`. ("Efficient detection of changes")
//! 4. A `V` that was compacted is answered `410 Gone`, by the status, or by an event `ERROR` with a `Status` of code 410 and reason
//!    `Expired` in a stream that has begun with 200. ("410 Gone responses")
//! 5. With `allowWatchBookmarks=true` events `BOOKMARK` may come, at no particular interval, whose object has a version and
//!    nothing else. ("Watch bookmarks")
//! 6. `timeoutSeconds` bounds a watch, which then ends without an event. (`common-parameters`)
//! 7. Errors are objects `Status` with `code`, `reason` and `message`. (`status`)
//! 8. The token of the service account is sent as `Authorization: Bearer`; 401 for one that is not valid, 403 for one that has no
//!    permission. (`access-api-from-pod`, `authentication`)
//! 9. `429` has `Retry-After`, in seconds. (`flow-control`)
//! 10. Slices have the label `kubernetes.io/service-name`; empty lists may be `null`. (`endpoint-slices`)
//!
//! Sources, all below <https://kubernetes.io/docs/>:
//! `reference/using-api/api-concepts/`, `reference/kubernetes-api/common-parameters/common-parameters/`,
//! `reference/kubernetes-api/common-definitions/status/`, `reference/kubernetes-api/service-resources/endpoint-slice-v1/`,
//! `concepts/services-networking/endpoint-slices/`, `tasks/run-application/access-api-from-pod/`,
//! `reference/access-authn-authz/authentication/`, `concepts/cluster-administration/flow-control/`.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::{Path, Query, State};
use axum::http::{HeaderMap, Response};
use axum::routing::get;
use futures::stream;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout_at};

pub(crate) struct ApiServer {
    pub(crate) address: SocketAddr,
    api: Arc<Api>,
    _serving: JoinSet<()>,
}

/// The answer to a watch from a version that was compacted (rule 4).
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Gone {
    Status,
    Event,
}

struct Api {
    store: Mutex<Store>,
    /// Changes whenever watches have something to do.
    changed: watch::Sender<u64>,
}

struct Store {
    version: u64,
    /// Changes up to this version are forgotten.
    compacted: u64,
    /// By namespace and name.
    slices: BTreeMap<(String, String), Value>,
    log: Vec<Change>,
    /// The lists that pages go on from, by their versions.
    pages: HashMap<u64, Vec<Value>>,
    /// The only token that is valid.
    token: Option<String>,
    gone: Gone,
    /// Answers in place of the next ones: status, headers, body.
    faults: VecDeque<(u16, &'static str, String)>,
    /// Requests, as paths with queries.
    requests: Vec<String>,
    /// Watches of an earlier number end, in the middle of a line.
    generation: u64,
    /// The bytes of a watch that are sent at once, and the pause after them.
    pieces: Option<(usize, Duration)>,
}

/// A change, or a bookmark, which has no namespace.
#[derive(Clone)]
struct Change {
    version: u64,
    namespace: String,
    before: Option<Value>,
    after: Option<Value>,
}

/// Returns a slice of a service with these IPv4 addresses at one port, which is named `rpc`.
pub(crate) fn slice(service: &str, name: &str, port: u16, addresses: &[&str]) -> Value {
    let endpoints: Vec<_> = addresses
        .iter()
        .map(|address| {
            json!({
                "addresses": [address],
                "conditions": {"ready": true, "serving": true, "terminating": false},
                "targetRef": {"kind": "Pod", "name": address, "uid": format!("{address}:{port}")},
            })
        })
        .collect();
    json!({
        "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice",
        "metadata": {"name": name, "labels": {"kubernetes.io/service-name": service}},
        "addressType": "IPv4",
        "ports": [{"name": "rpc", "port": port, "protocol": "TCP"}],
        "endpoints": endpoints,
    })
}

impl ApiServer {
    pub(crate) async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let api = Arc::new(Api {
            store: Mutex::new(Store {
                version: 1000,
                compacted: 0,
                slices: BTreeMap::new(),
                log: Vec::new(),
                pages: HashMap::new(),
                token: None,
                gone: Gone::Event,
                faults: VecDeque::new(),
                requests: Vec::new(),
                generation: 0,
                pieces: None,
            }),
            changed: watch::Sender::new(0),
        });
        let path = "/apis/discovery.k8s.io/v1/namespaces/{namespace}/endpointslices";
        let router = Router::new().route(path, get(answer)).with_state(Arc::clone(&api));
        let mut serving = JoinSet::new();
        serving.spawn(async move { axum::serve(listener, router).await.unwrap() });
        Self { address, api, _serving: serving }
    }

    pub(crate) fn put(&self, namespace: &str, slice: &Value) {
        let name = slice["metadata"]["name"].as_str().unwrap().to_owned();
        self.change(namespace, name, Some(slice.clone()));
    }

    pub(crate) fn delete(&self, namespace: &str, name: &str) {
        self.change(namespace, name.to_owned(), None);
    }

    fn change(&self, namespace: &str, name: String, mut after: Option<Value>) {
        let mut store = self.store();
        store.version += 1;
        let version = store.version;
        if let Some(slice) = &mut after {
            slice["metadata"]["resourceVersion"] = version.to_string().into();
        }
        let key = (namespace.to_owned(), name);
        let before = match &after {
            Some(slice) => store.slices.insert(key, slice.clone()),
            None => store.slices.remove(&key),
        };
        store.log.push(Change { version, namespace: namespace.to_owned(), before, after });
        drop(store);
        self.wake();
    }

    /// Moves the version on by a change of something else, and sends a bookmark to all watches.
    pub(crate) fn bookmark(&self) {
        let mut store = self.store();
        store.version += 1;
        let version = store.version;
        store.log.push(Change { version, namespace: String::new(), before: None, after: None });
        drop(store);
        self.wake();
    }

    /// Forgets all changes up to now.
    pub(crate) fn compact(&self, gone: Gone) {
        let mut store = self.store();
        store.gone = gone;
        store.version += 1;
        store.compacted = store.version;
        store.log.clear();
        store.pages.clear();
    }

    /// Ends all watches, each in the middle of a line.
    pub(crate) fn cut_watches(&self) {
        self.store().generation += 1;
        self.wake();
    }

    /// Sends watches in pieces of this many bytes, with pauses between.
    pub(crate) fn send_in_pieces(&self, bytes: usize, pause: Duration) {
        self.store().pieces = Some((bytes, pause));
    }

    pub(crate) fn require_token(&self, token: &str) {
        self.store().token = Some(token.to_owned());
    }

    /// Answers the next request in this way.
    pub(crate) fn fail_next(&self, status: u16, headers: &'static str, body: impl Into<String>) {
        self.store().faults.push_back((status, headers, body.into()));
    }

    /// Returns the requests so far, as their queries.
    pub(crate) fn requests(&self) -> Vec<String> {
        self.store().requests.clone()
    }

    fn store(&self) -> MutexGuard<'_, Store> {
        self.api.store.lock().unwrap()
    }

    fn wake(&self) {
        self.api.changed.send_modify(|number| *number += 1);
    }
}

async fn answer(
    State(api): State<Arc<Api>>,
    Path(namespace): Path<String>,
    Query(query): Query<HashMap<String, String>>,
    headers: HeaderMap,
) -> Response<Body> {
    let mut store = api.store.lock().unwrap();
    let mut sorted: Vec<_> = query.iter().map(|(name, value)| format!("{name}={value}")).collect();
    sorted.sort_unstable();
    store.requests.push(sorted.join("&"));
    let sent = headers.get("authorization").and_then(|value| value.to_str().ok());
    if let Some(token) = &store.token
        && sent != Some(&*format!("Bearer {token}"))
    {
        return status(401, "Unauthorized", "Unauthorized");
    }
    if let Some((code, header, body)) = store.faults.pop_front() {
        let mut response = Response::builder().status(code);
        if let Some((name, value)) = header.split_once(": ") {
            response = response.header(name, value);
        }
        return response.body(body.into()).unwrap();
    }
    if namespace == "forbidden" {
        return status(403, "Forbidden", "endpointslices.discovery.k8s.io is forbidden");
    }
    let service =
        query.get("labelSelector").and_then(|selector| selector.strip_prefix("kubernetes.io/service-name="));
    if query.get("watch").is_some_and(|watch| watch == "1") {
        return watch(&api, &store, namespace, service.map(str::to_owned), &query);
    }
    list(&mut store, &namespace, service, &query)
}

fn list(
    store: &mut Store,
    namespace: &str,
    service: Option<&str>,
    query: &HashMap<String, String>,
) -> Response<Body> {
    let limit = query.get("limit").map_or(usize::MAX, |limit| limit.parse().unwrap());
    let (version, from) = match query.get("continue") {
        Some(token) => {
            let (version, from) = token.split_once('/').unwrap();
            (version.parse().unwrap(), from.parse().unwrap())
        }
        None => {
            let of = store.slices.iter().filter(|((of, _), slice)| of == namespace && is_of(slice, service));
            let all = of.map(|(_, slice)| slice.clone()).collect();
            store.pages.insert(store.version, all);
            (store.version, 0)
        }
    };
    let Some(all) = store.pages.get(&version) else {
        return status(410, "Expired", "The provided continue parameter is too old");
    };
    let end = all.len().min(from + limit);
    let items = match &all[from..end] {
        [] => Value::Null,
        items => items.into(),
    };
    let mut metadata = json!({"resourceVersion": version.to_string()});
    if end < all.len() {
        metadata["continue"] = format!("{version}/{end}").into();
    }
    let list = json!({"kind": "EndpointSliceList", "apiVersion": "discovery.k8s.io/v1", "metadata": metadata, "items": items});
    Response::new(list.to_string().into())
}

fn watch(
    api: &Arc<Api>,
    store: &Store,
    namespace: String,
    service: Option<String>,
    query: &HashMap<String, String>,
) -> Response<Body> {
    let version: u64 = query["resourceVersion"].parse().unwrap();
    if version < store.compacted {
        let message = format!("too old resource version: {version} ({})", store.compacted);
        if store.gone == Gone::Status {
            return status(410, "Expired", &message);
        }
        let event = json!({"type": "ERROR", "object": {"kind": "Status", "code": 410, "reason": "Expired", "message": message}});
        return Response::new(format!("{event}\n").into());
    }
    let until = Instant::now() + Duration::from_secs(query["timeoutSeconds"].parse().unwrap());
    let watch = Watching {
        api: Arc::clone(api),
        changed: api.changed.subscribe(),
        generation: store.generation,
        is_cut: false,
        version,
        namespace,
        service,
        bookmarks: query.get("allowWatchBookmarks").is_some_and(|allowed| allowed == "true"),
        until,
        waiting: Vec::new(),
    };
    let pieces = stream::unfold(watch, |mut watch| async move { Some((watch.next().await?, watch)) });
    Response::new(Body::from_stream(pieces))
}

struct Watching {
    api: Arc<Api>,
    changed: watch::Receiver<u64>,
    generation: u64,
    /// The half of a line was sent that comes before the end.
    is_cut: bool,
    version: u64,
    namespace: String,
    service: Option<String>,
    bookmarks: bool,
    until: Instant,
    /// Bytes that were not sent yet.
    waiting: Vec<u8>,
}

impl Watching {
    async fn next(&mut self) -> Option<Result<Vec<u8>, Infallible>> {
        loop {
            let (pieces, generation, changes) = {
                let store = self.api.store.lock().unwrap();
                let changes: Vec<_> =
                    store.log.iter().filter(|change| change.version > self.version).cloned().collect();
                (store.pieces, store.generation, changes)
            };
            if generation > self.generation {
                let is_cut = std::mem::replace(&mut self.is_cut, true);
                return (!is_cut).then(|| Ok(br#"{"type":"ADDED","object":{"meta"#.to_vec()));
            }
            for change in changes {
                self.version = change.version;
                self.waiting.extend(self.line(&change));
            }
            if !self.waiting.is_empty() {
                let Some((bytes, pause)) = pieces else {
                    return Some(Ok(std::mem::take(&mut self.waiting)));
                };
                sleep(pause).await; // a stream that is slow
                let rest = self.waiting.split_off(bytes.min(self.waiting.len()));
                return Some(Ok(std::mem::replace(&mut self.waiting, rest)));
            }
            timeout_at(self.until, self.changed.changed()).await.ok()?.ok()?;
        }
    }

    fn line(&self, change: &Change) -> Vec<u8> {
        if change.namespace.is_empty() {
            let object =
                json!({"kind": "EndpointSlice", "metadata": {"resourceVersion": change.version.to_string()}});
            let bookmark = json!({"type": "BOOKMARK", "object": object});
            return if self.bookmarks { format!("{bookmark}\n").into_bytes() } else { Vec::new() };
        }
        if change.namespace != self.namespace {
            return Vec::new();
        }
        let matches = |slice: &&Value| is_of(slice, self.service.as_deref());
        let (before, after) = (change.before.as_ref().filter(matches), change.after.as_ref().filter(matches));
        let (kind, object) = match (before, after) {
            (None, None) => return Vec::new(),
            (None, Some(after)) => ("ADDED", after.clone()),
            (Some(_), Some(after)) => ("MODIFIED", after.clone()),
            (Some(before), None) => {
                let mut last = before.clone();
                last["metadata"]["resourceVersion"] = change.version.to_string().into();
                ("DELETED", last)
            }
        };
        format!("{}\n", json!({"type": kind, "object": object})).into_bytes()
    }
}

fn is_of(slice: &Value, service: Option<&str>) -> bool {
    service.is_none_or(|service| slice["metadata"]["labels"]["kubernetes.io/service-name"] == service)
}

fn status(code: u16, reason: &str, message: &str) -> Response<Body> {
    let status =
        json!({"kind": "Status", "status": "Failure", "code": code, "reason": reason, "message": message});
    Response::builder().status(code).body(status.to_string().into()).unwrap()
}
