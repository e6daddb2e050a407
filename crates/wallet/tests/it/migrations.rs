//! Applied migrations must not change: a start compares their numbers, names and texts with the history in the database.

use kit::{Service, db::Migration, process::detached_kit};
use wallet::{Wallet, WalletSettings};

#[test]
fn the_macro_numbers_the_files_and_takes_their_texts() {
    let by_hand = [
        Migration::new(1, "init", include_str!("../../migrations/V1__init.sql")),
        Migration::new(2, "append_only", include_str!("../../migrations/V2__append_only.sql"))
            .on_postgres(include_str!("../../migrations/V2__append_only.postgres.sql")),
        Migration::only_postgres(3, "room", include_str!("../../migrations/V3__room.postgres.sql")),
        Migration::new(4, "closing", include_str!("../../migrations/V4__closing.sql"))
            .on_postgres(include_str!("../../migrations/V4__closing.postgres.sql")),
    ];
    let wallet = Wallet::new(detached_kit(), WalletSettings::default());
    assert_eq!(wallet.migrations(), by_hand);
}
