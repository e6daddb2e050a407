//! Behaviour of SQLite only.

use super::TestDb;
use kit::{Db, DbError, Tx, db::Synchronous};
use testkit::TempFolder;

#[test]
fn disk_errors_are_classified() {
    use rusqlite::{Error, ffi};
    let failed = |code| DbError::from(Error::SqliteFailure(ffi::Error::new(code), Some("text".into())));
    assert!(matches!(failed(ffi::SQLITE_FULL), DbError::DiskFull));
    for code in [ffi::SQLITE_IOERR_FSYNC, ffi::SQLITE_IOERR_WRITE, ffi::SQLITE_CANTOPEN, ffi::SQLITE_READONLY] {
        assert!(matches!(failed(code), DbError::Io(_)), "{code}");
    }
    for code in [ffi::SQLITE_BUSY, ffi::SQLITE_BUSY_SNAPSHOT, ffi::SQLITE_LOCKED] {
        assert!(matches!(failed(code), DbError::Busy), "{code}");
    }
    assert!(matches!(failed(ffi::SQLITE_INTERRUPT), DbError::Slow));
    // finding 3, finding 13: damage and trouble of the system are never the message's fault.
    for code in [ffi::SQLITE_CORRUPT, ffi::SQLITE_CORRUPT_INDEX, ffi::SQLITE_NOTADB] {
        assert!(matches!(failed(code), DbError::Damaged(_)) && failed(code).is_outage(), "{code}");
    }
    for code in [ffi::SQLITE_NOMEM, ffi::SQLITE_PROTOCOL] {
        assert!(matches!(failed(code), DbError::Server(_)) && failed(code).is_outage(), "{code}");
    }
    for code in [ffi::SQLITE_ERROR, ffi::SQLITE_MISMATCH, ffi::SQLITE_TOOBIG] {
        assert!(matches!(failed(code), DbError::Sqlite(_)) && !failed(code).is_outage(), "{code}");
    }
}

#[tokio::test]
async fn commits_are_synced_unless_configured_otherwise() {
    let folder = TempFolder::new();
    for (synchronous, number) in [(Synchronous::Full, 2), (Synchronous::Normal, 1)] {
        let mut tx = Db::sqlite(folder.path().join("kit.db"), synchronous).open_writer().await.unwrap();
        let pragma = |tx: &mut Tx, name| {
            let connection = tx.sqlite().expect("a file");
            connection.pragma_query_value(None, name, |row| row.get::<_, rusqlite::types::Value>(0)).unwrap()
        };
        assert_eq!(pragma(&mut tx, "synchronous"), rusqlite::types::Value::Integer(number));
        assert_eq!(pragma(&mut tx, "journal_mode"), rusqlite::types::Value::Text("wal".into()));
    }
    assert_eq!(Synchronous::default(), Synchronous::Full);
}

#[tokio::test]
async fn an_uncreatable_folder_is_reported() {
    let folder = TempFolder::new();
    std::fs::write(folder.path().join("file"), "").unwrap();
    let refused = Db::sqlite(folder.path().join("file").join("kit.db"), Synchronous::Full).open_writer().await;
    assert!(matches!(&refused, Err(DbError::Open(text)) if text.contains("file")), "{refused:?}");
}

#[tokio::test]
async fn a_file_has_a_path_and_no_notifications() {
    let test_db = TestDb::sqlite().await;
    assert!(test_db.db.path().is_some_and(|path| path.ends_with("new/kit.db")));
    assert!(!test_db.db.is_postgres());
    test_db.db.check().await.unwrap();
    assert!(matches!(test_db.db.notifications("news").await, Err(DbError::Open(_))));
}
