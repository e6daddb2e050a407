//! An entry of a member.

use contracts::{MemberId, Timestamp};
use uuid::Uuid;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct @Service@Entry {
    pub id: Uuid,
    pub member_id: MemberId,
    pub name: String,
    pub created_at: Timestamp,
}

impl @Service@Entry {
    /// True for the entry's own member.
    pub fn is_visible_to(&self, member_id: MemberId) -> bool {
        self.member_id == member_id
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_is_visible_to_its_member_only() {
        let [owner, other] = [1, 2].map(|n| MemberId(Uuid::from_u128(n)));
        let entry = @Service@Entry { id: Uuid::from_u128(3), member_id: owner, name: "First".into(), created_at: Timestamp(0) };
        assert!(entry.is_visible_to(owner));
        assert!(!entry.is_visible_to(other));
    }
}
