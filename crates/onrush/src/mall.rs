//! The list of services, and a process that runs them.

use crate::settings::Settings;
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
use std::{
    fs::{File, OpenOptions, TryLockError},
    io::{Read, Write},
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
                let folder =
                    |error: std::io::Error| MallError::Folder { path: settings.data_dir.display().to_string(), reason: error.to_string() };
                std::fs::create_dir_all(&settings.data_dir).map_err(folder)?;
                let lock = lock(&settings.data_dir)?;
                (given.map_or_else(|| load_or_create_secret(&settings.data_dir), Ok)?, Some(lock))
            }
        };
        let process_settings = ProcessSettings {
            database: settings.database_settings(),
            kafka: settings.kafka.clone(),
            apart: settings.split.clone(),
            redis: settings.redis.clone(),
            engine: EngineSettings { fold: settings.fold, max_batch: settings.max_batch },
            queue: settings.queue,
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

/// The key that signs tokens and cursors. It is created at the first start and stored with the data, so tokens survive a restart.
pub fn load_or_create_secret(folder: &Path) -> Result<[u8; 32], MallError> {
    let path = folder.join("secret.key");
    let error = |error: std::io::Error| MallError::Folder { path: path.display().to_string(), reason: error.to_string() };
    let mut options = OpenOptions::new();
    options.create_new(true).write(true);
    #[cfg(unix)]
    {
        use std::os::unix::fs::OpenOptionsExt;
        options.mode(0o600);
    }
    match options.open(&path) {
        Ok(mut file) => {
            let secret: [u8; 32] = random_bytes();
            file.write_all(&secret).and_then(|()| file.sync_all()).map_err(error)?;
            Ok(secret)
        }
        Err(exists) if exists.kind() == std::io::ErrorKind::AlreadyExists => {
            let mut bytes = Vec::new();
            File::open(&path).and_then(|mut file| file.read_to_end(&mut bytes)).map_err(error)?;
            bytes.try_into().map_err(|_| MallError::Secret(path.display().to_string()))
        }
        Err(failed) => Err(error(failed)),
    }
}
