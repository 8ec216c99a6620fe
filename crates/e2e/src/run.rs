//! Runs a test body and reports what its servers printed if it fails.

use std::cell::RefCell;
use std::env;
use std::future::Future;
use std::str::FromStr;
use std::time::Duration;

use anyhow::{Context, Result};

use crate::Target;

/// No test takes this long unless something hangs.
const LIMIT: Duration = Duration::from_secs(60);

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

/// Runs `body` against `target` on a runtime of its own.
///
/// # Panics
/// If the body fails or takes too long: that is how a test fails.
pub fn run<Body: Future<Output = Result<()>>>(target: Target, body: impl FnOnce(Target) -> Body) {
    run_within(LIMIT, target, body);
}

/// As [`run`], with another limit.
///
/// # Panics
/// If the body fails or takes too long.
pub fn run_within<Body: Future<Output = Result<()>>>(
    limit: Duration,
    target: Target,
    body: impl FnOnce(Target) -> Body,
) {
    run_unlimited(async {
        let outcome = tokio::time::timeout(limit, body(target)).await;
        outcome.with_context(|| format!("not done after {limit:?}"))?.with_context(|| format!("on {target}"))
    });
}

/// As [`run`], for a body that knows its targets itself and may take long.
///
/// # Panics
/// If the body fails.
pub fn run_unlimited(body: impl Future<Output = Result<()>>) {
    let _show = ShowOnPanic;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime can be built");
    if let Err(error) = runtime.block_on(body) {
        panic!("{error:?}");
    }
}

/// The number that the environment variable `name` chooses for a long run.
///
/// # Errors
/// If it is set to something else than a number.
pub fn chosen<T: FromStr>(name: &str, default: T) -> Result<T>
where
    T::Err: std::error::Error + Send + Sync + 'static,
{
    match env::var(name) {
        Ok(text) => text.parse().with_context(|| format!("{name}={text}")),
        Err(_) => Ok(default),
    }
}

/// Makes two tests of each body, an `async fn(Target) -> anyhow::Result<()>`: `etcd::name` and `quorate::name`. After
/// `unlimited:` they are [`run_unlimited`], after `clusters:` they may take [`CLUSTER_LIMIT`].
#[macro_export]
macro_rules! on_both_targets {
    (unlimited: $($body:ident),* $(,)?) => {
        mod etcd {
            $(#[test]
            fn $body() {
                $crate::run_unlimited(super::$body($crate::Target::Etcd));
            })*
        }
        mod quorate {
            $(#[test]
            fn $body() {
                $crate::run_unlimited(super::$body($crate::Target::Quorate));
            })*
        }
    };
    (clusters: $($body:ident),* $(,)?) => {
        mod etcd {
            $(#[test]
            fn $body() {
                $crate::run_within($crate::CLUSTER_LIMIT, $crate::Target::Etcd, super::$body);
            })*
        }
        mod quorate {
            $(#[test]
            fn $body() {
                $crate::run_within($crate::CLUSTER_LIMIT, $crate::Target::Quorate, super::$body);
            })*
        }
    };
    ($($body:ident),* $(,)?) => {
        mod etcd {
            $(#[test]
            fn $body() {
                $crate::run($crate::Target::Etcd, super::$body);
            })*
        }
        mod quorate {
            $(#[test]
            fn $body() {
                $crate::run($crate::Target::Quorate, super::$body);
            })*
        }
    };
}
