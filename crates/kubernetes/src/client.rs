//! [`Client`]: lists pages of EndpointSlices, and opens watches. The use of what they say is left to the callers.

use std::time::Duration;

use farcall_discovery::source::aside;
use farcall_discovery::source::http::{error_body, read_body};
use farcall_protocol::text::parse_error;
use reqwest::header::{ACCEPT, AUTHORIZATION, RETRY_AFTER};
use reqwest::{Response, Url};
use tokio::time::timeout;

use crate::call_error::{CallError, excerpt};
use crate::http::Http;
use crate::limits::MAX_ANSWER_BYTES;
use crate::options::KubernetesOptions;
use crate::watch::Watch;
use crate::wire::SliceList;

/// The label of a slice that names its service.
pub(crate) const SERVICE_LABEL: &str = "kubernetes.io/service-name";

/// Sends the requests for the slices of one namespace.
#[derive(Clone, Debug)]
pub(crate) struct Client {
    http: Http,
    /// The path of the namespace's EndpointSlices.
    slices: Url,
    request_timeout: Duration,
}

impl Client {
    pub(crate) fn new(options: &KubernetesOptions, namespace: &str) -> Self {
        let mut slices = options.api.clone();
        let prefix = slices.path().trim_end_matches('/').to_owned();
        slices.set_path(&format!("{prefix}/apis/discovery.k8s.io/v1/namespaces/{namespace}/endpointslices"));
        Self { http: Http::new(options), slices, request_timeout: options.request_timeout }
    }

    /// Requests one page: of the slices of a service, or of all. `after` is what the page before said.
    pub(crate) async fn list(
        &self,
        service: Option<&str>,
        limit: usize,
        after: &str,
    ) -> Result<SliceList, CallError> {
        let mut url = self.slices.clone();
        url.query_pairs_mut().append_pair("limit", &limit.to_string());
        if let Some(service) = service {
            url.query_pairs_mut().append_pair("labelSelector", &format!("{SERVICE_LABEL}={service}"));
        }
        if !after.is_empty() {
            url.query_pairs_mut().append_pair("continue", after);
        }
        let answer =
            self.within_limit(async { Ok(read_body(self.get(url).await?, MAX_ANSWER_BYTES).await?) }).await?;
        let bytes = answer.len();
        let mut list: SliceList = aside(bytes, move || {
            serde_json::from_slice(&answer).map_err(|error| {
                let beginning = excerpt(&String::from_utf8_lossy(&answer[..answer.len().min(300)]));
                CallError::InvalidAnswer(format!("{}, in `{beginning}`", parse_error(&error)))
            })
        })
        .await?;
        if list.kind != "EndpointSliceList" {
            let kind = excerpt(&list.kind);
            return Err(CallError::InvalidAnswer(format!("it is no EndpointSliceList, but `{kind}`")));
        }
        if list.metadata.resource_version.is_empty() {
            return Err(CallError::InvalidAnswer("the list has no resourceVersion".to_owned()));
        }
        let each = bytes / list.items.len().max(1);
        for slice in &mut list.items {
            slice.bytes = each;
        }
        Ok(list)
    }

    /// Opens a watch of a service's slices that reports all changes after this version, for this long.
    pub(crate) async fn watch(
        &self,
        service: &str,
        version: &str,
        time: Duration,
    ) -> Result<Watch, CallError> {
        let mut url = self.slices.clone();
        url.query_pairs_mut()
            .append_pair("labelSelector", &format!("{SERVICE_LABEL}={service}"))
            .append_pair("watch", "1")
            .append_pair("allowWatchBookmarks", "true")
            .append_pair("resourceVersion", version)
            .append_pair("timeoutSeconds", &time.as_secs().max(1).to_string());
        Ok(Watch::new(self.within_limit(self.get(url)).await?))
    }

    pub(crate) const fn request_timeout(&self) -> Duration {
        self.request_timeout
    }

    /// Sends a request. Returns an answer that is a success.
    async fn get(&self, url: Url) -> Result<Response, CallError> {
        let http = self.http.clone();
        let prepared = tokio::task::spawn_blocking(move || http.prepare()).await;
        let (client, token) = prepared.map_err(CallError::Reading)??;
        let mut request = client.get(url).header(ACCEPT, "application/json");
        if let Some(token) = token {
            request = request.header(AUTHORIZATION, format!("Bearer {token}"));
        }
        let response = request.send().await.map_err(|error| CallError::unreachable(&error))?;
        let status = response.status();
        if status.is_success() {
            return Ok(response);
        }
        // A date in place of seconds is not sent by API servers.
        let retry_after =
            response.headers().get(RETRY_AFTER).and_then(|value| value.to_str().ok()?.parse().ok());
        const MAX_ERROR_BYTES: usize = 64 * 1024; // a sentence is enough
        Err(CallError::refused(status.as_u16(), retry_after, &error_body(response, MAX_ERROR_BYTES).await))
    }

    async fn within_limit<T>(
        &self,
        request: impl Future<Output = Result<T, CallError>>,
    ) -> Result<T, CallError> {
        let limit = self.request_timeout;
        timeout(limit, request).await.unwrap_or(Err(CallError::Timeout(limit)))
    }
}
