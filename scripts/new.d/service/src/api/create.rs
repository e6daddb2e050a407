//! `@service@.create`: creates an entry. Any signed-in account, for itself.

use super::views::@Service@EntryView;
use crate::{@Service@, model::@Service@Entry, store};
use axum::response::Response;
use contracts::MemberId;
use kit::{
    Answer, Command, Fault, Outcome, Work,
    extract::SignedIn,
    http::{Input, Problem, ProblemBody, State, Trace, rules},
    ports,
};
use serde::Deserialize;
use std::sync::Arc;
use utoipa::ToSchema;
use uuid::Uuid;

/// Longest name, in characters: a line.
const MAX_NAME: usize = 100;

#[derive(Deserialize, garde::Validate, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct New@Service@Entry {
    #[garde(custom(rules::text(MAX_NAME)))]
    #[schema(min_length = 1, max_length = 100)]
    pub name: String,
}

/// Creates an entry
///
/// Any signed-in account, for itself.
#[utoipa::path(
    post, path = "/v1/@service@", operation_id = "@service@.create", tag = "@service@", request_body = New@Service@Entry,
    responses(
        (status = 201, body = @Service@EntryView),
        (status = 401, description = "unauthenticated", body = ProblemBody),
        (status = 422, description = "invalid-field, too-long, unknown-field", body = ProblemBody),
    ),
    security(("bearer" = []))
)]
pub async fn create(
    State(@service@): State<Arc<@Service@>>,
    SignedIn(caller): SignedIn,
    trace: Trace,
    input: Input<New@Service@Entry>,
) -> Result<Response, Problem> {
    let key = input.key(caller.member_id);
    let name = input.value.name.trim().to_owned();
    let command = Create@Service@Entry { id: ports::new_id(), member_id: caller.member_id, name };
    kit::submit::run(&@service@, command, key, trace).await
}

struct Create@Service@Entry {
    id: Uuid,
    member_id: MemberId,
    name: String,
}

impl Command for Create@Service@Entry {
    type Service = @Service@;
    const OPERATION: &'static str = "@service@.create";

    async fn handle<'a>(_: &'a @Service@, work: &'a mut Work, commands: &'a [&'a Self]) -> Result<Vec<Outcome>, Fault> {
        let mut created = Vec::with_capacity(commands.len());
        let mut outcomes = Vec::with_capacity(commands.len());
        for command in commands {
            let name = command.name.clone();
            let entry = @Service@Entry { id: command.id, member_id: command.member_id, name, created_at: work.now };
            outcomes.push(Answer::json(201, &@Service@EntryView::from(&entry))?.at(format!("/v1/@service@/{}", entry.id)).into());
            created.push(entry);
        }
        store::insert(&mut work.tx, &created).await?;
        Ok(outcomes)
    }
}
