//! A store.

use contracts::{MemberId, StoreId, Timestamp, calls::StoreCard};

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Store {
    pub id: StoreId,
    pub name: String,
    /// `None`: the mall runs the store itself.
    pub seller_id: Option<MemberId>,
    pub created_at: Timestamp,
}

impl Store {
    /// The part of a store that other services get.
    pub fn card(&self) -> StoreCard {
        StoreCard { store_id: self.id, name: self.name.clone(), seller_id: self.seller_id }
    }
}
