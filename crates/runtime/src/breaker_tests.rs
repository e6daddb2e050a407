use super::*;
use crate::ports::ManualClock;

fn breaker(settings: BreakerSettings) -> (Breaker, ManualClock) {
    let clock = ManualClock::at(Timestamp(1_795_132_800_000_000));
    (Breaker::new("test", settings, Arc::new(clock.clone())), clock)
}

fn record_outcome(breaker: &Breaker, failed: bool) {
    let permit = breaker.acquire().expect("it permits calls");
    if failed { permit.failed() } else { permit.succeeded() }
}

fn open(breaker: &Breaker) {
    for _ in 0..BreakerSettings::default().min_calls {
        record_outcome(breaker, true);
    }
    assert_eq!(breaker.state(), BreakerState::Open);
}

// Z1
#[test]
fn it_opens_at_two_failures_in_ten_and_not_at_one() {
    let (breaker, _) = breaker(BreakerSettings::default());
    for _ in 0..9 {
        record_outcome(&breaker, false);
    }
    record_outcome(&breaker, true);
    assert_eq!(breaker.state(), BreakerState::Closed);
    record_outcome(&breaker, true);
    assert_eq!(breaker.state(), BreakerState::Open);
    assert_eq!(breaker.acquire().expect_err("it is open").retry_in, Duration::from_secs(5));
}

#[test]
fn few_calls_do_not_open_it() {
    let (breaker, _) = breaker(BreakerSettings::default());
    for _ in 0..4 {
        record_outcome(&breaker, true);
    }
    assert_eq!(breaker.state(), BreakerState::Closed);
    record_outcome(&breaker, true);
    assert_eq!(breaker.state(), BreakerState::Open);
}

#[test]
fn failures_outside_the_window_do_not_count() {
    let (breaker, _) = breaker(BreakerSettings::default());
    for round in 0..50 {
        record_outcome(&breaker, round % 10 == 9);
    }
    assert_eq!(breaker.state(), BreakerState::Closed);
}

// Z1
#[test]
fn half_open_permits_a_few_trials_and_closes_on_success() {
    let (breaker, clock) = breaker(BreakerSettings::default());
    open(&breaker);
    clock.advance(Duration::from_millis(4_999));
    assert_eq!(breaker.acquire().expect_err("still open").retry_in, Duration::from_millis(1));
    clock.advance(Duration::from_millis(1));
    let (first, second) = (breaker.acquire().expect("a trial"), breaker.acquire().expect("a trial"));
    assert_eq!(breaker.state(), BreakerState::HalfOpen);
    assert!(breaker.acquire().is_err(), "two trials are running");
    first.succeeded();
    assert_eq!(breaker.state(), BreakerState::HalfOpen);
    second.succeeded();
    assert_eq!(breaker.state(), BreakerState::Closed);
    // Closing discarded the old failures.
    record_outcome(&breaker, true);
    assert_eq!(breaker.state(), BreakerState::Closed);
}

#[test]
fn a_failed_trial_opens_it_for_as_long_again() {
    let (breaker, clock) = breaker(BreakerSettings::default());
    open(&breaker);
    clock.advance(Duration::from_secs(5));
    let (first, late) = (breaker.acquire().expect("a trial"), breaker.acquire().expect("a trial"));
    first.failed();
    assert_eq!(breaker.state(), BreakerState::Open);
    // This outcome belongs to a phase that is over.
    late.succeeded();
    assert_eq!(breaker.acquire().expect_err("open again").retry_in, Duration::from_secs(5));
}

#[test]
fn a_dropped_trial_permits_another_one() {
    let (breaker, clock) = breaker(BreakerSettings { trials: 1, ..BreakerSettings::default() });
    open(&breaker);
    clock.advance(Duration::from_secs(5));
    for _ in 0..3 {
        drop(breaker.acquire().expect("room for a trial"));
    }
    assert_eq!(breaker.state(), BreakerState::HalfOpen);
    record_outcome(&breaker, false);
    assert_eq!(breaker.state(), BreakerState::Closed);
}

#[test]
fn a_clock_set_back_does_not_keep_it_open() {
    let clock = ManualClock::at(Timestamp(1_795_132_800_000_000));
    struct Shifted(ManualClock, std::sync::atomic::AtomicI64);
    impl Clock for Shifted {
        fn now(&self) -> Timestamp {
            Timestamp(self.0.now().0 - self.1.load(std::sync::atomic::Ordering::SeqCst))
        }
        fn monotonic(&self) -> Duration {
            self.0.monotonic()
        }
    }
    let shifted = Arc::new(Shifted(clock.clone(), Default::default()));
    let breaker = Breaker::new("shifted", BreakerSettings::default(), Arc::clone(&shifted) as Arc<dyn Clock>);
    open(&breaker);
    shifted.1.store(3_600_000_000, std::sync::atomic::Ordering::SeqCst);
    assert!(breaker.acquire().is_err());
    clock.advance(Duration::from_secs(5));
    assert!(breaker.acquire().is_ok());
}

#[tokio::test]
async fn run_counts_errors_and_does_not_call_when_open() {
    let (breaker, _) = breaker(BreakerSettings::default());
    for _ in 0..5 {
        assert_eq!(breaker.run(async { Err::<(), _>("down") }).await, Err(BreakerError::Failed("down")));
    }
    let mut called = false;
    let result = breaker
        .run(async {
            called = true;
            Ok::<_, &str>(1)
        })
        .await;
    assert!(matches!(result, Err(BreakerError::Open(_))) && !called, "{result:?}");
}

// I8
#[test]
fn its_state_is_a_metric() {
    crate::telemetry::install_metrics();
    let clock = ManualClock::at(Timestamp(1_795_132_800_000_000));
    let breaker = Breaker::new("measured", BreakerSettings::default(), Arc::new(clock.clone()));
    let assert_metric = |line: &str| assert!(crate::telemetry::metrics_text().contains(&format!("{line}\n")), "{line}");
    assert_metric(r#"onrush_breaker_state{name="measured"} 0"#);
    open(&breaker);
    assert!(breaker.acquire().is_err());
    assert_metric(r#"onrush_breaker_state{name="measured"} 2"#);
    assert_metric(r#"onrush_breaker_refused_total{name="measured"} 1"#);
    clock.advance(Duration::from_secs(5));
    drop(breaker.acquire().expect("a trial"));
    assert_metric(r#"onrush_breaker_state{name="measured"} 1"#);
}

#[test]
fn many_threads_get_no_more_trials_than_allowed() {
    let (breaker, clock) = breaker(BreakerSettings::default());
    open(&breaker);
    clock.advance(Duration::from_secs(5));
    let permits: Vec<_> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..32).map(|_| scope.spawn(|| breaker.acquire())).collect();
        threads.into_iter().map(|thread| thread.join().expect("no panic")).collect()
    });
    assert_eq!(permits.iter().filter(|permit| permit.is_ok()).count(), 2);
}
