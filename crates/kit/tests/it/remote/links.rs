use crate::remote::support::{
    Double, FaultyProxy, Installation, ProxyMode, SECRET, Server, TIME_LIMIT, answering, clock, get, numbers, unused_address, within,
};
use axum::{Router, extract::Request, middleware, routing};
use kit::links::{CallHandlers, LinkError, Links, RemoteSettings, ServeError};
use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

#[tokio::test]
async fn a_call_is_answered_locally_if_the_service_is_local() {
    let (server, asked) = numbers(&clock(), SECRET).await;
    let links = Installation::new(&format!("numbers={}", server.url())).links(RemoteSettings::default());
    let mut handlers = CallHandlers::default();
    handlers.register(async |Double(number)| Ok::<_, String>(number * 2 + 1));
    links.bind(handlers);
    assert_eq!(links.call(Double(4)).await.expect("an answer"), 9);
    assert_eq!(asked.load(Ordering::SeqCst), 0);
}

#[tokio::test]
async fn a_call_goes_to_the_process_that_runs_the_service() {
    let (server, asked) = numbers(&clock(), SECRET).await;
    let links = Installation::new(&format!("numbers={}", server.url())).links(RemoteSettings::default());
    assert_eq!(links.call(Double(4)).await.expect("an answer"), 8);
    assert_eq!(links.call(Double(-1)).await.expect("an answer"), -2);
    assert_eq!(asked.load(Ordering::SeqCst), 2);
}

#[tokio::test]
async fn a_missing_peer_address_is_reported() {
    let links = Installation::new(&format!("others={}", unused_address())).links(RemoteSettings::default());
    let error = links.call(Double(1)).await.expect_err("no peer runs the service");
    assert!(matches!(error, LinkError::NotHere { service: "numbers", call: "double" }), "{error}");
}

// Z2, F27
#[tokio::test]
async fn another_address_is_tried_if_one_fails() {
    let (server, asked) = numbers(&clock(), SECRET).await;
    let disconnecting = FaultyProxy::before(server.address, ProxyMode::Disconnect).await;
    for broken in [unused_address(), disconnecting.url()] {
        let links = Installation::new(&format!("numbers={broken}|{}", server.url())).links(RemoteSettings::default());
        for number in 0..20 {
            assert_eq!(links.call(Double(number)).await.expect("the other address answers"), number * 2);
        }
    }
    assert_eq!(asked.load(Ordering::SeqCst), 40);
}

#[tokio::test]
async fn another_address_is_tried_if_the_call_is_unknown() {
    let (server, _) = numbers(&clock(), SECRET).await;
    let other = Server::start(Router::new()).await;
    let links = Installation::new(&format!("numbers={}|{}", other.url(), server.url())).links(RemoteSettings::default());
    for number in 0..20 {
        assert_eq!(links.call(Double(number)).await.expect("the other address answers"), number * 2);
    }
    let links = Installation::new(&format!("numbers={}", other.url())).links(RemoteSettings::default());
    let error = links.call(Double(1)).await.expect_err("the peer does not run the service");
    assert!(matches!(&error, LinkError::Unavailable { reason, .. } if reason.contains("does not run")), "{error}");
}

// Z2
#[tokio::test]
async fn a_silent_peer_is_abandoned_after_the_timeout() {
    let (server, asked) = numbers(&clock(), SECRET).await;
    let silent = FaultyProxy::before(server.address, ProxyMode::Silent).await;
    let settings = RemoteSettings { total_time: TIME_LIMIT, try_time: Duration::from_secs(1), tries: 3 };
    let links = Installation::new(&format!("numbers={}|{}", silent.url(), server.url())).links(settings);
    for number in 0..4 {
        assert_eq!(within(links.call(Double(number))).await.expect("the other address answers"), number * 2);
    }
    assert!(silent.connections() > 0);
    let settings = RemoteSettings { total_time: Duration::from_millis(300), ..settings };
    let links = Installation::new(&format!("numbers={}", silent.url())).links(settings);
    let error = within(links.call(Double(1))).await.expect_err("no answer arrives");
    assert!(matches!(&error, LinkError::Unavailable { reason, .. } if reason.contains("no answer within")), "{error}");
    assert_eq!(asked.load(Ordering::SeqCst), 4);
}

// Z1
#[tokio::test]
async fn a_failing_call_is_tried_three_times() {
    let asked: Arc<AtomicUsize> = Arc::default();
    let count = Arc::clone(&asked);
    let router = answering(&clock(), SECRET, move |Double(number)| {
        let turn = count.fetch_add(1, Ordering::SeqCst);
        async move { if turn % 3 == 2 || number < 0 { Ok(number * 2) } else { Err("not now".to_owned()) } }
    });
    let server = Server::start(router).await;
    let installation = Installation::new(&format!("numbers={}", server.url()));
    assert_eq!(installation.links(RemoteSettings::default()).call(Double(2)).await.expect("the third attempt succeeds"), 4);
    assert_eq!(asked.load(Ordering::SeqCst), 3);
    let twice = installation.links(RemoteSettings { tries: 2, ..RemoteSettings::default() });
    let error = twice.call(Double(2)).await.expect_err("two attempts fail");
    assert!(matches!(&error, LinkError::Unavailable { reason, .. } if reason.contains("500")), "{error}");
    // The cause is in the other process's log only.
    assert!(!error.to_string().contains("not now"), "{error}");
    assert_eq!(asked.load(Ordering::SeqCst), 5);
}

