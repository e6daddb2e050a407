//! The route on which other processes ask: `POST /internal/v1/calls/{service}/{name}`, question and answer as JSON.
//!
//! It is for processes that share the secret, not for clients: it stands in no document, and no gateway forwards to it. It answers only
//! with what this process owns, and never asks on.

use super::{Links, ServeError, sign::Signer};
use crate::http::{JSON, Problem, Trace, read_whole};
use axum::{
    Router,
    extract::{Path, Request},
    response::{IntoResponse, Response},
    routing::post,
};
use contracts::Code;
use http::{HeaderName, Method, header};
use sha2::{Digest, Sha256};

/// Says that a request was made by a process of this installation.
pub const SIGNATURE: HeaderName = HeaderName::from_static("onrush-signature");

/// Largest question, in bytes. The largest honest one asks for every SKU of a long list of products.
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

/// Answers the questions that `links` are bound to. Belongs into the router of every process that has peers.
pub fn internal_router(links: Links, signer: Signer) -> Router {
    let answer = async move |path: Path<(String, String)>, trace: Trace, request: Request| -> Response {
        match serve(&links, &signer, path, trace, request).await {
            Ok(response) => response,
            Err(problem) => problem.into_response(),
        }
    };
    Router::new().route("/internal/v1/calls/{service}/{name}", post(answer))
}

async fn serve(
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
    // Without one there is no reason to read the body of a stranger.
    if let Err(error) = signer.could_be(signature) {
        tracing::warn!(service, call = name, %error, %trace, "a question without a signature was refused");
        return Err(Code::Unauthenticated.into());
    }
    let body = read_whole(body, CALL_LIMIT).await?;
    let digest = digest(&body);
    if let Err(error) = signer.verify(signature, &signed_parts(&parts.method, parts.uri.path(), &digest)) {
        tracing::warn!(service, call = name, %error, %trace, "a question with a bad signature was refused");
        return Err(Code::Unauthenticated.into());
    }
    let failure = match links.serve(&service, &name, body).await {
        Ok(reply) => return Ok(([(header::CONTENT_TYPE, JSON)], reply).into_response()),
        Err(failure) => failure,
    };
    match failure {
        ServeError::Unknown => Err(Code::NotFound.into()),
        ServeError::Unreadable(detail) => Err(Problem::new(Code::MalformedJson, detail)),
        ServeError::Failed(error) => {
            tracing::error!(service, call = name, %error, %trace, "a question of another process failed");
            Err(Code::Internal.into())
        }
    }
}
