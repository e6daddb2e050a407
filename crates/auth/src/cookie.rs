//! Authentication by cookie. Browsers send it automatically, so a page is signed in without a script that stores tokens (A13).
//!
//! The outermost layer exchanges the cookie for an access token in the `Authorization` header. Inner layers, handlers and other processes
//! then treat the request like any other, and never see the cookie. [`Cookies`] knows the sessions; this module stores none.

use super::site::{SiteRelation, is_safe};
use axum::{
    Router,
    extract::{MatchedPath, Request},
    response::{IntoResponse, Response},
    routing::Route,
};
use contracts::Code;
use futures::future::{BoxFuture, Either};
use http::{HeaderMap, HeaderValue, Method, header};
use runtime::line_limit::LineLimit;
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
use web::{
    Problem, Trace,
    openapi::{operations, takes_caller},
    route_of,
};

/// Name of the cookie. With the prefix `__Host-` browsers accept it only from the host itself over TLS (or `localhost`), and send it to
/// no other host.
pub const NAME: &str = "__Host-onrush";

/// The store of cookie sessions, implemented by the service that owns accounts.
pub trait Cookies: Send + Sync + 'static {
    /// Exchanges a cookie for an access token. `None`: unknown, expired or revoked. `Err`: the session store is unreachable.
    fn token<'a>(&'a self, cookie: &'a str) -> BoxFuture<'a, Result<Option<String>, Problem>>;

    /// True when the response to this request sets a cookie. Such requests must not come from another site, which could otherwise sign its
    /// visitors in to an account of its choice.
    fn issues_cookie(&self, method: &Method, path: &str) -> bool;
}

/// Adds a `Set-Cookie` header for a cookie with this lifetime.
pub fn set(headers: &mut HeaderMap, secret: &str, max_age: Duration) {
    append_set_cookie(headers, &format!("{NAME}={secret}; Path=/; HttpOnly; Secure; SameSite=Lax; Max-Age={}", max_age.as_secs()));
}

/// Adds a `Set-Cookie` header that deletes the cookie.
pub fn clear(headers: &mut HeaderMap) {
    append_set_cookie(headers, &format!("{NAME}=; Path=/; HttpOnly; Secure; SameSite=Lax; Max-Age=0"));
}

fn append_set_cookie(headers: &mut HeaderMap, cookie: &str) {
    if let Ok(mut value) = HeaderValue::from_str(cookie) {
        value.set_sensitive(true);
        headers.append(header::SET_COOKIE, value);
    }
}

