//! Runs a statement on a connection: once, or for many rows of parameters.

use super::{
    PgError, PgServer,
    bulk::{Bulk, BulkKind},
    prepare::{Hints, find_hints},
    values::{ParamRows, integer_column},
};
use crate::Param;
use deadpool_postgres::ClientWrapper;
use futures::{StreamExt, TryStreamExt, stream::FuturesOrdered};
use std::{ops::Range, sync::Arc};
use tokio_postgres::{Row, Statement, types::Type};

/// Statements in flight at a time: enough to hide the network latency, and a bound for the buffers.
const MAX_PIPELINED: usize = 256;
/// Maximum number of parameter rows in one statement, which bounds memory on both sides.
const MAX_BULK_ROWS: usize = 2_048;

pub async fn execute(server: &PgServer, client: &ClientWrapper, sql: &str, params: &[Param<'_>]) -> Result<u64, PgError> {
    let statement = prepare(server, client, sql).await?;
    client.execute_raw(&statement, params.iter().copied()).await
}

pub async fn query(server: &PgServer, client: &ClientWrapper, sql: &str, params: &[Param<'_>]) -> Result<Vec<Row>, PgError> {
    let statement = prepare(server, client, sql).await?;
    client.query_raw(&statement, params.iter().copied()).await?.try_collect().await
}

/// The number of changed rows for each row of parameters.
pub async fn execute_many(server: &PgServer, client: &ClientWrapper, sql: &str, rows: &ParamRows) -> Result<Vec<u64>, PgError> {
    let Some(bulk) = find_bulk(server, client, sql, rows).await? else {
        return execute_each(server, client, sql, rows).await;
    };
    let mut changed = vec![u64::from(bulk.kind == BulkKind::Insert); rows.len()];
    for chunk in chunks(rows) {
        let found = run_bulk(client, &bulk, rows, chunk.clone()).await?;
        for row in &found {
            // The ordinal is always the last column.
            let place = integer_column(row, row.len() - 1)? - 1;
            if let Some(count) = usize::try_from(place).ok().and_then(|place| changed.get_mut(chunk.start + place)) {
                *count += 1;
            }
        }
    }
    Ok(changed)
}

/// All rows found, one result after the other. Further columns may follow the requested ones.
pub async fn query_many(server: &PgServer, client: &ClientWrapper, sql: &str, rows: &ParamRows) -> Result<Vec<Row>, PgError> {
    let Some(bulk) = find_bulk(server, client, sql, rows).await? else {
        return query_each(server, client, sql, rows).await;
    };
    let mut found = Vec::new();
    for chunk in chunks(rows) {
        found.append(&mut run_bulk(client, &bulk, rows, chunk).await?);
    }
    Ok(found)
}

fn chunks(rows: &ParamRows) -> impl Iterator<Item = Range<usize>> + use<> {
    let all = rows.len();
    (0..all).step_by(MAX_BULK_ROWS).map(move |from| from..all.min(from + MAX_BULK_ROWS))
}

async fn run_bulk(client: &ClientWrapper, bulk: &Bulk, rows: &ParamRows, chunk: Range<usize>) -> Result<Vec<Row>, PgError> {
    let statement = client.prepare_cached(&bulk.sql).await?;
    let columns: Vec<Vec<Param<'_>>> = (0..rows.width()).map(|place| rows.column(place, chunk.clone()).collect()).collect();
    client.query_raw(&statement, columns).await?.try_collect().await
}

/// The rewritten text for these rows. `None`: they must run one by one.
async fn find_bulk(server: &PgServer, client: &ClientWrapper, sql: &str, rows: &ParamRows) -> Result<Option<Arc<Bulk>>, PgError> {
    if rows.len() < 2 {
        return Ok(None);
    }
    let known = server.0.bulks.lock().get(sql).cloned();
    let bulk = match known {
        Some(bulk) => bulk,
        None => {
            let statement = prepare(server, client, sql).await?;
            let bulk = Bulk::of(sql, statement.params()).map(Arc::new);
            server.0.bulks.lock().insert(sql.to_owned(), bulk.clone());
            bulk
        }
    };
    Ok(bulk.filter(|bulk| bulk.accepts(rows)))
}

/// One statement for each row, all sent before the first answer is awaited.
async fn execute_each(server: &PgServer, client: &ClientWrapper, sql: &str, rows: &ParamRows) -> Result<Vec<u64>, PgError> {
    let statement = prepare(server, client, sql).await?;
    let mut changed = Vec::with_capacity(rows.len());
    let mut running = FuturesOrdered::new();
    for row in 0..rows.len() {
        running.push_back(client.execute_raw(&statement, rows.params(row)));
        if running.len() == MAX_PIPELINED || row + 1 == rows.len() {
            while let Some(count) = running.next().await.transpose()? {
                changed.push(count);
            }
        }
    }
    Ok(changed)
}

/// One query for each row, all sent before the first answer is awaited.
async fn query_each(server: &PgServer, client: &ClientWrapper, sql: &str, rows: &ParamRows) -> Result<Vec<Row>, PgError> {
    let statement = prepare(server, client, sql).await?;
    let mut found = Vec::new();
    let mut running = FuturesOrdered::new();
    for row in 0..rows.len() {
        let params = rows.params(row);
        running.push_back(async { client.query_raw(&statement, params).await?.try_collect::<Vec<Row>>().await });
        if running.len() == MAX_PIPELINED || row + 1 == rows.len() {
            while let Some(mut rows) = running.next().await.transpose()? {
                found.append(&mut rows);
            }
        }
    }
    Ok(found)
}

/// The prepared statement of a text, from the connection's cache.
async fn prepare(server: &PgServer, client: &ClientWrapper, sql: &str) -> Result<Statement, PgError> {
    let (probe, wide) = match find_hints(sql) {
        Hints::None => return client.prepare_cached(sql).await,
        Hints::Types(types) => return client.prepare_typed_cached(sql, &types).await,
        Hints::Ask(probe, wide) => (probe, wide),
    };
    let known = server.0.types.lock().get(sql).cloned();
    let types: Arc<[Type]> = match known {
        Some(types) => types,
        None => {
            let types: Arc<[Type]> = client.prepare_typed(&probe, &wide).await?.params().into();
            server.0.types.lock().insert(sql.to_owned(), Arc::clone(&types));
            types
        }
    };
    client.prepare_typed_cached(sql, &types).await
}
