//! Stores in answers: for anyone and for operators.

use crate::model::Store;
use contracts::{MemberId, StoreId, Timestamp};
use serde::Serialize;
use utoipa::ToSchema;

/// A store as anyone sees it. Only operators see its seller.
#[derive(Serialize, ToSchema)]
pub struct StoreView {
    pub id: StoreId,
    pub name: String,
    pub created_at: Timestamp,
}

impl From<&Store> for StoreView {
    fn from(store: &Store) -> Self {
        StoreView { id: store.id, name: store.name.clone(), created_at: store.created_at }
    }
}

/// A store as an operator sees it.
#[derive(Serialize, ToSchema)]
pub struct OperatorStoreView {
    pub id: StoreId,
    pub name: String,
    /// Absent: the mall runs the store itself.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub seller_id: Option<MemberId>,
    pub created_at: Timestamp,
}

impl From<&Store> for OperatorStoreView {
    fn from(store: &Store) -> Self {
        OperatorStoreView { id: store.id, name: store.name.clone(), seller_id: store.seller_id, created_at: store.created_at }
    }
}
