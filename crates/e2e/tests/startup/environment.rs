//! What variables do: those of Compose files, secrets in files, and mistakes of all kinds at once.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use anyhow::{Context, Result, ensure};
use e2e::request::put;
use e2e::{Ended, Ground, Target, run};
use serde_json::Value;

/// The lines of the log of this level or above it.
fn lines(output: &str, levels: &[&str]) -> Result<Vec<Value>> {
    let lines = output.lines().map(|line| serde_json::from_str::<Value>(line).with_context(|| line.to_owned()));
    let lines: Vec<Value> = lines.collect::<Result<_>>()?;
    Ok(lines.into_iter().filter(|line| levels.iter().any(|level| line["level"] == *level)).collect())
}

const WARNINGS: &[&str] = &["warn", "error", "fatal"];

/// The Compose file of Milvus. A directory on a container's own layer is warned about whoever starts the server.
#[test]
fn what_milvus_sets_starts_without_a_warning() {
    run(Target::Quorate, |_| async {
        let ground = Ground::new()?;
        let front = [
            "env",
            "ETCD_AUTO_COMPACTION_MODE=revision",
            "ETCD_AUTO_COMPACTION_RETENTION=1000",
            "ETCD_QUOTA_BACKEND_BYTES=4294967296",
            "ETCD_SNAPSHOT_COUNT=50000",
            "ALLOW_NONE_AUTHENTICATION=yes",
        ];
        let (mut process, client) = ground.serve(&front, &[]).await?;
        client.put(put("a", "1")).await?;
        process.signal(rustix::process::Signal::TERM)?;
        process.wait(std::time::Duration::from_secs(20)).await?;
        let mut warnings = lines(&process.output(), WARNINGS)?;
        warnings.retain(|line| !line["msg"].as_str().is_some_and(|said| said.contains("the container's own layer")));
        ensure!(warnings.is_empty(), "{warnings:#?}");
        let told = lines(&process.output(), &["info"])?;
        ensure!(told.iter().any(|line| line["setting"] == "ETCD_SNAPSHOT_COUNT"), "{told:#?}");
        Ok(())
    });
}

#[test]
fn secrets_in_files_are_read_and_not_told() {
    run(Target::Quorate, |_| async {
        let ground = Ground::new()?;
        let (name, bad) = (ground.dir().join("name"), ground.dir().join("bad"));
        fs::write(&name, "hunter2\n")?;
        fs::write(&bad, "hunter3\n")?;
        let by_file = |variable: &str, path: &std::path::Path| format!("{variable}={}", path.display());
        let (named, wrong) = (by_file("ETCD_NAME_FILE", &name), by_file("ETCD_MAX_TXN_OPS_FILE", &bad));
        let (_process, client) = ground.serve(&["env", &named], &[]).await?;
        let members = client.member_list(api::etcdserverpb::MemberListRequest { linearizable: true }).await?;
        assert_eq!(members.members[0].name, "hunter2");

        let other = Ground::new()?;
        let missing = by_file("ETCD_INITIAL_CLUSTER_TOKEN_FILE", &ground.dir().join("none"));
        let Ended { status, output } = other.run(&["env", &wrong, &missing], &[]).await?;
        assert_eq!(status.code(), Some(1), "{output}");
        let told = lines(&output, &["fatal"])?;
        assert_eq!(told.len(), 2, "{output}");
        for (line, variable) in told.iter().zip(["ETCD_INITIAL_CLUSTER_TOKEN_FILE", "ETCD_MAX_TXN_OPS_FILE"]) {
            ensure!(line["error"].as_str().is_some_and(|error| error.contains(variable)), "{line}");
        }
        ensure!(!output.contains("hunter3"), "{output}");
        assert!(!other.data_dir().exists());
        Ok(())
    });
}

