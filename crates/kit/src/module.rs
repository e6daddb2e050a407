//! The module trait, and the kit that a process gives to each service.

use auth::{Auth, cookie::Cookies, limits::Limits};
use cache::redis::Redis;
use db::Db;
use engine::{Batch, Fault, Service, jobs::Job};
use futures::future::BoxFuture;
use kafka::RequestLogs;
use peers::links::{CallHandlers, Links};
use runtime::{ports::Clock, tasks::Draining};
use std::{collections::HashMap, sync::Arc};
use utoipa_axum::router::OpenApiRouter;
use web::Cursors;

/// The parts that a service gets from its process. Cheap to clone.
#[derive(Clone)]
pub struct Kit {
    pub batch: Batch,
    pub db: Db,
    /// Databases of services that have one of their own.
    pub(crate) databases: Arc<HashMap<&'static str, Db>>,
    pub clock: Arc<dyn Clock>,
    pub auth: Auth,
    /// Limits on what callers may take.
    pub limits: Arc<Limits>,
    /// State shared with other processes, if configured. Never the source of truth.
    pub redis: Option<Redis>,
    /// Log of requests that are executed later. `None` without Kafka.
    pub requests: Option<RequestLogs>,
    pub links: Links,
    pub cursors: Cursors,
    pub draining: Draining,
}

impl Kit {
    /// The kit for one service, with the service's own database if it has one.
    #[must_use]
    pub fn for_service(&self, service: &str) -> Kit {
        Kit { db: self.db_of(service).clone(), ..self.clone() }
    }

    pub(crate) fn db_of(&self, service: &str) -> &Db {
        self.databases.get(service).unwrap_or(&self.db)
    }

    /// True when other processes may write the tables that this one reads. Copies in memory must then expire soon.
    pub fn is_shared(&self) -> bool {
        self.db.is_postgres()
    }
}

/// The part of a service that its process runs: routes, calls, jobs, cookies and the start. The engine runs the rest, [`Service`].
/// The macro [`module!`](crate::module!) implements both.
pub trait Module: Service {
    fn kit(&self) -> &Kit;

    /// Routes with their documentation.
    fn router(self: Arc<Self>) -> OpenApiRouter {
        OpenApiRouter::new()
    }

    /// Registers the calls that this service answers.
    fn register_calls(self: Arc<Self>, handlers: &mut CallHandlers) {
        let _ = handlers;
    }

    /// The periodic jobs of this service.
    fn jobs(self: Arc<Self>) -> Vec<Job> {
        Vec::new()
    }

    /// The cookie authority, where this service issues cookies. Asked for in every process, also where the service does not run.
    fn cookies(self: Arc<Self>) -> Option<Arc<dyn Cookies>> {
        None
    }

    /// Runs once before requests are served: caches, gates, bootstrapping.
    fn start(self: Arc<Self>) -> BoxFuture<'static, Result<(), Fault>> {
        Box::pin(async { Ok(()) })
    }

    /// Runs instead of [`Module::start`] in a process without this service, for state that every process needs.
    fn start_remote(self: Arc<Self>) {}
}

/// Implements [`Service`] and [`Module`] for a type `S` with a field `kit`, from a table of its parts.
///
/// Every part but the name is optional. Their order is fixed.
///
/// - `name`: the name of the service and its stream, and the prefix of its tables.
/// - `migrations`: a table of migrations, made by [`migrations!`](db::migrations!).
/// - `checks`: a `fn() -> Vec<Invariant>`.
/// - `reads`: the kinds of messages it acts on.
/// - `consume`: an `async fn(&S, &mut Work, &[&Envelope]) -> Result<(), Fault>`.
/// - `flush`: an `async fn(&S, &mut Work) -> Result<(), Fault>`.
/// - `on_notification`: a `fn(&S, Option<&str>)`.
/// - `router`: a `fn(Arc<S>) -> OpenApiRouter`.
/// - `calls`: a `fn(&Arc<S>, &mut CallHandlers)` that registers the calls it answers.
/// - `jobs`: a `fn(&Arc<S>) -> Vec<Job>`.
/// - `cookies`: a `fn(&S) -> Arc<dyn Cookies>`.
/// - `start`: an `async fn(Arc<S>) -> Result<(), Fault>`.
/// - `start_remote`: a `fn(&Arc<S>)`.
///
/// The methods of the two traits document the duties of each part.
#[macro_export]
macro_rules! module {
    (impl Module for $module:ty {
        name: $name:expr,
        $(migrations: $migrations:expr,)?
        $(checks: $checks:path,)?
        $(reads: $reads:expr,)?
        $(consume: $consume:path,)?
        $(flush: $flush:path,)?
        $(on_notification: $on_notification:path,)?
        $(router: $router:path,)?
        $(calls: $calls:path,)?
        $(jobs: $jobs:path,)?
        $(cookies: $cookies:path,)?
        $(start: $start:path,)?
        $(start_remote: $start_remote:path,)?
    }) => {
        impl $crate::engine::Service for $module {
            fn name(&self) -> &'static str {
                $name
            }
            $(fn migrations(&self) -> &'static [$crate::db::Migration] {
                $migrations
            })?
            $(fn checks() -> Vec<$crate::engine::Invariant> {
                $checks()
            })?
            $(fn reads(&self) -> &'static [$crate::module::macro_types::Kind] {
                $reads
            })?
            $(fn consume<'a>(
                &'a self,
                work: &'a mut $crate::engine::Work,
                messages: &'a [&'a $crate::engine::Envelope],
            ) -> $crate::module::macro_types::BoxFuture<'a, Result<(), $crate::engine::Fault>> {
                Box::pin($consume(self, work, messages))
            })?
            $(fn flush<'a>(
                &'a self,
                work: &'a mut $crate::engine::Work,
            ) -> $crate::module::macro_types::BoxFuture<'a, Result<(), $crate::engine::Fault>> {
                Box::pin($flush(self, work))
            })?
            $(fn on_notification(&self, text: Option<&str>) {
                $on_notification(self, text);
            })?
        }

        impl $crate::module::Module for $module {
            fn kit(&self) -> &$crate::module::Kit {
                &self.kit
            }
            $(fn router(self: std::sync::Arc<Self>) -> $crate::module::macro_types::OpenApiRouter {
                $router(self)
            })?
            $(fn register_calls(self: std::sync::Arc<Self>, handlers: &mut $crate::links::CallHandlers) {
                $calls(&self, handlers);
            })?
            $(fn jobs(self: std::sync::Arc<Self>) -> Vec<$crate::jobs::Job> {
                $jobs(&self)
            })?
            $(fn cookies(self: std::sync::Arc<Self>) -> Option<std::sync::Arc<dyn $crate::auth::cookie::Cookies>> {
                Some($cookies(&self))
            })?
            $(fn start(
                self: std::sync::Arc<Self>,
            ) -> $crate::module::macro_types::BoxFuture<'static, Result<(), $crate::engine::Fault>> {
                Box::pin($start(self))
            })?
            $(fn start_remote(self: std::sync::Arc<Self>) {
                $start_remote(&self);
            })?
        }
    };
}

/// Types that the code of [`module!`](crate::module!) names.
#[doc(hidden)]
pub mod macro_types {
    pub use contracts::Kind;
    pub use futures::future::BoxFuture;
    pub use utoipa_axum::router::OpenApiRouter;
}
