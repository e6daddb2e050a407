//! Extractors that put the roles allowed to call an operation into the handler's signature.
//!
//! All changes by signed-in callers pass here, so here each takes one from the caller's and the address's limit of writes.

use crate::module::Module;
use auth::{Auth, Caller, Role, limits::Limits};
use axum::extract::FromRequestParts;
use contracts::Code;
use http::request::Parts;
use runtime::line_limit::LineLimit;
use std::{convert::Infallible, sync::Arc};
use uuid::Uuid;
use web::{Peer, Problem, Trace, route_of};

/// Any signed-in account.
#[derive(Clone, Copy, Debug)]
pub struct SignedIn(pub Caller);

/// A seller or an operator.
#[derive(Clone, Copy, Debug)]
pub struct Seller(pub Caller);

/// An operator.
#[derive(Clone, Copy, Debug)]
pub struct Operator(pub Caller);

/// A signed-in account or an anonymous visitor. A bad token is refused, because its owner expects to be signed in.
#[derive(Clone, Copy, Debug)]
pub struct MaybeSignedIn(pub Option<Caller>);

static FORBIDDEN: LineLimit = LineLimit::new("request forbidden");

fn log_forbidden(caller: &Caller, parts: &Parts, trace: Uuid) {
    let route = route_of(&parts.extensions);
    metrics::counter!("onrush_forbidden_total", "route" => route.to_owned()).increment(1);
    if let Some(left_out) = FORBIDDEN.take() {
        let (member, role, method, trace) = (caller.member_id, caller.role, &parts.method, trace.simple());
        tracing::warn!(%member, %role, %method, route, %trace, left_out, "request forbidden");
    }
}

async fn require_role(auth: &Auth, limits: &Limits, parts: &mut Parts, allowed: &[Role]) -> Result<Caller, Problem> {
    let caller = auth.caller(&parts.headers)?.ok_or_else(|| Problem::from(Code::Unauthenticated))?;
    if allowed.contains(&caller.role) {
        if !parts.method.is_safe() {
            let peer = always(Peer::from_request_parts(parts, &()).await);
            limits.take_write(&caller, peer.source())?;
        }
        return Ok(caller);
    }
    let trace = always(Trace::from_request_parts(parts, &()).await).0;
    log_forbidden(&caller, parts, trace);
    Err(Code::Forbidden.into())
}

fn always<T>(result: Result<T, Infallible>) -> T {
    match result {
        Ok(value) => value,
        Err(never) => match never {},
    }
}

macro_rules! extractor {
    ($name:ident, $allowed:expr) => {
        impl<S: Module> FromRequestParts<Arc<S>> for $name {
            type Rejection = Problem;
            async fn from_request_parts(parts: &mut Parts, service: &Arc<S>) -> Result<Self, Problem> {
                require_role(&service.kit().auth, &service.kit().limits, parts, $allowed).await.map($name)
            }
        }
    };
}

extractor!(SignedIn, &Role::ALL);
extractor!(Seller, &[Role::Seller, Role::Operator]);
extractor!(Operator, &[Role::Operator]);

impl<S: Module> FromRequestParts<Arc<S>> for MaybeSignedIn {
    type Rejection = Problem;
    async fn from_request_parts(parts: &mut Parts, service: &Arc<S>) -> Result<Self, Problem> {
        service.kit().auth.caller(&parts.headers).map(MaybeSignedIn)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use auth::limits::LimitSettings;
    use contracts::{MemberId, Timestamp};
    use http::{Method, Request};
    use runtime::ports::{Clock, ManualClock, new_id};

    fn limits(settings: &LimitSettings) -> Limits {
        let clock: Arc<dyn Clock> = Arc::new(ManualClock::at(Timestamp(0)));
        Limits::new(settings, None, &clock)
    }

    // A5, row 39
    #[tokio::test]
    async fn each_extractor_admits_its_roles() {
        let clock = ManualClock::at(Timestamp(1_795_132_800_000_000));
        let auth = Auth::new([1; 32], Arc::new(clock.clone()));
        let limits = limits(&LimitSettings::off());
        let admitted = async |role: Role, allowed: &[Role]| {
            let token = auth.issue(MemberId(new_id()), role, new_id(), clock.now());
            let request = Request::get("/v1/x").header("authorization", format!("Bearer {token}")).body(()).expect("a request");
            let caller = require_role(&auth, &limits, &mut request.into_parts().0, allowed).await;
            caller.map(|caller| caller.role).map_err(|problem| problem.code())
        };
        for role in Role::ALL {
            assert_eq!(admitted(role, &Role::ALL).await, Ok(role));
            let seller = if role == Role::Customer { Err(Code::Forbidden) } else { Ok(role) };
            assert_eq!(admitted(role, &[Role::Seller, Role::Operator]).await, seller);
            let operator = if role == Role::Operator { Ok(role) } else { Err(Code::Forbidden) };
            assert_eq!(admitted(role, &[Role::Operator]).await, operator);
        }
        let anonymous = Request::get("/v1/x").body(()).expect("a request");
        let problem = require_role(&auth, &limits, &mut anonymous.into_parts().0, &Role::ALL).await.expect_err("it has no token");
        assert_eq!(problem.code(), Code::Unauthenticated);
    }

    // H5
    #[tokio::test]
    async fn changes_take_from_the_limit_and_reads_do_not() {
        let clock = ManualClock::at(Timestamp(1_795_132_800_000_000));
        let auth = Auth::new([1; 32], Arc::new(clock.clone()));
        let limits = limits(&LimitSettings { write_per_member: Some("3/hour".parse().expect("a rate")), ..LimitSettings::off() });
        let token = auth.issue(MemberId(new_id()), Role::Customer, new_id(), clock.now());
        let ask = async |method: Method| {
            let request = Request::builder().method(method).header("authorization", format!("Bearer {token}")).body(()).expect("a request");
            require_role(&auth, &limits, &mut request.into_parts().0, &Role::ALL).await
        };
        for method in [Method::POST, Method::GET, Method::PUT, Method::HEAD, Method::DELETE, Method::GET] {
            assert!(ask(method).await.is_ok());
        }
        let refused = ask(Method::PATCH).await.expect_err("it is the fourth change");
        assert_eq!((refused.code(), refused.retry_after), (Code::TooManyRequests, Some(1_200)));
        assert!(ask(Method::GET).await.is_ok());
    }
}
