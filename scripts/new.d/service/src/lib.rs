//! @Service@: entries of members.
//!
//! Owns entries. It shows an entry only to its member, and trusts that the member exists.

mod api;
mod checks;
mod model;
mod store;

use kit::Kit;

pub struct @Service@ {
    kit: Kit,
}

impl @Service@ {
    pub fn new(kit: Kit) -> @Service@ {
        @Service@ { kit }
    }
}

kit::module! {
    impl Module for @Service@ {
        name: "@service@",
        migrations: kit::migrations!("init"),
        checks: checks::checks,
        router: api::router,
    }
}
