//! The routes of accounts.

mod close_me;
mod edit_me;
mod end_session;
mod get;
mod list_sessions;
mod me;
mod refresh;
mod set_state;
mod sign_in;
mod sign_out;
mod sign_out_everywhere;
mod sign_up;
mod tokens;
mod views;
mod web_sign_in;
mod web_sign_out;

pub(crate) use sign_up::SignUp;

use crate::Accounts;
use std::sync::Arc;
use utoipa_axum::{router::OpenApiRouter, routes};

pub fn router(accounts: Arc<Accounts>) -> OpenApiRouter {
    OpenApiRouter::new()
        .routes(routes!(sign_up::sign_up))
        .routes(routes!(get::get, set_state::set_state))
        .routes(routes!(sign_in::sign_in, list_sessions::list_sessions, sign_out_everywhere::sign_out_everywhere))
        .routes(routes!(refresh::refresh))
        .routes(routes!(sign_out::sign_out))
        .routes(routes!(end_session::end_session))
        .routes(routes!(web_sign_in::web_sign_in))
        .routes(routes!(web_sign_out::web_sign_out))
        .routes(routes!(me::me, edit_me::edit_me, close_me::close_me))
        .with_state(accounts)
}
