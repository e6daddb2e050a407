//! The parameters of the product list, normalized for the database and for cache keys.

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
    /// The kind of a cursor, so that a cursor of another order is refused.
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
pub struct ProductFilter {
    /// Part of the name, folded.
    pub q: Option<String>,
    pub store: Option<StoreId>,
    /// Products with an option of at least this price.
    pub min_price: Option<i64>,
    /// Products with an option of at most this price.
    pub max_price: Option<i64>,
    pub sort: Sort,
}

impl ProductFilter {
    /// True if products in the order of the list may have to be passed over. Then a page costs more than its size.
    pub fn passes_over(&self) -> bool {
        let is_by_price = matches!(self.sort, Sort::PriceAsc | Sort::PriceDesc);
        self.q.is_some() || self.min_price.is_some() || (self.max_price.is_some() && !is_by_price)
    }
}

/// The last product before a page. `value` is its sort key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct ProductPosition {
    pub value: i64,
    pub id: ProductId,
}
