//! Writes the report to disk: one JSON file, and one self-contained HTML page.

use super::{RushReport, html};
use crate::RushError;
use std::{fs, path::Path};

pub const JSON_NAME: &str = "report.json";
pub const HTML_NAME: &str = "report.html";

pub fn write(report: &RushReport, directory: &Path) -> Result<(), RushError> {
    let put = |name: &str, content: &[u8]| {
        let path = directory.join(name);
        fs::write(&path, content).map_err(|source| RushError::File { path, source })
    };
    fs::create_dir_all(directory).map_err(|source| RushError::File { path: directory.to_owned(), source })?;
    put(JSON_NAME, &serde_json::to_vec_pretty(report)?)?;
    put(HTML_NAME, html::page(report).as_bytes())
}
