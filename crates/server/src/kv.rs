//! Keys and values: ranges, writes, transactions, compaction.

use api::etcdserverpb::internal_raft_request::Request;
use api::etcdserverpb::{CompactionRequest, DeleteRangeRequest, PutRequest, RangeRequest, TxnRequest, request_op};
use machine::{Reply, put_cost, txn_cost, validate};

use crate::error::Error;
use crate::handle::Handle;

/// A range over more keys than this is gathered on another thread, so that the worker's other connections go on.
const KEYS_INLINE_MAX: i64 = 4096;

impl Handle {
    /// Reads keys.
    ///
    /// # Errors
    /// [`Error`].
    pub async fn range(&self, request: RangeRequest) -> Result<Reply, Error> {
        validate::check_range(&request)?;
        let answer = async {
            if !request.serializable {
                self.linearizable().await?;
            }
            self.range_applied(request).await
        };
        self.timed("range", answer).await
    }

    async fn range_applied(&self, request: RangeRequest) -> Result<Reply, Error> {
        let state = self.state();
        if request.range_end.is_empty() || (1..=KEYS_INLINE_MAX).contains(&request.limit) || request.count_only {
            return Ok(state.range(&request)?);
        }
        let count = RangeRequest { count_only: true, revision: 0, ..request.clone() };
        if state.count(&count)? <= KEYS_INLINE_MAX {
            return Ok(state.range(&request)?);
        }
        let state = state.clone();
        blocking(move || state.range(&request)).await?.map_err(Error::from)
    }

    /// Writes one key.
    ///
    /// # Errors
    /// [`Error`].
    pub async fn put(&self, request: PutRequest) -> Result<Reply, Error> {
        self.admit_growth(put_cost(&request)).await?;
        validate::check_put(&request)?;
        self.propose(Request::Put(request)).await
    }

    /// Deletes keys.
    ///
    /// # Errors
    /// [`Error`].
    pub async fn delete_range(&self, request: DeleteRangeRequest) -> Result<Reply, Error> {
        validate::check_delete_range(&request)?;
        self.propose(Request::DeleteRange(request)).await
    }

    /// Compares, then does one list of operations or the other. One that only reads does not go through the log.
    ///
    /// # Errors
    /// [`Error`].
    pub async fn txn(&self, request: TxnRequest) -> Result<Reply, Error> {
        self.admit_growth(txn_cost(&request)).await?;
        validate::check_txn(&request, self.limits().max_txn_ops)?;
        let Some(serializable) = reads_only(&request) else {
            return self.propose(Request::Txn(request)).await;
        };
        if !serializable {
            self.linearizable().await?;
        }
        Ok(self.state().read_only_txn(&request)?)
    }

    /// Gives up the history before a revision. A physical one is answered once the history is gone from the disk.
    ///
    /// # Errors
    /// [`Error`].
    pub async fn compact(&self, request: CompactionRequest) -> Result<Reply, Error> {
        let (revision, physical) = (request.revision, request.physical);
        let reply = self.propose(Request::Compaction(request)).await?;
        if physical {
            let mut finished = self.inner().compaction_finished.clone();
            let done = async { finished.wait_for(|&finished| finished >= revision).await.is_ok() };
            tokio::select! {
                true = done => {}
                () = self.stopped() => return Err(Error::Stopped),
            }
        }
        Ok(reply)
    }
}

/// Runs `work` on a thread that may block.
pub(crate) async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, Error> {
    tokio::task::spawn_blocking(work).await.map_err(|error| Error::Internal(error.to_string()))
}

/// Whether a transaction holds nothing but ranges, and if so, whether all of them are serializable.
fn reads_only(request: &TxnRequest) -> Option<bool> {
    let mut serializable = true;
    for op in request.success.iter().chain(&request.failure) {
        match &op.request {
            Some(request_op::Request::RequestRange(range)) => serializable &= range.serializable,
            _ => return None,
        }
    }
    Some(serializable)
}
