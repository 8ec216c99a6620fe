//! What a member finds in its directories: its own files, some of them missing, in other places, of other members.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use api::etcdserverpb::{MemberListRequest, StatusRequest};
use e2e::request::{everything, get, put};
use e2e::{Ended, Ground, Target, revision, run};
use rustix::process::Signal;
use testkit::grpc::Client;

use crate::tree;

/// Requests may take 105 s: those of tens of megabytes are slow where many tests share a processor.
const PATIENT: &str = "--election-timeout=50000";

async fn stop(mut process: e2e::Process) -> Result<()> {
    process.signal(Signal::TERM)?;
    process.wait(std::time::Duration::from_secs(10)).await?;
    Ok(())
}

async fn refused(ground: &Ground, flags: &[&str]) -> Result<String> {
    let run: Ended = ground.run(&[], flags).await?;
    ensure!(run.status.code() == Some(1), "it ended with {}:\n{}", run.status, run.output);
    run.reason()
}

async fn value(client: &Client, key: &str) -> Result<String> {
    let pair = client.range(get(key)).await?.kvs.pop().with_context(|| format!("{key} is gone"))?;
    Ok(String::from_utf8_lossy(&pair.value).into_owned())
}

#[test]
fn files_are_the_owners_alone_whatever_the_umask() {
    run(Target::Quorate, |_| async {
        let ground = Ground::new()?;
        let umask = ["sh", "-c", "umask 0; exec \"$@\"", "sh"];
        let data_dir = ground.dir().join("deep/down/data");
        let wal_dir = ground.dir().join("elsewhere/log");
        let flags = [format!("--data-dir={}", data_dir.display()), format!("--wal-dir={}", wal_dir.display())];
        let (_process, client) = ground.serve(&umask, &[&flags[0], &flags[1]]).await?;
        client.put(put("a", "1")).await?;
        for root in ["deep", "elsewhere"] {
            for (path, is_dir, mode) in tree::modes(&ground.dir().join(root))? {
                assert_eq!(mode, if is_dir { 0o700 } else { 0o600 }, "{mode:o} {}", path.display());
            }
        }
        Ok(())
    });
}

#[test]
fn the_log_lies_where_the_flag_says() {
    run(Target::Quorate, |_| async {
        let ground = Ground::new()?;
        let wal_dir = ground.dir().join("log");
        let flag = format!("--wal-dir={}", wal_dir.display());
        let (process, client) = ground.serve(&[], &[&flag]).await?;
        client.put(put("a", "1")).await?;
        stop(process).await?;
        assert_eq!(tree::names(&ground.data_dir())?, ["lock", "state.redb"]);
        assert!(tree::names(&wal_dir)?.iter().any(|name| name.ends_with(".wal")));

        // Without the flag the log is missing, and the member is not taken for a new one.
        let said = refused(&ground, &[]).await?;
        ensure!(said.contains("wal is missing, but"), "{said}");
        assert_eq!(tree::names(&ground.data_dir())?, ["lock", "state.redb"]);

        let (_process, client) = ground.serve(&[], &[&flag]).await?;
        assert_eq!(value(&client, "a").await?, "1");
        Ok(())
    });
}

#[test]
fn a_log_that_is_missing_is_not_made_anew() {
    run(Target::Quorate, |_| async {
        let ground = Ground::new()?;
        let (process, client) = ground.serve(&[], &[]).await?;
        client.put(put("a", "1")).await?;
        let index = client.status(StatusRequest {}).await?.raft_index;
        stop(process).await?;
        let (log, aside) = (ground.data_dir().join("wal"), ground.dir().join("aside"));
        fs::rename(&log, &aside)?;

        let said = refused(&ground, &[]).await?;
        let state = ground.data_dir().join("state.redb");
        // After an orderly stop the state reflects all of the log: the next start has nothing to replay.
        let expected = format!(
            "{} is missing, but {} reflects the log up to {index}; restore the log, or move both away",
            log.display(),
            state.display()
        );
        assert_eq!(said, expected);
        assert!(!log.exists());

        fs::rename(&aside, &log)?;
        let (_process, client) = ground.serve(&[], &[]).await?;
        assert_eq!(value(&client, "a").await?, "1");
        Ok(())
    });
}

#[test]
fn a_state_that_is_missing_is_made_from_the_whole_log() {
    run(Target::Quorate, |_| async {
        let ground = Ground::new()?;
        let (process, client) = ground.serve(&[], &[]).await?;
        for number in 0..20 {
            client.put(put(format!("key{}", number % 7), number.to_string())).await?;
        }
        let before = client.range(everything()).await?;
        stop(process).await?;
        fs::remove_file(ground.data_dir().join("state.redb"))?;
        let (_process, client) = ground.serve(&[], &[]).await?;
        let after = client.range(everything()).await?;
        assert_eq!(after.kvs, before.kvs);
        assert_eq!(revision(&after.header), revision(&before.header));
        Ok(())
    });
}

