//! The list of services, and a process that runs them.

use crate::{private, settings::Settings};
use accounts::{Accounts, AccountsSettings};
use catalog::Catalog;
use contracts::Won;
use coupons::{Coupons, CouponsSettings};
use kit::{
    Invariant, Kit, Module,
    engine::{EngineSettings, Fault},
    ports::{Clock, SystemClock, random_bytes},
    process::{Process, ProcessSettings},
    testing::Faults,
};
use orders::{Orders, OrdersSettings};
use payments::{Payments, PaymentsSettings};
use rusqlite::{Connection, OpenFlags};
use std::{
    fs::{File, OpenOptions, TryLockError},
    io::Read,
    path::Path,
    sync::Arc,
};
use stock::Stock;
use stores::Stores;
use wallet::{Wallet, WalletSettings};

/// Reasons why a mall cannot open.
#[derive(Debug, thiserror::Error)]
pub enum MallError {
    #[error("{path}: {reason}")]
    Folder { path: String, reason: String },
    #[error("{0} is in use by another onrush process; only one process may write, only `audit` may run beside it")]
    InUse(String),
    #[error("the signing key in {0} is damaged: it must be 32 bytes")]
    Secret(String),
    #[error(
        "{0} is missing, and the database beside it has members: put the key of this mall back, or give it with --secret. To begin with \
         a new key, which signs all members out: (umask 077; head -c 32 /dev/urandom > {0})"
    )]
    SecretMissing(String),
    #[error("{0} can be read or written by other users, who could sign tokens with it: chmod 600 {0}")]
    SecretExposed(String),
    #[error(transparent)]
    Fault(#[from] Fault),
}

/// A service of the mall.
pub struct MallService {
    pub name: &'static str,
    build: fn(Kit, &Settings) -> Arc<dyn Module>,
    /// The invariants of its tables.
    pub checks: fn() -> Vec<Invariant>,
}

const fn service<S: Module>(name: &'static str, build: fn(Kit, &Settings) -> Arc<dyn Module>) -> MallService {
    MallService { name, build, checks: S::checks }
}

/// All services, in the order in which a checkout needs them.
pub const SERVICES: &[MallService] = &[
    service::<Accounts>("accounts", |kit, settings| Arc::new(Accounts::new(kit, AccountsSettings { operator: settings.operator.clone() }))),
    service::<Stores>("stores", |kit, _| Arc::new(Stores::new(kit))),
    service::<Catalog>("catalog", |kit, _| Arc::new(Catalog::new(kit))),
    service::<Orders>("orders", |kit, settings| {
        Arc::new(Orders::new(kit, OrdersSettings { unpaid_timeout: settings.unpaid_timeout, saga: settings.saga, unpaid: settings.unpaid }))
    }),
    service::<Stock>("stock", |kit, _| Arc::new(Stock::new(kit))),
    service::<Coupons>("coupons", |kit, settings| {
        Arc::new(Coupons::new(kit, CouponsSettings { strategy: settings.claim_strategy, ..CouponsSettings::default() }))
    }),
    service::<Wallet>("wallet", |kit, settings| {
        Arc::new(Wallet::new(kit, WalletSettings { charge_unit: Won(settings.charge_unit), ..WalletSettings::default() }))
    }),
    service::<Payments>("payments", |kit, settings| {
        let (test_provider, book) = (settings.test_provider, Some(settings.provider_book()));
        Payments::new(kit, PaymentsSettings { test_provider, book, ..PaymentsSettings::default() })
    }),
];

/// Builds every service, each with its own kit.
pub fn services(kit: &Kit, settings: &Settings) -> Vec<Arc<dyn Module>> {
    SERVICES.iter().map(|service| (service.build)(kit.for_service(service.name), settings)).collect()
}

/// A running mall, with the lock that keeps other writers out of its folder.
pub struct Mall {
    pub process: Process,
    _lock: Option<File>,
}

impl Mall {
    pub async fn open(settings: &Settings) -> Result<Mall, MallError> {
        Self::open_with(settings, Arc::new(SystemClock), Faults::default()).await
    }

