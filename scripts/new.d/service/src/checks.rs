//! The invariants of @service@.

use kit::Invariant;

pub fn checks() -> Vec<Invariant> {
    vec![Invariant::always("@INVARIANT@", "every entry of @service@ has a name", "select id from @service@_entries where name=''")]
}
