//! The server's acknowledgements, written to a file. A later run verifies them: after a crash, a restart, a restored backup.

use crate::RushError;
use serde::{Deserialize, Serialize};
use std::{
    fs::{self, File},
    io::{BufRead, BufReader, BufWriter, Write},
    path::Path,
};
use uuid::Uuid;

pub const FILE_NAME: &str = "acks.jsonl";

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ack {
    pub member_id: Uuid,
    #[serde(flatten)]
    pub promise: Promise,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "promise", rename_all = "snake_case")]
pub enum Promise {
    Issued {
        coupon_id: Uuid,
        issued_coupon_id: Uuid,
        number: i64,
    },
    Waiting {
        coupon_id: Uuid,
        ticket: i64,
    },
    Paid {
        order_id: Uuid,
    },
    /// The order ended unsold, so it must never be paid.
    Refused {
        order_id: Uuid,
    },
}

pub fn write(acks: &[Ack], directory: &Path) -> Result<(), RushError> {
    let path = directory.join(FILE_NAME);
    let in_file = |source| RushError::File { path: path.clone(), source };
    fs::create_dir_all(directory).map_err(in_file)?;
    let mut file = BufWriter::new(File::create(&path).map_err(in_file)?);
    for ack in acks {
        serde_json::to_writer(&mut file, ack)?;
        file.write_all(b"\n").map_err(in_file)?;
    }
    file.flush().map_err(in_file)
}

pub fn read(path: &Path) -> Result<Vec<Ack>, RushError> {
    let in_file = |source| RushError::File { path: path.to_owned(), source };
    let mut acks = Vec::new();
    for (index, line) in BufReader::new(File::open(path).map_err(in_file)?).lines().enumerate() {
        let text = line.map_err(in_file)?;
        let ack = serde_json::from_str(&text).map_err(|source| RushError::Line { path: path.to_owned(), line: index + 1, source })?;
        acks.push(ack);
    }
    Ok(acks)
}
