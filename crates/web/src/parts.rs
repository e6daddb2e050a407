//! Extractors for handlers besides the body and the query: trace, peer address, path.

use super::Problem;
use axum::extract::{FromRequestParts, MatchedPath, path::ErrorKind, rejection::PathRejection};
use contracts::Code;
use http::{Extensions, HeaderMap, request::Parts};
use runtime::ports::random_bytes;
use serde::de::DeserializeOwned;
use std::{
    convert::Infallible,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    sync::{
        OnceLock,
        atomic::{AtomicU64, Ordering},
    },
};
use uuid::Uuid;

/// Trace id of this request: from the caller's W3C `traceparent`, else a new one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Trace(pub Uuid);

impl Trace {
    pub(super) fn of(headers: &HeaderMap) -> Trace {
        match headers.get("traceparent") {
            None => Trace(new_trace_id()),
            Some(value) => Trace(parse_traceparent(value.as_bytes()).unwrap_or_else(new_trace_id)),
        }
    }
}

impl<S: Sync> FromRequestParts<S> for Trace {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Self, Infallible> {
        Ok(parts.extensions.get::<Trace>().copied().unwrap_or_else(|| Trace::of(&parts.headers)))
    }
}

/// Makes a new trace id. It must be unique but not secret, so a counter mixed with a seed of the process saves a system call.
fn new_trace_id() -> Uuid {
    static SEED: OnceLock<[u8; 16]> = OnceLock::new();
    static COUNT: AtomicU64 = AtomicU64::new(0);
    let seed = u128::from_le_bytes(*SEED.get_or_init(random_bytes));
    let count = COUNT.fetch_add(1, Ordering::Relaxed);
    let mixed = u128::from(mix(count ^ (seed as u64))) << 64 | u128::from(mix(count.wrapping_add((seed >> 64) as u64)));
    // Zero is not a valid trace id.
    Uuid::from_u128(mixed | 1 << 127)
}

/// The finalizer of SplitMix64. It is a bijection, so different counts give different results.
fn mix(mut x: u64) -> u64 {
    x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

/// Parses `00-<32 hex digits>-<16 hex digits>-<2 hex digits>`. Later versions may append fields.
fn parse_traceparent(value: &[u8]) -> Option<Uuid> {
    let lower_hex = |bytes: &[u8]| bytes.iter().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
    let (version, id, parent, flags) = (value.get(..2)?, value.get(3..35)?, value.get(36..52)?, value.get(53..55)?);
    let dashes = [2, 35, 52].iter().all(|&at| value[at] == b'-');
    let length = if version == b"00" { value.len() == 55 } else { value.get(55).is_none_or(|byte| *byte == b'-') };
    let digits = [version, id, parent, flags].into_iter().all(lower_hex);
    if !dashes || !length || !digits || version == b"ff" || parent == b"0000000000000000" {
        return None;
    }
    let id = Uuid::try_parse_ascii(id).ok()?;
    (!id.is_nil()).then_some(id)
}

/// Route of the request, for the log and for metrics. Unlike the path, a client cannot write into it.
pub fn route_of(request: &Extensions) -> &str {
    request.get::<MatchedPath>().map_or("none", MatchedPath::as_str)
}

/// Address of the client: the other end of the connection, or the client that a trusted proxy names ([`super::Proxies`]).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Peer(pub SocketAddr);

impl Peer {
    /// Address to count attempts by. IPv6 addresses are cut to /64, because one site owns a whole /64.
    pub fn source(&self) -> IpAddr {
        match self.0.ip().to_canonical() {
            IpAddr::V4(address) => IpAddr::V4(address),
            IpAddr::V6(address) => IpAddr::V6((address.to_bits() & !u128::from(u64::MAX)).into()),
        }
    }
}

impl<S: Sync> FromRequestParts<S> for Peer {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Self, Infallible> {
        // Requests without a socket (tests) share one address.
        Ok(parts.extensions.get::<Peer>().copied().unwrap_or(Peer(SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0)))))
    }
}

/// Values from the path. A value that does not parse is answered 404.
#[derive(Clone, Copy, Debug)]
pub struct Path<T>(pub T);

impl<S, T> FromRequestParts<S> for Path<T>
where
    S: Send + Sync,
    T: DeserializeOwned + Send,
{
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        match axum::extract::Path::<T>::from_request_parts(parts, state).await {
            Ok(axum::extract::Path(value)) => Ok(Path(value)),
            Err(PathRejection::FailedToDeserializePathParams(error)) => Err(match error.kind() {
                ErrorKind::InvalidUtf8InPathParam { .. } => Problem::new(Code::BadEncoding, "The path is not valid UTF-8."),
                ErrorKind::WrongNumberOfParameters { .. } | ErrorKind::UnsupportedType { .. } => {
                    tracing::error!(error = %error.kind(), "path not extracted: the handler does not fit its route");
                    Code::Internal.into()
                }
                _ => Code::NotFound.into(),
            }),
            Err(error) => {
                tracing::error!(%error, "path not extracted: the handler does not fit its route");
                Err(Code::Internal.into())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    // I3
    #[test]
    fn a_valid_traceparent_is_kept_and_a_bad_one_replaced() {
        let good = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
        let id = Uuid::from_u128(0x0af7_6519_16cd_43dd_8448_eb21_1c80_319c);
        assert_eq!(parse_traceparent(good.as_bytes()), Some(id));
        assert_eq!(parse_traceparent(format!("{}-x", good.replacen("00", "01", 1)).as_bytes()), Some(id));
        for bad in [
            "",
            "00",
            &good[..54],
            &format!("{good}0"),
            &good.to_uppercase(),
            &good.replacen("00", "ff", 1),
            &good.replace("0af7651916cd43dd8448eb211c80319c", "00000000000000000000000000000000"),
            &good.replace("b7ad6b7169203331", "0000000000000000"),
            &good.replace('-', "_"),
        ] {
            assert_eq!(parse_traceparent(bad.as_bytes()), None, "{bad}");
        }
    }

    #[test]
    fn new_traces_differ() {
        let ids: HashSet<Uuid> = (0..10_000).map(|_| new_trace_id()).collect();
        assert_eq!(ids.len(), 10_000);
        assert!(!ids.contains(&Uuid::nil()));
    }

    // row 41
    #[test]
    fn attempts_are_counted_by_ipv4_address_or_ipv6_site() {
        let source = |text: &str| Peer(text.parse().expect("a socket address")).source().to_string();
        assert_eq!(source("203.0.113.9:1"), "203.0.113.9");
        assert_eq!(source("[::ffff:203.0.113.9]:1"), "203.0.113.9");
        assert_eq!(source("[2001:db8:1:2:3:4:5:6]:1"), "2001:db8:1:2::");
    }
}
