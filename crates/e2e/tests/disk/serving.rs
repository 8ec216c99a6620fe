//! Damage that appears while the member serves. Whoever meets it first, the member stops and says which file it was;
//! what is merely refused stops nobody.

use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use api::etcdserverpb::{
    DefragmentRequest, HashKvRequest, RangeRequest, TxnRequest, WatchCreateRequest, WatchResponse,
};
use e2e::refusal::{COMPACTED, FUTURE_REVISION};
use e2e::request::{compact, everything, get, op, op_put, put, txn, watch};
use e2e::{Ended, Ground, Process, Target, Watch, fails, revision, run};
use rustix::process::Signal;
use testkit::grpc::Client;

use crate::STOP_LIMIT;
use crate::damage::require_clear;

const STATE: &str = "state.redb";

/// Longer than a page of the file, and found nowhere else.
const LOST: &[u8] = &[0xa5; 9000];

/// Transactions of so many puts: more than the backend keeps of its file in memory.
const FILLING: usize = 24;
const FILLING_PUTS: usize = 120;

/// A stopped member's directory, to be copied.
struct Specimen {
    ground: Ground,
    original: PathBuf,
    /// At which `key` had the value that will be damaged.
    then: i64,
}

impl Specimen {
    async fn make() -> Result<Specimen> {
        let ground = Ground::new()?;
        let (mut process, client) = ground.serve(&[], &[]).await?;
        let then = revision(&client.put(put("key", LOST)).await?.header);
        client.put(put("key", "now")).await?;
        for number in 0..FILLING {
            let filling = |at| op_put(format!("filling{number}-{at}"), vec![b'x'; LOST.len()]);
            client.txn(txn((0..FILLING_PUTS).map(filling).collect::<Vec<_>>())).await?;
        }
        process.signal(Signal::TERM)?;
        process.wait(STOP_LIMIT).await?;
        let original = ground.dir().join("original");
        fs::rename(ground.data_dir(), &original)?;
        Ok(Specimen { ground, original, then })
    }

    async fn serve_copy(&self) -> Result<(Process, Client)> {
        let copy = self.ground.data_dir();
        if copy.exists() {
            fs::remove_dir_all(&copy)?;
        }
        let copied = Command::new("cp").args(["-a", "--sparse=always"]).arg(&self.original).arg(&copy).status()?;
        ensure!(copied.success());
        self.ground.serve(&[], &[]).await
    }

    /// Changes a byte of the old value.
    fn damage(&self) -> Result<()> {
        let path = self.ground.data_dir().join(STATE);
        let at =
            fs::read(&path)?.windows(LOST.len()).position(|bytes| bytes == LOST).context("the value is not there")?;
        Ok(File::options().write(true).open(&path)?.write_all_at(b"!", at as u64 + 500)?)
    }

    /// A copy that is damaged under the running member stops it once `meet` has met the damage.
    async fn stops_by(&self, what: &str, meet: impl AsyncFnOnce(&Client) -> Result<()>) -> Result<()> {
        let (mut process, client) = self.serve_copy().await?;
        self.damage()?;
        client.range(get("key")).await?;
        client.put(put("other", "1")).await?;
        ensure!(process.exited()?.is_none(), "what nobody has met stops nobody");
        meet(&client).await?;
        let status = process.wait(STOP_LIMIT).await?;
        let ended = Ended { status, output: process.output() };
        ensure!(status.code() == Some(1), "{what}: it ended with {status}:\n{}", ended.output);
        require_clear(&self.ground.data_dir().join(STATE), &ended.reason()?).with_context(|| what.to_owned())
    }
}

/// An answer that is cut short or refused; anything but an answer.
fn is_no_answer<T>(answer: &Result<T, testkit::grpc::Status>) -> Result<()> {
    ensure!(answer.is_err(), "damaged data was served");
    Ok(())
}

#[test]
fn damage_stops_the_member_whoever_meets_it() {
    run(Target::Quorate, |_| async {
        let specimen = Specimen::make().await?;
        let then = specimen.then;
        let at = |request| RangeRequest { revision: then, ..request };
        let txn_at =
            |request| -> TxnRequest { txn([op(api::etcdserverpb::request_op::Request::RequestRange(request))]) };

        specimen.stops_by("a key", async |client| is_no_answer(&client.range(at(get("key"))).await)).await?;
        specimen.stops_by("a range", async |client| is_no_answer(&client.range(at(everything())).await)).await?;
        let keys = RangeRequest { keys_only: true, ..at(everything()) };
        specimen.stops_by("keys", async |client| is_no_answer(&client.range(keys).await)).await?;
        let streamed = async |client: &Client| {
            let mut stream = client.range_stream(at(everything())).await?;
            is_no_answer(&stream.next().await)
        };
        specimen.stops_by("a stream", streamed).await?;
        let read = txn_at(at(get("key")));
        specimen.stops_by("a read-only transaction", async |client| is_no_answer(&client.txn(read).await)).await?;
        let mut write = txn_at(at(get("key")));
        write.success.push(op_put("other", "2"));
        specimen.stops_by("a transaction", async |client| is_no_answer(&client.txn(write).await)).await?;
        let watched = async |client: &Client| {
            let mut watch = Watch::open(client).await?;
            let create = WatchCreateRequest { start_revision: then, ..self::watch("key") };
            ensure!(watch.create(create).await?.created);
            let ended: Result<WatchResponse> = watch.next().await;
            ensure!(ended.is_err() || ended.is_ok_and(|response| response.canceled), "damaged data was served");
            Ok(())
        };
        specimen.stops_by("a watch", watched).await?;
        let hash = HashKvRequest { revision: 0 };
        specimen.stops_by("a hash", async |client| is_no_answer(&client.hash_kv(hash).await)).await?;
        let compaction = async |client: &Client| is_no_answer(&client.compact(compact(then + 1)).await);
        specimen.stops_by("a compaction", compaction).await?;
        let defragmentation = async |client: &Client| is_no_answer(&client.defragment(DefragmentRequest {}).await);
        specimen.stops_by("a defragmentation", defragmentation).await
    });
}

#[test]
fn a_refusal_stops_nobody() {
    run(Target::Quorate, |_| async {
        let specimen = Specimen::make().await?;
        let (mut process, client) = specimen.serve_copy().await?;
        client.compact(compact(specimen.then + 1)).await?;
        let compacted = RangeRequest { revision: specimen.then, ..get("key") };
        fails(client.range(compacted.clone()).await, COMPACTED);
        fails(client.range_stream(compacted).await?.next().await, COMPACTED);
        fails(client.hash_kv(HashKvRequest { revision: specimen.then }).await, COMPACTED);
        fails(client.compact(compact(specimen.then)).await, COMPACTED);
        fails(client.range(RangeRequest { revision: 1000, ..get("key") }).await, FUTURE_REVISION);
        let mut watch = Watch::open(&client).await?;
        watch.create(WatchCreateRequest { start_revision: specimen.then, ..self::watch("key") }).await?;
        ensure!(watch.next().await?.compact_revision == specimen.then + 1);
        client.put(put("key", "later")).await?;
        ensure!(process.exited()?.is_none());
        Ok(())
    });
}
