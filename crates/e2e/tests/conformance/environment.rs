//! Settings from the environment.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use api::etcdserverpb::RangeRequest;
use e2e::refusal::NO_SPACE;
use e2e::request::{get, put};
use e2e::{Member, Target, fails, holds_within};

/// As the Compose files of Milvus have them.
async fn what_milvus_sets_starts(target: Target) -> Result<()> {
    let variables = [
        ("ETCD_AUTO_COMPACTION_MODE", "revision"),
        ("ETCD_AUTO_COMPACTION_RETENTION", "1000"),
        ("ETCD_QUOTA_BACKEND_BYTES", "4294967296"),
        ("ETCD_SNAPSHOT_COUNT", "50000"),
        ("ALLOW_NONE_AUTHENTICATION", "yes"),
    ];
    let member = Member::start_in(target, &variables, &[]).await?;
    member.put(put("a", "1")).await?;
    assert_eq!(member.range(get("a")).await?.kvs[0].value, "1");
    Ok(())
}

async fn retention_and_quota_are_those_of_the_variables(target: Target) -> Result<()> {
    let variables = [("ETCD_AUTO_COMPACTION_RETENTION", "1s"), ("ETCD_QUOTA_BACKEND_BYTES", "4194304")];
    let member = Member::start_in(target, &variables, &[]).await?;
    for value in ["1", "2", "3"] {
        member.put(put("a", value)).await?;
    }
    holds_within(Duration::from_secs(10), || async {
        Ok(member.range(RangeRequest { revision: 2, ..get("a") }).await.is_err())
    })
    .await?;
    let mut puts = Ok(());
    for number in 0..100 {
        if puts.is_ok() {
            puts = member.put(put(format!("filler{number}"), vec![7; 100_000])).await.map(|_| ());
            // etcd counts what it has committed, ten times a second: a fast disk must not have taken all by then.
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
    fails(puts, NO_SPACE);
    Ok(())
}

async fn bad_values_are_refused_in_the_same_words(target: Target) -> Result<()> {
    for (variable, value, words) in [
        ("ETCD_QUOTA_BACKEND_BYTES", "4GiB", r#"invalid value \"4GiB\" for ETCD_QUOTA_BACKEND_BYTES: parse error"#),
        ("ETCD_QUOTA_BACKEND_BYTES", "1.5", r#"invalid value \"1.5\" for ETCD_QUOTA_BACKEND_BYTES: parse error"#),
        (
            "ETCD_QUOTA_BACKEND_BYTES",
            "99999999999999999999",
            r#"invalid value \"99999999999999999999\" for ETCD_QUOTA_BACKEND_BYTES: value out of range"#,
        ),
        ("ETCD_SNAPSHOT_COUNT", "-1", r#"invalid value \"-1\" for ETCD_SNAPSHOT_COUNT: parse error"#),
        ("ETCD_AUTO_COMPACTION_MODE", "never", r#"unknown auto-compaction-mode \"never\""#),
        (
            "ETCD_AUTO_COMPACTION_RETENTION",
            "-1",
            r#"error parsing CompactionRetention: time: missing unit in duration \"-1\""#,
        ),
        (
            "ETCD_AUTO_COMPACTION_RETENTION",
            "soon",
            r#"error parsing CompactionRetention: time: invalid duration \"soon\""#,
        ),
        ("ETCD_AUTH_TOKEN", "hunter2", "auth: invalid auth options"),
        ("ETCD_NAME", "m1", "conflicting environment variable is shadowed by corresponding command-line flag"),
    ] {
        let started = Member::start_in(target, &[(variable, value)], &[]).await;
        let said = format!("{:?}", started.err().with_context(|| format!("{variable}={value} was accepted"))?);
        ensure!(said.contains(words) && said.contains("exit status: 1"), "{variable}={value}: {said}");
        // etcd prints it among its arguments and variables.
        ensure!(target == Target::Etcd || !said.contains("hunter2"), "{said}");
    }
    Ok(())
}

/// A quota below zero is none; of a variable that nobody knows there is a warning.
async fn odd_values_start(target: Target) -> Result<()> {
    let variables = [("ETCD_QUOTA_BACKEND_BYTES", "-5"), ("ETCD_DATADIR", "x")];
    let mut member = Member::start_in(target, &variables, &[]).await?;
    member.put(put("a", vec![7; 100_000])).await?;
    let said = member.process().output();
    ensure!(said.contains("unrecognized environment variable") && said.contains("ETCD_DATADIR"), "{said}");
    Ok(())
}

e2e::on_both_targets!(
    what_milvus_sets_starts,
    retention_and_quota_are_those_of_the_variables,
    bad_values_are_refused_in_the_same_words,
    odd_values_start,
);
