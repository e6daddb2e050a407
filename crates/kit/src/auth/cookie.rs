//! Callers by cookie: browsers send it by themselves, so that a page is signed in without a script that keeps tokens (A13).
//!
//! At the edge of a process a cookie becomes an access token in the request's own header, and everything behind is as for any other
//! client: extractors, revocation, other processes. Nothing behind sees the cookie. Whose it is, [`Cookies`] says; this keeps no session.

use super::site::{Site, is_safe};
use crate::http::{
    Problem, Trace,
    described::{operations, takes_caller},
};
use axum::{
    Router,
    extract::{MatchedPath, Request},
    response::{IntoResponse, Response},
    routing::Route,
};
use contracts::Code;
use futures::future::{BoxFuture, Either};
use http::{HeaderMap, HeaderValue, Method, header};
use std::{
    collections::HashSet,
    convert::Infallible,
    future::ready,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};
use tower::{Layer, Service};
use utoipa::openapi::OpenApi;

/// Browsers take a cookie of this name only from the host itself, over TLS (or from `localhost`), and send it to no other host.
pub const NAME: &str = "__Host-onrush";

/// Who knows whose a cookie is.
pub trait Cookies: Send + Sync + 'static {
    /// An access token for the one whom this cookie stands for. `None`: for nobody, or not any more. An error where it cannot be known now.
    fn token<'a>(&'a self, cookie: &'a str) -> BoxFuture<'a, Result<Option<String>, Problem>>;

    /// Whether this request asks for a cookie. Another site must not sign its visitors in here as somebody of its choice.
    fn are_asked_for(&self, method: &Method, path: &str) -> bool;
}

/// Gives the browser its cookie, for this long.
pub fn set(headers: &mut HeaderMap, secret: &str, max_age: Duration) {
    append(headers, &format!("{NAME}={secret}; Path=/; HttpOnly; Secure; SameSite=Lax; Max-Age={}", max_age.as_secs()));
}

/// Lets the browser forget its cookie.
pub fn clear(headers: &mut HeaderMap) {
    append(headers, &format!("{NAME}=; Path=/; HttpOnly; Secure; SameSite=Lax; Max-Age=0"));
}

fn append(headers: &mut HeaderMap, cookie: &str) {
    if let Ok(mut value) = HeaderValue::from_str(cookie) {
        value.set_sensitive(true);
        headers.append(header::SET_COOKIE, value);
    }
}

/// Takes our cookie out of a request. One that is given twice or cannot be read is nobody's: the empty text.
fn take(headers: &mut HeaderMap) -> Option<String> {
    if !headers.contains_key(header::COOKIE) {
        return None;
    }
    let (mut ours, mut others): (Vec<Vec<u8>>, Vec<Vec<u8>>) = (Vec::new(), Vec::new());
    for value in headers.get_all(header::COOKIE) {
        for pair in value.as_bytes().split(|byte| *byte == b';').map(<[u8]>::trim_ascii) {
            match pair.strip_prefix(NAME.as_bytes()).and_then(|rest| rest.strip_prefix(b"=")) {
                Some(secret) => ours.push(secret.to_vec()),
                None => others.push(pair.to_vec()),
            }
        }
    }
    if ours.is_empty() {
        return None;
    }
    headers.remove(header::COOKIE);
    if let Ok(rest) = HeaderValue::from_bytes(&others.join(b"; ".as_slice()))
        && !others.is_empty()
    {
        headers.insert(header::COOKIE, rest);
    }
    let one = (ours.len() == 1).then(|| ours.swap_remove(0));
    Some(one.and_then(|secret| String::from_utf8(secret).ok()).unwrap_or_default())
}

/// Lets browsers be known by their cookies. Belongs around all operations of a process, its own and those that it forwards.
pub(crate) fn accept_cookies(router: Router, cookies: Arc<dyn Cookies>, openapi: &OpenApi) -> Router {
    let described =
        openapi.paths.paths.iter().flat_map(|(path, item)| operations(item).map(move |(method, operation)| (path, method, operation)));
    let open = described.filter(|(_, _, operation)| !takes_caller(operation)).map(|(path, method, _)| (path.clone(), method));
    router.layer(Door(Arc::new(Inner { cookies, open: open.collect() })))
}

