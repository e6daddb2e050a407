//! The log of one test.

use parking_lot::Mutex;
use std::{
    io::{self, Write},
    sync::Arc,
};
use tracing::{Level, Subscriber};

/// Log lines of a test, kept in memory. Clones share the lines.
#[derive(Clone, Debug, Default)]
pub struct CapturedLog(Arc<Mutex<Vec<u8>>>);

impl CapturedLog {
    /// A subscriber that keeps the lines of this level and of more severe ones.
    pub fn subscriber(&self, level: Level) -> impl Subscriber + Send + Sync + use<> {
        let log = self.clone();
        tracing_subscriber::fmt().with_ansi(false).with_max_level(level).with_writer(move || log.clone()).finish()
    }

    /// All lines so far.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.0.lock()).into_owned()
    }

    /// Number of times that the lines contain this text.
    pub fn count(&self, text: &str) -> usize {
        self.text().matches(text).count()
    }
}

impl Write for CapturedLog {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
