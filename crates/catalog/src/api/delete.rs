//! `catalog.delete`: deletes a product permanently. Existing orders keep it. The seller of its store, or an operator.

use super::check_product;
use crate::{
    Catalog,
    model::{Product, SaleState},
    store,
};
use axum::{extract::State, response::Response};
use contracts::{Code, ProductId};
use kit::{
    Answer, Command, Fault, Outcome, Work,
    extract::Seller,
    http::{Empty, Input, Path, Problem, ProblemBody, Trace},
};
use std::{collections::HashSet, sync::Arc};

/// Deletes a product permanently
///
/// Existing orders keep it. The seller of its store, or an operator.
#[utoipa::path(delete, path = "/v1/products/{id}", operation_id = "catalog.delete", tag = "catalog",
    params(("id" = ProductId, Path, description = "The product")),
    responses(
        (status = 204, description = "deleted"),
        (status = 404, description = "unknown, deleted before, or of another seller's store", body = ProblemBody)),
    security(("bearer" = [])))]
pub async fn delete(
    State(catalog): State<Arc<Catalog>>,
    Seller(caller): Seller,
    Path(id): Path<ProductId>,
    trace: Trace,
    input: Input<Empty>,
) -> Result<Response, Problem> {
    let key = input.key(caller.member_id);
    kit::submit::run_prepared(&catalog, key, trace, async {
        check_product(&catalog, &caller, id).await?;
        Ok(DeleteProduct { id })
    })
    .await
}

struct DeleteProduct {
    id: ProductId,
}

impl Command for DeleteProduct {
    type Service = Catalog;
    const OPERATION: &'static str = "catalog.delete";

    async fn handle<'a>(catalog: &'a Catalog, work: &'a mut Work, commands: &'a [&'a Self]) -> Result<Vec<Outcome>, Fault> {
        let mut products = store::lock_products(&mut work.tx, commands.iter().map(|command| command.id).collect()).await?;
        let mut deleted: HashSet<ProductId> = HashSet::new();
        let mut outcomes = Vec::with_capacity(commands.len());
        for command in commands {
            outcomes.push(match products.get_mut(&command.id) {
                Some(product) if product.state != SaleState::Deleted => {
                    product.state = SaleState::Deleted;
                    product.version += 1;
                    deleted.insert(command.id);
                    Answer::empty(204).into()
                }
                _ => Code::NotFound.into(),
            });
        }
        let deleted: Vec<&Product> = products.values().filter(|product| deleted.contains(&product.id)).collect();
        store::update_products(&mut work.tx, &deleted).await?;
        work.after_commit(catalog.cache.invalidation(deleted.into_iter()));
        Ok(outcomes)
    }
}