struct Inner {
    cookies: Arc<dyn Cookies>,
    /// Operations that look at nobody: they are not to fail because it cannot be known who calls.
    open: HashSet<(String, Method)>,
}

impl Inner {
    fn is_open(&self, request: &Request) -> bool {
        let method = if request.method() == Method::HEAD { &Method::GET } else { request.method() };
        let Some(path) = request.extensions().get::<MatchedPath>() else { return true };
        self.open.contains(&(path.as_str().to_owned(), method.clone()))
    }
}

#[derive(Clone)]
struct Door(Arc<Inner>);

impl Layer<Route> for Door {
    type Service = Guarded;
    fn layer(&self, inner: Route) -> Guarded {
        Guarded { inner, door: Arc::clone(&self.0) }
    }
}

/// One route behind the door.
#[derive(Clone)]
struct Guarded {
    inner: Route,
    door: Arc<Inner>,
}

type Answering = Result<Response, Infallible>;

impl Service<Request> for Guarded {
    type Response = Response;
    type Error = Infallible;
    /// Most requests have no cookie, and pay for no box.
    type Future = Either<<Route as Service<Request>>::Future, BoxFuture<'static, Answering>>;

    fn poll_ready(&mut self, _cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, mut request: Request) -> Self::Future {
        let shown = take(request.headers_mut());
        if self.door.cookies.are_asked_for(request.method(), request.uri().path()) {
            if Site::of(request.headers(), request.uri()) == Site::Foreign {
                return refused(&request);
            }
            // A process that this is forwarded to has another name, and must not judge by it.
            request.headers_mut().remove(header::ORIGIN);
            return Either::Left(self.inner.call(request));
        }
        // A client that sends a token means the token.
        let Some(cookie) = shown.filter(|_| !request.headers().contains_key(header::AUTHORIZATION) && !self.door.is_open(&request)) else {
            return Either::Left(self.inner.call(request));
        };
        if !is_safe(request.method()) && Site::of(request.headers(), request.uri()) != Site::Ours {
            return refused(&request);
        }
        Either::Right(Box::pin(admit(Arc::clone(&self.door), self.inner.clone(), request, cookie)))
    }
}

fn refused(request: &Request) -> <Guarded as Service<Request>>::Future {
    let trace = request.extensions().get::<Trace>().map(|trace| trace.0.simple().to_string());
    tracing::warn!(method = %request.method(), path = request.uri().path(), trace, "a request from another site was refused");
    Either::Right(Box::pin(ready(Ok(Problem::from(Code::Csrf).into_response()))))
}

