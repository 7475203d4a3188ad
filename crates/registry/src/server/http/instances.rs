//! Handlers of the full interface for services and instances: lists, long polls, registration, heartbeats, overrides.

use std::net::SocketAddr;
use std::time::Duration;

use axum::Extension;
use axum::extract::{ConnectInfo, Path, RawQuery, State};
use axum::http::HeaderMap;
use axum::response::Response;
use farcall_discovery::Instance;
use farcall_transport::PeerAddress;
use tokio::task::yield_now;
use tokio::time::{Instant, timeout_at};

use super::auth::Caller;
use super::body::{self, RequestBody};
use super::error::HttpError;
use super::heartbeat_reader::HeartbeatReader;
use super::heartbeat_reply::HeartbeatReply;
use super::query::{self, Query};
use super::response::{self, LongPoll};
use super::token;
use super::watch;
use crate::excerpt::excerpt;
use crate::server::state::{RegistryState, SharedState};
use crate::server::store::ListFilter;
use crate::wire::{InstanceBody, Patch};

/// The maximum time that a long poll waits.
const MAX_WAIT: Duration = Duration::from_secs(5 * 60);

/// `GET /v1/services`
pub(super) async fn services(State(registry): State<SharedState>, headers: HeaderMap) -> Response {
    let (tag, list) = loop {
        {
            let mut store = registry.store.lock();
            if store.refresh_services() {
                let tag = response::etag(store.epoch(), store.rev(), store.is_warming());
                break (tag, store.services());
            }
        }
        yield_now().await;
    };
    if response::matches_etag(&headers, &tag) {
        return response::not_modified(tag);
    }
    response::tagged(&registry, &tag, list)
}

/// `GET /v1/services/{service}/instances`
pub(super) async fn list(
    State(registry): State<SharedState>,
    Path(service): Path<String>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
) -> Result<Response, HttpError> {
    let service = query::service(&service)?;
    let query = Query::parse(query.as_deref())?;
    let (stale, last_seen) = query.include()?;
    let filter = ListFilter { zone: query.zone(), stale, last_seen };
    let poll = PollCondition { epoch: query.text("epoch"), rev: query.rev()?, wait: query.wait()? };
    let changed = poll.wait_for_change(&registry, &service).await?;

    let (tag, selection) = {
        let store = registry.store.lock();
        let tag = response::etag(store.epoch(), store.service_rev(&service), store.is_warming());
        (tag, changed.then(|| store.list(&service, &filter)))
    };
    // Heartbeats change `last_seen` and not the ETag; and a poll by revision has decided to send.
    let conditional = !last_seen && poll.rev.is_none();
    let mut response = match selection {
        Some(mut selection) if !conditional || !response::matches_etag(&headers, &tag) => {
            while !selection.step() {
                yield_now().await;
            }
            response::tagged(&registry, &tag, selection.document())
        }
        _ => response::not_modified(tag),
    };
    if last_seen {
        response.headers_mut().remove(axum::http::header::ETAG);
    }
    if !poll.wait.is_zero() {
        response.extensions_mut().insert(LongPoll);
    }
    Ok(response)
}

/// `GET /v1/services/{service}/instances/{id}`
pub(super) async fn get(
    State(registry): State<SharedState>,
    Path((service, id)): Path<(String, String)>,
) -> Result<Response, HttpError> {
    let service = query::service(&service)?;
    let body = {
        let store = registry.store.lock();
        let record = store.instance(&service, &id).ok_or_else(|| unknown(&service, &id))?;
        InstanceBody { epoch: store.epoch().to_owned(), warming: store.is_warming(), record }
    };
    Ok(response::object(&body))
}

/// `PUT /v1/services/{service}/instances/{id}`
pub(super) async fn register(
    State(registry): State<SharedState>,
    Path((service, id)): Path<(String, String)>,
    Extension(caller): Extension<Caller>,
    headers: HeaderMap,
    body: RequestBody,
) -> Result<Response, HttpError> {
    let service = query::service(&service)?;
    caller.check_write(&service)?;
    let body = body.read(registry.options.max_body_bytes).await?;
    let mut instance: Instance = body::parse(&body, "an instance")?;
    for (field, given, path) in [("service", &mut instance.service, service), ("id", &mut instance.id, id)] {
        if !given.is_empty() && *given != path {
            let (given, path) = (excerpt(given), excerpt(&path));
            return Err(HttpError::bad_request(format!(
                "{field} is `{given}` in the body and `{path}` in the path"
            )));
        }
        *given = path;
    }
    let registration = registry.register(instance, token::of(&headers, &body)?)?;
    Ok(response::json(&registry, registration))
}

/// `POST .../{id}/heartbeat`. Of a body only `token` is used.
pub(super) async fn heartbeat(
    State(registry): State<SharedState>,
    Path((service, id)): Path<(String, String)>,
    Extension(caller): Extension<Caller>,
    headers: HeaderMap,
    body: RequestBody,
) -> Result<Response, HttpError> {
    let service = query::service(&service)?;
    caller.check_write(&service)?;
    let body = body.read(registry.options.max_body_bytes).await?;
    let token = token::of(&headers, &body)?;
    let registration = registry.renew(&service, &id, token).ok_or_else(|| unknown(&service, &id))?;
    Ok(response::json(&registry, registration))
}