/// Removes our cookie from a request and returns its value. A duplicate or unreadable cookie becomes the empty text, which no session has.
fn extract_cookie(headers: &mut HeaderMap) -> Option<String> {
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

/// Adds authentication by cookie to a router. Apply it to all operations of a process, local and forwarded.
pub fn accept_cookies(router: Router, cookies: Arc<dyn Cookies>, openapi: &OpenApi) -> Router {
    let described =
        openapi.paths.paths.iter().flat_map(|(path, item)| operations(item).map(move |(method, operation)| (path, method, operation)));
    let open = described.filter(|(_, _, operation)| !takes_caller(operation)).map(|(path, method, _)| (path.clone(), method));
    router.layer(CookieLayer(Arc::new(CookieLayerInner { cookies, public_operations: open.collect() })))
}

struct CookieLayerInner {
    cookies: Arc<dyn Cookies>,
    /// Operations that ignore the caller. They must not fail when the session store is unreachable.
    public_operations: HashSet<(String, Method)>,
}

impl CookieLayerInner {
    fn is_public(&self, request: &Request) -> bool {
        let method = if request.method() == Method::HEAD { &Method::GET } else { request.method() };
        let Some(path) = request.extensions().get::<MatchedPath>() else { return true };
        self.public_operations.contains(&(path.as_str().to_owned(), method.clone()))
    }
}

#[derive(Clone)]
struct CookieLayer(Arc<CookieLayerInner>);

impl Layer<Route> for CookieLayer {
    type Service = CookieService;
    fn layer(&self, inner: Route) -> CookieService {
        CookieService { inner, layer: Arc::clone(&self.0) }
    }
}

/// One route wrapped in the layer.
#[derive(Clone)]
struct CookieService {
    inner: Route,
    layer: Arc<CookieLayerInner>,
}

type RouteResult = Result<Response, Infallible>;

impl Service<Request> for CookieService {
    type Response = Response;
    type Error = Infallible;
    /// Most requests have no cookie and avoid the box.
    type Future = Either<<Route as Service<Request>>::Future, BoxFuture<'static, RouteResult>>;

    fn poll_ready(&mut self, _cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, mut request: Request) -> Self::Future {
        let cookie = extract_cookie(request.headers_mut());
        if self.layer.cookies.issues_cookie(request.method(), request.uri().path()) {
            if SiteRelation::of(request.headers(), request.uri()) == SiteRelation::CrossSite {
                return refuse_cross_site(&request);
            }
            // A process that receives the forwarded request has another host name and must not compare the origin with it.
            request.headers_mut().remove(header::ORIGIN);
            return Either::Left(self.inner.call(request));
        }
        // A token takes precedence over a cookie.
        let Some(cookie) = cookie.filter(|_| !request.headers().contains_key(header::AUTHORIZATION) && !self.layer.is_public(&request))
        else {
            return Either::Left(self.inner.call(request));
        };
        if !is_safe(request.method()) && SiteRelation::of(request.headers(), request.uri()) != SiteRelation::SameOrigin {
            return refuse_cross_site(&request);
        }
        Either::Right(Box::pin(authenticate(Arc::clone(&self.layer), self.inner.clone(), request, cookie)))
    }
}

static REFUSED: LineLimit = LineLimit::new("cross-site request refused");

fn refuse_cross_site(request: &Request) -> <CookieService as Service<Request>>::Future {
    let route = route_of(request.extensions());
    metrics::counter!("onrush_cross_site_refused_total", "route" => route.to_owned()).increment(1);
    if let Some(left_out) = REFUSED.take() {
        let trace = request.extensions().get::<Trace>().map(|trace| trace.0.simple().to_string());
        tracing::warn!(route, trace, left_out, "cross-site request refused");
    }
    Either::Right(Box::pin(ready(Ok(Problem::from(Code::Csrf).into_response()))))
}

async fn authenticate(layer: Arc<CookieLayerInner>, mut inner: Route, mut request: Request, cookie: String) -> RouteResult {
    let token = match layer.cookies.token(&cookie).await {
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
    use axum::{body::Body, routing::get};
    use http::Request;
    use std::sync::Mutex;
    use tower::ServiceExt;
    use utoipa::openapi::{HttpMethod, Info, PathItem, PathsBuilder, path::OperationBuilder, security::SecurityRequirement};
    use web::layers;

    /// Session store with one valid cookie. Records the cookies it is asked for.
    #[derive(Default)]
    struct StubCookies {
        asked: Mutex<Vec<String>>,
    }

    impl Cookies for StubCookies {
        fn token<'a>(&'a self, cookie: &'a str) -> BoxFuture<'a, Result<Option<String>, Problem>> {
            self.asked.lock().unwrap().push(cookie.to_owned());
            Box::pin(ready(match cookie {
                "good" => Ok(Some("token".to_owned())),
                "outage" => Err(Problem::from(Code::Unavailable).retry_after(1)),
                _ => Ok(None),
            }))
        }

        fn issues_cookie(&self, method: &Method, path: &str) -> bool {
            method == Method::POST && path == "/v1/in"
        }
    }

    /// Router whose handlers echo the credentials, cookies and origin that reach them.
    fn app() -> (Router, Arc<StubCookies>) {
        let open = || OperationBuilder::new().build();
        let closed = || OperationBuilder::new().security(SecurityRequirement::new("bearer", Vec::<String>::new())).build();
        let mut mine = PathItem::new(HttpMethod::Get, closed());
        (mine.post, mine.put, mine.patch, mine.delete) = (Some(closed()), Some(closed()), Some(closed()), Some(closed()));
        let mut all = PathItem::new(HttpMethod::Get, open());
        all.post = Some(closed());
        let paths = PathsBuilder::new().path("/v1/mine", mine).path("/v1/all", all).path("/v1/in", PathItem::new(HttpMethod::Post, open()));
        let echo = async |headers: HeaderMap| {
            let text = |name| headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or("-").to_owned();
            format!("{} {} {}", text("authorization"), text("cookie"), text("origin"))
        };
        let handler = || get(echo).post(echo).put(echo).patch(echo).delete(echo).options(echo);
        let router = Router::new().route("/v1/mine", handler()).route("/v1/all", handler()).route("/v1/in", handler());
        let stub: Arc<StubCookies> = Arc::default();
        let cookies: Arc<dyn Cookies> = Arc::clone(&stub) as _;
        (layers(accept_cookies(router, cookies, &OpenApi::new(Info::new("test", "1"), paths.build()))), stub)
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
        let (router, _) = app();
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
    async fn a_token_takes_precedence_over_a_cookie() {
        let (router, stub) = app();
        for token in ["Bearer mine", "Bearer garbage", "Basic x", ""] {
            let foreign = ("sec-fetch-site", "cross-site");
            let (status, seen, given) = ask(&router, "POST", "/v1/mine", &[GOOD, ("authorization", token), foreign]).await;
            assert_eq!((status, seen.as_str(), given.len()), (200, format!("{token} - -").as_str(), 0));
        }
        assert!(stub.asked.lock().unwrap().is_empty());
    }

    // A13
    #[tokio::test]
    async fn an_invalid_cookie_is_cleared_but_not_during_an_outage() {
        let (router, stub) = app();
        for invalid in
            ["__Host-onrush=bad", "__Host-onrush=", "__Host-onrush=good; __Host-onrush=bad", "__Host-onrush=good; __Host-onrush=good"]
        {
            let answer = ask(&router, "GET", "/v1/mine", &[("cookie", invalid)]).await;
            assert_eq!(answer, (200, "- - -".into(), vec![CLEARED.into()]), "{invalid}");
        }
        let (status, body, given) = ask(&router, "GET", "/v1/mine", &[("cookie", "__Host-onrush=outage")]).await;
        assert_eq!((status, given.len()), (503, 0));
        assert!(body.contains("/problems/unavailable") && body.contains("trace_id"), "{body}");
        stub.asked.lock().unwrap().clear();
        // Operations that ignore the caller do not query the session store.
        for (method, path) in [("GET", "/v1/all"), ("HEAD", "/v1/all"), ("GET", "/v1/nothing"), ("POST", "/v1/in")] {
            let headers = [("cookie", "__Host-onrush=outage"), ("sec-fetch-site", "same-origin")];
            let (status, _, given) = ask(&router, method, path, &headers).await;
            assert_eq!((status, given.len()), (if path == "/v1/nothing" { 404 } else { 200 }, 0));
        }
        assert!(stub.asked.lock().unwrap().is_empty());
    }

    // row 35
    #[tokio::test]
    async fn a_cross_site_write_by_cookie_is_refused() {
        let (router, stub) = app();
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
            assert!(stub.asked.lock().unwrap().is_empty());
            for ours in [("sec-fetch-site", "same-origin"), ("origin", "https://shop.example")] {
                let (status, seen, _) = ask(&router, method, "/v1/mine", &[GOOD, host, ours]).await;
                assert!(status == 200 && seen.starts_with("Bearer token"), "{method} {ours:?}");
            }
            stub.asked.lock().unwrap().clear();
        }
        for method in ["GET", "HEAD", "OPTIONS"] {
            assert_eq!(ask(&router, method, "/v1/mine", &[GOOD, cross]).await.0, 200, "a link from elsewhere is welcome");
        }
        // Without a cookie there is no session to abuse.
        assert_eq!(ask(&router, "POST", "/v1/mine", &[cross]).await.0, 200);
    }

    // row 35: another site must not sign its visitors in to an account of its choice
    #[tokio::test]
    async fn a_cross_site_sign_in_gets_no_cookie() {
        let (router, _) = app();
        for foreign in
            [("sec-fetch-site", "cross-site"), ("sec-fetch-site", "same-site"), ("origin", "https://evil.example"), ("origin", "null")]
        {
            let (status, body, _) = ask(&router, "POST", "/v1/in", &[("host", "shop.example"), foreign]).await;
            assert!(status == 403 && body.contains("/problems/csrf"), "{foreign:?}: {body}");
        }
        // The origin was checked here and is removed: the next process would compare it with another host name.
        for ours in [("sec-fetch-site", "same-origin"), ("origin", "http://shop.example"), ("accept", "application/json")] {
            assert_eq!(ask(&router, "POST", "/v1/in", &[("host", "shop.example"), ours]).await.1, "- - -", "{ours:?}");
        }
    }
}
