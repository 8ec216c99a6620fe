//! What tests assert again and again.

use std::fmt::Debug;
use std::future::Future;
use std::time::Duration;

use anyhow::{Result, bail};
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
pub async fn holds_within<Check: Future<Output = Result<bool>>>(
    limit: Duration,
    mut check: impl FnMut() -> Check,
) -> Result<()> {
    let deadline = tokio::time::Instant::now() + limit;
    while !check().await? {
        if tokio::time::Instant::now() > deadline {
            bail!("still not so after {limit:?}");
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    Ok(())
}
