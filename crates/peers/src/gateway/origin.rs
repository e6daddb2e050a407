//! Address of the client of a forwarded request, passed between processes in a signed header.
//!
//! A process counts attempts by the address at the other end of the connection ([`Peer`]). For a forwarded request that is the gateway,
//! so one attacker would lock out all clients behind it. The gateway therefore names the client in a signed header. Without a valid
//! signature the header is ignored, so a client cannot choose its address. The client of a gateway behind a trusted proxy is the client of
//! that proxy ([`web::Proxies`]).

use crate::links::Signer;
use axum::{Router, extract::Request};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Uri};
use runtime::line_limit::LineLimit;
use std::net::SocketAddr;
use tower::util::MapRequestLayer;
use web::{AddressShare, Peer};

/// `<address>;<signature>`.
pub(super) const ORIGIN: HeaderName = HeaderName::from_static("onrush-origin");

static REJECTED: LineLimit = LineLimit::new("origin header rejected");

fn signed_parts<'a>(method: &'a Method, uri: &'a Uri, address: &'a str) -> [&'a [u8]; 4] {
    let target = uri.path_and_query().map_or("", |target| target.as_str());
    [b"origin", method.as_str().as_bytes(), target.as_bytes(), address.as_bytes()]
}

/// Builds the header that names the client to the next process. Signs only the path and query of `uri`, because the host changes.
pub(super) fn origin_header(signer: &Signer, method: &Method, uri: &Uri, peer: Peer) -> Option<HeaderValue> {
    let address = peer.0.to_string();
    let signature = signer.sign(&signed_parts(method, uri, &address));
    HeaderValue::try_from(format!("{address};{}", signature.to_str().ok()?)).ok()
}

fn verified_origin(signer: &Signer, headers: &HeaderMap, method: &Method, uri: &Uri) -> Option<Peer> {
    let mut values = headers.get_all(ORIGIN).iter();
    let text = values.next().filter(|_| values.next().is_none())?.to_str().ok()?;
    let (address, signature) = text.split_once(';')?;
    let signature = HeaderValue::from_str(signature).ok()?;
    match signer.verify(Some(&signature), &signed_parts(method, uri, address)) {
        Ok(()) => address.parse::<SocketAddr>().ok().map(Peer),
        Err(error) => {
            if let Some(left_out) = REJECTED.take() {
                tracing::warn!(%error, left_out, "origin header rejected: the sender counts as the client");
            }
            None
        }
    }
}

/// Sets the [`Peer`] of forwarded requests to their client. Wraps the whole router of a process with peers, inside
/// [`web::layers`].
pub fn accept_origins(router: Router, signer: Signer) -> Router {
    router.layer(MapRequestLayer::new(move |mut request: Request| {
        if request.headers().contains_key(ORIGIN) {
            if let Some(peer) = verified_origin(&signer, request.headers(), request.method(), request.uri()) {
                request.extensions_mut().insert(peer);
                if let Some(share) = request.extensions().get::<AddressShare>() {
                    share.lift();
                }
            }
            request.headers_mut().remove(ORIGIN);
        }
        request
    }))
}
