//! Body of a mutating request: read within limits, parsed strictly, validated by the rules of its fields.

use super::{
    FieldError, Problem,
    body::{read_whole, too_large},
    json,
    rules::parse_message,
};
use axum::{
    body::{Body, HttpBody},
    extract::{FromRequest, Request},
};
use bytes::Bytes;
use contracts::Code;
use engine::idempotency::{IdempotencyKey, MAX_KEY_LENGTH};
use flate2::read::MultiGzDecoder;
use garde::Validate;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Uri, header, request::Parts};
use serde::{Deserialize, de::DeserializeOwned};
use sha2::{Digest, Sha256};
use std::io::Read;
use utoipa::ToSchema;
use uuid::Uuid;

/// Largest body in bytes, after decompression. The largest legitimate request, an order of 100 lines, has some 10 KiB.
pub const BODY_LIMIT: usize = 256 * 1024;
/// Largest body in bytes of operations that are open to strangers. An account with the longest fields has some 2 KiB.
pub const STRANGER_BODY_LIMIT: usize = 4 * 1024;

const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");

/// Validated JSON body of at most `LIMIT` bytes, with the idempotency key of its request.
#[derive(Debug)]
pub struct Input<T, const LIMIT: usize = BODY_LIMIT> {
    pub value: T,
    key: Option<KeyOfRequest>,
}

/// Body of an operation that is open to strangers.
pub type StrangerInput<T> = Input<T, STRANGER_BODY_LIMIT>;

/// The idempotency key, and the hash of its request.
type KeyOfRequest = (String, [u8; 32]);

/// Body of operations without input: absent, or `{}`.
#[derive(Clone, Copy, Debug, Default, Deserialize, Validate, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Empty {}

impl<T, const LIMIT: usize> Input<T, LIMIT> {
    /// Idempotency key of the request. `scope` is the account that owns it.
    pub fn key(&self, scope: impl Into<Uuid>) -> Option<IdempotencyKey> {
        self.key.as_ref().map(|(key, hash)| IdempotencyKey { scope: scope.into(), key: key.clone(), request_hash: *hash })
    }

    /// Idempotency key of an operation that requires one. `Err`: the request has none.
    pub fn required_key(&self, scope: impl Into<Uuid>) -> Result<IdempotencyKey, Problem> {
        self.key(scope).ok_or_else(|| Code::IdempotencyKeyMissing.into())
    }
}

impl<S, T, const LIMIT: usize> FromRequest<S> for Input<T, LIMIT>
where
    S: Send + Sync,
    T: DeserializeOwned + Validate<Context = ()> + Send,
{
    type Rejection = Problem;

    async fn from_request(request: Request, _state: &S) -> Result<Self, Problem> {
        let (body, key) = read(request, LIMIT).await?;
        Ok(Input { value: parse_valid(&body)?, key })
    }
}

/// Does all that is independent of the body's type, so that it is compiled once.
async fn read(request: Request, limit: usize) -> Result<(Bytes, Option<KeyOfRequest>), Problem> {
    let (parts, body) = request.into_parts();
    let key = read_key(&parts.headers)?;
    let body = read_body(&parts, body, limit).await?;
    // A change without a body is a mistake of the client, although no field of it is required.
    if parts.method == Method::PATCH && body.is_empty() {
        return Err(body_required());
    }
    let key = key.map(|key| (key, request_hash(&parts.method, &parts.uri, &body)));
    Ok((body, key))
}

fn parse_valid<T: DeserializeOwned + Validate<Context = ()>>(body: &[u8]) -> Result<T, Problem> {
    // Operations without required fields accept an absent body.
    let value: T = if body.is_empty() { json::parse(b"{}").map_err(|_| body_required())? } else { json::parse(body)? };
    value.validate().map_err(validation_problem)?;
    Ok(value)
}

fn body_required() -> Problem {
    Problem::new(Code::MalformedJson, "A JSON body is required.")
}

fn read_key(headers: &HeaderMap) -> Result<Option<String>, Problem> {
    let mut values = headers.get_all(IDEMPOTENCY_KEY).iter();
    let Some(value) = values.next() else { return Ok(None) };
    let bytes = value.as_bytes();
    let fits = (1..=MAX_KEY_LENGTH).contains(&bytes.len()) && bytes.iter().all(|byte| matches!(byte, b' '..=b'~'));
    if !fits || values.next().is_some() {
        let detail = format!("The Idempotency-Key must be one value of 1 to {MAX_KEY_LENGTH} printable ASCII characters.");
        return Err(Problem::new(Code::InvalidKey, detail));
    }
    Ok(Some(String::from_utf8_lossy(bytes).into_owned()))
}

