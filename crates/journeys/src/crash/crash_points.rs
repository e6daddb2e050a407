//! Crash points, found in the source text.

use crate::process::DataDir;
use onrush::documents::subscriptions;
use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
};

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum CrashPoint {
    /// The transaction of an operation, with everything folded into it.
    Operation(String),
    /// The transaction of one hop: `<reader>.<message>`.
    Hop(String),
    /// Around a call of the payment provider.
    Call(String),
}

impl CrashPoint {
    /// Names as in the engine and in the services.
    pub fn names(&self) -> Vec<String> {
        match self {
            CrashPoint::Operation(name) | CrashPoint::Hop(name) => {
                ["before_commit", "after_commit"].map(|when| format!("{name}.{when}")).into()
            }
            CrashPoint::Call(name) => vec![name.clone()],
        }
    }
}

/// Operations outside checkouts. Each has its own retry tests.
const OTHER_OPERATIONS: &[&str] = &[
    "accounts.",
    "catalog.",
    "stores.",
    "stock.adjust",
    "stock.set",
    "coupons.change",
    "coupons.close",
    "coupons.create",
    "coupons.delete",
    "coupons.expire",
    "coupons.fold",
    "coupons.give_back",
    "coupons.promote",
    "orders.compact",
];

/// Messages outside checkouts.
const OTHER_MESSAGES: &[&str] = &["member.closed", "skus.listed", "store.created"];

pub fn all() -> Vec<CrashPoint> {
    let sources = sources();
    let mut points: BTreeSet<CrashPoint> = BTreeSet::new();
    for text in sources.iter().flat_map(|source| quoted(source, "const OPERATION: &'static str = \"")) {
        if !OTHER_OPERATIONS.iter().any(|prefix| text.starts_with(prefix)) {
            points.insert(CrashPoint::Operation(text));
        }
    }
    points.extend(sources.iter().flat_map(|source| quoted(source, "crash_point(\"")).map(CrashPoint::Call));
    for (reader, _, kinds) in subscriptions() {
        let kinds = kinds.into_iter().filter(|kind| !OTHER_MESSAGES.contains(kind));
        points.extend(kinds.map(|kind| CrashPoint::Hop(format!("{reader}.{kind}"))));
    }
    assert!(points.len() > 40, "no crash points in the sources: {points:?}");
    points.into_iter().collect()
}

/// Texts between this beginning and the next quote.
fn quoted(source: &str, beginning: &str) -> Vec<String> {
    source.split(beginning).skip(1).filter_map(|rest| rest.split('"').next()).map(str::to_owned).collect()
}

/// Source files of all services.
fn sources() -> Vec<String> {
    let crates = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let mut texts = Vec::new();
    for service in contracts::SERVICES {
        let mut folders: Vec<PathBuf> = vec![crates.join(service).join("src")];
        while let Some(folder) = folders.pop() {
            for entry in std::fs::read_dir(folder).expect("the sources are there") {
                let path = entry.expect("the folder can be listed").path();
                if path.is_dir() {
                    folders.push(path);
                } else if path.extension().is_some_and(|extension| extension == "rs") {
                    texts.push(std::fs::read_to_string(path).expect("sources are UTF-8"));
                }
            }
        }
    }
    texts
}

/// Hops recorded in this SQLite database.
pub fn hops_made_in(data_dir: &DataDir) -> Vec<String> {
    let connection = rusqlite::Connection::open(data_dir.path().join("onrush.db")).expect("the database opens");
    let sent = |source: &str| -> BTreeSet<String> {
        let mut statement = connection.prepare(&format!("select distinct kind from {source}_outbox")).expect("the query is right");
        let kinds = statement.query_map([], |row| row.get(0)).expect("the query runs");
        kinds.collect::<Result<_, _>>().expect("the rows can be read")
    };
    let mut hops = Vec::new();
    for (reader, source, kinds) in subscriptions() {
        let sent = sent(source);
        hops.extend(kinds.into_iter().filter(|kind| sent.contains(*kind)).map(|kind| format!("{reader}.{kind}")));
    }
    hops
}
