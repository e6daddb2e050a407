//! `stores.create`: opens a store. Operators only. Its member gets the seller role with the next access token.

use super::views::OperatorStoreView;
use crate::{Stores, model::Store, store};
use axum::response::Response;
use contracts::{Code, MemberId, Message, StoreId, calls::HasAccount, messages::StoreCreated};
use kit::{
    Answer, Command, Fault, Outcome, Work,
    extract::Operator,
    http::{Input, Problem, ProblemBody, State, Trace, rules, text},
    ports,
};
use serde::Deserialize;
use std::sync::Arc;
use utoipa::ToSchema;
use uuid::Uuid;

#[derive(Deserialize, garde::Validate, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewStore {
    #[serde(deserialize_with = "text::cleaned")]
    #[garde(custom(rules::text(100)))]
    #[schema(min_length = 1, max_length = 100)]
    pub name: String,
    /// The member who runs the store. Absent: the mall runs it itself.
    #[serde(default)]
    #[garde(skip)]
    pub seller_id: Option<MemberId>,
}

/// Opens a store
///
/// Operators only. Its member gets the seller role with the next access token.
#[utoipa::path(
    post, path = "/v1/stores", operation_id = "stores.create", tag = "stores", request_body = NewStore,
    responses(
        (status = 201, body = OperatorStoreView),
        (status = 403, description = "forbidden", body = ProblemBody),
        (status = 422, description = "invalid-field: also a seller without an account; too-long, unknown-field", body = ProblemBody),
    ),
    security(("bearer" = []))
)]
pub async fn create(
    State(stores): State<Arc<Stores>>,
    Operator(caller): Operator,
    trace: Trace,
    input: Input<NewStore>,
) -> Result<Response, Problem> {
    let key = input.key(caller.member_id);
    kit::submit::run_prepared(&stores, key, trace, prepare(&stores, input.value, trace)).await
}

async fn prepare(stores: &Stores, form: NewStore, trace: Trace) -> Result<CreateStore, Problem> {
    let NewStore { name, seller_id } = form;
    if let Some(member_id) = seller_id
        && !stores.kit.links.call(HasAccount { member_id }).await?
    {
        return Err(Problem::field("/seller_id", Code::InvalidField, "is not the id of an account"));
    }
    Ok(CreateStore { id: StoreId(ports::new_id()), name, seller_id, trace: trace.0 })
}

struct CreateStore {
    id: StoreId,
    name: String,
    seller_id: Option<MemberId>,
    trace: Uuid,
}

impl Command for CreateStore {
    type Service = Stores;
    const OPERATION: &'static str = "stores.create";

    async fn handle<'a>(stores: &'a Stores, work: &'a mut Work, commands: &'a [&'a Self]) -> Result<Vec<Outcome>, Fault> {
        let mut created: Vec<Store> = Vec::with_capacity(commands.len());
        let mut outcomes = Vec::with_capacity(commands.len());
        for command in commands {
            let store = Store { id: command.id, name: command.name.clone(), seller_id: command.seller_id, created_at: work.now };
            outcomes.push(Answer::json(201, &OperatorStoreView::from(&store))?.at(format!("/v1/stores/{}", store.id)).into());
            work.trace(store.id, command.trace);
            let message = StoreCreated { store_id: store.id, seller_id: store.seller_id, name: store.name.clone() };
            work.emit(store.id, Message::StoreCreated(message))?;
            created.push(store);
        }
        store::insert(&mut work.tx, &created).await?;
        let cache = Arc::clone(&stores.cache);
        work.after_commit(move || cache.invalidate());
        Ok(outcomes)
    }
}
