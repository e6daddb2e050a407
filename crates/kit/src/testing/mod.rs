//! The harness of tests: processes with their services, stand-ins for services, and proxies. Without the feature `testing` only the
//! failpoints remain, and they do nothing.

pub use crate::failpoints::{FaultAction, Faults, crash_point};

#[cfg(feature = "testing")]
mod app;
#[cfg(feature = "testing")]
mod backends;
#[cfg(feature = "testing")]
mod builder;
#[cfg(feature = "testing")]
mod captured_log;
#[cfg(feature = "testing")]
mod database;
#[cfg(feature = "testing")]
mod launch;
#[cfg(feature = "testing")]
pub mod proxy;
#[cfg(feature = "testing")]
mod quiescence;
#[cfg(feature = "testing")]
mod redis;
#[cfg(feature = "testing")]
mod request;
#[cfg(feature = "testing")]
mod slips;
#[cfg(feature = "testing")]
mod stub_service;
#[cfg(feature = "testing")]
mod tcp_proxy;
#[cfg(feature = "testing")]
mod topics;
#[cfg(feature = "testing")]
pub use app::{App, START};
#[cfg(feature = "testing")]
pub use backends::Shape;
#[cfg(feature = "testing")]
pub use builder::{AppBuilder, TempFolder};
#[cfg(feature = "testing")]
pub use captured_log::CapturedLog;
#[cfg(feature = "testing")]
pub use database::TestDatabase;
#[cfg(feature = "testing")]
pub use redis::TestRedis;
#[cfg(feature = "testing")]
pub use request::{TestRequest, TestResponse};
#[cfg(feature = "testing")]
pub use slips::slip_outcomes;
#[cfg(feature = "testing")]
pub use stub_service::StubService;
#[cfg(feature = "testing")]
pub use tcp_proxy::TcpProxy;
#[cfg(feature = "testing")]
pub use topics::TestTopics;
