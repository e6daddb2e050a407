//! I6: the committed documents equal those generated from the code, and the process serves them.

use crate::mall::Mall;
use onrush::documents::{self, Document};
use std::{collections::BTreeSet, path::Path};

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
