//! Who the client is, told from process to process.
//!
//! A process counts attempts by the address at the other end of the connection ([`Peer`]); for a forwarded request that would be the
//! gateway's, and one guesser would lock out everybody behind it. The gateway therefore names the client in a signed header. Without a
//! good signature the header means nothing: a client cannot choose its address.

use crate::{http::Peer, links::Signer};
use axum::{Router, extract::Request};
use http::{Extensions, HeaderMap, HeaderName, HeaderValue, Method, Uri};
use std::net::SocketAddr;
use tower::util::MapRequestLayer;

/// `<address>;<signature>`.
pub(super) const ORIGIN: HeaderName = HeaderName::from_static("onrush-origin");

/// The process that forwarded a request, where its client is somebody else.
#[derive(Clone, Copy)]
struct Via(Option<Peer>);

/// The other end of the connection itself.
pub(super) fn neighbour(extensions: &Extensions) -> Option<Peer> {
    extensions.get::<Via>().map_or_else(|| extensions.get::<Peer>().copied(), |via| via.0)
}

fn signed_parts<'a>(method: &'a Method, uri: &'a Uri, address: &'a str) -> [&'a [u8]; 4] {
    let target = uri.path_and_query().map_or("", |target| target.as_str());
    [b"origin", method.as_str().as_bytes(), target.as_bytes(), address.as_bytes()]
}

/// The header that tells the next process who asked for `uri`. Only its path and query count: the host is another one there.
pub(super) fn write(signer: &Signer, method: &Method, uri: &Uri, peer: Peer) -> Option<HeaderValue> {
    let address = peer.0.to_string();
    let signature = signer.sign(&signed_parts(method, uri, &address));
    HeaderValue::try_from(format!("{address};{}", signature.to_str().ok()?)).ok()
}

fn read(signer: &Signer, headers: &HeaderMap, method: &Method, uri: &Uri) -> Option<Peer> {
    let mut values = headers.get_all(ORIGIN).iter();
    let text = values.next().filter(|_| values.next().is_none())?.to_str().ok()?;
    let (address, signature) = text.split_once(';')?;
    let signature = HeaderValue::from_str(signature).ok()?;
    match signer.verify(Some(&signature), &signed_parts(method, uri, address)) {
        Ok(()) => address.parse::<SocketAddr>().ok().map(Peer),
        Err(error) => {
            tracing::warn!(%error, "a forwarded request does not prove whose it is; its sender counts as the client");
            None
        }
    }
}

/// Lets requests that another process forwarded come from their clients. Belongs around the whole router of a process that has peers,
/// inside [`crate::http::layers`].
pub fn accept_origins(router: Router, signer: Signer) -> Router {
    router.layer(MapRequestLayer::new(move |mut request: Request| {
        if request.headers().contains_key(ORIGIN) {
            if let Some(peer) = read(&signer, request.headers(), request.method(), request.uri()) {
                let gateway = request.extensions_mut().insert(peer);
                request.extensions_mut().insert(Via(gateway));
            }
            request.headers_mut().remove(ORIGIN);
        }
        request
    }))
}
