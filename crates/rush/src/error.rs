//! Reasons why a rush could not run. Findings about the server are a verdict, not an error.

use std::{io, path::PathBuf};

#[derive(Debug, thiserror::Error)]
pub enum RushError {
    #[error("{0:?} is not an http://host[:port] address")]
    Url(String),
    #[error("this scenario needs {0}")]
    Missing(&'static str),
    #[error("{path}: {source}", path = path.display())]
    File { path: PathBuf, source: io::Error },
    #[error("{path}, line {line}: {source}", path = path.display())]
    Line { path: PathBuf, line: usize, source: serde_json::Error },
    #[error("{path}, line {line}: the access token has characters that no header can carry", path = path.display())]
    Token { path: PathBuf, line: usize },
    #[error("{path} holds {found} shoppers, {wanted} are wanted", path = path.display())]
    TooFewShoppers { path: PathBuf, found: usize, wanted: usize },
    #[error("the server does not answer at {url}")]
    Unreachable { url: String },
    #[error("{step}: the server answered {status}: {body}")]
    Setup { step: &'static str, status: u16, body: String },
    #[error("{step}: the answer lacks {field}: {body}")]
    Answer { step: &'static str, field: &'static str, body: String },
    #[error("the stock of the new product did not appear within {0} seconds")]
    NoStock(u64),
    #[error("cannot start a load thread: {0}")]
    Thread(#[source] io::Error),
    #[error("a load thread panicked")]
    Panic,
    #[error("cannot write {what}: {source}")]
    Output { what: String, source: io::Error },
    #[error("cannot write the report as JSON: {0}")]
    Json(#[from] serde_json::Error),
}