/// `POST /v1/heartbeats`. In parts, so that other requests are answered in between; nothing is kept of the first reading,
/// in which the whole is checked, so that no mistake is found after something was renewed.
pub(super) async fn heartbeats(
    State(registry): State<SharedState>,
    Extension(caller): Extension<Caller>,
    body: RequestBody,
) -> Result<Response, HttpError> {
    let body = body.read(body::MAX_HEARTBEATS_BYTES).await?;
    let (mut reader, mut count) = (HeartbeatReader::new(&body), 0);
    while let Some(part) = reader.next_part()? {
        part.iter().try_for_each(|heartbeat| caller.check_write(&heartbeat.service))?;
        count += part.len();
        if count > body::MAX_HEARTBEATS {
            let max = body::MAX_HEARTBEATS;
            return Err(HttpError::too_large(format!(
                "the request has more than {max} heartbeats, the maximum"
            )));
        }
        drop(part);
        yield_now().await;
    }
    let (mut reader, mut reply) = (HeartbeatReader::new(&body), HeartbeatReply::default());
    while let Some(part) = reader.next_part()? {
        reply.add(&part, registry.renew_each(&part));
        drop(part);
        yield_now().await;
    }
    Ok(reply.response(&registry))
}

/// `PATCH .../{id}`
pub(super) async fn patch(
    State(registry): State<SharedState>,
    Path((service, id)): Path<(String, String)>,
    Extension(caller): Extension<Caller>,
    peer: Option<Extension<ConnectInfo<SocketAddr>>>,
    body: RequestBody,
) -> Result<Response, HttpError> {
    let service = query::service(&service)?;
    caller.check_override()?;
    let body = body.read(registry.options.max_body_bytes).await?;
    let patch: Patch = body::parse(&body, "an override such as {\"drain\": true} or {\"weight\": 10}")?;
    let peer = peer.map_or(PeerAddress::Memory, |Extension(ConnectInfo(peer))| PeerAddress::Tcp(peer));
    registry.patch(&service, &id, patch, peer).ok_or_else(|| unknown(&service, &id))?;
    get(State(registry), Path((service_in_path(service), id))).await
}

/// `DELETE .../{id}`: with a token, ends that registration; without one, removes the instance.
pub(super) async fn deregister(
    State(registry): State<SharedState>,
    Path((service, id)): Path<(String, String)>,
    Extension(caller): Extension<Caller>,
    headers: HeaderMap,
    body: RequestBody,
) -> Result<Response, HttpError> {
    let service = query::service(&service)?;
    caller.check_write(&service)?;
    let body = body.read(registry.options.max_body_bytes).await?;
    match token::of(&headers, &body)? {
        Some(token) => registry.end_registration(&service, &id, &token),
        None => registry.deregister(&service, &id),
    };
    Ok(response::no_content())
}

/// The list that the client has, and the time to wait until it changes.
struct PollCondition<'a> {
    epoch: Option<&'a str>,
    rev: Option<u64>,
    wait: Duration,
}

impl PollCondition<'_> {
    /// Waits until the list differs from the client's; returns `false` if it does not in time.
    async fn wait_for_change(&self, registry: &RegistryState, service: &str) -> Result<bool, HttpError> {
        let Some(rev) = self.rev else { return Ok(true) };
        // Subscribe before the first check, so that no change is missed in between.
        let mut subscription = registry.store.subscribe(Some(service));
        let is_changed = || {
            let store = registry.store.lock();
            let other_epoch = self.epoch.is_some_and(|epoch| epoch != store.epoch());
            // A revision in the future belongs to another epoch.
            other_epoch || store.service_rev(service) > rev || rev > store.rev()
        };
        if is_changed() {
            return Ok(true);
        }
        if self.wait.is_zero() {
            return Ok(false);
        }
        let _permit = watch::permit(registry)?;
        let deadline = Instant::now() + self.wait.min(MAX_WAIT);
        let changed = async {
            loop {
                // Cancel-safe: a lost notification is repeated by the check of the store.
                tokio::select! {
                    biased;
                    () = subscription.changed() => if is_changed() {
                        registry.wait_for_wake().await;
                        return true;
                    },
                    () = registry.closing.cancelled() => return false,
                }
            }
        };
        Ok(timeout_at(deadline, changed).await.unwrap_or(false))
    }
}

fn unknown(service: &str, id: &str) -> HttpError {
    let (service, id) = (excerpt(&service_in_path(service.to_owned())), excerpt(id));
    HttpError::not_found(format!("the service `{service}` has no instance `{id}`"))
}

fn service_in_path(service: String) -> String {
    if service.is_empty() { crate::wire::PLAIN_LIST.to_owned() } else { service }
}
