//! @Service@ through its routes, on a database of its own.

mod create;
mod get;
mod replicas;
mod support;
