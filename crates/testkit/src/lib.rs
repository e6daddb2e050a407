//! The test harness: processes with their services, stubs of services, proxies, shapes, and scratch servers.
//!
//! This crate is never linked into the binary.

pub use kit::testing::Faults;

mod app;
mod backends;
mod builder;
mod database;
mod launch;
pub mod proxy;
mod quiescence;
mod redis;
mod request;
mod slips;
mod stub_service;
mod tcp_proxy;
mod template;
mod topics;

pub use app::{App, START};
pub use backends::Shape;
pub use builder::{AppBuilder, TempFolder};
pub use database::TestDatabase;
pub use redis::TestRedis;
pub use request::{TestRequest, TestResponse};
pub use runtime::captured_log::CapturedLog;
pub use slips::slip_outcomes;
pub use stub_service::StubService;
pub use tcp_proxy::TcpProxy;
pub use topics::TestTopics;
