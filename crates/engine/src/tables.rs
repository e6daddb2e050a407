//! The engine's tables for each service: stream, positions, deliveries, dead letters, idempotency keys and leases.

use super::{fault::Fault, log, position::Stream};
use crate::Service;
use contracts::Timestamp;
use db::{DbError, Tx, migrate, migrate_text};

/// Tables of a service. Only idempotency keys have a row id on SQLite: an answer of two kilobytes does not fit a page of a keyed table,
/// and would take an overflow page of its own.
fn base_tables(service: &str) -> String {
    format!(
        "create table if not exists {service}_stream (epoch BIGINT primary key, started_at BIGINT not null);
         create table if not exists {service}_outbox (
             epoch BIGINT not null, partition BIGINT not null, seq BIGINT not null,
             key UUID not null, kind TEXT not null, data TEXT not null, at BIGINT not null, trace UUID,
             primary key (epoch, partition, seq)) without rowid;
         create table if not exists {service}_positions (
             source TEXT not null, epoch BIGINT not null, partition BIGINT not null, seq BIGINT not null,
             primary key (source, epoch, partition)) without rowid;
         create table if not exists {service}_deliveries (
             source TEXT not null, epoch BIGINT not null, partition BIGINT not null,
             from_seq BIGINT not null, to_seq BIGINT not null, at BIGINT not null,
             primary key (source, epoch, partition, from_seq)) without rowid;
         create table if not exists {service}_dead_letters (
             source TEXT not null, epoch BIGINT not null, partition BIGINT not null, seq BIGINT not null,
             key UUID not null, kind TEXT not null, data TEXT not null, written_at BIGINT not null, trace UUID, error TEXT not null,
             state TEXT not null check (state = 'dead' or state = 'parked' or state = 'redrive' or state = 'resolved'),
             at BIGINT not null, resolved_at BIGINT,
             primary key (source, epoch, partition, seq)) without rowid;
         create index if not exists {service}_dead_letters_state on {service}_dead_letters (state);
         create table if not exists {service}_idempotency (
             scope UUID not null, operation TEXT not null, key TEXT not null, request_hash BYTEA not null,
             status BIGINT, body BYTEA, location TEXT, at BIGINT not null,
             primary key (scope, operation, key));
         create index if not exists {service}_idempotency_at on {service}_idempotency (at);"
    )
}

/// Columns and tables for several instances: partitions, the sequencer's fence, leases, relay positions and Kafka offsets.
fn instance_tables(service: &str) -> String {
    format!(
        "alter table {service}_stream add column partitions BIGINT not null default 1;
         alter table {service}_stream add column fence BIGINT not null default 0;
         alter table {service}_positions add column feed_offset BIGINT;
         create table {service}_heads (epoch BIGINT not null, partition BIGINT not null, seq BIGINT not null,
             primary key (epoch, partition)) without rowid;
         create table {service}_relay (epoch BIGINT not null, partition BIGINT not null, seq BIGINT not null,
             primary key (epoch, partition)) without rowid;
         create table {service}_leases (name TEXT primary key, holder UUID not null, fence BIGINT not null, until BIGINT not null) without rowid;
         create table {service}_fences (name TEXT primary key, fence BIGINT not null) without rowid;"
    )
}

/// Committed messages without a number. SQLite needs no such table, because its sole writer numbers as it writes.
fn pending_table(service: &str) -> String {
    format!(
        "create table {service}_pending (id BIGINT generated always as identity primary key, partition BIGINT not null,
             key UUID not null, kind TEXT not null, data TEXT not null, at BIGINT not null, trace UUID);"
    )
}

/// Migrates a service's tables and opens its stream. A new stream gets this number of partitions.
pub async fn prepare(tx: &mut Tx, service: &dyn Service, partitions: i64, now: Timestamp) -> Result<Stream, Fault> {
    migrate_tables(tx, service).await?;
    Ok(log::open_stream(tx, service.name(), partitions, now).await?)
}

/// Applies the missing migrations of a service: the engine's, then its own.
pub async fn migrate_tables(tx: &mut Tx, service: &dyn Service) -> Result<(), DbError> {
    let name = service.name();
    migrate_text(tx, &format!("{name}_kit"), name, &engine_tables(name, tx.is_postgres())).await?;
    migrate(tx, name, service.migrations()).await
}

/// The engine's migrations of a service: number, name and text.
pub fn engine_tables(service: &str, is_postgres: bool) -> Vec<(u32, &'static str, String)> {
    let mut steps = vec![(1, "kit", base_tables(service)), (2, "instances", instance_tables(service))];
    if is_postgres {
        steps.push((3, "pending", pending_table(service)));
    }
    steps
}
