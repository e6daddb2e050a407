//! Entries in answers.

use crate::model::@Service@Entry;
use contracts::Timestamp;
use serde::Serialize;
use utoipa::ToSchema;
use uuid::Uuid;

/// An entry as its member sees it.
#[derive(Serialize, ToSchema)]
pub struct @Service@EntryView {
    pub id: Uuid,
    pub name: String,
    pub created_at: Timestamp,
}

impl From<&@Service@Entry> for @Service@EntryView {
    fn from(entry: &@Service@Entry) -> Self {
        @Service@EntryView { id: entry.id, name: entry.name.clone(), created_at: entry.created_at }
    }
}
