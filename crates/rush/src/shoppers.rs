//! The members who take part, with their access tokens.

use crate::RushError;
use http::HeaderValue;
use serde::Deserialize;
use std::{
    fs::File,
    io::{BufRead, BufReader},
    path::Path,
};
use uuid::Uuid;

#[derive(Clone, Debug)]
pub struct Shopper {
    pub member_id: Uuid,
    /// `Bearer …`, ready to be sent; a clone shares the bytes.
    pub bearer: HeaderValue,
}

#[derive(Deserialize)]
struct ShopperLine {
    member_id: Uuid,
    access_token: String,
}

/// Reads the first `wanted` shoppers of the file. `None`: all. `Err`: too few, because the counts of the report would be wrong.
pub fn read(path: &Path, wanted: Option<usize>) -> Result<Vec<Shopper>, RushError> {
    let in_file = |source| RushError::File { path: path.to_owned(), source };
    let mut shoppers = Vec::new();
    for (index, line) in BufReader::new(File::open(path).map_err(in_file)?).lines().enumerate() {
        if wanted.is_some_and(|wanted| shoppers.len() == wanted) {
            break;
        }
        let text = line.map_err(in_file)?;
        if text.trim().is_empty() {
            continue;
        }
        let line = index + 1;
        let parsed: ShopperLine = serde_json::from_str(&text).map_err(|source| RushError::Line { path: path.to_owned(), line, source })?;
        let bearer = bearer(&parsed.access_token).ok_or(RushError::Token { path: path.to_owned(), line })?;
        shoppers.push(Shopper { member_id: parsed.member_id, bearer });
    }
    let wanted = wanted.unwrap_or(shoppers.len()).max(1);
    if shoppers.len() < wanted {
        return Err(RushError::TooFewShoppers { path: path.to_owned(), found: shoppers.len(), wanted });
    }
    Ok(shoppers)
}

/// The `Authorization` value of a token. `None`: a header cannot carry it.
pub fn bearer(token: &str) -> Option<HeaderValue> {
    let mut value = HeaderValue::try_from(format!("Bearer {token}")).ok()?;
    value.set_sensitive(true);
    Some(value)
}
