//! The API documentation for browsers. Its headers keep foreign scripts out, and keep foreign pages from framing it: it has the origin of
//! the session cookie.

use axum::{
    Router,
    extract::Request,
    middleware::{self, Next},
    response::{Redirect, Response},
    routing::get,
};
use http::{HeaderName, HeaderValue, header};
use utoipa::openapi::OpenApi;
use utoipa_swagger_ui::SwaggerUi;

/// Headers of every page. Swagger UI needs no inline script and no foreign host. Its style sheet has images as `data:`.
const PAGE_HEADERS: [(HeaderName, &str); 4] = [
    (
        header::CONTENT_SECURITY_POLICY,
        "default-src 'self'; img-src 'self' data:; object-src 'none'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'",
    ),
    (header::X_FRAME_OPTIONS, "DENY"),
    (header::REFERRER_POLICY, "no-referrer"),
    (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
];

/// Cache time of scripts, styles and images. They change only with the version of the binary, which a day's delay does not harm.
const ASSET_CACHE: HeaderValue = HeaderValue::from_static("public, max-age=86400");

/// `/docs/`, `/openapi.json`, and the redirect of `/`.
pub fn routes(openapi: OpenApi) -> Router {
    // There are no pages yet, so a browser is redirected to the API documentation.
    Router::from(SwaggerUi::new("/docs").url("/openapi.json", openapi))
        .route("/", get(async || Redirect::temporary("/docs/")))
        .layer(middleware::from_fn(add_headers))
}

async fn add_headers(request: Request, next: Next) -> Response {
    let is_asset = is_asset(request.uri().path());
    let mut response = next.run(request).await;
    for (name, value) in PAGE_HEADERS {
        response.headers_mut().insert(name, HeaderValue::from_static(value));
    }
    if is_asset && response.status().is_success() {
        response.headers_mut().insert(header::CACHE_CONTROL, ASSET_CACHE);
    }
    response
}

/// True for files that are the same for every mall. `swagger-initializer.js` has settings.
fn is_asset(path: &str) -> bool {
    !path.ends_with("/swagger-initializer.js") && [".js", ".css", ".png"].iter().any(|ending| path.ends_with(ending))
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::body::Body;
    use kit::http::layers;
    use tower::ServiceExt;
    use utoipa::openapi::{Info, Paths};

    async fn ask(path: &str) -> Response {
        let router = layers(routes(OpenApi::new(Info::new("test", "1"), Paths::new())));
        router.oneshot(Request::get(path).body(Body::empty()).expect("a request")).await.expect("it cannot fail")
    }

    fn header<'r>(response: &'r Response, name: &str) -> &'r str {
        response.headers().get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
    }

    // L4
    #[tokio::test]
    async fn pages_run_no_foreign_script_and_are_not_framed() {
        for path in ["/", "/docs/", "/docs/swagger-ui-bundle.js", "/openapi.json"] {
            let response = ask(path).await;
            let policy = header(&response, "content-security-policy");
            assert!(policy.contains("default-src 'self'") && policy.contains("frame-ancestors 'none'"), "{path}: {policy}");
            assert!(!policy.contains("unsafe"), "{policy}");
            assert_eq!((header(&response, "referrer-policy"), header(&response, "x-frame-options")), ("no-referrer", "DENY"), "{path}");
            assert_eq!(header(&response, "x-content-type-options"), "nosniff", "{path}");
        }
        let absent = ask("/docs/nothing").await;
        assert_eq!((header(&absent, "content-type"), header(&absent, "x-content-type-options")), ("application/problem+json", "nosniff"));
    }

    // L4
    #[tokio::test]
    async fn scripts_are_compressed_and_cached() {
        let response = ask("/docs/swagger-ui-bundle.js").await;
        assert_eq!((header(&response, "content-encoding"), header(&response, "cache-control")), ("gzip", "public, max-age=86400"));
        let bytes = axum::body::to_bytes(response.into_body(), 10_000_000).await.expect("it is in memory");
        assert!((100_000..700_000).contains(&bytes.len()), "{} bytes", bytes.len());
        for path in ["/docs/", "/docs/swagger-initializer.js", "/docs/nothing.js"] {
            assert_eq!(header(&ask(path).await, "cache-control"), "no-store", "{path}");
        }
    }
}
