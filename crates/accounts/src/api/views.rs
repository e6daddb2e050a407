//! Accounts in answers: for their owner and for operators.

use crate::model::Member;
use contracts::{MemberId, Timestamp};
use serde::Serialize;
use utoipa::ToSchema;

/// An account as its owner sees it.
#[derive(Serialize, ToSchema)]
pub struct Profile {
    pub id: MemberId,
    pub email: String,
    pub name: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub phone: Option<String>,
    /// `customer`, `seller` or `operator`.
    pub role: &'static str,
    pub created_at: Timestamp,
}

impl From<&Member> for Profile {
    fn from(member: &Member) -> Self {
        Profile {
            id: member.id,
            email: member.email.clone(),
            name: member.name.clone(),
            phone: member.phone.clone(),
            role: member.role.as_str(),
            created_at: member.created_at,
        }
    }
}

/// An account as an operator sees it. A closed account keeps only its id, role and times.
#[derive(Serialize, ToSchema)]
pub struct AccountView {
    #[serde(flatten)]
    pub profile: Profile,
    /// `active`, `disabled` or `closed`.
    pub state: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub closed_at: Option<Timestamp>,
}

impl From<&Member> for AccountView {
    fn from(member: &Member) -> Self {
        AccountView { profile: member.into(), state: member.state.as_str(), closed_at: member.closed_at }
    }
}
