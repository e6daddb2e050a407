//! The rules of products and options.

use contracts::{Code, ProductId, Sku, StoreId, Timestamp, Won, messages::StockPolicy};
use kit::http::text::fold;
use std::collections::HashSet;

/// Highest price, in won: a billion, so that 1,000 lines of 1,000 units fit 64 bits by a factor of thousands.
pub const MAX_PRICE: i64 = 1_000_000_000;
/// Most options of one product, to fit a page and one transaction.
pub const MAX_OPTIONS: usize = 100;
/// Name of the only option of a product created without options.
pub const DEFAULT_OPTION: &str = "default";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SaleState {
    OnSale,
    Paused,
    Deleted,
}

impl SaleState {
    pub fn as_str(self) -> &'static str {
        match self {
            SaleState::OnSale => "on_sale",
            SaleState::Paused => "paused",
            SaleState::Deleted => "deleted",
        }
    }

    pub fn parse(text: &str) -> Option<Self> {
        [SaleState::OnSale, SaleState::Paused, SaleState::Deleted].into_iter().find(|state| state.as_str() == text)
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProductOption {
    pub sku: Sku,
    /// Order on the page; never reused within a product.
    pub position: i64,
    pub name: String,
    /// Added to the product's price; may be negative.
    pub price_delta: Won,
    pub deleted: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Product {
    pub id: ProductId,
    pub store_id: StoreId,
    pub name: String,
    pub description: String,
    pub price: Won,
    pub policy: StockPolicy,
    /// Most units of a SKU that a member may reserve without payment. `None`: the mall's default.
    pub max_unpaid: Option<u32>,
    pub state: SaleState,
    pub created_at: Timestamp,
    pub version: i64,
    /// By position, deleted ones included.
    pub options: Vec<ProductOption>,
}

/// An invalid field of a request, with its JSON pointer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Invalid {
    pub pointer: String,
    pub code: Code,
    pub message: String,
}

impl Invalid {
    pub fn new(pointer: impl Into<String>, code: Code, message: impl Into<String>) -> Self {
        Self { pointer: pointer.into(), code, message: message.into() }
    }
}

/// An option to create.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewOption {
    pub sku: Sku,
    pub name: String,
    pub price_delta: Won,
    /// Units on hand at the start. Afterwards the stock service counts them.
    pub stock: i64,
}

/// A change by a seller. Absent fields stay unchanged.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ProductChange {
    pub name: Option<String>,
    pub description: Option<String>,
    pub price: Option<Won>,
    pub max_unpaid: Option<Option<u32>>,
    pub state: Option<SaleState>,
    pub add: Vec<NewOption>,
    pub remove: Vec<Sku>,
}

impl Product {
    pub fn live_options(&self) -> impl Iterator<Item = &ProductOption> {
        self.options.iter().filter(|option| !option.deleted)
    }

    /// The price of an option. The sum is in range: adding options and changing the price check it.
    pub fn price_of(&self, option: &ProductOption) -> Won {
        Won(self.price.0.saturating_add(option.price_delta.0))
    }

    /// The price of the cheapest live option.
    pub fn lowest_price(&self) -> Won {
        self.live_options().map(|option| self.price_of(option)).min().unwrap_or(self.price)
    }

    /// The price of the dearest live option.
    pub fn highest_price(&self) -> Won {
        self.live_options().map(|option| self.price_of(option)).max().unwrap_or(self.price)
    }

    /// Appends options. `pointer` is their JSON pointer in the request.
    pub fn add_options(&mut self, options: &[NewOption], pointer: &str) -> Result<(), Invalid> {
        if self.live_options().count() + options.len() > MAX_OPTIONS {
            return Err(Invalid::new(pointer, Code::TooMany, format!("a product has at most {MAX_OPTIONS} options")));
        }
        let mut names: HashSet<String> = self.live_options().map(|option| fold(&option.name)).collect();
        for (index, option) in options.iter().enumerate() {
            if !names.insert(fold(&option.name)) {
                let pointer = format!("{pointer}/{index}/name");
                return Err(Invalid::new(pointer, Code::InvalidField, "another option of the product has this name"));
            }
            let position = self.options.last().map_or(0, |last| last.position + 1);
            let NewOption { sku, name, price_delta, .. } = option.clone();
            let option = ProductOption { sku, position, name, price_delta, deleted: false };
            if !is_price(self.price_of(&option)) {
                return Err(out_of_range(format!("{pointer}/{index}/price_delta")));
            }
            self.options.push(option);
        }
        Ok(())
    }

