//! `@service@.@operation@`: answers with the text of the request. Any signed-in account, for itself.

use crate::@Service@;
use axum::response::Response;
use kit::{
    Answer, Command, Fault, Outcome, Work,
    extract::SignedIn,
    http::{Input, Problem, ProblemBody, State, Trace, rules},
};
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use utoipa::ToSchema;

/// Longest text, in characters: a line.
const MAX_TEXT: usize = 100;

#[derive(Deserialize, garde::Validate, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct @Service@@Operation@Input {
    #[garde(custom(rules::text(MAX_TEXT)))]
    #[schema(min_length = 1, max_length = 100)]
    pub text: String,
}

#[derive(Serialize, ToSchema)]
pub struct @Service@@Operation@View {
    pub text: String,
}

/// Answers with the text of the request
///
/// Any signed-in account, for itself.
#[utoipa::path(
    post, path = "/v1/@service@/@operation@", operation_id = "@service@.@operation@", tag = "@service@",
    request_body = @Service@@Operation@Input,
    responses(
        (status = 200, body = @Service@@Operation@View),
        (status = 401, description = "unauthenticated", body = ProblemBody),
        (status = 422, description = "invalid-field, too-long, unknown-field", body = ProblemBody),
    ),
    security(("bearer" = []))
)]
pub async fn @operation@(
    State(@service@): State<Arc<@Service@>>,
    SignedIn(caller): SignedIn,
    trace: Trace,
    input: Input<@Service@@Operation@Input>,
) -> Result<Response, Problem> {
    let key = input.key(caller.member_id);
    kit::submit::run(&@service@, @Service@@Operation@ { text: input.value.text }, key, trace).await
}

struct @Service@@Operation@ {
    text: String,
}

impl Command for @Service@@Operation@ {
    type Service = @Service@;
    const OPERATION: &'static str = "@service@.@operation@";

    /// Load the rows of all commands here, decide each command in order, save once.
    async fn handle<'a>(_: &'a @Service@, _: &'a mut Work, commands: &'a [&'a Self]) -> Result<Vec<Outcome>, Fault> {
        let answer = |command: &&Self| Ok(Answer::json(200, &@Service@@Operation@View { text: command.text.clone() })?.into());
        commands.iter().map(answer).collect()
    }
}
