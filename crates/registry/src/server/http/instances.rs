//! Services and their instances: lists, long polls, registration, heartbeats, overrides.

use std::time::Duration;

use axum::Extension;
use axum::body::Body;
use axum::extract::{Path, RawQuery, State};
use axum::http::{HeaderMap, HeaderValue};
use axum::response::Response;
use farcall_discovery::Instance;
use tokio::time::{Instant, timeout_at};

use super::answer::{self, Waited};
use super::auth::Caller;
use super::body;
use super::failure::Failure;
use super::query::{self, Query};
use super::watch;
use crate::server::registry::{Registry, millis};
use crate::server::store::View;
use crate::wire::{Heartbeats, One, Patch, Renewed};

/// A long poll waits no longer than this, whatever it asks for.
const LONGEST_WAIT: Duration = Duration::from_secs(5 * 60);

/// `GET /v1/services`
pub(super) async fn services(State(registry): State<Registry>, headers: HeaderMap) -> Response {
    let (tag, body) = {
        let mut store = registry.store();
        (answer::tag(store.epoch(), store.rev(), store.warming()), store.services())
    };
    answer::tagged(&headers, &tag, body)
}

/// `GET /v1/services/{service}/instances`
pub(super) async fn list(
    State(registry): State<Registry>,
    Path(service): Path<String>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
) -> Result<Response, Failure> {
    let service = query::service(&service)?;
    let query = Query::parse(query.as_deref())?;
    let (stale, last_seen) = query.include()?;
    let view = View { zone: query.zone(), stale, last_seen };
    let poll = Poll { epoch: query.text("epoch"), rev: query.rev()?, wait: query.wait()? };
    let moved = poll.moved(&registry, &service).await?;

    let (tag, body) = {
        let mut store = registry.store();
        let tag = answer::tag(store.epoch(), store.service_rev(&service), store.warming());
        (tag, moved.then(|| store.list(&service, &view)))
    };
    let mut response = match body {
        None => answer::not_modified(HeaderValue::try_from(tag).expect("it is hexadecimal and digits")),
        // Heartbeats move what is in it, and not its tag; and who polls by revision has decided already.
        Some(body) if last_seen || poll.rev.is_some() => answer::tagged(&HeaderMap::new(), &tag, body),
        Some(body) => answer::tagged(&headers, &tag, body),
    };
    if last_seen {
        response.headers_mut().remove(axum::http::header::ETAG);
    }
    if !poll.wait.is_zero() {
        response.extensions_mut().insert(Waited);
    }
    Ok(response)
}

/// `GET /v1/services/{service}/instances/{id}`
pub(super) async fn one(
    State(registry): State<Registry>,
    Path((service, id)): Path<(String, String)>,
) -> Result<Response, Failure> {
    let service = query::service(&service)?;
    let one = {
        let store = registry.store();
        let listed = store.one(&service, &id).ok_or_else(|| unknown(&service, &id))?;
        One { epoch: store.epoch().to_owned(), warming: store.warming(), listed }
    };
    Ok(answer::object(&one))
}

/// `PUT /v1/services/{service}/instances/{id}`
pub(super) async fn register(
    State(registry): State<Registry>,
    Path((service, id)): Path<(String, String)>,
    Extension(caller): Extension<Caller>,
    body: Body,
) -> Result<Response, Failure> {
    let service = query::service(&service)?;
    caller.may_write(&service)?;
    let body = body::bytes(body, registry.inner.settings.max_body_bytes).await?;
    let mut instance: Instance = body::parse(&body, "an instance")?;
    for (field, said, path) in [("service", &mut instance.service, service), ("id", &mut instance.id, id)] {
        if !said.is_empty() && *said != path {
            let (said, path) = (excerpt(said), excerpt(&path));
            return Err(Failure::bad_request(format!(
                "{field} is `{said}` in the body and `{path}` in the path"
            )));
        }
        *said = path;
    }
    let registration = registry.register(instance)?;
    Ok(answer::json(&registry, registration))
}

/// `POST .../{id}/heartbeat`. A body is ignored.
pub(super) async fn heartbeat(
    State(registry): State<Registry>,
    Path((service, id)): Path<(String, String)>,
    Extension(caller): Extension<Caller>,
) -> Result<Response, Failure> {
    let service = query::service(&service)?;
    caller.may_write(&service)?;
    let registration = registry.renew(&service, &id).ok_or_else(|| unknown(&service, &id))?;
    Ok(answer::json(&registry, registration))
}

