//! The real `etcdctl` against both servers: the scripts in `tests/etcdctl`, one behaviour each.

use std::path::Path;

use e2e::{Member, Target, run, run_ctl, run_ctl_script};

/// A test of each script for each target.
macro_rules! scripts {
    ($($name:ident),* $(,)?) => {
        mod etcd {
            $(#[test]
            fn $name() {
                super::script(e2e::Target::Etcd, stringify!($name));
            })*
        }
        mod quorate {
            $(#[test]
            fn $name() {
                super::script(e2e::Target::Quorate, stringify!($name));
            })*
        }

        #[test]
        fn every_script_is_run() {
            let listed = [$(stringify!($name)),*];
            let dir = std::fs::read_dir(scripts_dir()).expect("the scripts are there");
            for file in dir {
                let path = file.expect("the directory can be read").path();
                let name = path.file_stem().and_then(|stem| stem.to_str()).expect("a script has a name").to_owned();
                assert!(listed.contains(&name.as_str()), "{name} is not in the list");
            }
        }
    };
}

fn scripts_dir() -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/etcdctl")
}

fn script(target: Target, name: &str) {
    let path = scripts_dir().join(name).with_extension("txt");
    run(target, |target| async move { run_ctl_script(target, &path).await });
}

/// A Go client measures the way to the server with pings while a long answer comes in: a ping for every few frames.
fn long_answers(target: Target) {
    run(target, |target| async move {
        let member = Member::start(target).await?;
        let value = "v".repeat(1_400_000);
        for key in ["long/1", "long/2", "long/3"] {
            anyhow::ensure!(run_ctl(&member, &format!("put {key}"), &value).await? == "OK\n");
            let got = run_ctl(&member, &format!("get {key} --print-value-only"), "").await?;
            anyhow::ensure!(got.trim_end() == value, "{}", &got[..got.len().min(200)]);
        }
        let got = run_ctl(&member, "get long/ --prefix --keys-only=false", "").await?;
        anyhow::ensure!(got.len() > 3 * value.len(), "{}", &got[..got.len().min(200)]);
        Ok(())
    });
}

#[test]
fn etcd_gives_long_answers() {
    long_answers(Target::Etcd);
}

#[test]
fn quorate_gives_long_answers() {
    long_answers(Target::Quorate);
}

scripts!(keys, ranges, txn, watch, lease, lock, elect, compaction, endpoint, maintenance, json, errors);
