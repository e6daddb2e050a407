//! Discovery: asks an address which process answers for a service there. For operators of an installation, not used by the services.

use super::{
    CallHandlers, ServeError,
    internal::{SIGNATURE, digest, path_of, signed_parts},
    peers::Address,
    sign::Signer,
};
use bytes::Bytes;
use http::{Method, Request, StatusCode, header};
use serde::{Deserialize, Serialize};
use std::time::Duration;
use uuid::Uuid;
use web::client::Client;

const NAME: &str = "get_whereabouts";
const TIMEOUT: Duration = Duration::from_secs(3);

/// Identity of the process that answers for a service.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Discovery {
    /// Instance id in leases; each start makes a new one.
    pub instance: Uuid,
    pub version: String,
}

impl CallHandlers {
    /// Registers the discovery call of a service, so that other processes see that this one runs it.
    pub fn advertise(&mut self, service: &'static str, instance: Uuid) {
        let discovery = Discovery { instance, version: env!("CARGO_PKG_VERSION").to_owned() };
        let answer = serde_json::to_vec(&discovery).map(Bytes::from).map_err(|error| ServeError::Failed(error.to_string()));
        self.json.insert((service, NAME), Box::new(move |_| Box::pin(std::future::ready(answer.clone()))));
    }
}

/// Asks this address for the process that runs the service. `Err`: the reason, as text for the operator.
pub async fn discover(client: &Client, signer: &Signer, address: &Address, service: &str) -> Result<Discovery, String> {
    let path = path_of(service, NAME);
    let body = Bytes::from_static(b"{}");
    let request = Request::post(address.at(&path).map_err(|error| error.to_string())?)
        .header(header::CONTENT_TYPE, web::JSON)
        .header(SIGNATURE, signer.sign(&signed_parts(&Method::POST, &path, &digest(&body))))
        .body(body)
        .map_err(|error| error.to_string())?;
    let response = client.send(request, TIMEOUT).await.map_err(|error| format!("no answer: {error}"))?;
    match response.status() {
        StatusCode::OK => serde_json::from_slice(response.body()).map_err(|error| format!("its answer cannot be read: {error}")),
        StatusCode::NOT_FOUND => Err("something answers there, but does not run this service".to_owned()),
        StatusCode::UNAUTHORIZED => Err("it has another secret, or its clock is wrong".to_owned()),
        status => Err(format!("it answered {status}")),
    }
}
