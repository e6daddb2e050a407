//! Extractors that put the roles allowed to call an operation into the handler's signature.

use crate::module::Module;
use auth::{Auth, Caller, Role};
use axum::extract::FromRequestParts;
use contracts::Code;
use http::request::Parts;
use runtime::line_limit::LineLimit;
use std::{convert::Infallible, sync::Arc};
use uuid::Uuid;
use web::{Problem, Trace, route_of};

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

async fn require_role(auth: &Auth, parts: &mut Parts, allowed: &[Role]) -> Result<Caller, Problem> {
    let caller = auth.caller(&parts.headers)?.ok_or_else(|| Problem::from(Code::Unauthenticated))?;
    if allowed.contains(&caller.role) {
        return Ok(caller);
    }
    let trace = match Trace::from_request_parts(parts, &()).await {
        Ok(trace) => trace.0,
        Err(never) => {
            let never: Infallible = never;
            match never {}
        }
    };
    log_forbidden(&caller, parts, trace);
    Err(Code::Forbidden.into())
}

macro_rules! extractor {
    ($name:ident, $allowed:expr) => {
        impl<S: Module> FromRequestParts<Arc<S>> for $name {
            type Rejection = Problem;
            async fn from_request_parts(parts: &mut Parts, service: &Arc<S>) -> Result<Self, Problem> {
                require_role(&service.kit().auth, parts, $allowed).await.map($name)
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
    use contracts::{MemberId, Timestamp};
    use http::Request;
    use runtime::ports::{Clock, ManualClock, new_id};

    // A5, row 39
    #[tokio::test]
    async fn each_extractor_admits_its_roles() {
        let clock = ManualClock::at(Timestamp(1_795_132_800_000_000));
        let auth = Auth::new([1; 32], Arc::new(clock.clone()));
        let admitted = async |role: Role, allowed: &[Role]| {
            let token = auth.issue(MemberId(new_id()), role, new_id(), clock.now());
            let request = Request::get("/v1/x").header("authorization", format!("Bearer {token}")).body(()).expect("a request");
            require_role(&auth, &mut request.into_parts().0, allowed).await.map(|caller| caller.role).map_err(|problem| problem.code())
        };
        for role in Role::ALL {
            assert_eq!(admitted(role, &Role::ALL).await, Ok(role));
            let seller = if role == Role::Customer { Err(Code::Forbidden) } else { Ok(role) };
            assert_eq!(admitted(role, &[Role::Seller, Role::Operator]).await, seller);
            let operator = if role == Role::Operator { Ok(role) } else { Err(Code::Forbidden) };
            assert_eq!(admitted(role, &[Role::Operator]).await, operator);
        }
        let anonymous = Request::get("/v1/x").body(()).expect("a request");
        let problem = require_role(&auth, &mut anonymous.into_parts().0, &Role::ALL).await.expect_err("it has no token");
        assert_eq!(problem.code(), Code::Unauthenticated);
    }
}
