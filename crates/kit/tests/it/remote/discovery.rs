use crate::remote::support::{FaultyProxy, ProxyMode, SECRET, Server, clock, unused_address, within};
use kit::{
    http::client::{Client, ClientSettings},
    links::{Address, CallHandlers, Links, Signer, discover, internal_router},
    ports::new_id,
};
use std::sync::Arc;

// A11: discovery returns the process that runs a service, or the reason why that address does not
#[tokio::test]
async fn a_process_says_which_services_it_runs() {
    let (instance, links, mut handlers) = (new_id(), Links::default(), CallHandlers::default());
    handlers.advertise("orders", instance);
    links.bind(handlers);
    let clock = Arc::new(clock());
    let server = Server::start(internal_router(links, Signer::new(&SECRET, clock.clone()))).await;
    let client = Client::new(ClientSettings::default());
    let ask = async |url: String, service: &str, secret: [u8; 32]| {
        let address: Address = url.parse().expect("a URL");
        within(discover(&client, &Signer::new(&secret, clock.clone()), &address, service)).await
    };
    let found = ask(server.url(), "orders", SECRET).await.expect("the process runs orders");
    assert_eq!((found.instance, found.version.as_str()), (instance, env!("CARGO_PKG_VERSION")));
    let broken = FaultyProxy::before(server.address, ProxyMode::Disconnect).await;
    for (url, service, secret, reason) in [
        (server.url(), "stock", SECRET, "does not run this service"),
        (server.url(), "orders", [8; 32], "another secret"),
        (unused_address(), "orders", SECRET, "no answer"),
        (broken.url(), "orders", SECRET, "no answer"),
    ] {
        let told = ask(url, service, secret).await.expect_err("discovery fails");
        assert!(told.contains(reason), "{told}");
    }
}
