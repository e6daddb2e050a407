//! Route for calls from other processes: `POST /internal/v1/calls/{service}/{name}`, with JSON bodies.
//!
//! It is for processes that share the secret, not for clients. No document lists it, and no gateway forwards to it. It serves only calls of
//! local services and never calls another process.

use super::{
    Links, ServeError,
    sign::{BadSignature, Signer},
};
use axum::{
    Router,
    extract::{Path, Request},
    response::{IntoResponse, Response},
    routing::post,
};
use contracts::Code;
use http::{HeaderName, Method, header};
use runtime::line_limit::LineLimit;
use sha2::{Digest, Sha256};
use uuid::fmt::Simple;
use web::{AddressShare, JSON, Problem, Trace, read_whole};

/// Header with the signature of a process of this installation.
pub const SIGNATURE: HeaderName = HeaderName::from_static("onrush-signature");

/// Largest call, in bytes. The largest legitimate call names every SKU of a long list of products.
pub const CALL_LIMIT: usize = 4 * 1024 * 1024;

pub(super) fn path_of(service: &str, name: &str) -> String {
    format!("/internal/v1/calls/{service}/{name}")
}

pub(super) fn digest(body: &[u8]) -> [u8; 32] {
    Sha256::digest(body).into()
}

pub(super) fn signed_parts<'a>(method: &'a Method, path: &'a str, digest: &'a [u8; 32]) -> [&'a [u8]; 4] {
    [b"call", method.as_str().as_bytes(), path.as_bytes(), digest]
}

/// Router that serves the calls to which `links` are bound. Every process with peers has it.
pub fn internal_router(links: Links, signer: Signer) -> Router {
    let answer = async move |path: Path<(String, String)>, trace: Trace, request: Request| -> Response {
        match serve_call(&links, &signer, path, trace, request).await {
            Ok(response) => response,
            Err(problem) => problem.into_response(),
        }
    };
    Router::new().route("/internal/v1/calls/{service}/{name}", post(answer))
}

static REJECTED: LineLimit = LineLimit::new("call rejected");

/// Rejects a call of an unknown sender. The log names neither the service nor the call, because both are the sender's words.
fn reject(error: &BadSignature, trace: Simple, when: &str) -> Problem {
    metrics::counter!("onrush_calls_rejected_total").increment(1);
    if let Some(left_out) = REJECTED.take() {
        tracing::warn!(%error, %trace, when, left_out, "call rejected: bad signature");
    }
    Code::Unauthenticated.into()
}

async fn serve_call(
    links: &Links,
    signer: &Signer,
    Path((service, name)): Path<(String, String)>,
    trace: Trace,
    request: Request,
) -> Result<Response, Problem> {
    let (parts, body) = request.into_parts();
    let mut signatures = parts.headers.get_all(SIGNATURE).iter();
    let signature = signatures.next().filter(|_| signatures.next().is_none());
    let trace = trace.0.simple();
    // Refuses a missing or outdated signature before reading the body.
    if let Err(error) = signer.precheck(signature) {
        return Err(reject(&error, trace, "before reading its body"));
    }
    let body = read_whole(&parts.extensions, body, CALL_LIMIT).await?;
    let digest = digest(&body);
    if let Err(error) = signer.verify(signature, &signed_parts(&parts.method, parts.uri.path(), &digest)) {
        return Err(reject(&error, trace, "after reading its body"));
    }
    if let Some(share) = parts.extensions.get::<AddressShare>() {
        share.lift();
    }
    let failure = match links.serve(&service, &name, body).await {
        Ok(reply) => return Ok(([(header::CONTENT_TYPE, JSON)], reply).into_response()),
        Err(failure) => failure,
    };
    match failure {
        ServeError::Unknown => Err(Code::NotFound.into()),
        ServeError::Unreadable(detail) => Err(Problem::new(Code::MalformedJson, detail)),
        ServeError::Failed(error) => {
            tracing::error!(service, call = name, %error, %trace, "call from another process failed");
            Err(Code::Internal.into())
        }
    }
}
