//! Calls that only the leader can answer, from whichever member is asked.

use std::time::Duration;

use machine::ApplyError;
use membership::MembershipError;
use peer::PeerError;
use peer::client::ClientError;
use tokio::time::{Instant, sleep_until, timeout_at};
use types::MemberId;

use crate::error::Error;
use crate::handle::Handle;

/// What became of a call.
pub(crate) enum Found<H, T> {
    /// Answered by this member, which leads.
    Here(H),
    /// Answered by the leader.
    There(T),
    /// There is no such thing, as the leader says.
    Nowhere,
}

/// Between attempts; etcd's.
const RETRY_INTERVAL: Duration = Duration::from_millis(50);
/// How long there may be no leader before the caller is told, in election timeouts.
const LEADERLESS_TIMEOUTS: u32 = 5;

impl Handle {
    /// Answers here if this member leads, and by HTTP from the leader otherwise; again and again until a leader has
    /// answered or the time for a request is over.
    pub(crate) async fn at_leader<H, T>(
        &self,
        here: impl AsyncFn() -> Result<H, Error>,
        there: impl AsyncFn(String, Duration) -> Result<T, ClientError>,
    ) -> Result<Found<H, T>, Error> {
        let deadline = Instant::now() + self.limits().request_timeout;
        loop {
            self.check_running()?;
            if self.leads() {
                match here().await {
                    Err(Error::NotLeader) => {}
                    answer => return answer.map(Found::Here),
                }
            } else {
                let leader = self.wait_for_leader().await?;
                for url in self.peer_urls(leader) {
                    let left = deadline.saturating_duration_since(Instant::now());
                    // Boxed, so that a call that is answered here, as most are, is small.
                    match Box::pin(there(url, left)).await {
                        Ok(answer) => return Ok(Found::There(answer)),
                        Err(ClientError::Refused(PeerError::LeaseNotFound)) => return Ok(Found::Nowhere),
                        Err(ClientError::Refused(PeerError::MemberNotFound)) => {
                            return Err(ApplyError::from(MembershipError::IdNotFound).into());
                        }
                        Err(ClientError::Refused(PeerError::MemberNotLearner)) => {
                            return Err(ApplyError::from(MembershipError::NotLearner).into());
                        }
                        Err(ClientError::Refused(PeerError::LearnerNotReady)) => return Err(Error::LearnerNotReady),
                        Err(error) => tracing::debug!(%leader, %error, "the leader does not answer"),
                    }
                }
            }
            if Instant::now() >= deadline {
                return Err(Error::Timeout);
            }
            sleep_until((Instant::now() + RETRY_INTERVAL).min(deadline)).await;
        }
    }

    /// # Errors
    /// [`Error::NoLeader`] if there is none for long.
    async fn wait_for_leader(&self) -> Result<MemberId, Error> {
        let mut status = self.status_changes();
        let until = Instant::now() + LEADERLESS_TIMEOUTS * self.limits().election_timeout;
        match timeout_at(until, status.wait_for(|status| status.leader != MemberId(0))).await {
            Ok(Ok(status)) => Ok(status.leader),
            Ok(Err(_)) => Err(Error::Stopped),
            Err(_) => Err(Error::NoLeader),
        }
    }

    pub(crate) fn peer_urls(&self, member: MemberId) -> Vec<String> {
        let membership = self.state().membership();
        membership.member(member).map(|member| member.peer_urls.clone()).unwrap_or_default()
    }
}