/// Hash of the method, target and body. A repeat with the same key must have the same hash.
fn request_hash(method: &Method, uri: &Uri, body: &[u8]) -> [u8; 32] {
    let mut hash = Sha256::new();
    hash.update(method.as_str());
    hash.update([0]);
    hash.update(uri.path_and_query().map_or("", |target| target.as_str()));
    hash.update([0]);
    hash.update(body);
    hash.finalize().into()
}

/// Reads the whole body and decompresses it. Empty when the request has no body.
async fn read_body(request: &Parts, body: Body, limit: usize) -> Result<Bytes, Problem> {
    if body.is_end_stream() {
        return Ok(Bytes::new());
    }
    let gzip = is_gzip(&request.headers)?;
    let declared = request.headers.get(header::CONTENT_TYPE);
    if let Some(value) = declared
        && !is_json(value)
    {
        return Err(unsupported("The body must be application/json."));
    }
    let received = read_whole(&request.extensions, body, limit).await?;
    if received.is_empty() {
        return Ok(received);
    }
    if declared.is_none() {
        return Err(unsupported("The body needs the header Content-Type: application/json."));
    }
    if gzip { decompress(&received, limit) } else { Ok(received) }
}

/// Decompresses a body. The limit applies to the result, because ten kilobytes can expand to a gigabyte.
fn decompress(packed: &[u8], limit: usize) -> Result<Bytes, Problem> {
    let mut whole = Vec::new();
    MultiGzDecoder::new(packed)
        .take(limit as u64 + 1)
        .read_to_end(&mut whole)
        .map_err(|_| Problem::new(Code::BadRequest, "The body is not valid gzip."))?;
    if whole.len() > limit { Err(too_large(limit)) } else { Ok(whole.into()) }
}

fn is_gzip(headers: &HeaderMap) -> Result<bool, Problem> {
    let mut values = headers.get_all(header::CONTENT_ENCODING).iter();
    match (values.next().map(HeaderValue::as_bytes), values.next()) {
        (None, _) => Ok(false),
        (Some(value), None) if value.eq_ignore_ascii_case(b"identity") => Ok(false),
        (Some(value), None) if value.eq_ignore_ascii_case(b"gzip") || value.eq_ignore_ascii_case(b"x-gzip") => Ok(true),
        _ => Err(unsupported("The body may only be encoded with gzip.")),
    }
}

/// True for `application/json`. A `charset` parameter must be UTF-8.
fn is_json(value: &HeaderValue) -> bool {
    let Ok(text) = value.to_str() else { return false };
    if text == "application/json" {
        return true;
    }
    let mut parts = text.split(';').map(str::trim);
    parts.next().is_some_and(|kind| kind.eq_ignore_ascii_case("application/json"))
        && parts.all(|parameter| match parameter.split_once('=') {
            Some((name, value)) if name.eq_ignore_ascii_case("charset") => value.trim_matches('"').eq_ignore_ascii_case("utf-8"),
            _ => true,
        })
}

fn unsupported(detail: &str) -> Problem {
    Problem::new(Code::UnsupportedMediaType, detail)
}

/// Problem that names all fields that violate a rule.
fn validation_problem(report: garde::Report) -> Problem {
    let mut errors: Vec<FieldError> = report
        .iter()
        .map(|(path, error)| {
            let (code, message) = parse_message(error.message());
            FieldError { pointer: pointer_of(&path.to_string()), message: message.to_owned(), code }
        })
        .collect();
    // A list comes before its entries, because only the first errors are shown.
    errors.sort_by_key(|error| error.pointer.matches('/').count());
    Problem::fields(errors)
}

