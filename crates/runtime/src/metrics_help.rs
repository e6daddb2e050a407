//! Help texts of all metrics, in one table. A test of the whole workspace refuses a metric without one.

/// Kind of a metric.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MetricKind {
    Counter,
    Gauge,
    Histogram,
}

use MetricKind::{Counter, Gauge, Histogram};

/// Kind, name and help text of each metric.
pub const METRICS: &[(MetricKind, &str, &str)] = &[
    (Counter, "onrush_accounts_bad_credentials_total", "Sign-ins with a wrong address or password"),
    (Counter, "onrush_accounts_tokens_reused_total", "Sessions ended because a used refresh token was presented again"),
    (Histogram, "onrush_batch_commands", "Commands executed together in one transaction"),
    (Histogram, "onrush_batch_commit_seconds", "Duration of a commit"),
    (Histogram, "onrush_batch_hops_folded", "Messages delivered inside the transaction that emitted them"),
    (Histogram, "onrush_batch_queue_seconds", "Time of a command in the queue before its transaction"),
    (Counter, "onrush_batch_shed_total", "Commands refused because the queue was full"),
    (Counter, "onrush_breaker_refused_total", "Calls refused by an open circuit breaker"),
    (Gauge, "onrush_breaker_state", "State of a circuit breaker: 0 closed, 1 half open, 2 open"),
    (Counter, "onrush_calls_rejected_total", "Calls to the internal route without a valid signature"),
    (Counter, "onrush_commands_put_off_total", "Commands answered 503 because of lock contention"),
    (Histogram, "onrush_coupons_claims_from_log", "Claims settled together from the log of claims"),
    (Counter, "onrush_coupons_not_taken_down_total", "Claims that Kafka did not acknowledge in time, settled at once instead"),
    (Counter, "onrush_coupons_refused_early_total", "Claims refused before the database: the coupon is sold out"),
    (Counter, "onrush_cross_site_refused_total", "Requests by cookie refused because they come from another site"),
    (Counter, "onrush_dead_letters_total", "Messages stored as dead letters"),
    (Counter, "onrush_deliveries_split_total", "Failed batches of messages, delivered in smaller pieces"),
    (Counter, "onrush_forbidden_total", "Requests refused because the role may not call the operation"),
    (Counter, "onrush_foreign_messages_total", "Records in a topic that are no messages of this mall"),
    (Histogram, "onrush_gateway_request_seconds", "Duration of a forwarded request, all tries together"),
    (Counter, "onrush_gateway_requests_total", "Forwarded requests by outcome"),
    (Counter, "onrush_gateway_retries_total", "Repeated tries of forwarded requests"),
    (Counter, "onrush_http_connections_shed_total", "Connections closed or refused because the server or the share of an address was full"),
    (Histogram, "onrush_http_request_seconds", "Duration of a request, from its head to the head of its answer"),
    (Counter, "onrush_http_requests_total", "Answered requests by route, method and class of the status"),
    (Gauge, "onrush_job_failed_passes", "Passes of a job that failed in a row"),
    (Counter, "onrush_job_failures_total", "Failed passes of jobs"),
    (Gauge, "onrush_job_items_passed_over", "Orders or coupons that a job passes over because they failed"),
    (Counter, "onrush_limits_refused_total", "Requests refused by a limit, by its name"),
    (Histogram, "onrush_link_call_seconds", "Duration of a call to a service in another process, all tries together"),
    (Counter, "onrush_link_calls_total", "Calls to services in other processes by outcome"),
    (Counter, "onrush_link_fallbacks_total", "Failed calls between services that were replaced by a fallback"),
    (Counter, "onrush_link_retries_total", "Repeated tries of calls to services in other processes"),
    (Counter, "onrush_log_lines_left_out_total", "Log lines left out because their kind had reached its limit"),
    (Counter, "onrush_messages_set_aside_total", "Messages set aside after failures, to be tried again"),
    (Counter, "onrush_parked_repeats_total", "Repeats of the last parked message of a key, not stored"),
    (Counter, "onrush_password_shed_total", "Requests answered 503 because too many passwords were being hashed"),
    (Counter, "onrush_payments_reconciled_total", "Payments whose outcome was asked from the provider later"),
    (Counter, "onrush_rate_limit_local_fallback_total", "Attempts counted in this process because Redis was unavailable"),
    (Gauge, "onrush_reader_lag", "Messages that a reader has not settled yet"),
    (Gauge, "onrush_reader_stopped", "1 while a reader is stopped"),
    (Counter, "onrush_reader_stops_total", "Stops of a reader"),
    (Histogram, "onrush_redis_call_seconds", "Duration of a call to Redis"),
    (Counter, "onrush_redis_failures_total", "Failed calls to Redis"),
    (Counter, "onrush_relay_failures_total", "Failed attempts to publish messages to Kafka"),
    (Gauge, "onrush_relay_lag", "Messages of a stream that Kafka does not have yet"),
    (Counter, "onrush_relay_messages_total", "Messages published to Kafka"),
    (Histogram, "onrush_sequencer_messages", "Messages numbered together"),
    (Counter, "onrush_stock_commits_without_hold_total", "Paid orders for which stock held nothing"),
    (Gauge, "onrush_stock_overdue_orders", "Orders whose hold of stock is overdue"),
    (Counter, "onrush_stock_refused_total", "Reservations of stock refused, by problem"),
    (Counter, "onrush_task_panics_total", "Panics of tasks, by task"),
    (Gauge, "onrush_topics_unready", "1 while a topic cannot be used"),
    (Counter, "onrush_transaction_conflicts_total", "Transactions repeated because of a conflict"),
];

/// Gives the recorder the help texts.
pub(crate) fn describe() {
    for (kind, name, help) in METRICS {
        match kind {
            Counter => metrics::describe_counter!(*name, *help),
            Gauge => metrics::describe_gauge!(*name, *help),
            Histogram => metrics::describe_histogram!(*name, *help),
        }
    }
}
