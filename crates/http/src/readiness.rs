//! `/readyz`: whether this process takes calls, as its server and the program's own checks say.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use axum::routing::get;
use farcall_protocol::EscapedText;
use farcall_protocol::describe::HealthStatus;
use farcall_server::ServerHandle;
use farcall_transport::HumanDuration;
use tokio::sync::Mutex;
use tokio::time::{Instant, timeout};
use tokio_util::task::AbortOnDropHandle;

use crate::hooks::ReadyCheck;
use crate::options::HttpOptions;
use crate::text_response::text_response;

/// The time for which the outcome of the checks is reused, so that many readers cost what one does.
const MAX_AGE: Duration = Duration::from_millis(500);

/// The server and the checks that decide whether this process is ready.
struct Readiness {
    handle: Option<ServerHandle>,
    checks: Vec<ReadyCheck>,
    limit: Duration,
    /// The reasons why it was not ready, and when the checks were made.
    last: Mutex<Option<(Instant, Vec<String>)>>,
}

/// Returns the route of the readiness check.
pub(crate) fn routes<S>(handle: Option<ServerHandle>, options: &HttpOptions) -> Router<S>
where
    S: Clone + Send + Sync + 'static,
{
    let (checks, limit) = (options.ready_checks.clone(), options.ready_timeout);
    let readiness = Readiness { handle, checks, limit, last: Mutex::default() };
    Router::new().route("/readyz", get(readyz)).with_state(Arc::new(readiness))
}

/// Answers `GET /readyz`: 200 while the server accepts calls and all checks pass.
async fn readyz(State(readiness): State<Arc<Readiness>>) -> Response {
    let health = readiness.handle.as_ref().map_or(HealthStatus::Serving, ServerHandle::health);
    if health != HealthStatus::Serving {
        let message = "the server is stopping and accepts no new calls";
        return text_response(StatusCode::SERVICE_UNAVAILABLE, message);
    }
    let reasons = readiness.reasons().await;
    if reasons.is_empty() {
        return text_response(StatusCode::OK, "ready");
    }
    text_response(StatusCode::SERVICE_UNAVAILABLE, &format!("not ready: {}", reasons.join("; ")))
}

impl Readiness {
    /// Returns the reasons why the process is not ready, at most [`MAX_AGE`] old.
    async fn reasons(&self) -> Vec<String> {
        if self.checks.is_empty() {
            return Vec::new();
        }
        // Locked during the checks, which are limited in time: concurrent requests get the same outcome.
        let mut last = self.last.lock().await;
        if let Some((checked_at, reasons)) = &*last
            && checked_at.elapsed() < MAX_AGE
        {
            return reasons.clone();
        }
        let running: Vec<_> = self.checks.iter().map(|check| (check, start(check))).collect();
        let deadline = Instant::now() + self.limit;
        let mut reasons = Vec::new();
        for (check, running) in running {
            let left = deadline.saturating_duration_since(Instant::now());
            let reason = match timeout(left, running).await {
                Ok(Ok(Ok(()))) => continue,
                Ok(Ok(Err(reason))) => reason,
                Ok(Err(_panicked)) => "the check has panicked".to_owned(),
                Err(_elapsed) => format!("the check took longer than {}", HumanDuration(self.limit)),
            };
            reasons.push(format!("{}: {}", EscapedText(&check.name), EscapedText(&reason)));
        }
        *last = Some((Instant::now(), reasons.clone()));
        reasons
    }
}

/// Starts a check in its own task, where a panic ends nothing else. It is stopped when the returned handle is dropped.
fn start(check: &ReadyCheck) -> AbortOnDropHandle<Result<(), String>> {
    let check = Arc::clone(&check.check);
    AbortOnDropHandle::new(tokio::spawn(async move { check().await }))
}

#[cfg(test)]
mod tests {
    use tokio::time::sleep;

    use super::*;

    fn check(name: &str, takes: Duration) -> ReadyCheck {
        let check = move || -> crate::hooks::Checking {
            Box::pin(async move {
                sleep(takes).await;
                Ok(())
            })
        };
        ReadyCheck { name: name.to_owned(), check: Arc::new(check) }
    }

    #[tokio::test(start_paused = true)]
    async fn each_check_may_take_the_whole_time() {
        const LIMIT: Duration = Duration::from_secs(1);
        let readiness = |checks: Vec<ReadyCheck>| Readiness {
            handle: None,
            checks,
            limit: LIMIT,
            last: Mutex::default(),
        };
        let just_in_time = || check("just in time", LIMIT - Duration::from_millis(1));
        let began = Instant::now();
        let reasons = readiness(vec![just_in_time(), just_in_time()]).reasons().await;
        assert_eq!(reasons, [] as [&str; 0]);
        assert!(began.elapsed() <= LIMIT, "they run at the same time");
        let slow = check("slow", LIMIT + Duration::from_millis(1));
        let reasons = readiness(vec![just_in_time(), slow]).reasons().await;
        assert_eq!(reasons, ["slow: the check took longer than 1 s"]);
    }
}
