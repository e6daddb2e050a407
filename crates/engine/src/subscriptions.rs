//! Subscriptions: the streams a service reads, and the message kinds it acts on.

use super::{log, service::Service};
use contracts::Message;
use std::collections::HashSet;

/// True for kinds in `kinds`, and for unknown kinds, which must never be skipped.
pub(super) fn handles(kinds: &HashSet<&'static str>, kind: &str) -> bool {
    kinds.contains(kind) || !Message::TABLE.iter().any(|(known, ..)| *known == kind)
}

/// SQL expression for the data column: empty for kinds that a reader of `kinds` skips.
pub(super) fn data_sql_for(kinds: &HashSet<&'static str>, source: &str) -> String {
    let skipped: Vec<String> = Message::TABLE
        .iter()
        .filter(|(kind, from, _)| *from == source && !kinds.contains(kind))
        .map(|(kind, ..)| format!("'{kind}'"))
        .collect();
    if skipped.is_empty() { log::FULL_DATA.to_owned() } else { format!("case when kind in ({}) then '' else data end", skipped.join(",")) }
}

/// The streams a service reads, with the kinds it acts on.
pub fn sources(service: &dyn Service) -> Vec<(&'static str, HashSet<&'static str>)> {
    let mut found: Vec<(&'static str, HashSet<&'static str>)> = Vec::new();
    for (kind, source, _) in Message::TABLE {
        if !service.acts_on(kind) {
            continue;
        }
        match found.iter_mut().find(|(name, _)| name == source) {
            Some((_, kinds)) => {
                kinds.insert(kind);
            }
            None => found.push((source, HashSet::from([*kind]))),
        }
    }
    found
}
