//! What a shopper asks the list for, in the one form that the database and the memory know it by.

use contracts::{ProductId, StoreId};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// Order of the list.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Sort {
    #[default]
    Newest,
    Oldest,
    PriceAsc,
    PriceDesc,
}

impl Sort {
    /// Names cursors: one made for another order is refused.
    pub fn cursor_kind(self) -> &'static str {
        match self {
            Sort::Newest => "catalog.list.newest",
            Sort::Oldest => "catalog.list.oldest",
            Sort::PriceAsc => "catalog.list.price_asc",
            Sort::PriceDesc => "catalog.list.price_desc",
        }
    }
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Filter {
    /// In lower case.
    pub q: Option<String>,
    pub store: Option<StoreId>,
    pub min_price: Option<i64>,
    pub max_price: Option<i64>,
    pub sort: Sort,
}

/// Where a page begins: behind this product. `value` is what the list is sorted by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Position {
    pub value: i64,
    pub id: ProductId,
}