/// Converts garde's path `lines[0].qty` into the JSON pointer `/lines/0/qty`.
fn pointer_of(path: &str) -> String {
    let mut pointer = String::new();
    for step in path.split(['.', '[', ']']).filter(|step| !step.is_empty()) {
        json::push_pointer_step(&mut pointer, step);
    }
    pointer
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rules;
    use flate2::{Compression, write::GzEncoder};
    use futures::stream;
    use std::{convert::Infallible, io::Write};

    #[derive(Debug, Deserialize, Validate)]
    #[serde(deny_unknown_fields)]
    struct Order {
        #[garde(custom(rules::text(5)))]
        name: String,
        #[garde(dive, custom(rules::items(2)))]
        #[serde(default)]
        lines: Vec<Line>,
        #[garde(custom(rules::text(3)))]
        note: Option<String>,
    }

    #[derive(Debug, Deserialize, Validate)]
    struct Line {
        #[garde(range(min = 1, max = 9))]
        qty: u32,
    }

    async fn read(headers: &[(&'static str, &str)], body: impl Into<Body>) -> Result<Input<Order>, Problem> {
        <Input<Order>>::from_request(request(headers, body), &()).await
    }

    fn request(headers: &[(&'static str, &str)], body: impl Into<Body>) -> Request {
        let mut request = Request::new(body.into());
        *request.method_mut() = Method::POST;
        *request.uri_mut() = Uri::from_static("/v1/orders?dry=1");
        for (name, value) in headers {
            let value = HeaderValue::from_bytes(value.as_bytes()).expect("a header value");
            request.headers_mut().append(*name, value);
        }
        request
    }

    const JSON: (&str, &str) = ("content-type", "application/json");

    async fn code(headers: &[(&'static str, &str)], body: impl Into<Body>) -> Code {
        read(headers, body).await.expect_err("it is refused").code()
    }

    fn gzip(body: &[u8]) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
        encoder.write_all(body).expect("memory takes it");
        encoder.finish().expect("memory takes it")
    }

    fn chunks(count: usize, size: usize) -> Body {
        Body::from_stream(stream::iter((0..count).map(move |_| Ok::<_, Infallible>(Bytes::from(vec![b' '; size])))))
    }

    // row 9
    #[tokio::test]
    async fn a_body_over_the_limit_is_refused() {
        let padded = |size: usize| r#"{"name":"a"}"#.to_owned() + &" ".repeat(size - 12);
        assert!(read(&[JSON], padded(BODY_LIMIT)).await.is_ok());
        assert_eq!(code(&[JSON], padded(BODY_LIMIT + 1)).await, Code::BodyTooLarge);
        assert_eq!(code(&[JSON], chunks(usize::MAX, 1000)).await, Code::BodyTooLarge);
    }

    // M2
    #[tokio::test]
    async fn strangers_have_a_smaller_limit() {
        let padded = |size: usize| r#"{"name":"a"}"#.to_owned() + &" ".repeat(size - 12);
        let zipped = [JSON, ("content-encoding", "gzip")];
        let size = async |headers: &[(&'static str, &str)], body: Vec<u8>| {
            let read = <StrangerInput<Order>>::from_request(request(headers, body), &()).await;
            read.map(|input| input.value.name).map_err(|problem| (problem.code(), problem.refusal.detail))
        };
        let refusal = Err((Code::BodyTooLarge, "The body may have at most 4096 bytes.".to_owned()));
        assert_eq!(size(&[JSON], padded(STRANGER_BODY_LIMIT).into()).await, Ok("a".into()));
        assert_eq!(size(&[JSON], padded(STRANGER_BODY_LIMIT + 1).into()).await, refusal);
        assert_eq!(size(&zipped, gzip(padded(STRANGER_BODY_LIMIT + 1).as_bytes())).await, refusal);
    }

    // row 10
    #[tokio::test]
    async fn the_limit_holds_after_decompression() {
        let zipped = [JSON, ("content-encoding", "gzip")];
        assert_eq!(read(&zipped, gzip(br#"{"name":"a"}"#)).await.expect("it is fine").value.name, "a");
        let bomb = gzip(&vec![b' '; 100 * 1024 * 1024]);
        assert!(bomb.len() < BODY_LIMIT);
        // The truncated end stays unnoticed, because reading stops at the limit.
        assert_eq!(code(&zipped, bomb[..bomb.len() - 4].to_vec()).await, Code::BodyTooLarge);
        assert_eq!(code(&zipped, "not gzip").await, Code::BadRequest);
        let whole = gzip(br#"{"name":"a"}"#);
        assert_eq!(code(&zipped, whole[..whole.len() - 4].to_vec()).await, Code::BadRequest);
    }

    // row 11
    #[tokio::test]
    async fn other_types_and_encodings_are_refused() {
        let body = r#"{"name":"a"}"#;
        for kind in ["application/json", "Application/JSON; charset=UTF-8", "application/json;charset=\"utf-8\""] {
            assert!(read(&[("content-type", kind)], body).await.is_ok(), "{kind}");
        }
        for kind in ["text/plain", "application/xml", "application/jsonx", "application/json; charset=utf-16", "multipart/form-data", ""] {
            assert_eq!(code(&[("content-type", kind)], body).await, Code::UnsupportedMediaType, "{kind}");
        }
        assert_eq!(code(&[], body).await, Code::UnsupportedMediaType);
        for encoding in ["br", "deflate", "gzip, gzip", "zstd"] {
            assert_eq!(code(&[JSON, ("content-encoding", encoding)], body).await, Code::UnsupportedMediaType, "{encoding}");
        }
    }

    // row 8; I9
    #[tokio::test]
    async fn all_wrong_fields_are_named() {
        let problem =
            read(&[JSON], r#"{"name":"toolong","lines":[{"qty":1},{"qty":0},{"qty":10}],"note":"long"}"#).await.expect_err("wrong");
        let mut found: Vec<_> = problem.errors.iter().map(|error| (error.pointer.as_str(), error.code)).collect();
        found.sort_by_key(|(pointer, _)| *pointer);
        let expected = [
            ("/lines", Code::TooMany),
            ("/lines/1/qty", Code::InvalidField),
            ("/lines/2/qty", Code::InvalidField),
            ("/name", Code::TooLong),
            ("/note", Code::TooLong),
        ];
        assert_eq!((problem.code(), found), (Code::InvalidField, expected.to_vec()));
        let long = format!(r#"{{"name":"{}"}}"#, "x".repeat(200_000));
        assert_eq!(code(&[JSON], long).await, Code::TooLong);
        let lines = vec![r#"{"qty":1}"#; 10_001].join(",");
        assert_eq!(code(&[JSON], format!(r#"{{"name":"a","lines":[{lines}]}}"#)).await, Code::TooMany);
    }

    // L9
    #[tokio::test]
    async fn many_wrong_fields_are_counted_and_the_first_are_shown() {
        let lines = vec![r#"{"qty":0}"#; 4_000].join(",");
        let problem = read(&[JSON], format!(r#"{{"name":"a","lines":[{lines}]}}"#)).await.expect_err("wrong");
        assert_eq!((problem.code(), problem.errors.len()), (Code::InvalidField, 20));
        assert_eq!((problem.errors[0].pointer.as_str(), problem.errors[0].code), ("/lines", Code::TooMany));
        assert!(problem.refusal.detail.starts_with("4001 fields"), "{}", problem.refusal.detail);
        assert_eq!(problem.extra, [("error_count", 4_001.into())]);
    }

    #[tokio::test]
    async fn operations_without_fields_need_no_body() {
        for body in ["", "{}", " {} "] {
            assert!(<Input<Empty>>::from_request(request(&[JSON], body), &()).await.is_ok(), "{body}");
        }
        let other = [("content-type", "application/x-www-form-urlencoded")];
        assert!(<Input<Empty>>::from_request(request(&other, ""), &()).await.is_ok());
        let extra = <Input<Empty>>::from_request(request(&[JSON], r#"{"a":1}"#), &()).await.expect_err("nothing is known");
        assert_eq!((extra.code(), extra.errors[0].pointer.as_str()), (Code::UnknownField, "/a"));
        assert_eq!(code(&[], "").await, Code::MalformedJson);
    }

    // D1
    #[tokio::test]
    async fn a_patch_needs_a_body() {
        for (method, accepted) in [(Method::PATCH, false), (Method::POST, true), (Method::DELETE, true)] {
            let mut request = request(&[JSON], "");
            *request.method_mut() = method.clone();
            let read = Input::<Empty>::from_request(request, &()).await;
            assert_eq!(read.map_err(|problem| problem.code()).err(), (!accepted).then_some(Code::MalformedJson), "{method}");
        }
        let mut empty = request(&[JSON], "{}");
        *empty.method_mut() = Method::PATCH;
        assert!(Input::<Empty>::from_request(empty, &()).await.is_ok());
    }

    // rows 56, 57, 59
    #[tokio::test]
    async fn idempotency_keys_are_bounded_and_bound_to_the_request() {
        let scope = Uuid::from_u128(7);
        let body = r#"{"name":"a"}"#;
        let input = read(&[JSON], body).await.expect("fine");
        assert_eq!((input.key(scope), input.required_key(scope).expect_err("none").code()), (None, Code::IdempotencyKeyMissing));
        for key in ["", &"k".repeat(256), "a\tb", "schlüssel", "\u{7f}"] {
            if HeaderValue::from_bytes(key.as_bytes()).is_ok() {
                assert_eq!(code(&[JSON, ("idempotency-key", key)], body).await, Code::InvalidKey, "{key}");
            }
        }
        assert_eq!(code(&[JSON, ("idempotency-key", "a"), ("idempotency-key", "b")], body).await, Code::InvalidKey);
        let longest = "k".repeat(255);
        let key = |body: &'static str| {
            let longest = longest.clone();
            async move { read(&[JSON, ("idempotency-key", &longest)], body).await.expect("fine").required_key(scope).expect("there") }
        };
        let first = key(body).await;
        assert_eq!((first.scope, first.key.len()), (scope, 255));
        assert_eq!(key(body).await, first);
        assert_ne!(key(r#"{"name":"b"}"#).await.request_hash, first.request_hash);
        assert_ne!(request_hash(&Method::PUT, &Uri::from_static("/v1/orders?dry=1"), body.as_bytes()), first.request_hash);
        assert_ne!(request_hash(&Method::POST, &Uri::from_static("/v1/orders?dry=2"), body.as_bytes()), first.request_hash);
    }
}
