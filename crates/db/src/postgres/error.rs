//! Errors of PostgreSQL and its driver, classified by the caller's possible reaction.

use crate::DbError;
use runtime::telemetry::error_chain;
use std::{error::Error as _, io};
use tokio_postgres::error::Severity;

/// Converts an error of a statement.
pub fn of(error: &tokio_postgres::Error) -> DbError {
    let Some(response) = error.as_db_error() else {
        return if error.is_closed() || is_io(error) { DbError::Closed(error_chain(error)) } else { DbError::Postgres(error_chain(error)) };
    };
    of_state(response.code().code(), response.message(), response.parsed_severity())
}

/// Keeps the message without its detail, because the detail shows values, which may be personal addresses.
fn of_state(state: &str, message: &str, severity: Option<Severity>) -> DbError {
    let text = || message.to_owned();
    match state {
        "23505" => DbError::Unique(text()),
        _ if state.starts_with("23") => DbError::Constraint(text()),
        "40001" => DbError::Retry(format!("{state}: {message}")),
        "40P01" | "55P03" => DbError::Locked(format!("{state}: {message}")),
        "53100" => DbError::DiskFull,
        "58030" => DbError::Io(text()),
        "57014" => DbError::Slow,
        "57P01" | "57P02" | "57P03" | "53300" | "25P03" => DbError::Closed(text()),
        _ if state.starts_with("08") => DbError::Closed(text()),
        _ if matches!(severity, Some(Severity::Fatal | Severity::Panic)) => DbError::Closed(format!("{state}: {message}")),
        "XX001" | "XX002" => DbError::Damaged(format!("{state}: {message}")),
        _ if is_own_fault(state) => DbError::Postgres(format!("{state}: {message}")),
        _ => DbError::Server(format!("{state}: {message}")),
    }
}

/// True for states that the statement or this program caused, so that each repeat fails: wrong data (21, 22), wrong SQL (42), a wrong state
/// of the transaction (25, but not read-only). Every other state may pass.
fn is_own_fault(state: &str) -> bool {
    state != "25006" && ["21", "22", "25", "42"].iter().any(|class| state.starts_with(class))
}

/// Converts an error of connecting. A server that rejects the connection differs from one that is away.
pub fn of_connecting(error: &tokio_postgres::Error) -> DbError {
    match error.as_db_error() {
        Some(response) if ["28", "3D", "42", "22"].iter().any(|class| response.code().code().starts_with(class)) => {
            DbError::Open(response.message().to_owned())
        }
        Some(_) => of(error),
        None if is_io(error) || error.is_closed() => DbError::Closed(error_chain(error)),
        None => {
            let text = error_chain(error);
            if text.starts_with("error connecting") || text.starts_with("timeout") { DbError::Closed(text) } else { DbError::Open(text) }
        }
    }
}

/// True if the server rejected the request and still runs, so the request had no effect.
pub fn is_refusal(error: &tokio_postgres::Error) -> bool {
    error.as_db_error().is_some_and(|response| {
        let state = response.code().code();
        response.parsed_severity() == Some(Severity::Error) && !state.starts_with("08") && !state.starts_with("57P")
    })
}

fn is_io(error: &tokio_postgres::Error) -> bool {
    error.source().is_some_and(|source| source.is::<io::Error>())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn states_map_to_the_possible_reaction() {
        let of = |state| of_state(state, "text", Some(Severity::Error));
        assert!(matches!(of("23505"), DbError::Unique(_)));
        for state in ["23514", "23503", "23502"] {
            assert!(matches!(of(state), DbError::Constraint(_)), "{state}");
        }
        assert!(matches!(of("40001"), DbError::Retry(text) if text == "40001: text"));
        for state in ["40P01", "55P03"] {
            assert!(matches!(of(state), DbError::Locked(text) if text.starts_with(state)), "{state}");
        }
        for state in ["57P01", "57P02", "57P03", "53300", "08006", "25P03"] {
            assert!(matches!(of(state), DbError::Closed(_)), "{state}");
        }
        assert!(matches!(of("53100"), DbError::DiskFull));
        assert!(matches!(of("58030"), DbError::Io(_)));
        assert!(matches!(of("57014"), DbError::Slow));
        for state in ["42P01", "22003", "21000", "25P02"] {
            assert!(matches!(of(state), DbError::Postgres(text) if text == format!("{state}: text")), "{state}");
        }
        assert!(matches!(of_state("XX000", "text", Some(Severity::Fatal)), DbError::Closed(_)));
    }

    // finding 3: only the statement's own fault may turn a message into a dead letter.
    #[test]
    fn passing_trouble_is_an_outage() {
        let of = |state| of_state(state, "text", Some(Severity::Error));
        for state in ["53000", "53200", "53400", "54001", "55000", "57000", "57P05", "58000", "58P01", "XX000", "0A000", "25006", "P0001"] {
            assert!(matches!(of(state), DbError::Server(text) if text.starts_with(state)), "{state}");
            assert!(of(state).is_outage(), "{state}");
        }
        for state in ["XX001", "XX002"] {
            assert!(matches!(of(state), DbError::Damaged(_)) && of(state).is_outage(), "{state}");
        }
        for state in ["22003", "23505", "23514", "42703", "25P02", "57014", "40001", "55P03"] {
            assert!(!of(state).is_outage(), "{state}");
        }
    }
}