// Z1
#[tokio::test]
async fn an_open_breaker_spares_a_dead_peer_until_it_recovers() {
    let (server, asked) = numbers(&clock(), SECRET).await;
    let proxy = FaultyProxy::before(server.address, ProxyMode::Disconnect).await;
    let installation = Installation::new(&format!("numbers={}", proxy.url()));
    let links = installation.links(RemoteSettings::default());
    for _ in 0..2 {
        links.call(Double(1)).await.expect_err("the peer is dead");
    }
    let tried = proxy.connections();
    assert_eq!(tried, 5, "five failures open the breaker");
    for _ in 0..20 {
        let error = links.call(Double(1)).await.expect_err("the breaker is open");
        assert!(matches!(&error, LinkError::Unavailable { reason, .. } if reason.contains("not tried")), "{error}");
    }
    assert_eq!(proxy.connections(), tried);

    // The peer is still dead, and one attempt shows it.
    installation.clock.advance(Duration::from_secs(5));
    links.call(Double(1)).await.expect_err("the peer is dead");
    assert_eq!(proxy.connections(), tried + 1);
    links.call(Double(1)).await.expect_err("the breaker is open");
    assert_eq!(proxy.connections(), tried + 1);

    proxy.set(ProxyMode::PassThrough);
    links.call(Double(1)).await.expect_err("the breaker is still open");
    installation.clock.advance(Duration::from_secs(5));
    for number in 0..10 {
        assert_eq!(links.call(Double(number)).await.expect("the peer has recovered"), number * 2);
    }
    assert_eq!(asked.load(Ordering::SeqCst), 10);
}

// Z1
#[tokio::test]
async fn a_default_may_replace_a_failed_call() {
    let (server, _) = numbers(&clock(), SECRET).await;
    let up = Installation::new(&format!("numbers={}", server.url())).links(RemoteSettings::default());
    assert_eq!(up.call_or(Double(4), -1).await, 8);
    let down = Installation::new(&format!("numbers={}", unused_address())).links(RemoteSettings::default());
    assert_eq!(down.call_or(Double(4), -1).await, -1);
    assert_eq!(Links::default().call_or(Double(4), -1).await, -1);
}

// I3
#[tokio::test]
async fn calls_carry_the_trace_of_their_request() {
    let seen: Arc<Mutex<Vec<(String, String)>>> = Arc::default();
    let record = Arc::clone(&seen);
    let router = answering(&clock(), SECRET, async |Double(number)| Ok(number)).layer(middleware::map_request(move |request: Request| {
        let text = |name: &str| request.headers()[name].to_str().expect("ASCII").to_owned();
        record.lock().expect("no panic").push((text("traceparent"), text("x-request-id")));
        async move { request }
    }));
    let server = Server::start(router).await;
    let links = Installation::new(&format!("numbers={}", server.url())).links(RemoteSettings::default());
    let asking = Server::start(Router::new().route(
        "/v1/ask",
        routing::get(async move || {
            tokio::task::yield_now().await;
            links.call(Double(1)).await.map(|number| number.to_string()).map_err(kit::http::Problem::from)
        }),
    ))
    .await;
    let id = "0af7651916cd43dd8448eb211c80319c";
    let request = http::Request::get(format!("{}/v1/ask", asking.url())).header("traceparent", format!("00-{id}-b7ad6b7169203331-01"));
    let response = crate::remote::support::send(request.body(Default::default()).expect("a request")).await.expect("an answer");
    assert_eq!((response.status().as_u16(), &response.headers()["x-request-id"]), (200, &http::HeaderValue::from_static(id)));
    let other = get(format!("{}/v1/ask", asking.url())).await;
    let seen = seen.lock().expect("no panic").clone();
    assert!(seen[0].0.starts_with(&format!("00-{id}-")) && seen[0].1 == id, "{seen:?}");
    assert!(!seen[0].0.contains("b7ad6b7169203331"), "the call has its own span: {seen:?}");
    assert_eq!(seen[1].1, other.headers()["x-request-id"].to_str().expect("ASCII"));
}

#[tokio::test]
async fn json_calls_are_answered_or_refused() {
    let mut handlers = CallHandlers::default();
    handlers.register(async |Double(number)| if number == 13 { Err("unlucky") } else { Ok(number * 2) });
    let serve = |service, name, body: &'static str| handlers.serve(service, name, body.into());
    assert_eq!(serve("numbers", "double", "21").await.expect("an answer"), "42");
    assert_eq!(serve("numbers", "double", "13").await, Err(ServeError::Failed("unlucky".into())));
    assert_eq!(serve("numbers", "halve", "21").await, Err(ServeError::Unknown));
    assert_eq!(serve("letters", "double", "21").await, Err(ServeError::Unknown));
    assert!(matches!(serve("numbers", "double", "{}").await, Err(ServeError::Unreadable(_))));
    assert_eq!(Links::default().serve("numbers", "double", "21".into()).await, Err(ServeError::Unknown));
}
