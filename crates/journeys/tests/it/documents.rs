//! I6: the committed documents equal those generated from the code, and the process serves them.

use crate::mall::Mall;
use onrush::documents::{self, Document};
use serde_json::Value;
use std::{collections::BTreeSet, path::Path};
use utoipa::openapi::RefOr;

#[test]
fn i6_committed_documents_are_current() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs");
    let mut stale = Vec::new();
    for (document, name) in Document::ALL {
        let wanted = documents::text(document).expect("the document can be made");
        if std::fs::read_to_string(folder.join(name)).ok().as_deref() != Some(wanted.as_str()) {
            stale.push(name);
        }
    }
    assert!(stale.is_empty(), "stale: {stale:?}; run ./scripts/documents");
}

/// A running process serves the same OpenAPI document.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn i6_a_process_describes_every_operation_it_routes() {
    let mall = Mall::open().await;
    let served = documents::openapi(&mall.app.process).to_pretty_json().expect("it serializes");
    assert_eq!(served + "\n", documents::text(Document::Openapi).expect("the document can be made"));
    let mut ids = BTreeSet::new();
    for (method, path, operation) in documents::operations(&documents::openapi(&mall.app.process)) {
        let id = operation.operation_id.expect("every operation has an id");
        assert!(ids.insert(id.clone()), "{id} is there twice");
        // An unrouted method would give 405, and an unrouted path another problem than the operation's own.
        let path = path.replace("{id}", &uuid::Uuid::nil().to_string()).replace("{sku}", &uuid::Uuid::nil().to_string());
        let method = http::Method::from_bytes(method.as_bytes()).expect("a method");
        let answer = mall.app.request(method, path).send().await;
        assert_ne!(answer.status, 405, "{id}");
    }
    mall.finish().await;
}

/// The document of all services, as JSON.
fn openapi_json() -> Value {
    serde_json::from_str(&documents::text(Document::Openapi).expect("the document can be made")).expect("it is JSON")
}

/// Calls `see` with each object of a document and its place.
fn visit(value: &Value, place: &str, see: &mut impl FnMut(&str, &serde_json::Map<String, Value>)) {
    match value {
        Value::Object(fields) => {
            see(place, fields);
            for (name, field) in fields {
                visit(field, &format!("{place}/{name}"), see);
            }
        }
        Value::Array(items) => {
            for (index, item) in items.iter().enumerate() {
                visit(item, &format!("{place}/{index}"), see);
            }
        }
        _ => {}
    }
}

// TS20, A1 of the fuzzed document
#[test]
fn every_reference_of_the_document_is_resolved() {
    let document = openapi_json();
    let (mut references, mut dangling) = (0, Vec::new());
    visit(&document, "", &mut |place, fields| {
        let Some(reference) = fields.get("$ref").and_then(Value::as_str) else { return };
        references += 1;
        if reference.strip_prefix('#').and_then(|pointer| document.pointer(pointer)).is_none() {
            dangling.push(format!("{place}: {reference}"));
        }
    });
    assert!(references > 500 && dangling.is_empty(), "{references} references; dangling: {dangling:#?}");
}

// TS20, A2 to A4 and B of the fuzzed document
#[test]
fn every_operation_declares_the_answers_of_its_kind() {
    let openapi = serde_json::from_value(openapi_json()).expect("an OpenAPI document");
    let operations = documents::operations(&openapi);
    assert!(operations.len() > 40, "only {} operations", operations.len());
    let ids: BTreeSet<String> = operations.iter().filter_map(|(.., operation)| operation.operation_id.clone()).collect();
    for (method, path, operation) in operations {
        let place = format!("{method} {path}");
        let method = http::Method::from_bytes(method.as_bytes()).expect("a method");
        let answers = &operation.responses.responses;
        for status in documents::statuses_of_kind(&method, &operation) {
            assert!(answers.contains_key(&status.to_string()), "{place} does not declare {status}");
        }
        assert!(answers.contains_key("default"), "{place} has no answer for other statuses");
        for (status, answer) in answers {
            let RefOr::T(answer) = answer else { continue };
            assert!(!answer.description.is_empty(), "{place}: {status} has no description");
            let types: Vec<&str> = answer.content.keys().map(String::as_str).collect();
            if status.starts_with(['4', '5']) {
                assert_eq!(types, ["application/problem+json"], "{place}: {status}");
            }
            for link in answer.links.values() {
                let RefOr::T(link) = link else { panic!("{place}: a link by reference") };
                assert!(ids.contains(&link.operation_id), "{place} links to {}", link.operation_id);
            }
        }
    }
}
