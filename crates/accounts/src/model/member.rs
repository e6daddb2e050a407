//! A member: the conditions of sign-in, and the changes of an account.

use super::Email;
use contracts::{Code, MemberId, Refusal, Timestamp};
use kit::auth::Role;

/// Placeholder for a password hash that no password matches.
pub const UNUSABLE_PASSWORD: &str = "!";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MemberState {
    Active,
    /// Closed by its owner, permanently. Personal data is erased, and the address is free again, except that of an operator.
    Closed,
    /// Disabled by an operator, until an operator enables it again.
    Disabled,
}

impl MemberState {
    pub fn as_str(self) -> &'static str {
        match self {
            MemberState::Active => "active",
            MemberState::Closed => "closed",
            MemberState::Disabled => "disabled",
        }
    }
    pub fn parse(text: &str) -> Option<Self> {
        match text {
            "active" => Some(MemberState::Active),
            "closed" => Some(MemberState::Closed),
            "disabled" => Some(MemberState::Disabled),
            _ => None,
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    pub id: MemberId,
    /// `None`: the account is closed.
    pub email_normalized: Option<String>,
    pub email: String,
    pub name: String,
    pub phone: Option<String>,
    pub password_hash: String,
    pub role: Role,
    pub state: MemberState,
    pub created_at: Timestamp,
    pub closed_at: Option<Timestamp>,
    pub version: i64,
}

/// The hash of a new password, and the stored hash that the current password was verified against. Both come from outside
/// the transaction.
#[derive(Clone)]
pub struct NewPassword {
    pub verified_hash: String,
    pub hash: String,
}

/// MemberChanges that a member makes to its own account. `None`: unchanged.
#[derive(Clone, Default)]
pub struct MemberChanges {
    pub name: Option<String>,
    /// `Some(None)` removes the number.
    pub phone: Option<Option<String>>,
    pub password: Option<NewPassword>,
}

impl Member {
    pub fn new(
        id: MemberId,
        email: &Email,
        name: String,
        phone: Option<String>,
        password_hash: String,
        role: Role,
        now: Timestamp,
    ) -> Member {
        Member {
            id,
            email_normalized: Some(email.normalized.clone()),
            email: email.shown.clone(),
            name,
            phone,
            password_hash,
            role,
            state: MemberState::Active,
            created_at: now,
            closed_at: None,
            version: 1,
        }
    }

    pub fn is_active(&self) -> bool {
        self.state == MemberState::Active
    }

    pub fn has_usable_password(&self) -> bool {
        self.password_hash != UNUSABLE_PASSWORD
    }

    /// Accepts a password that was verified outside the transaction against `verified_hash`.
    /// `Err`: since then the account was closed or disabled, or its password changed.
    pub fn confirm_password(&self, verified_hash: &str) -> Result<(), Code> {
        if self.is_active() && self.has_usable_password() && self.password_hash == verified_hash {
            Ok(())
        } else {
            Err(Code::BadCredentials)
        }
    }

    /// Makes all changes or none. A change of nothing leaves the version.
    pub fn edit(&mut self, changes: &MemberChanges) -> Result<(), Code> {
        if !self.is_active() {
            return Err(Code::Unauthenticated);
        }
        let before = self.clone();
        if let Some(password) = &changes.password {
            self.confirm_password(&password.verified_hash)?;
            self.password_hash.clone_from(&password.hash);
        }
        if let Some(name) = &changes.name {
            self.name.clone_from(name);
        }
        if let Some(phone) = &changes.phone {
            self.phone.clone_from(phone);
        }
        self.version += i64::from(*self != before);
        Ok(())
    }

    pub fn is_active_operator(&self) -> bool {
        self.role == Role::Operator && self.is_active()
    }

    /// Refuses to end the rights of the last active operator. `operators` is the number of active operators, this member included.
    fn check_not_last(&self, operators: usize) -> Result<(), Refusal> {
        if self.is_active_operator() && operators <= 1 {
            return Err(Refusal::new(Code::LastOperator, "This is the last operator. Add another one first."));
        }
        Ok(())
    }

    /// Closes the account and erases its personal data. `operators` is the number of active operators. False: it was closed before.
    pub fn close(&mut self, operators: usize, now: Timestamp) -> Result<bool, Refusal> {
        if self.state == MemberState::Closed {
            return Ok(false);
        }
        self.check_not_last(operators)?;
        self.state = MemberState::Closed;
        self.closed_at = Some(now);
        self.email_normalized = None;
        self.email.clear();
        self.name.clear();
        self.phone = None;
        UNUSABLE_PASSWORD.clone_into(&mut self.password_hash);
        self.version += 1;
        Ok(true)
    }

    /// Takes the operator's rights away and leaves this role. `operators` is the number of active operators. False: it is no operator.
    pub fn demote(&mut self, to: Role, operators: usize) -> Result<bool, Refusal> {
        if self.role != Role::Operator || self.state == MemberState::Closed {
            return Ok(false);
        }
        self.check_not_last(operators)?;
        self.role = to;
        self.version += 1;
        Ok(true)
    }

    /// Enables or disables the account for the operator `by`. `operators` is the number of active operators. False: it already is in that
    /// state.
    pub fn set_active(&mut self, active: bool, by: MemberId, operators: usize) -> Result<bool, Refusal> {
        let wanted = if active { MemberState::Active } else { MemberState::Disabled };
        if self.state == MemberState::Closed {
            return Err(Code::NotFound.into());
        }
        if self.id == by && !active {
            return Err(Refusal::new(Code::Forbidden, "An operator cannot disable its own account."));
        }
        if self.state == wanted {
            return Ok(false);
        }
        self.check_not_last(operators)?;
        self.state = wanted;
        self.version += 1;
        Ok(true)
    }

    /// Makes a customer a seller. False: the role stays unchanged.
    pub fn make_seller(&mut self) -> bool {
        if self.role != Role::Customer || self.state == MemberState::Closed {
            return false;
        }
        self.role = Role::Seller;
        self.version += 1;
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use uuid::Uuid;

    const NOW: Timestamp = Timestamp(1_000_000);

    fn member(role: Role) -> Member {
        let email = Email::parse("Minji@example.com").unwrap();
        Member::new(MemberId(Uuid::from_u128(1)), &email, "Minji".into(), Some("01012345678".into()), "hash".into(), role, NOW)
    }

    #[test]
    fn closing_erases_personal_data_and_ends_access() {
        let mut member = member(Role::Customer);
        assert_eq!(member.close(0, NOW), Ok(true));
        assert_eq!(member.close(0, NOW), Ok(false), "closing twice changes nothing");
        assert_eq!((&member.email_normalized, member.email.as_str(), member.name.as_str(), &member.phone), (&None, "", "", &None));
        assert_eq!(member.confirm_password("hash"), Err(Code::BadCredentials));
        assert_eq!(member.confirm_password(UNUSABLE_PASSWORD), Err(Code::BadCredentials));
        assert_eq!(member.edit(&MemberChanges::default()), Err(Code::Unauthenticated));
        assert_eq!(member.set_active(true, MemberId(Uuid::from_u128(9)), 1).map_err(|refusal| refusal.code), Err(Code::NotFound));
    }

    #[test]
    fn a_password_changed_meanwhile_is_refused() {
        let mut member = member(Role::Customer);
        let to = |from: &str, to: &str| MemberChanges {
            name: Some("New name".into()),
            password: Some(NewPassword { verified_hash: from.into(), hash: to.into() }),
            ..MemberChanges::default()
        };
        assert_eq!(member.edit(&to("hash", "second")), Ok(()));
        assert_eq!(member.confirm_password("hash"), Err(Code::BadCredentials));
        assert_eq!(member.confirm_password("second"), Ok(()));
        let before = member.clone();
        assert_eq!(member.edit(&to("hash", "third")), Err(Code::BadCredentials));
        assert_eq!(member, before, "a refused edit changes nothing");
    }

    #[test]
    fn an_unusable_password_is_always_refused() {
        let mut member = member(Role::Customer);
        member.password_hash = UNUSABLE_PASSWORD.into();
        assert_eq!(member.confirm_password(UNUSABLE_PASSWORD), Err(Code::BadCredentials));
    }

    #[test]
    fn only_a_customer_becomes_a_seller_and_only_once() {
        let mut customer = member(Role::Customer);
        assert!(customer.make_seller());
        assert!(!customer.make_seller());
        assert_eq!(customer.role, Role::Seller);
        let mut operator = member(Role::Operator);
        assert!(!operator.make_seller());
        assert_eq!(operator.role, Role::Operator);
    }

    #[test]
    fn an_operator_can_disable_others_but_not_itself() {
        let mut operator = member(Role::Operator);
        assert_eq!(operator.set_active(false, operator.id, 2).map_err(|refusal| refusal.code), Err(Code::Forbidden));
        let mut other = member(Role::Customer);
        let by = MemberId(Uuid::from_u128(9));
        assert_eq!(other.set_active(false, by, 1), Ok(true));
        assert_eq!(other.set_active(false, by, 1), Ok(false));
        assert_eq!(other.confirm_password("hash"), Err(Code::BadCredentials));
        assert_eq!(other.set_active(true, by, 1), Ok(true));
        assert_eq!(other.confirm_password("hash"), Ok(()));
    }

    // M6
    #[test]
    fn the_last_operator_keeps_its_rights() {
        let (by, code) = (MemberId(Uuid::from_u128(9)), |refusal: Refusal| refusal.code);
        let mut last = member(Role::Operator);
        let before = last.clone();
        assert_eq!(last.close(1, NOW).map_err(code), Err(Code::LastOperator));
        assert_eq!(last.set_active(false, by, 1).map_err(code), Err(Code::LastOperator));
        assert_eq!(last.demote(Role::Customer, 1).map_err(code), Err(Code::LastOperator));
        assert_eq!(last, before, "a refused change changes nothing");
        let mut one_of_two = member(Role::Operator);
        assert_eq!(one_of_two.demote(Role::Seller, 2), Ok(true));
        assert_eq!((one_of_two.role, one_of_two.demote(Role::Customer, 1)), (Role::Seller, Ok(false)));
        assert_eq!(one_of_two.close(1, NOW), Ok(true), "it is no operator any more");
        // A disabled operator has no rights to lose.
        let mut disabled = member(Role::Operator);
        assert_eq!(disabled.set_active(false, by, 2), Ok(true));
        assert_eq!(disabled.close(1, NOW), Ok(true));
    }
}
