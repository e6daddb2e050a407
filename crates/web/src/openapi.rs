//! Reads operations from an OpenAPI document, for layers that need them before the handler runs.

use http::Method;
use utoipa::openapi::{PathItem, path::Operation};

/// Operations of a path with their methods. HEAD is answered by the GET handler of axum.
pub fn operations(item: &PathItem) -> impl Iterator<Item = (Method, &Operation)> {
    let all = [
        (Method::GET, &item.get),
        (Method::PUT, &item.put),
        (Method::POST, &item.post),
        (Method::DELETE, &item.delete),
        (Method::OPTIONS, &item.options),
        (Method::HEAD, &item.head),
        (Method::PATCH, &item.patch),
    ];
    all.into_iter().filter_map(|(method, operation)| operation.as_ref().map(|operation| (method, operation)))
}

/// The same operations, to change them.
pub fn operations_mut(item: &mut PathItem) -> impl Iterator<Item = (Method, &mut Operation)> {
    let all = [
        (Method::GET, &mut item.get),
        (Method::PUT, &mut item.put),
        (Method::POST, &mut item.post),
        (Method::DELETE, &mut item.delete),
        (Method::OPTIONS, &mut item.options),
        (Method::HEAD, &mut item.head),
        (Method::PATCH, &mut item.patch),
    ];
    all.into_iter().filter_map(|(method, operation)| operation.as_mut().map(|operation| (method, operation)))
}

/// Extension of an operation whose repeat, without an Idempotency-Key, has another effect than its method promises.
const IDEMPOTENT: &str = "x-idempotent";

/// True when a repeat of the operation has no second effect: by its method, unless its document says otherwise.
pub fn is_idempotent(method: &Method, operation: &Operation) -> bool {
    let said = operation.extensions.as_ref().and_then(|extensions| extensions.get(IDEMPOTENT)?.as_bool());
    said.unwrap_or(matches!(*method, Method::GET | Method::HEAD | Method::PUT | Method::DELETE | Method::OPTIONS))
}

/// True when the operation reads the caller's identity: its document names a security scheme.
pub fn takes_caller(operation: &Operation) -> bool {
    operation.security.as_ref().is_some_and(|schemes| !schemes.is_empty())
}
