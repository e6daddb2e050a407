//! Calls to remote services, with retries.

use super::{
    LinkError,
    internal::{SIGNATURE, path_of, signed_parts},
    pool::{Pool, record_outcome},
    sign::Signer,
};
use bytes::Bytes;
use contracts::calls::Call;
use http::{Method, Request, Response, StatusCode, header};
use runtime::{ports::Stopwatch, trace};
use std::time::Duration;
use uuid::Uuid;
use web::client::ClientError;

/// Timeouts and tries of a remote call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RemoteSettings {
    /// Timeout of all tries together.
    pub total_time: Duration,
    /// Timeout of one try while another address is untried. The last try may use the remaining time.
    pub try_time: Duration,
    pub tries: u32,
}

impl Default for RemoteSettings {
    /// A shopper waits at most five seconds; two for the first try leave time for another address.
    fn default() -> Self {
        Self { total_time: Duration::from_secs(5), try_time: Duration::from_secs(2), tries: 3 }
    }
}

/// Minimum time for another try. With less, the breaker would count a failure of a peer that had no time to answer.
const MIN_TRY: Duration = Duration::from_millis(100);

/// Calls services that run in other processes.
#[derive(Clone, Debug)]
pub struct Remote {
    pool: Pool,
    signer: Signer,
    settings: RemoteSettings,
}

/// Outcome of one try.
enum CallAttempt {
    Answered(Bytes),
    /// A retry may succeed.
    Retry(String),
    Failed(String),
}

enum CallFailure {
    NoAddress,
    Failed(String),
    Unavailable(String),
}

impl Remote {
    pub fn new(pool: Pool, signer: Signer, settings: RemoteSettings) -> Remote {
        Remote { pool, signer, settings }
    }

    pub(super) async fn call<C: Call>(&self, call: C) -> Result<C::Reply, LinkError> {
        let (service, name) = (C::SERVICE, C::NAME);
        let failed = |reason| LinkError::Failed { service, call: name, reason };
        let body = serde_json::to_vec(&call).map_err(|error| failed(error.to_string()))?;
        let watch = Stopwatch::start();
        let result = self.call_json(service, name, body.into(), trace::current()).await;
        let outcome = if result.is_ok() { "answered" } else { "failed" };
        metrics::counter!("onrush_link_calls_total", "service" => service, "call" => name, "outcome" => outcome).increment(1);
        metrics::histogram!("onrush_link_call_seconds", "service" => service, "call" => name).record(watch.elapsed().as_secs_f64());
        match result {
            Ok(reply) => serde_json::from_slice(&reply).map_err(|error| failed(format!("its answer cannot be read: {error}"))),
            Err(CallFailure::NoAddress) => Err(LinkError::NotHere { service, call: name }),
            Err(CallFailure::Failed(reason)) => Err(failed(reason)),
            Err(CallFailure::Unavailable(reason)) => Err(LinkError::Unavailable { service, call: name, reason }),
        }
    }

    async fn call_json(&self, service: &'static str, name: &'static str, body: Bytes, trace: Uuid) -> Result<Bytes, CallFailure> {
        let mut attempts = self.pool.attempts(service).ok_or(CallFailure::NoAddress)?;
        let RemoteSettings { total_time, try_time, tries } = self.settings;
        let watch = Stopwatch::start();
        let left = || total_time.saturating_sub(watch.elapsed());
        let mut reason = String::new();
        for number in 1..=tries.max(1) {
            if number > 1 {
                let pause = attempts.pause();
                if left() < pause + MIN_TRY || !attempts.try_spend_retry() {
                    break;
                }
                tokio::time::sleep(pause).await;
                metrics::counter!("onrush_link_retries_total", "service" => service, "call" => name).increment(1);
            }
            let (target, permit) = match attempts.next() {
                Ok(next) => next,
                Err(open) if number == 1 => return Err(CallFailure::Unavailable(open.to_string())),
                // Reports the reason of the last try, which is more specific.
                Err(_) => break,
            };
            let limit = if number < tries && attempts.has_untried() { left().min(try_time) } else { left() };
            let request =
                self.request(&target.address, service, name, &body, trace).map_err(|error| CallFailure::Failed(error.to_string()))?;
            let result = self.pool.client().send(request, limit).await;
            record_outcome(permit, &result);
            match classify(result) {
                CallAttempt::Answered(reply) => return Ok(reply),
                CallAttempt::Failed(text) => return Err(CallFailure::Failed(format!("{}: {text}", target.address))),
                CallAttempt::Retry(text) => {
                    tracing::debug!(service, call = name, address = %target.address, reason = text, trace = %trace.simple(), "call attempt failed");
                    reason = format!("{}: {text}", target.address);
                }
            }
        }
        Err(CallFailure::Unavailable(reason))
    }

    fn request(
        &self,
        address: &super::Address,
        service: &str,
        name: &str,
        body: &Bytes,
        trace: Uuid,
    ) -> Result<Request<Bytes>, http::Error> {
        let path = path_of(service, name);
        let digest = super::internal::digest(body);
        let signature = self.signer.sign(&signed_parts(&Method::POST, &path, &digest));
        Request::post(address.at(&path)?)
            .header(header::CONTENT_TYPE, web::JSON)
            .header(SIGNATURE, signature)
            .header("traceparent", trace::traceparent(trace))
            .header("x-request-id", trace::request_id(trace))
            .body(body.clone())
    }
}

fn classify(result: Result<Response<Bytes>, ClientError>) -> CallAttempt {
    let response = match result {
        Ok(response) => response,
        Err(error @ ClientError::TooLarge(_)) => return CallAttempt::Failed(error.to_string()),
        Err(error) => return CallAttempt::Retry(error.to_string()),
    };
    match response.status() {
        StatusCode::OK => CallAttempt::Answered(response.into_body()),
        // Retries, because one of several addresses may be outdated.
        StatusCode::NOT_FOUND => CallAttempt::Retry("it does not run this service, or does not know this call".to_owned()),
        StatusCode::UNAUTHORIZED => {
            CallAttempt::Failed("it does not accept our signature: are the secrets the same and the clocks set?".to_owned())
        }
        status if status.is_server_error() => CallAttempt::Retry(format!("it answered {status}")),
        status => CallAttempt::Failed(format!("it answered {status}")),
    }
}
