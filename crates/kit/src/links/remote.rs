//! A question to another process, from the first try to the last.

use super::{
    LinkError,
    internal::{SIGNATURE, path_of, signed_parts},
    pool::{Pool, tell},
    sign::Signer,
    trace,
};
use crate::{http::client::ClientError, ports::Stopwatch};
use bytes::Bytes;
use contracts::calls::Call;
use http::{Method, Request, Response, StatusCode, header};
use std::time::Duration;
use uuid::Uuid;

/// How long a question may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RemoteSettings {
    /// All tries together.
    pub total_time: Duration,
    /// One try, as long as there is another address to ask. The last one may take what is left.
    pub try_time: Duration,
    pub tries: u32,
}

impl Default for RemoteSettings {
    /// Five seconds are what a shopper waits for at most; two leave time for another address.
    fn default() -> Self {
        Self { total_time: Duration::from_secs(5), try_time: Duration::from_secs(2), tries: 3 }
    }
}

/// With less than this left another try would only blame a peer that had no time to answer.
const MIN_TRY: Duration = Duration::from_millis(100);

/// Asks services that run elsewhere.
#[derive(Clone, Debug)]
pub struct Remote {
    pool: Pool,
    signer: Signer,
    settings: RemoteSettings,
}

/// What one try came to.
enum Verdict {
    Answered(Bytes),
    /// Asking again may help.
    Again(String),
    Failed(String),
}

enum Failure {
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
        let result = self.ask(service, name, body.into(), trace::current()).await;
        let outcome = if result.is_ok() { "answered" } else { "failed" };
        metrics::counter!("onrush_link_calls_total", "service" => service, "call" => name, "outcome" => outcome).increment(1);
        metrics::histogram!("onrush_link_call_seconds", "service" => service, "call" => name).record(watch.elapsed().as_secs_f64());
        match result {
            Ok(reply) => serde_json::from_slice(&reply).map_err(|error| failed(format!("its answer cannot be read: {error}"))),
            Err(Failure::NoAddress) => Err(LinkError::NotHere { service, call: name }),
            Err(Failure::Failed(reason)) => Err(failed(reason)),
            Err(Failure::Unavailable(reason)) => Err(LinkError::Unavailable { service, call: name, reason }),
        }
    }

    async fn ask(&self, service: &'static str, name: &'static str, body: Bytes, trace: Uuid) -> Result<Bytes, Failure> {
        let mut round = self.pool.round(service).ok_or(Failure::NoAddress)?;
        let RemoteSettings { total_time, try_time, tries } = self.settings;
        let watch = Stopwatch::start();
        let left = || total_time.saturating_sub(watch.elapsed());
        let mut reason = String::new();
        for number in 1..=tries.max(1) {
            if number > 1 {
                let pause = round.pause();
                if left() < pause + MIN_TRY || !round.may_repeat() {
                    break;
                }
                tokio::time::sleep(pause).await;
                metrics::counter!("onrush_link_retries_total", "service" => service, "call" => name).increment(1);
            }
            let (target, permit) = match round.next() {
                Ok(next) => next,
                Err(open) if number == 1 => return Err(Failure::Unavailable(open.to_string())),
                // What the last try said tells more.
                Err(_) => break,
            };
            let limit = if number < tries && round.has_untried() { left().min(try_time) } else { left() };
            let request = self.request(&target.address, service, name, &body, trace).map_err(|error| Failure::Failed(error.to_string()))?;
            let result = self.pool.client().send(request, limit).await;
            tell(permit, &result);
            match judge(result) {
                Verdict::Answered(reply) => return Ok(reply),
                Verdict::Failed(text) => return Err(Failure::Failed(format!("{}: {text}", target.address))),
                Verdict::Again(text) => {
                    tracing::debug!(service, call = name, address = %target.address, reason = text, trace = %trace.simple(), "a question was not answered");
                    reason = format!("{}: {text}", target.address);
                }
            }
        }
        Err(Failure::Unavailable(reason))
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
            .header(header::CONTENT_TYPE, crate::http::JSON)
            .header(SIGNATURE, signature)
            .header("traceparent", trace::traceparent(trace))
            .header("x-request-id", trace::request_id(trace))
            .body(body.clone())
    }
}

fn judge(result: Result<Response<Bytes>, ClientError>) -> Verdict {
    let response = match result {
        Ok(response) => response,
        Err(error @ ClientError::TooLarge(_)) => return Verdict::Failed(error.to_string()),
        Err(error) => return Verdict::Again(error.to_string()),
    };
    match response.status() {
        StatusCode::OK => Verdict::Answered(response.into_body()),
        // One address of several may be out of date.
        StatusCode::NOT_FOUND => Verdict::Again("it does not run this service, or does not know this question".to_owned()),
        StatusCode::UNAUTHORIZED => {
            Verdict::Failed("it does not accept our signature: are the secrets the same and the clocks set?".to_owned())
        }
        status if status.is_server_error() => Verdict::Again(format!("it answered {status}")),
        status => Verdict::Failed(format!("it answered {status}")),
    }
}
