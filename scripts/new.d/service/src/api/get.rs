//! `@service@.get`: reads one entry. Its member only.

use super::views::@Service@EntryView;
use crate::{@Service@, store};
use axum::Json;
use contracts::Code;
use kit::{
    extract::SignedIn,
    http::{Path, Problem, ProblemBody, State},
};
use std::sync::Arc;
use uuid::Uuid;

/// Reads one entry
///
/// Its member only.
#[utoipa::path(
    get, path = "/v1/@service@/{id}", operation_id = "@service@.get", tag = "@service@", params(("id" = Uuid, Path)),
    responses(
        (status = 200, body = @Service@EntryView),
        (status = 401, description = "unauthenticated", body = ProblemBody),
        (status = 404, description = "not-found", body = ProblemBody),
    ),
    security(("bearer" = []))
)]
pub async fn get(
    State(@service@): State<Arc<@Service@>>,
    SignedIn(caller): SignedIn,
    Path(id): Path<Uuid>,
) -> Result<Json<@Service@EntryView>, Problem> {
    let mut reader = @service@.kit.db.reader().await?;
    let found = store::find(&mut reader, id).await?;
    let entry = found.filter(|entry| entry.is_visible_to(caller.member_id)).ok_or(Code::NotFound)?;
    Ok(Json(@Service@EntryView::from(&entry)))
}
