//! The simple interface: one path, GET and POST, for `curl` and for clients of twenty lines.

use std::num::ParseIntError;
use std::str::FromStr;

use axum::Extension;
use axum::extract::{RawQuery, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue};
use axum::response::Response;
use farcall_discovery::Instance;
use farcall_transport::Address;

use super::auth::Caller;
use super::body::{self, RequestBody};
use super::error::HttpError;
use super::query::{self, Query};
use super::response;
use super::token;
use crate::server::state::SharedState;
use crate::server::store::Addresses;
use crate::wire;

/// The headers that describe an instance.
const INSTANCE_HEADERS: [&str; 6] =
    [wire::SERVER, wire::SERVICE, wire::WEIGHT, wire::ZONE, wire::VERSION, wire::TTL_MS];

/// `GET`: the addresses of instances that are up.
pub(super) async fn list(
    State(registry): State<SharedState>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
) -> Result<Response, HttpError> {
    let service = Query::parse(query.as_deref())?.service()?.unwrap_or_default();
    let (pages, tag) = {
        let store = registry.store.lock();
        let tag = response::etag(store.epoch(), store.service_rev(&service), store.is_warming());
        (store.addresses(&service), tag)
    };
    let addresses = Addresses::new(pages);
    let mut response = if response::matches_etag(&headers, &tag) {
        response::not_modified(tag)
    } else {
        response::tagged(&registry, &tag, addresses.body)
    };
    let answer_headers = response.headers_mut();
    answer_headers.insert(HeaderName::from_static(wire::SERVER_COUNT), HeaderValue::from(addresses.count));
    // Paths of sockets may have bytes that headers cannot carry: then the list is omitted, as if it were too long.
    match addresses.header.as_ref().and_then(|list| HeaderValue::from_bytes(list.as_bytes()).ok()) {
        Some(list) => answer_headers.insert(HeaderName::from_static(wire::SERVERS), list),
        None => answer_headers
            .insert(HeaderName::from_static(wire::SERVERS_OMITTED), HeaderValue::from_static("1")),
    };
    Ok(response)
}

/// `POST`: registers or renews, by headers or by a JSON body.
pub(super) async fn register(
    State(registry): State<SharedState>,
    Extension(caller): Extension<Caller>,
    headers: HeaderMap,
    body: RequestBody,
) -> Result<Response, HttpError> {
    let body = body.read(registry.options.max_body_bytes).await?;
    let described_by = INSTANCE_HEADERS.iter().find(|name| headers.contains_key(**name));
    let instance = match (described_by, body.is_empty()) {
        (Some(name), false) => {
            let error = format!(
                "there is both a header `{name}` and a body: an instance is described by one of them"
            );
            return Err(HttpError::bad_request(error));
        }
        (None, true) => {
            let error =
                "there is neither a header `X-Farcall-Server: ADDRESS` nor an instance as JSON in the body";
            return Err(HttpError::bad_request(error));
        }
        (Some(_), true) => from_headers(&headers)?,
        (None, false) => body::parse(&body, "an instance")?,
    };
    caller.check_write(&instance.service)?;
    let registration = registry.register(instance, token::of(&headers, &body)?)?;
    Ok(response::json(&registry, registration))
}

fn from_headers(headers: &HeaderMap) -> Result<Instance, HttpError> {
    let Some(address) = text(headers, wire::SERVER)? else {
        return Err(HttpError::bad_request("the header `X-Farcall-Server: ADDRESS` is missing"));
    };
    let address = Address::parse(address).map_err(|error| invalid(wire::SERVER, &error.to_string()))?;
    let service = text(headers, wire::SERVICE)?.unwrap_or_default();
    let service = if service.is_empty() { String::new() } else { query::service(service)? };
    let mut instance = Instance::new(service, address);
    if let Some(weight) = number(headers, wire::WEIGHT)? {
        instance.weight = weight;
    }
    instance.zone = text(headers, wire::ZONE)?.map(str::to_owned);
    instance.version = text(headers, wire::VERSION)?.map(str::to_owned);
    instance.ttl_ms = number(headers, wire::TTL_MS)?;
    Ok(instance)
}

/// Returns the value of a header that may occur once.
fn text<'a>(headers: &'a HeaderMap, name: &str) -> Result<Option<&'a str>, HttpError> {
    let mut values = headers.get_all(name).iter();
    match (values.next(), values.next()) {
        (None, _) => Ok(None),
        (Some(value), None) => {
            let text = std::str::from_utf8(value.as_bytes()).map_err(|_| invalid(name, "it is not UTF-8"))?;
            Ok(Some(text))
        }
        (Some(_), Some(_)) => Err(invalid(name, "it occurs more than once")),
    }
}

fn number<T: FromStr<Err = ParseIntError>>(headers: &HeaderMap, name: &str) -> Result<Option<T>, HttpError> {
    let Some(text) = text(headers, name)? else { return Ok(None) };
    text.parse().map(Some).map_err(|error: ParseIntError| invalid(name, &error.to_string()))
}

fn invalid(name: &str, reason: &str) -> HttpError {
    HttpError::bad_request(format!("the header `{name}`: {reason}"))
}
