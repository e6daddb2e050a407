//! What an OpenAPI document says of operations, for the parts of the door that must know it before the handler does.

use http::Method;
use utoipa::openapi::{PathItem, path::Operation};

/// The operations of a path, each with its method. axum lets GET answer HEAD, too.
pub(crate) fn operations(item: &PathItem) -> impl Iterator<Item = (Method, &Operation)> {
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

/// Whether the operation looks at who calls.
pub(crate) fn takes_caller(operation: &Operation) -> bool {
    operation.security.as_ref().is_some_and(|schemes| !schemes.is_empty())
}
