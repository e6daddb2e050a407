//! Heavy reads on SQLite: each runs on a thread of its own, with a connection of its own and a low priority.
//!
//! A query on SQLite occupies its thread. On a thread of the runtime, a long one would delay all requests of that thread. The caller waits
//! here without occupying a thread, and gets the rows copied.

use super::statement;
use crate::{DbError, Param, heavy::STATEMENT_LIMIT};
use parking_lot::Mutex;
use rusqlite::{Connection, InterruptHandle, params_from_iter, types::Value};
use std::{
    fmt,
    sync::{Arc, mpsc},
    thread,
};
use tokio::{sync::oneshot, time::timeout};

/// The columns of a row, or the parameters of a query.
pub type CopiedRow = Vec<Value>;

type LaneJob = Box<dyn FnOnce(&Connection) + Send>;

/// The thread of one connection. It ends when this value is dropped.
pub struct HeavyLane {
    jobs: mpsc::Sender<LaneJob>,
    interrupt: InterruptHandle,
}

impl fmt::Debug for HeavyLane {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("HeavyLane")
    }
}

impl HeavyLane {
    pub fn start(connection: Connection) -> Result<Self, DbError> {
        let interrupt = connection.get_interrupt_handle();
        let (jobs, queue) = mpsc::channel::<LaneJob>();
        let thread = thread::Builder::new().name("heavy read".into()).spawn(move || {
            lower_priority();
            for job in queue {
                job(&connection);
            }
        });
        thread.map_err(|error| DbError::Open(format!("no thread for heavy reads: {error}")))?;
        Ok(Self { jobs, interrupt })
    }
}

/// Lets all other threads run before this one. Under load a heavy read then gets the time that they leave over.
#[cfg(target_os = "linux")]
fn lower_priority() {
    /// Weight of a thread in the scheduler: a thirtieth of an ordinary one, so that heavy reads still end.
    const NICENESS: i32 = 15;
    // On Linux the priority belongs to the thread, not to the process.
    if let Err(error) = rustix::process::setpriority_process(None, NICENESS) {
        tracing::warn!(%error, "priority of heavy reads not lowered");
    }
}

#[cfg(not(target_os = "linux"))]
fn lower_priority() {}

/// A lane in use. Dropping it ends a running query and returns the lane.
#[derive(Debug)]
pub struct HeavySession {
    /// `None`: its thread has ended.
    lane: Option<HeavyLane>,
    idle: Arc<Mutex<Vec<HeavyLane>>>,
    is_running: bool,
}

impl HeavySession {
    pub fn new(lane: HeavyLane, idle: Arc<Mutex<Vec<HeavyLane>>>) -> Self {
        Self { lane: Some(lane), idle, is_running: false }
    }

    pub async fn query(&mut self, sql: &str, params: &[Param<'_>]) -> Result<Vec<CopiedRow>, DbError> {
        self.query_each(sql, vec![copied(params)]).await
    }

    /// Runs the query for each row of parameters, in order. [`DbError::Slow`]: it took too long and was ended.
    pub async fn query_each(&mut self, sql: &str, rows: Vec<CopiedRow>) -> Result<Vec<CopiedRow>, DbError> {
        let lane = self.lane.as_ref().ok_or_else(thread_ended)?;
        let sql = sql.to_owned();
        let (reply, answer) = oneshot::channel();
        let job: LaneJob = Box::new(move |connection| {
            // The caller may have left while this job waited for the end of an interrupted one.
            if !reply.is_closed() {
                let _ = reply.send(query_copied(connection, &sql, &rows));
            }
        });
        if self.is_running {
            // The caller dropped the query before this one.
            lane.interrupt.interrupt();
        }
        if lane.jobs.send(job).is_err() {
            self.lane = None;
            return Err(thread_ended());
        }
        self.is_running = true;
        let answered = timeout(STATEMENT_LIMIT, answer).await;
        self.is_running = false;
        match answered {
            Ok(Ok(result)) => result,
            Ok(Err(_)) => {
                self.lane = None;
                Err(thread_ended())
            }
            Err(_) => {
                lane.interrupt.interrupt();
                Err(DbError::Slow)
            }
        }
    }
}

impl Drop for HeavySession {
    fn drop(&mut self) {
        let Some(lane) = self.lane.take() else { return };
        if self.is_running {
            lane.interrupt.interrupt();
        }
        self.idle.lock().push(lane);
    }
}

fn thread_ended() -> DbError {
    DbError::Closed("the thread of heavy reads has ended".into())
}

/// Copies parameters, because the query runs on another thread.
pub fn copied(params: &[Param<'_>]) -> CopiedRow {
    let copy = |param: &Param<'_>| match *param {
        Param::Null => Value::Null,
        Param::Int(number) => Value::Integer(number),
        Param::Text(text) => Value::Text(text.to_owned()),
        Param::Bytes(bytes) => Value::Blob(bytes.to_vec()),
        Param::Id(id) => Value::Blob(id.as_bytes().to_vec()),
    };
    params.iter().map(copy).collect()
}

fn query_copied(connection: &Connection, sql: &str, rows: &[CopiedRow]) -> Result<Vec<CopiedRow>, DbError> {
    let mut statement = statement(connection, sql)?;
    let width = statement.column_count();
    let mut found = Vec::new();
    for params in rows {
        let mut rows = statement.query(params_from_iter(params))?;
        while let Some(row) = rows.next()? {
            let columns = (0..width).map(|index| Ok(row.get::<_, Value>(index)?));
            found.push(columns.collect::<Result<CopiedRow, DbError>>()?);
        }
    }
    Ok(found)
}
