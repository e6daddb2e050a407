//! Templates of test databases: databases with the tables of some services and no rows, which tests copy.
//!
//! A template is named after the text of its migrations. It stays on the server, so that all later tests and processes copy it.

use kit::{
    db::{Db, DbError, ScratchDatabase},
    engine::{engine_tables, migrate_tables},
    module::Module,
};
use std::{
    hash::{DefaultHasher, Hash, Hasher},
    sync::Arc,
};
use tokio_postgres::Client;

const NAME_PREFIX: &str = "onrush_template";

/// The name of the template with the tables of these services. Creates it unless it exists.
pub(super) async fn provide(client: &Client, server: &str, services: &[Arc<dyn Module>]) -> Result<String, DbError> {
    let name = name_of(services);
    if !exists(client, &name).await {
        // Held until the client disconnects: of several test processes, one creates the template and the others wait.
        client.execute("select pg_advisory_lock(hashtext($1))", &[&name]).await.expect("the lock has no timeout");
        if !exists(client, &name).await {
            create(server, &name, services).await?;
        }
    }
    Ok(name)
}

fn name_of(services: &[Arc<dyn Module>]) -> String {
    let mut tables: Vec<_> =
        services.iter().map(|service| (engine_tables(service.name(), true), format!("{:?}", service.migrations()))).collect();
    tables.sort();
    let mut hasher = DefaultHasher::new();
    tables.hash(&mut hasher);
    format!("{NAME_PREFIX}_{:016x}", hasher.finish())
}

async fn exists(client: &Client, name: &str) -> bool {
    client.query_opt("select 1 from pg_database where datname=$1", &[&name]).await.expect("the query runs").is_some()
}

/// The template gets its name last, so that a crash leaves only an unfinished one, which the next test removes.
async fn create(server: &str, name: &str, services: &[Arc<dyn Module>]) -> Result<(), DbError> {
    let unfinished = ScratchDatabase::named(server, &format!("{name}_unfinished"));
    unfinished.remove().await?;
    unfinished.create_from("template0").await?;
    migrate_all(&unfinished.url(), services).await?;
    unfinished.rename(name).await.map(drop)
}

async fn migrate_all(url: &str, services: &[Arc<dyn Module>]) -> Result<(), DbError> {
    let names: Vec<&str> = services.iter().map(|service| service.name()).collect();
    let mut tx = Db::postgres_with(url, &names, 1)?.open_writer().await?;
    for service in services {
        migrate_tables(&mut tx, service.as_ref()).await?;
    }
    Ok(())
}
