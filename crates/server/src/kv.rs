//! Keys and values: ranges, writes, transactions, compaction.

use api::etcdserverpb::internal_raft_request::Request;
use api::etcdserverpb::{CompactionRequest, DeleteRangeRequest, PutRequest, RangeRequest, TxnRequest, request_op};
use machine::{Reply, put_cost, txn_cost, validate};

use crate::error::Error;
use crate::figures::Timed;
use crate::handle::Handle;
use crate::large_reads::{RANGE_KEYS_MAX, TXN_KEYS_MAX};

impl Handle {
    /// Reads keys.
    ///
    /// # Errors
    /// [`Error`].
    pub async fn range(&self, request: RangeRequest) -> Result<Reply, Error> {
        validate::check_range(&request)?;
        let asked_at = self.now();
        // Since when the state is fresh enough. The clock is not read anew for nothing.
        let waits = !request.serializable && !self.inner().board.reads_need_no_round();
        let mut read_at = None;
        let answer = async {
            if !request.serializable {
                self.linearizable().await?;
            }
            read_at = Some(if waits { self.now() } else { asked_at });
            self.range_applied(request).await
        };
        let answer = answer.await;
        let answered_at = self.now();
        if let Some(read_at) = read_at {
            self.figures().ranges.add_alone(1);
            self.figures().range(answer.is_ok()).observe_alone(answered_at.since(read_at));
        }
        self.note_time(Timed::Range, answer.is_ok(), answered_at.since(asked_at));
        answer
    }

    async fn range_applied(&self, request: RangeRequest) -> Result<Reply, Error> {
        let state = self.state();
        if state.keys_looked_at(&request, RANGE_KEYS_MAX + 1)? <= RANGE_KEYS_MAX {
            return Ok(state.range(&request)?);
        }
        let state = state.clone();
        Ok(self.inner().large_reads.run(move || state.range(&request)).await??)
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
        let answer = async {
            if !serializable {
                self.linearizable().await?;
            }
            self.txn_applied(request).await
        };
        self.timed(Timed::ReadOnlyTxn, answer).await
    }

    async fn txn_applied(&self, request: TxnRequest) -> Result<Reply, Error> {
        let (reply, reads) = self.txn_uncounted(request).await?;
        self.figures().ranges.add_alone(reads);
        self.figures().txns.add_alone(u64::from(reads > 1));
        Ok(reply)
    }

    async fn txn_uncounted(&self, request: TxnRequest) -> Result<(Reply, u64), Error> {
        let state = self.state();
        if state.txn_keys_looked_at(&request, TXN_KEYS_MAX + 1)? <= TXN_KEYS_MAX {
            return Ok(state.read_only_txn_with_reads(&request)?);
        }
        let state = state.clone();
        Ok(self.inner().large_reads.run(move || state.read_only_txn_with_reads(&request)).await??)
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

#[cfg(test)]
mod tests {
    use std::pin::pin;
    use std::sync::Arc;
    use std::task::{Context, Waker};

    use api::etcdserverpb::{Compare, RequestOp};
    use bytes::Bytes;
    use env::{RealDisk, SystemClock, SystemRng};

    use super::*;
    use crate::{Body, Member, Settings, World};

    const KEYS: usize = RANGE_KEYS_MAX + 1;

    fn range(range_end: &'static str) -> RangeRequest {
        RangeRequest { key: Bytes::from("key"), range_end: Bytes::from(range_end), ..RangeRequest::default() }
    }

    fn op(range: RangeRequest) -> RequestOp {
        RequestOp { request: Some(request_op::Request::RequestRange(range)) }
    }

    fn txn(ops: impl IntoIterator<Item = RangeRequest>) -> TxnRequest {
        TxnRequest { success: ops.into_iter().map(op).collect(), ..TxnRequest::default() }
    }

    /// What is small is answered at once, on the worker's own thread: the first look at its future finds the answer.
    async fn is_answered_at_once(answer: impl Future<Output = Result<Reply, Error>>) -> bool {
        let mut answer = pin!(answer);
        let answered = answer.as_mut().poll(&mut Context::from_waker(Waker::noop()));
        answered.map(|reply| reply.expect("it can be read")).is_ready()
    }

    #[test]
    fn only_reads_that_look_at_many_keys_wait_for_a_place() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let rng = Box::new(SystemRng::with_seed(1));
        let world =
            World { disk: Arc::new(RealDisk), clock: Arc::new(SystemClock::default()), rng, peer_listeners: vec![] };
        let settings = Settings::new(dir.path().join("data"));
        let begin = crate::Bootstrap::founding(&settings.initial_cluster, &settings.name).unwrap();
        let member = Member::start(settings, &begin, world).expect("a new member starts");
        member.wait_ready().expect("the member works");
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        let local = tokio::task::LocalSet::new();
        local.block_on(&runtime, async {
            let handle = member.door().open();
            let puts = (0..KEYS).map(|number| {
                let put = PutRequest { key: Bytes::from(format!("key{number:04}")), ..PutRequest::default() };
                let handle = handle.clone();
                tokio::task::spawn_local(async move { handle.put(put).await.expect("the member works") })
            });
            for put in puts.collect::<Vec<_>>() {
                put.await.expect("the member works");
            }
            let places = handle.inner().large_reads.all_places().await;

            let all = || range("kez");
            let limited = || RangeRequest { limit: 1, ..all() };
            let counted = || RangeRequest { count_only: true, ..all() };
            let last = || RangeRequest { sort_order: 2, sort_target: 3, ..limited() };
            for small in [range(""), limited(), counted()] {
                assert!(is_answered_at_once(handle.range(small.clone())).await, "{small:?}");
                let txn = txn(std::iter::repeat_n(small, 100));
                assert!(is_answered_at_once(handle.txn(txn.clone())).await, "{txn:?}");
            }
            for large in [all(), last()] {
                assert!(!is_answered_at_once(handle.range(large.clone())).await, "{large:?}");
                assert!(!is_answered_at_once(handle.txn(txn([large]))).await);
            }
            assert!(!is_answered_at_once(handle.txn(txn([range("key0200"), range("key0200")]))).await);
            let compare = Compare { key: Bytes::from("key"), range_end: Bytes::from("kez"), ..Compare::default() };
            let compared = TxnRequest { compare: vec![compare], ..TxnRequest::default() };
            assert!(!is_answered_at_once(handle.txn(compared)).await);

            drop(places);
            let Ok(Body::Rows(rows)) = handle.range(all()).await.map(|reply| reply.body) else { panic!("no rows") };
            assert_eq!(rows.len(), KEYS);
            let whole = handle.txn(txn([all()])).await.expect("it can be read").body.into_bytes();
            assert!(whole.expect("it can be read").len() > KEYS * "key0000".len());
        });
        drop(local);
        member.stop().expect("nothing broke");
    }
}
