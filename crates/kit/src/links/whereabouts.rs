//! Which process answers for a service, asked of its address. For people who look after an installation, not for the product's own work.

use super::{
    Answers, ServeError,
    internal::{SIGNATURE, digest, path_of, signed_parts},
    peers::Address,
    sign::Signer,
};
use crate::http::client::Client;
use bytes::Bytes;
use http::{Method, Request, StatusCode, header};
use serde::{Deserialize, Serialize};
use std::time::Duration;
use uuid::Uuid;

const NAME: &str = "get_whereabouts";
const PATIENCE: Duration = Duration::from_secs(3);

/// What a process says of itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Whereabouts {
    /// Its name in leases; another one after each start.
    pub instance: Uuid,
    pub version: String,
}

impl Answers {
    /// Lets others find out that this process runs the service.
    pub fn introduce(&mut self, service: &'static str, instance: Uuid) {
        let whereabouts = Whereabouts { instance, version: env!("CARGO_PKG_VERSION").to_owned() };
        let answer = serde_json::to_vec(&whereabouts).map(Bytes::from).map_err(|error| ServeError::Failed(error.to_string()));
        self.json.insert((service, NAME), Box::new(move |_| Box::pin(std::future::ready(answer.clone()))));
    }
}

/// Asks this address whether it runs the service. The error is for a person.
pub async fn whereabouts(client: &Client, signer: &Signer, address: &Address, service: &str) -> Result<Whereabouts, String> {
    let path = path_of(service, NAME);
    let body = Bytes::from_static(b"{}");
    let request = Request::post(address.at(&path).map_err(|error| error.to_string())?)
        .header(header::CONTENT_TYPE, crate::http::JSON)
        .header(SIGNATURE, signer.sign(&signed_parts(&Method::POST, &path, &digest(&body))))
        .body(body)
        .map_err(|error| error.to_string())?;
    let response = client.send(request, PATIENCE).await.map_err(|error| format!("no answer: {error}"))?;
    match response.status() {
        StatusCode::OK => serde_json::from_slice(response.body()).map_err(|error| format!("its answer cannot be read: {error}")),
        StatusCode::NOT_FOUND => Err("something answers there, but does not run this service".to_owned()),
        StatusCode::UNAUTHORIZED => Err("it has another secret, or its clock is wrong".to_owned()),
        status => Err(format!("it answered {status}")),
    }
}