/// `POST /v1/heartbeats`
pub(super) async fn heartbeats(
    State(registry): State<Registry>,
    Extension(caller): Extension<Caller>,
    body: Body,
) -> Result<Response, Failure> {
    let body = body::bytes(body, body::HEARTBEATS_LIMIT).await?;
    let Heartbeats { instances } = body::parse(&body, "a list of instances")?;
    if instances.len() > body::MAX_HEARTBEATS {
        let (count, most) = (instances.len(), body::MAX_HEARTBEATS);
        return Err(Failure::too_large(format!(
            "these are {count} heartbeats; at most {most} go into one request"
        )));
    }
    for name in &instances {
        caller.may_write(&name.service)?;
    }
    let own = millis(registry.inner.settings.heartbeat_interval());
    let mut renewed = Renewed::default();
    let mut shortest = None;
    for name in instances {
        match registry.renew(&name.service, &name.id) {
            Some(registration) => {
                renewed.renewed += 1;
                shortest = shortest.min(Some(registration.heartbeat_ms)).or(Some(registration.heartbeat_ms));
            }
            None => renewed.unknown.push(name),
        }
    }
    renewed.heartbeat_ms = shortest.unwrap_or(own);
    Ok(answer::json(&registry, renewed))
}

/// `PATCH .../{id}`
pub(super) async fn patch(
    State(registry): State<Registry>,
    Path((service, id)): Path<(String, String)>,
    Extension(caller): Extension<Caller>,
    body: Body,
) -> Result<Response, Failure> {
    let service = query::service(&service)?;
    caller.may_override()?;
    let body = body::bytes(body, registry.inner.settings.max_body_bytes).await?;
    let patch: Patch = body::parse(&body, "an override such as {\"drain\": true} or {\"weight\": 10}")?;
    registry.patch(&service, &id, patch).ok_or_else(|| unknown(&service, &id))?;
    one(State(registry), Path((service_in_path(service), id))).await
}

/// `DELETE .../{id}`
pub(super) async fn deregister(
    State(registry): State<Registry>,
    Path((service, id)): Path<(String, String)>,
    Extension(caller): Extension<Caller>,
) -> Result<Response, Failure> {
    let service = query::service(&service)?;
    caller.may_write(&service)?;
    registry.deregister(&service, &id);
    Ok(answer::no_content())
}

/// What a list is to be compared with before it is sent.
struct Poll<'a> {
    epoch: Option<&'a str>,
    rev: Option<u64>,
    wait: Duration,
}

impl Poll<'_> {
    /// Waits until the list is another than the one that is known; false, if it is not in time.
    async fn moved(&self, registry: &Registry, service: &str) -> Result<bool, Failure> {
        let Some(rev) = self.rev else { return Ok(true) };
        // Before the first look, so that no change falls between.
        let mut subscription = registry.inner.watchers.subscribe(Some(service));
        let moved = || {
            let store = registry.store();
            let other_epoch = self.epoch.is_some_and(|epoch| epoch != store.epoch());
            // A revision that is not there yet is another epoch's.
            other_epoch || store.service_rev(service) > rev || rev > store.rev()
        };
        if moved() {
            return Ok(true);
        }
        if self.wait.is_zero() {
            return Ok(false);
        }
        let _permit = watch::permit(registry)?;
        let deadline = Instant::now() + self.wait.min(LONGEST_WAIT);
        let changed = async {
            loop {
                // Cancel-safe: what it tells is looked up again.
                tokio::select! {
                    () = subscription.changed() => if moved() {
                        registry.wait_turn().await;
                        return true;
                    },
                    () = registry.inner.closing.cancelled() => return false,
                }
            }
        };
        Ok(timeout_at(deadline, changed).await.unwrap_or(false))
    }
}

fn unknown(service: &str, id: &str) -> Failure {
    let (service, id) = (excerpt(&service_in_path(service.to_owned())), excerpt(id));
    Failure::not_found(format!("the service `{service}` has no instance `{id}`"))
}

fn service_in_path(service: String) -> String {
    if service.is_empty() { crate::wire::PLAIN_LIST.to_owned() } else { service }
}

/// The beginning of what somebody else wrote, safe to show.
fn excerpt(text: &str) -> String {
    text.chars().take(128).flat_map(char::escape_debug).collect()
}