/// Every kind of mistake there is, wherever it stands, in one run.
#[test]
fn all_mistakes_are_told_at_once() {
    run(Target::Quorate, |_| async {
        let ground = Ground::new()?;
        let front = [
            "env",
            "ETCD_QUOTA_BACKEND_BYTES=4GiB",
            "ETCD_AUTO_COMPACTION_RETENTION=-1",
            "ETCD_AUTH_TOKEN=hunter2",
            "ETCD_ROOT_PASSWORD=hunter2",
            "ETCD_ROOT_USER=admin",
            "ETCD_DISASTER_RECOVERY=yes",
            "ETCD_NAME=a",
            "ETCD_NAME_FILE=/nowhere",
        ];
        let Ended { status, output } = ground.run(&front, &["--election-timeout=20", "--cert-file=x"]).await?;
        assert_eq!(status.code(), Some(1), "{output}");
        let told = lines(&output, &["fatal"])?;
        let wanted = [
            ("ETCD_QUOTA_BACKEND_BYTES", r#"invalid value "4GiB" for ETCD_QUOTA_BACKEND_BYTES: parse error"#),
            (
                "ETCD_AUTO_COMPACTION_RETENTION",
                r#"error parsing CompactionRetention: time: missing unit in duration "-1""#,
            ),
            ("ETCD_AUTH_TOKEN", "auth: invalid auth options"),
            ("ETCD_ROOT_PASSWORD", "ETCD_ROOT_PASSWORD is refused"),
            ("ETCD_ROOT_USER", "ETCD_ROOT_USER is refused"),
            ("ETCD_DISASTER_RECOVERY", "ETCD_DISASTER_RECOVERY is refused"),
            ("ETCD_NAME_FILE", "ETCD_NAME and ETCD_NAME_FILE are both set"),
            ("--election-timeout", "should be at least as 5 times as --heartbeat-interval"),
            ("--cert-file", "--cert-file is refused"),
        ];
        for (setting, error) in wanted {
            let is_it = |line: &&Value| {
                line["error"].as_str().is_some_and(|said| said.contains(error))
                    && line["setting"].as_str().unwrap_or_default() == setting
            };
            ensure!(told.iter().filter(is_it).count() == 1, "{setting}: {output}");
        }
        assert_eq!(told.len(), wanted.len(), "{output}");
        ensure!(!output.contains("hunter2"), "{output}");
        assert!(!ground.data_dir().exists());
        Ok(())
    });
}

/// What is wrong with the members is known only where there is no data; it tells what to write, too.
#[test]
fn what_is_wrong_with_the_members_comes_with_a_way_out() {
    run(Target::Quorate, |_| async {
        let cases = [
            (
                vec!["--initial-cluster=n1=http://127.0.0.1:1,n2=http://127.0.0.1:2"],
                "couldn't find local name",
                r#"--initial-cluster has "n1" and "n2""#,
            ),
            (
                vec!["--initial-cluster=default=http://127.0.0.1:1,b=http://127.0.0.1:2"],
                "--initial-cluster has default=http://127.0.0.1:1 but missing from --initial-advertise-peer-urls=",
                "make --initial-advertise-peer-urls and this member's part of --initial-cluster the same",
            ),
            (
                vec![
                    "--initial-cluster=default=http://localhost:2380,b=http://127.0.0.1:2",
                    "--initial-cluster-state=existing",
                ],
                "could not retrieve cluster information from the given URLs",
                "the members to join are looked for at http://127.0.0.1:2;",
            ),
        ];
        for (flags, error, hint) in cases {
            let ground = Ground::new()?;
            let Ended { status, output } = ground.run(&[], &flags).await?;
            assert_eq!(status.code(), Some(1), "{output}");
            let line = lines(&output, &["fatal"])?.pop().context(output.clone())?;
            ensure!(line["error"].as_str().is_some_and(|said| said.contains(error)), "{line}");
            ensure!(line["hint"].as_str().is_some_and(|said| said.contains(hint)), "{line}");
            assert_eq!(line["setting"], "--initial-cluster");
            assert!(!ground.data_dir().exists());
        }
        Ok(())
    });
}

/// `docker run` with a named volume leaves directories with the mode of the image's; the data's own has 700.
#[test]
fn the_images_volume_holds_the_data() {
    run(Target::Quorate, |_| async {
        let ground = Ground::new()?;
        let data = ground.dir().join("volume");
        fs::create_dir(&data)?;
        let variable = format!("ETCD_CFG_DATA_DIR={}", data.join("data").display());
        let (port, peer) = (format!("http://{}", ground.address()), "--listen-peer-urls=http://127.0.0.1:0");
        let listen = format!("ETCD_LISTEN_CLIENT_URLS={port}");
        let front = ["env", "ALLOW_NONE_AUTHENTICATION=yes", &variable, &listen];
        let mut process = ground.start_bare(&front, &[peer])?;
        ground.ready(&mut process).await?;
        assert_eq!(fs::metadata(data.join("data"))?.permissions().mode() & 0o777, 0o700);
        Ok(())
    });
}
