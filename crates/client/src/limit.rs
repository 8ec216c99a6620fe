//! A time limit for whatever is done, which servers are told of.

use std::future::Future;
use std::time::Duration;

use tokio::time::{Instant, timeout_at};

tokio::task_local! {
    static DEADLINE: Instant;
}

/// A longer limit is none.
const LIMIT_MAX: Duration = Duration::from_secs(100 * 365 * 24 * 60 * 60);

/// Does `work` within `limit`; `None` if that was not enough. The calls that begin meanwhile tell their servers how much
/// of it is left (`grpc-timeout`), as far as the same task makes them.
pub async fn within<T>(limit: Duration, work: impl Future<Output = T>) -> Option<T> {
    let deadline = Instant::now() + limit.min(LIMIT_MAX);
    DEADLINE.scope(deadline, timeout_at(deadline, work)).await.ok()
}

/// What is left of the limit that holds now, as gRPC writes it.
pub(crate) fn left() -> Option<String> {
    DEADLINE.try_with(|deadline| written(deadline.saturating_duration_since(Instant::now()))).ok()
}

/// At most eight digits, in the smallest unit that they are enough for; rounded up.
///
/// Source: grpc-go, `internal/grpcutil/encode_duration.go`.
fn written(time: Duration) -> String {
    const NUMBER_MAX: u128 = 99_999_999;
    const UNITS: [(char, u128); 6] = [
        ('n', 1),
        ('u', 1_000),
        ('m', 1_000_000),
        ('S', 1_000_000_000),
        ('M', 60_000_000_000),
        ('H', 3_600_000_000_000),
    ];
    let in_units = UNITS.map(|(unit, nanos)| (time.as_nanos().div_ceil(nanos), unit));
    let shortest = in_units.into_iter().find(|(number, _)| *number <= NUMBER_MAX);
    let (number, unit) = shortest.unwrap_or((NUMBER_MAX, 'H'));
    format!("{number}{unit}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_written_as_grpc_go_does() {
        for (time, text) in [
            (Duration::ZERO, "0n"),
            (Duration::from_nanos(99_999_999), "99999999n"),
            (Duration::from_nanos(100_000_001), "100001u"),
            (Duration::from_secs(5), "5000000u"),
            (Duration::from_secs(100), "100000m"),
            (Duration::from_millis(100_000_001), "100001S"),
            (Duration::from_secs(100_000_001), "1666667M"),
            (Duration::MAX, "99999999H"),
        ] {
            assert_eq!(written(time), text);
        }
    }

    #[tokio::test]
    async fn a_limit_holds_within_the_work_alone() {
        assert_eq!(left(), None);
        let inside = within(Duration::from_secs(50), async { left() }).await.expect("it does not wait");
        let millis = inside.expect("there is a limit").strip_suffix('u').expect("it is not that long").len();
        assert_eq!(millis, 8);
        assert_eq!(left(), None);
        assert_eq!(within(Duration::ZERO, std::future::pending::<()>()).await, None);
    }
}