async fn admit(door: Arc<Inner>, mut inner: Route, mut request: Request, cookie: String) -> Answering {
    let token = match door.cookies.token(&cookie).await {
        Ok(token) => token,
        Err(problem) => return Ok(problem.into_response()),
    };
    let known = token.and_then(|token| HeaderValue::try_from(format!("Bearer {token}")).ok());
    let Some(mut credentials) = known else {
        let mut response = inner.call(request).await?;
        clear(response.headers_mut());
        return Ok(response);
    };
    credentials.set_sensitive(true);
    request.headers_mut().insert(header::AUTHORIZATION, credentials);
    inner.call(request).await
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::layers;
    use axum::{body::Body, routing::get};
    use http::Request;
    use std::sync::Mutex;
    use tower::ServiceExt;
    use utoipa::openapi::{HttpMethod, Info, PathItem, PathsBuilder, path::OperationBuilder, security::SecurityRequirement};

    /// Knows one cookie, and notes what it is asked.
    #[derive(Default)]
    struct Book {
        asked: Mutex<Vec<String>>,
    }

    impl Cookies for Book {
        fn token<'a>(&'a self, cookie: &'a str) -> BoxFuture<'a, Result<Option<String>, Problem>> {
            self.asked.lock().unwrap().push(cookie.to_owned());
            Box::pin(ready(match cookie {
                "good" => Ok(Some("token".to_owned())),
                "who" => Err(Problem::from(Code::Unavailable).retry_after(1)),
                _ => Ok(None),
            }))
        }

        fn are_asked_for(&self, method: &Method, path: &str) -> bool {
            method == Method::POST && path == "/v1/in"
        }
    }

    /// Says which credentials and cookies arrive: behind the door, and on a process behind it.
    fn door() -> (Router, Arc<Book>) {
        let open = || OperationBuilder::new().build();
        let closed = || OperationBuilder::new().security(SecurityRequirement::new("bearer", Vec::<String>::new())).build();
        let mut mine = PathItem::new(HttpMethod::Get, closed());
        (mine.post, mine.put, mine.patch, mine.delete) = (Some(closed()), Some(closed()), Some(closed()), Some(closed()));
        let mut all = PathItem::new(HttpMethod::Get, open());
        all.post = Some(closed());
        let paths = PathsBuilder::new().path("/v1/mine", mine).path("/v1/all", all).path("/v1/in", PathItem::new(HttpMethod::Post, open()));
        let say = async |headers: HeaderMap| {
            let text = |name| headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or("-").to_owned();
            format!("{} {} {}", text("authorization"), text("cookie"), text("origin"))
        };
        let handler = || get(say).post(say).put(say).patch(say).delete(say).options(say);
        let router = Router::new().route("/v1/mine", handler()).route("/v1/all", handler()).route("/v1/in", handler());
        let book: Arc<Book> = Arc::default();
        let cookies: Arc<dyn Cookies> = Arc::clone(&book) as _;
        (layers(accept_cookies(router, cookies, &OpenApi::new(Info::new("test", "1"), paths.build()))), book)
    }

    async fn ask(router: &Router, method: &str, path: &str, headers: &[(&str, &str)]) -> (u16, String, Vec<String>) {
        let mut request = Request::builder().method(method).uri(path);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let response = router.clone().oneshot(request.body(Body::empty()).unwrap()).await.unwrap();
        let status = response.status().as_u16();
        let given = response.headers().get_all("set-cookie").iter().map(|value| value.to_str().unwrap().to_owned()).collect();
        let body = axum::body::to_bytes(response.into_body(), usize::MAX).await.unwrap();
        (status, String::from_utf8(body.to_vec()).unwrap(), given)
    }

    const GOOD: (&str, &str) = ("cookie", "__Host-onrush=good");
    const CLEARED: &str = "__Host-onrush=; Path=/; HttpOnly; Secure; SameSite=Lax; Max-Age=0";

    // A13
    #[tokio::test]
    async fn a_cookie_becomes_a_token_and_goes_no_further() {
        let (router, _) = door();
        assert_eq!(ask(&router, "GET", "/v1/mine", &[GOOD]).await, (200, "Bearer token - -".into(), vec![]));
        let others = ("cookie", "a=b; __Host-onrush=good;c=d");
        assert_eq!(ask(&router, "GET", "/v1/mine", &[("cookie", "z=1"), others]).await.1, "Bearer token z=1; a=b; c=d -");
        assert_eq!(
            ask(&router, "GET", "/v1/mine", &[("cookie", "x__Host-onrush=good; __host-onrush=good")]).await.1,
            "- x__Host-onrush=good; __host-onrush=good -"
        );
    }

    // A13: a token and a cookie are never mixed
    #[tokio::test]
    async fn a_token_wins() {
        let (router, book) = door();
        for token in ["Bearer mine", "Bearer garbage", "Basic x", ""] {
            let foreign = ("sec-fetch-site", "cross-site");
            let (status, seen, given) = ask(&router, "POST", "/v1/mine", &[GOOD, ("authorization", token), foreign]).await;
            assert_eq!((status, seen.as_str(), given.len()), (200, format!("{token} - -").as_str(), 0));
        }
        assert!(book.asked.lock().unwrap().is_empty());
    }

    // A13
    #[tokio::test]
    async fn a_cookie_of_nobody_is_taken_back_and_one_that_cannot_be_judged_is_not() {
        let (router, book) = door();
        for nobody in
            ["__Host-onrush=bad", "__Host-onrush=", "__Host-onrush=good; __Host-onrush=bad", "__Host-onrush=good; __Host-onrush=good"]
        {
            let answer = ask(&router, "GET", "/v1/mine", &[("cookie", nobody)]).await;
            assert_eq!(answer, (200, "- - -".into(), vec![CLEARED.into()]), "{nobody}");
        }
        let (status, body, given) = ask(&router, "GET", "/v1/mine", &[("cookie", "__Host-onrush=who")]).await;
        assert_eq!((status, given.len()), (503, 0));
        assert!(body.contains("/problems/unavailable") && body.contains("trace_id"), "{body}");
        book.asked.lock().unwrap().clear();
        // Nobody asks whose it is where nobody has to know.
        for (method, path) in [("GET", "/v1/all"), ("HEAD", "/v1/all"), ("GET", "/v1/nothing"), ("POST", "/v1/in")] {
            let headers = [("cookie", "__Host-onrush=who"), ("sec-fetch-site", "same-origin")];
            let (status, _, given) = ask(&router, method, path, &headers).await;
            assert_eq!((status, given.len()), (if path == "/v1/nothing" { 404 } else { 200 }, 0));
        }
        assert!(book.asked.lock().unwrap().is_empty());
    }

    // row 35
    #[tokio::test]
    async fn what_changes_something_must_come_from_our_own_pages() {
        let (router, book) = door();
        let (cross, host) = (("sec-fetch-site", "cross-site"), ("host", "shop.example"));
        for method in ["POST", "PUT", "PATCH", "DELETE"] {
            for headers in [
                vec![GOOD, cross, host],
                vec![GOOD, host],
                vec![GOOD, host, ("origin", "https://evil.example")],
                vec![GOOD, host, ("origin", "null")],
            ] {
                let (status, body, given) = ask(&router, method, "/v1/mine", &headers).await;
                assert_eq!((status, given.len()), (403, 0), "{method} {headers:?}");
                assert!(body.contains("/problems/csrf") && body.contains("3007"), "{body}");
            }
            assert!(book.asked.lock().unwrap().is_empty());
            for ours in [("sec-fetch-site", "same-origin"), ("origin", "https://shop.example")] {
                let (status, seen, _) = ask(&router, method, "/v1/mine", &[GOOD, host, ours]).await;
                assert!(status == 200 && seen.starts_with("Bearer token"), "{method} {ours:?}");
            }
            book.asked.lock().unwrap().clear();
        }
        for method in ["GET", "HEAD", "OPTIONS"] {
            assert_eq!(ask(&router, method, "/v1/mine", &[GOOD, cross]).await.0, 200, "a link from elsewhere is welcome");
        }
        // Without a cookie there is nothing to misuse.
        assert_eq!(ask(&router, "POST", "/v1/mine", &[cross]).await.0, 200);
    }

    // row 35: another site must not sign its visitors in as somebody of its choice
    #[tokio::test]
    async fn no_cookie_is_given_to_another_site() {
        let (router, _) = door();
        for foreign in
            [("sec-fetch-site", "cross-site"), ("sec-fetch-site", "same-site"), ("origin", "https://evil.example"), ("origin", "null")]
        {
            let (status, body, _) = ask(&router, "POST", "/v1/in", &[("host", "shop.example"), foreign]).await;
            assert!(status == 403 && body.contains("/problems/csrf"), "{foreign:?}: {body}");
        }
        // The origin was judged here; where this is forwarded to, it would be compared with another name.
        for ours in [("sec-fetch-site", "same-origin"), ("origin", "http://shop.example"), ("accept", "application/json")] {
            assert_eq!(ask(&router, "POST", "/v1/in", &[("host", "shop.example"), ours]).await.1, "- - -", "{ours:?}");
        }
    }
}