    /// Applies a change. A change of nothing leaves the version. `Err`: a field is invalid; the caller drops the product, which may be half
    /// changed.
    pub fn apply(&mut self, change: &ProductChange) -> Result<(), Invalid> {
        let before = self.clone();
        if let Some(name) = &change.name {
            self.name.clone_from(name);
        }
        if let Some(description) = &change.description {
            self.description.clone_from(description);
        }
        if let Some(max_unpaid) = change.max_unpaid {
            self.max_unpaid = max_unpaid;
        }
        if let Some(state) = change.state {
            self.state = state;
        }
        for (index, sku) in change.remove.iter().enumerate() {
            let pointer = || format!("/remove_options/{index}");
            let option = self.options.iter_mut().find(|option| option.sku == *sku && !option.deleted);
            option.ok_or_else(|| Invalid::new(pointer(), Code::InvalidField, "the product has no such option"))?.deleted = true;
        }
        if let Some(price) = change.price {
            self.price = price;
            if !self.live_options().all(|option| is_price(self.price_of(option))) {
                return Err(out_of_range("/price"));
            }
        }
        self.add_options(&change.add, "/add_options")?;
        if self.live_options().next().is_none() {
            return Err(Invalid::new("/remove_options", Code::InvalidField, "a product keeps at least one option"));
        }
        self.version += i64::from(*self != before);
        Ok(())
    }
}

fn is_price(price: Won) -> bool {
    (0..=MAX_PRICE).contains(&price.0)
}

fn out_of_range(pointer: impl Into<String>) -> Invalid {
    Invalid::new(pointer, Code::AmountOutOfRange, format!("makes an option's price negative or more than {MAX_PRICE}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use uuid::Uuid;

    fn new(n: u128, name: &str, delta: i64) -> NewOption {
        NewOption { sku: Sku(Uuid::from_u128(n)), name: name.into(), price_delta: Won(delta), stock: 0 }
    }

    fn product(options: &[NewOption]) -> Product {
        let mut product = Product {
            id: ProductId(Uuid::from_u128(1)),
            store_id: StoreId(Uuid::from_u128(2)),
            name: "Merlot".into(),
            description: String::new(),
            price: Won(1_000),
            policy: StockPolicy::ReserveOnOrder,
            max_unpaid: None,
            state: SaleState::OnSale,
            created_at: Timestamp(0),
            version: 1,
            options: Vec::new(),
        };
        product.add_options(options, "/options").expect("fine");
        product
    }

    // P5
    #[test]
    fn options_differ_in_price() {
        let product = product(&[new(1, "750 ml", 0), new(2, "375 ml", -400), new(3, "magnum", 900)]);
        assert_eq!(product.live_options().map(|option| product.price_of(option).0).collect::<Vec<_>>(), [1_000, 600, 1_900]);
        assert_eq!((product.lowest_price(), product.highest_price()), (Won(600), Won(1_900)));
    }

    // P1 row 43
    #[test]
    fn an_option_price_below_zero_or_too_high_is_refused() {
        let mut wine = product(&[new(1, "750 ml", -1_000)]);
        assert_eq!(wine.add_options(&[new(2, "half", -1_001)], "/options").expect_err("negative").pointer, "/options/0/price_delta");
        assert_eq!(wine.add_options(&[new(3, "ship", MAX_PRICE)], "/options").expect_err("too much").code, Code::AmountOutOfRange);
        let cheaper = ProductChange { price: Some(Won(999)), ..ProductChange::default() };
        assert_eq!(wine.apply(&cheaper).expect_err("negative").pointer, "/price");
    }

    // P5
    #[test]
    fn an_option_can_be_removed_except_the_last() {
        let mut wine = product(&[new(1, "a", 0), new(2, "b", 0)]);
        let remove = |n: u128| ProductChange { remove: vec![Sku(Uuid::from_u128(n))], ..ProductChange::default() };
        wine.apply(&remove(1)).expect("another is left");
        assert_eq!(wine.clone().apply(&remove(1)).expect_err("gone already").pointer, "/remove_options/0");
        assert_eq!(wine.clone().apply(&remove(2)).expect_err("the last").pointer, "/remove_options");
        let swap = ProductChange { add: vec![new(3, "a", 5)], ..remove(2) };
        wine.apply(&swap).expect("a new one replaces it, and the name of a removed one is free");
        assert_eq!((wine.options.last().map(|option| option.position), wine.version), (Some(2), 3));
    }

    #[test]
    fn option_names_are_unique_and_their_number_limited() {
        let mut wine = product(&[new(1, "a", 0)]);
        // R7: also in another case or width.
        for name in ["b", "B", "ｂ"] {
            let twice = wine.clone().add_options(&[new(2, "b", 0), new(3, name, 0)], "/options");
            assert_eq!(twice.expect_err("twice").pointer, "/options/1/name", "{name}");
        }
        let many: Vec<_> = (2..=101).map(|n| new(n, &n.to_string(), 0)).collect();
        assert_eq!(wine.add_options(&many, "/options").expect_err("101").code, Code::TooMany);
        wine.add_options(&many[1..], "/options").expect("100");
    }
}
