//! What came of the writes of a check, and whether that is good enough.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::Duration;

#[derive(Debug, Default)]
pub(super) struct Report {
    /// Of the writes that succeeded.
    pub latencies: Vec<Duration>,
    /// How often each error came.
    pub errors: BTreeMap<String, u64>,
    pub time: Duration,
}

#[derive(Debug)]
pub(super) struct Verdict {
    pub text: String,
    pub passed: bool,
}

const SLOWEST_SECONDS_MAX: f64 = 0.5;
const DEVIATION_SECONDS_MAX: f64 = 0.1;
/// Which share of the writes asked for must have been done.
const THROUGHPUT_SHARE_MIN: f64 = 0.9;

impl Report {
    /// Lines about the errors, if there were any.
    pub(super) fn errors(&self) -> Option<String> {
        let lines = self.errors.iter().map(|(error, count)| format!("FAIL: ERROR({error}) -> {count}\n"));
        (!self.errors.is_empty()).then(|| "FAIL: too many errors\n".to_owned() + &lines.collect::<String>())
    }

    /// Judges a load of `wanted` writes a second.
    pub(super) fn verdict(&self, wanted: u64) -> Verdict {
        let seconds: Vec<f64> = self.latencies.iter().map(Duration::as_secs_f64).collect();
        let count = seconds.len() as f64;
        let throughput = count / self.time.as_secs_f64();
        let slowest = seconds.iter().copied().fold(0.0, f64::max);
        let mean = seconds.iter().sum::<f64>() / count;
        let deviation = (seconds.iter().map(|one| (one - mean).powi(2)).sum::<f64>() / count).sqrt();
        let mut text = self.errors().unwrap_or_default();
        let mut passed = text.is_empty();
        let mut line = |good: bool, praise: String, complaint: String| {
            passed &= good;
            let _ = writeln!(text, "{}", if good { praise } else { complaint });
        };
        let writes = throughput as u64 + 1;
        line(
            throughput / wanted as f64 > THROUGHPUT_SHARE_MIN,
            format!("PASS: Throughput is {writes} writes/s"),
            format!("FAIL: Throughput too low: {writes} writes/s"),
        );
        line(
            slowest <= SLOWEST_SECONDS_MAX,
            format!("PASS: Slowest request took {slowest:.6}s"),
            format!("Slowest request took too long: {slowest:.6}s"),
        );
        line(
            deviation <= DEVIATION_SECONDS_MAX,
            format!("PASS: Stddev is {deviation:.6}s"),
            format!("Stddev too high: {deviation:.6}s"),
        );
        text.push_str(if passed { "PASS\n" } else { "FAIL\n" });
        Verdict { text, passed }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(millis: &[u64], seconds: u64) -> Report {
        let latencies = millis.iter().copied().map(Duration::from_millis).collect();
        Report { latencies, errors: BTreeMap::new(), time: Duration::from_secs(seconds) }
    }

    #[test]
    fn a_load_that_was_carried_passes() {
        let verdict = report(&[10, 10, 30, 30], 1).verdict(4);
        assert!(verdict.passed);
        let text = "PASS: Throughput is 5 writes/s\nPASS: Slowest request took 0.030000s\n\
                    PASS: Stddev is 0.010000s\nPASS\n";
        assert_eq!(verdict.text, text);
    }

    #[test]
    fn too_few_too_slow_and_failed_writes_are_told() {
        let mut slow = report(&[10, 700], 1);
        slow.errors.insert("etcdserver: no leader".into(), 3);
        let verdict = slow.verdict(4);
        assert!(!verdict.passed);
        let text = "FAIL: too many errors\nFAIL: ERROR(etcdserver: no leader) -> 3\n\
                    FAIL: Throughput too low: 3 writes/s\nSlowest request took too long: 0.700000s\n\
                    Stddev too high: 0.345000s\nFAIL\n";
        assert_eq!(verdict.text, text);
        assert!(!report(&[], 1).verdict(4).passed);
    }
}
