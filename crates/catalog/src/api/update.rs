//! `catalog.update`: changes a product: texts, price, sale state and options. The seller of its store, or an operator.

use super::{MAX_DESCRIPTION, MAX_NAME, MAX_UNPAID, OptionInput, SavedProduct, check_product, emit_skus_listed, invalid_outcome};
use crate::{
    Catalog,
    model::{MAX_OPTIONS, MAX_PRICE, NewOption, Product, ProductChange, SaleState},
    store,
};
use axum::{extract::State, response::Response};
use contracts::{Code, ProductId, Sku, Won};
use garde::Validate;
use kit::{
    Answer, Command, Fault, Outcome, Work,
    extract::Seller,
    http::{Input, Path, Problem, ProblemBody, Trace, rules, text},
};
use serde::{Deserialize, Deserializer};
use std::{collections::HashSet, sync::Arc};
use utoipa::ToSchema;

/// Sale state of a product. A paused product cannot be ordered.
#[derive(Clone, Copy, Debug, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum StateInput {
    OnSale,
    Paused,
}

/// Absent fields stay unchanged.
#[derive(Debug, Deserialize, Validate, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = ProductChange)]
pub struct ProductChangeInput {
    #[serde(default, deserialize_with = "text::cleaned_option")]
    #[garde(custom(rules::text(MAX_NAME)))]
    #[schema(max_length = 200)]
    name: Option<String>,
    #[serde(default, deserialize_with = "text::cleaned_option")]
    #[garde(custom(rules::long_text(MAX_DESCRIPTION)))]
    #[schema(max_length = 5_000)]
    description: Option<String>,
    #[serde(default, deserialize_with = "contracts::money::optional_whole_won")]
    #[garde(range(min = 0, max = MAX_PRICE))]
    #[schema(minimum = 0, maximum = 1_000_000_000)]
    price: Option<i64>,
    /// `null` removes the product's limit, so that the mall's default applies.
    #[serde(default, deserialize_with = "deserialize_present")]
    #[garde(range(max = MAX_UNPAID))]
    #[schema(value_type = Option<u32>, maximum = 1_000_000)]
    max_unpaid_per_member: Option<Option<u32>>,
    #[garde(skip)]
    state: Option<StateInput>,
    #[serde(default)]
    #[garde(custom(rules::items(MAX_OPTIONS)), dive)]
    #[schema(max_items = 100)]
    add_options: Vec<OptionInput>,
    /// Options to remove.
    #[serde(default)]
    #[garde(custom(rules::items(MAX_OPTIONS)))]
    #[schema(max_items = 100)]
    remove_options: Vec<Sku>,
}

/// Distinguishes `null` from an absent field.
fn deserialize_present<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Option<u32>>, D::Error> {
    Option::deserialize(deserializer).map(Some)
}

impl From<ProductChangeInput> for ProductChange {
    fn from(input: ProductChangeInput) -> Self {
        ProductChange {
            name: input.name,
            description: input.description,
            price: input.price.map(Won),
            state: input.state.map(|state| match state {
                StateInput::OnSale => SaleState::OnSale,
                StateInput::Paused => SaleState::Paused,
            }),
            max_unpaid: input.max_unpaid_per_member,
            add: input.add_options.into_iter().map(NewOption::from).collect(),
            remove: input.remove_options,
        }
    }
}

/// Changes a product: texts, price, sale state and options
///
/// The seller of its store, or an operator.
#[utoipa::path(patch, path = "/v1/products/{id}", operation_id = "catalog.update", tag = "catalog",
    params(("id" = ProductId, Path, description = "The product")),
    request_body = ProductChangeInput,
    responses(
        (status = 200, body = SavedProduct),
        (status = 404, description = "unknown, deleted, or of another seller's store", body = ProblemBody),
        (status = 422, description = "amount-out-of-range, too-many, invalid-field", body = ProblemBody)),
    security(("bearer" = [])))]
pub async fn update(
    State(catalog): State<Arc<Catalog>>,
    Seller(caller): Seller,
    Path(id): Path<ProductId>,
    trace: Trace,
    input: Input<ProductChangeInput>,
) -> Result<Response, Problem> {
    let key = input.key(caller.member_id);
    kit::submit::run_prepared(&catalog, key, trace, async {
        check_product(&catalog, &caller, id).await?;
        Ok(UpdateProduct { id, change: input.value.into() })
    })
    .await
}

struct UpdateProduct {
    id: ProductId,
    change: ProductChange,
}

impl Command for UpdateProduct {
    type Service = Catalog;
    const OPERATION: &'static str = "catalog.update";

    async fn handle<'a>(catalog: &'a Catalog, work: &'a mut Work, commands: &'a [&'a Self]) -> Result<Vec<Outcome>, Fault> {
        let mut products = store::lock_products(&mut work.tx, commands.iter().map(|command| command.id).collect()).await?;
        let mut changed: HashSet<ProductId> = HashSet::new();
        let mut outcomes = Vec::with_capacity(commands.len());
        for command in commands {
            let Some(product) = products.get_mut(&command.id).filter(|product| product.state != SaleState::Deleted) else {
                outcomes.push(Code::NotFound.into());
                continue;
            };
            let mut next = product.clone();
            if let Err(wrong) = next.apply(&command.change) {
                outcomes.push(invalid_outcome(wrong));
                continue;
            }
            // A change of nothing is only answered.
            if next != *product {
                *product = next;
                changed.insert(command.id);
                emit_skus_listed(work, product, &command.change.add)?;
            }
            outcomes.push(Answer::json(200, &SavedProduct::from(&*product))?.into());
        }
        let changed: Vec<&Product> = products.values().filter(|product| changed.contains(&product.id)).collect();
        store::update_products(&mut work.tx, &changed).await?;
        work.after_commit(catalog.cache.invalidation(changed.into_iter()));
        Ok(outcomes)
    }
}
