//! Runs a test body and reports what its servers printed if it fails.

use std::cell::RefCell;
use std::future::Future;
use std::io::{self, Write};
use std::str::FromStr;
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, anyhow};
use env::catch_panic;
use tokio::time::timeout;

use crate::Target;

/// No test takes this long unless something hangs.
pub const LIMIT: Duration = Duration::from_secs(60);

/// No test of a cluster takes this long: its members wait for one another, and more of them share the machine.
pub const CLUSTER_LIMIT: Duration = Duration::from_secs(150);

thread_local! {
    static REPORT: RefCell<Vec<String>> = const { RefCell::new(Vec::new()) };
}

/// Keeps `text` until the test ends; it is shown if the test fails.
pub(crate) fn keep_for_report(text: String) {
    REPORT.with_borrow_mut(|report| report.push(text));
}

/// Shows what was kept when a panic unwinds past it.
struct ShowOnPanic;

impl Drop for ShowOnPanic {
    fn drop(&mut self) {
        let report = REPORT.take();
        if std::thread::panicking() {
            eprintln!("{}", report.join("\n"));
        }
    }
}

/// How often a body is run on etcd before it fails there.
const ETCD_ATTEMPTS: usize = 3;

/// Runs `body` against `target` on a runtime of its own. What fails on etcd is run there again, up to [`ETCD_ATTEMPTS`] times,
/// and each failure is shown even if the test passes then: etcd has races of its own, which a busy machine brings out (a
/// leader that was frozen may revoke a lease that was renewed elsewhere), and is here to tell whether the body asks for the
/// right thing. Quorate gets no second chance.
///
/// # Panics
/// If the body fails or takes too long: that is how a test fails.
pub fn run<Body: Future<Output = Result<()>>>(target: Target, body: impl Fn(Target) -> Body) {
    run_within(Some(LIMIT), target, body);
}

/// As [`run`], with another limit, or none.
///
/// # Panics
/// If the body fails or takes too long.
pub fn run_within<Body: Future<Output = Result<()>>>(
    limit: Option<Duration>,
    target: Target,
    body: impl Fn(Target) -> Body,
) {
    // Not by a macro, whose text only a failing test shows.
    run_and_tell(limit, target, body, &mut io::stderr());
}

/// As [`run_within`]; a failure on etcd that is not the last is written to `told`.
fn run_and_tell<Body: Future<Output = Result<()>>>(
    limit: Option<Duration>,
    target: Target,
    body: impl Fn(Target) -> Body,
    told: &mut impl Write,
) {
    let attempt = async || {
        let outcome = match limit {
            Some(limit) => {
                timeout(limit, body(target)).await.unwrap_or_else(|_| Err(anyhow!("not done after {limit:?}")))
            }
            None => body(target).await,
        };
        outcome.with_context(|| format!("on {target}"))
    };
    let attempts = if target == Target::Etcd { ETCD_ATTEMPTS } else { 1 };
    for _ in 1..attempts {
        // What is asserted ends in a panic.
        let problem = match catch_panic(|| block_on(attempt())) {
            Ok(Ok(())) => return,
            Ok(Err(error)) => format!("{error:#}"),
            Err(panic) => panic,
        };
        let name = thread::current().name().unwrap_or_default().to_owned();
        writeln!(told, "{name} failed, and is run again: {problem}").expect("it can be shown");
    }
    run_unlimited(attempt());
}

/// As [`run`], for a body that knows its targets itself and may take long.
///
/// # Panics
/// If the body fails.
pub fn run_unlimited(body: impl Future<Output = Result<()>>) {
    let _show = ShowOnPanic;
    if let Err(error) = block_on(body) {
        panic!("{error:?}");
    }
}

fn block_on<T>(body: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime can be built");
    runtime.block_on(body)
}

/// The number that the environment variable `name` chooses for a long run.
///
/// # Errors
/// If it is set to something else than a number.
pub fn chosen<T: FromStr>(name: &str, default: T) -> Result<T>
where
    T::Err: std::error::Error + Send + Sync + 'static,
{
    match std::env::var(name) {
        Ok(text) => text.parse().with_context(|| format!("{name}={text}")),
        Err(_) => Ok(default),
    }
}

/// Makes two tests of each body, an `async fn(Target) -> anyhow::Result<()>`: `etcd::name` and `quorate::name`. After
/// `unlimited:` they may take as long as they want, after `clusters:` [`CLUSTER_LIMIT`], else as long as with [`run`].
#[macro_export]
macro_rules! on_both_targets {
    (unlimited: $($body:ident),* $(,)?) => {
        $crate::on_both_targets!(@ [None] $($body),*);
    };
    (clusters: $($body:ident),* $(,)?) => {
        $crate::on_both_targets!(@ [Some($crate::CLUSTER_LIMIT)] $($body),*);
    };
    (@ [$limit:expr] $($body:ident),*) => {
        mod etcd {
            $(#[test]
            fn $body() {
                $crate::run_within($limit, $crate::Target::Etcd, super::$body);
            })*
        }
        mod quorate {
            $(#[test]
            fn $body() {
                $crate::run_within($limit, $crate::Target::Quorate, super::$body);
            })*
        }
    };
    ($($body:ident),* $(,)?) => {
        $crate::on_both_targets!(@ [Some($crate::LIMIT)] $($body),*);
    };
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    /// How often a body was run that succeeds from attempt number `good` on, whether the test has passed, and what was told.
    fn attempts(target: Target, good: usize) -> (usize, bool, String) {
        let (attempts, mut told) = (Cell::new(0), Vec::new());
        let body = async |_| {
            attempts.update(|attempts| attempts + 1);
            assert!(attempts.get() >= good, "attempt {} fails", attempts.get());
            Ok(())
        };
        let passed = catch_panic(|| run_and_tell(None, target, body, &mut told)).is_ok();
        (attempts.get(), passed, String::from_utf8(told).expect("it is text"))
    }

    #[test]
    fn what_is_asserted_of_etcd_has_two_more_chances_and_no_third() {
        assert_eq!(attempts(Target::Etcd, 1), (1, true, String::new()));
        for (good, made, passes) in [(2, 2, true), (3, 3, true), (4, 3, false)] {
            let (attempts, passed, told) = attempts(Target::Etcd, good);
            assert_eq!((attempts, passed), (made, passes));
            let told: Vec<_> = told.lines().collect();
            assert_eq!(told.len(), made - 1);
            for (number, line) in (1..).zip(told) {
                assert!(line.ends_with(&format!(" failed, and is run again: attempt {number} fails")), "{line}");
            }
        }
    }

    #[test]
    fn what_is_asserted_of_quorate_has_none() {
        assert_eq!(attempts(Target::Quorate, 1), (1, true, String::new()));
        assert_eq!(attempts(Target::Quorate, 2), (1, false, String::new()));
    }
}