    pub async fn open_with(settings: &Settings, clock: Arc<dyn Clock>, faults: Faults) -> Result<Mall, MallError> {
        let (secret, lock) = match (&settings.postgres, settings.secret) {
            // Several processes may share one database, and they need no folder.
            (Some(_), Some(secret)) => (secret, None),
            (_, given) => {
                open_folder(&settings.data_dir)?;
                let lock = lock(&settings.data_dir)?;
                (given.map_or_else(|| load_or_create_secret(&settings.data_dir), Ok)?, Some(lock))
            }
        };
        let process_settings = ProcessSettings {
            database: settings.database_settings(),
            kafka: settings.kafka.clone(),
            apart: settings.split.clone(),
            redis: settings.redis.clone(),
            engine: EngineSettings { fold: settings.fold, max_batch: settings.max_batch, dead_letter_after: settings.dead_letter_after },
            queue: settings.queue,
            limits: settings.limits.clone(),
            secret,
            clock,
            faults,
        };
        let process = Process::start(process_settings, |kit| services(kit, settings)).await?;
        Ok(Mall { process, _lock: lock })
    }

    /// Stops the process. The folder stays locked until the caller drops the returned file.
    pub async fn stop_keeping_lock(self) -> Option<File> {
        let Mall { process, _lock: lock } = self;
        process.stop().await;
        lock
    }
}

/// Locks a folder against other processes until the caller drops the returned file.
pub(crate) fn lock(folder: &Path) -> Result<File, MallError> {
    let path = folder.join("onrush.lock");
    let error = |error: std::io::Error| MallError::Folder { path: path.display().to_string(), reason: error.to_string() };
    let file = OpenOptions::new().create(true).truncate(false).write(true).open(&path).map_err(error)?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(MallError::InUse(folder.display().to_string())),
        Err(TryLockError::Error(failed)) => Err(error(failed)),
    }
}

/// Name of the file with the key that signs tokens and cursors.
const SECRET_FILE: &str = "secret.key";

/// Files of a mall that earlier versions created with the rights of the umask.
const DATA_FILES: &[&str] =
    &["onrush.db", "onrush.db-wal", "onrush.db-shm", "test-provider.db", "test-provider.db-wal", "test-provider.db-shm", "onrush.lock"];

/// Creates or checks the data folder.
pub(crate) fn open_folder(folder: &Path) -> Result<(), MallError> {
    private::open_data_folder(folder, DATA_FILES)
        .map_err(|error| MallError::Folder { path: folder.display().to_string(), reason: error.to_string() })
}

/// The key that signs tokens and cursors. It is created at the first start and stored with the data, so tokens survive a restart.
/// `Err`: it is missing beside a database with members, whose sessions a new key would end.
fn load_or_create_secret(folder: &Path) -> Result<[u8; 32], MallError> {
    if let Some(secret) = load_secret(folder)? {
        return Ok(secret);
    }
    let path = folder.join(SECRET_FILE);
    let display = path.display().to_string();
    if has_members(&folder.join("onrush.db")) {
        return Err(MallError::SecretMissing(display));
    }
    let secret: [u8; 32] = random_bytes();
    match private::create_new(&path, &secret) {
        Ok(true) => Ok(secret),
        // Another process was faster.
        Ok(false) => load_secret(folder)?.ok_or(MallError::Secret(display)),
        Err(error) => Err(MallError::Folder { path: display, reason: error.to_string() }),
    }
}

/// The key in this folder. `None`: there is none.
pub(crate) fn load_secret(folder: &Path) -> Result<Option<[u8; 32]>, MallError> {
    let path = folder.join(SECRET_FILE);
    let display = path.display().to_string();
    let error = |error: std::io::Error| MallError::Folder { path: display.clone(), reason: error.to_string() };
    let mut file = match File::open(&path) {
        Ok(file) => file,
        Err(missing) if missing.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(failed) => return Err(error(failed)),
    };
    if private::is_open_to_others(&file).map_err(error)? {
        return Err(MallError::SecretExposed(display));
    }
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes).map_err(error)?;
    bytes.try_into().map(Some).map_err(|_| MallError::Secret(display))
}

/// True if the database has members. A database that cannot be read has none: its opening reports the reason.
fn has_members(database: &Path) -> bool {
    let read = || -> rusqlite::Result<bool> {
        let connection = Connection::open_with_flags(database, OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX)?;
        connection.query_row("select exists(select 1 from accounts_members)", [], |row| row.get(0))
    };
    database.exists() && read().unwrap_or(false)
}
