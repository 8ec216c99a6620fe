//! What tests assert again and again.

use std::fmt::Debug;
use std::future::Future;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use api::etcdserverpb::ResponseHeader;
use testkit::grpc::Status;

use crate::refusal::Refusal;

/// Asserts that a call failed with exactly this code and text.
#[track_caller]
pub fn fails<T: Debug>(outcome: Result<T, Status>, (code, message): Refusal) {
    match outcome {
        Ok(answer) => panic!("expected {code:?}: {message}\n     got an answer: {answer:?}"),
        Err(status) => assert_eq!(status, Status::new(code, message)),
    }
}

/// The revision of a response's header.
#[track_caller]
pub fn revision(header: &Option<ResponseHeader>) -> i64 {
    header.as_ref().expect("the response has a header").revision
}

/// Waits until `check` returns true: for what servers do in their own time.
///
/// # Errors
/// If it does not within `limit`, or fails.
pub async fn holds_within(limit: Duration, mut check: impl AsyncFnMut() -> Result<bool>) -> Result<()> {
    found_within(limit, async || Ok(check().await?.then_some(()))).await
}

/// As [`holds_within`], for a check that finds something in the end.
///
/// # Errors
/// If it does not within `limit`, or fails.
pub async fn found_within<T>(limit: Duration, mut check: impl AsyncFnMut() -> Result<Option<T>>) -> Result<T> {
    let deadline = tokio::time::Instant::now() + limit;
    loop {
        if let Some(found) = check().await? {
            return Ok(found);
        }
        if tokio::time::Instant::now() > deadline {
            bail!("still not so after {limit:?}");
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// Waits for what may never come: a call to a member that is frozen or cut off.
///
/// # Errors
/// If it does not come within `limit`.
pub async fn within<T>(limit: Duration, future: impl Future<Output = T>) -> Result<T> {
    tokio::time::timeout(limit, future).await.with_context(|| format!("nothing came within {limit:?}"))
}
