//! Invariants: statements about a service's tables that its transactions keep. The audit of the binary checks them.

use std::borrow::Cow;

/// Moments at which an invariant must hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HoldsWhen {
    /// Holds at every commit.
    Always,
    /// Holds at every commit, but compares data of two services, so both must be read at one moment.
    OneMoment,
    /// Holds when no message is under way and no saga runs.
    Quiet,
}

/// One invariant, as a query for its violations.
pub struct Invariant {
    pub id: &'static str,
    pub when: HoldsWhen,
    pub title: &'static str,
    /// Finds the violations, in SQL of SQLite. `:now` is the time of the audit, in microseconds.
    pub sql: Cow<'static, str>,
}

impl Invariant {
    pub fn always(id: &'static str, title: &'static str, sql: impl Into<Cow<'static, str>>) -> Invariant {
        Invariant { id, when: HoldsWhen::Always, title, sql: sql.into() }
    }

    pub fn one_moment(id: &'static str, title: &'static str, sql: impl Into<Cow<'static, str>>) -> Invariant {
        Invariant { id, when: HoldsWhen::OneMoment, title, sql: sql.into() }
    }

    pub fn quiet(id: &'static str, title: &'static str, sql: impl Into<Cow<'static, str>>) -> Invariant {
        Invariant { id, when: HoldsWhen::Quiet, title, sql: sql.into() }
    }
}