/// 64 MiB and more of log, of which the beginning is given up.
#[test]
fn a_state_that_is_missing_cannot_be_made_from_the_end_of_the_log() {
    run(Target::Quorate, |_| async {
        let ground = Ground::new()?;
        let flags = ["--snapshot-catchup-entries=1", "--max-request-bytes=60000000", PATIENT];
        let (process, client) = ground.serve(&[], &flags).await?;
        let log = ground.data_dir().join("wal");
        let first = log.join("0000000000000001.wal");
        for number in 0..4 {
            client.put(put("large", vec![number; 40 << 20])).await?;
        }
        e2e::holds_within(std::time::Duration::from_secs(20), || async {
            client.put(put("a", "1")).await?;
            Ok(!first.exists())
        })
        .await?;
        stop(process).await?;
        fs::remove_file(ground.data_dir().join("state.redb"))?;
        let before = tree::names(&ground.data_dir())?;

        let said = refused(&ground, &flags).await?;
        ensure!(said.contains("wal begins at "), "{said}");
        ensure!(said.contains("state.redb needs it from 1 on"), "{said}");
        assert_eq!(tree::names(&ground.data_dir())?, before);
        Ok(())
    });
}

#[test]
fn a_log_of_another_member_is_refused() {
    run(Target::Quorate, |_| async {
        let (ours, theirs) = (Ground::new()?, Ground::new()?);
        for (ground, peer) in [(&ours, "http://127.0.0.1:12380"), (&theirs, "http://127.0.0.1:22380")] {
            let flags = [format!("--initial-advertise-peer-urls={peer}"), format!("--initial-cluster=default={peer}")];
            let (process, client) = ground.serve(&[], &[&flags[0], &flags[1]]).await?;
            for _ in 0..3 {
                client.put(put("a", "1")).await?;
            }
            stop(process).await?;
        }
        fs::remove_dir_all(ours.data_dir().join("wal"))?;
        let flag = format!("--wal-dir={}", theirs.data_dir().join("wal").display());
        let said = refused(&ours, &[&flag]).await?;
        ensure!(said.contains("do not belong together (the log is of member"), "{said}");
        Ok(())
    });
}

#[test]
fn a_new_name_is_told_to_the_cluster() {
    run(Target::Quorate, |_| async {
        let ground = Ground::new()?;
        let list = async |client: &Client| client.member_list(MemberListRequest { linearizable: true }).await;
        let (process, client) = ground.serve(&[], &["--name=first"]).await?;
        let before = list(&client).await?.members;
        assert_eq!(before[0].name, "first");
        stop(process).await?;
        let (_process, client) = ground.serve(&[], &["--name=second"]).await?;
        let after = list(&client).await?.members;
        assert_eq!(after[0].name, "second");
        assert_eq!(after[0].id, before[0].id);
        assert_eq!(after.len(), 1);
        Ok(())
    });
}

/// A segment of the log must hold the largest request that is allowed, also after the limit was changed.
#[test]
fn requests_may_be_larger_than_a_segment_of_the_log() {
    run(Target::Quorate, |_| async {
        let ground = Ground::new()?;
        let large = vec![b'x'; 70 << 20];
        let (process, client) = ground.serve(&[], &[]).await?;
        client.put(put("small", "1")).await?;
        stop(process).await?;
        let (mut process, client) = ground.serve(&[], &["--max-request-bytes=104857600", PATIENT]).await?;
        client.put(put("large", &large)).await?;
        process.kill()?;
        let (_process, client) = ground.serve(&[], &[]).await?;
        assert_eq!(value(&client, "small").await?, "1");
        ensure!(client.range(get("large")).await?.kvs[0].value == large, "the large value is another");
        Ok(())
    });
}

/// The marks that a killed process leaves are no obstacle: its lock is gone with it.
#[test]
fn leftovers_of_a_killed_process_are_put_away() {
    run(Target::Quorate, |_| async {
        let ground = Ground::new()?;
        let (mut process, client) = ground.serve(&[], &[]).await?;
        client.put(put("a", "1")).await?;
        process.kill()?;
        let wal = ground.data_dir().join("wal");
        let leftovers = [wal.join("00000000000000ff.tmp"), ground.data_dir().join("state.redb.new")];
        for path in &leftovers {
            fs::write(path, "half")?;
        }
        let (_process, client) = ground.serve(&[], &[]).await?;
        assert_eq!(value(&client, "a").await?, "1");
        assert!(!leftovers.iter().any(|path| Path::new(path).exists()));
        Ok(())
    });
}
