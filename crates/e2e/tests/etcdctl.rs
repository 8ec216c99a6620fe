//! `etcdctl` and `quoratectl` against both servers: the scripts in `tests/etcdctl`, one behaviour each, four ways.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, ensure};
use api::etcdserverpb as pb;
use e2e::{Member, Target, Tool, ctl_output, run, run_ctl, run_ctl_page, run_ctl_script};
use prost::Message;
use tokio::time::sleep;

/// A test of each script for each tool and target.
macro_rules! scripts {
    ($($name:ident),* $(,)?) => {
        scripts!(@tool etcdctl, Etcdctl, $($name),*);
        scripts!(@tool quoratectl, Quoratectl, $($name),*);

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
    (@tool $tool:ident, $Tool:ident, $($name:ident),*) => {
        mod $tool {
            mod etcd {
                $(#[test]
                fn $name() {
                    crate::script(e2e::Tool::$Tool, e2e::Target::Etcd, stringify!($name));
                })*
            }
            mod quorate {
                $(#[test]
                fn $name() {
                    crate::script(e2e::Tool::$Tool, e2e::Target::Quorate, stringify!($name));
                })*
            }
        }
    };
}

fn scripts_dir() -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/etcdctl")
}

fn script(tool: Tool, target: Target, name: &str) {
    let path = &scripts_dir().join(name).with_extension("txt");
    run(target, |target| async move { run_ctl_script(tool, target, path).await });
}

/// A Go client measures the way to the server with pings while a long answer comes in: a ping for every few frames.
fn long_answers(tool: Tool, target: Target) {
    run(target, |target| async move {
        let member = Member::start(target).await?;
        let value = "v".repeat(1_400_000);
        for key in ["long/1", "long/2", "long/3"] {
            ensure!(run_ctl(tool, &member, &format!("put {key}"), &value).await? == "OK\n");
            let got = run_ctl(tool, &member, &format!("get {key} --print-value-only"), "").await?;
            ensure!(got.trim_end() == value, "{}", &got[..got.len().min(200)]);
        }
        let got = run_ctl(tool, &member, "get long/ --prefix --keys-only=false", "").await?;
        ensure!(got.len() > 3 * value.len(), "{}", &got[..got.len().min(200)]);
        Ok(())
    });
}

/// `-w protobuf`: the very messages, without a line's end behind them.
fn protobuf(tool: Tool, target: Target) {
    run(target, |target| async move {
        let member = Member::start(target).await?;
        let output = async |command: &str| ctl_output(tool, &member, &format!("-w protobuf {command}"), "").await;
        let put = pb::PutResponse::decode(&output("put k v").await?[..])?;
        ensure!(put.header.is_some_and(|header| header.revision == 2) && put.prev_kv.is_none(), "{put:?}");
        let put = pb::PutResponse::decode(&output("put k w --prev-kv").await?[..])?;
        ensure!(put.prev_kv.is_some_and(|pair| pair.value == "v"));
        let got = pb::RangeResponse::decode(&output("get k").await?[..])?;
        let direct = member.range(pb::RangeRequest { key: "k".into(), ..Default::default() }).await?;
        ensure!(got == direct, "{got:?} is not {direct:?}");
        let members = pb::MemberListResponse::decode(&output("member list").await?[..])?;
        ensure!(members == member.member_list(pb::MemberListRequest { linearizable: true }).await?);
        let alarms = pb::AlarmResponse::decode(&output("alarm list").await?[..])?;
        ensure!(alarms == member.alarm(pb::AlarmRequest::default()).await?);
        let txn = "mod(\"k\") > \"0\"\n\nget k\ndel k\n\n\n";
        let txn = pb::TxnResponse::decode(&ctl_output(tool, &member, "-w protobuf txn", txn).await?[..])?;
        ensure!(txn.succeeded && txn.responses.len() == 2, "{txn:?}");
        let del = pb::DeleteRangeResponse::decode(&output("del k").await?[..])?;
        ensure!(del.deleted == 0 && del.header.is_some_and(|header| header.revision == 4), "{del:?}");
        Ok(())
    });
}

/// `check datascale` writes ten thousand keys, says what they took, and leaves nothing behind.
fn datascale(target: Target) {
    run(target, |target| async move {
        let member = Member::start(target).await?;
        let check = "check datascale --auto-compact --auto-defrag";
        let said = run_ctl(Tool::Quoratectl, &member, check, "").await?;
        let expected = "Start data scale check for work load [10000 key-value pairs, 1024 bytes per key-value, 50 \
                        concurrent clients].\nCompacting with revision 10002\nCompacted with revision 10002\n\
                        Defragmenting \"<endpoint>\"\nDefragmented \"<endpoint>\"\n\
                        PASS: Approximate system memory used : ";
        ensure!(said.starts_with(expected) && said.ends_with(" MB.\n"), "{said}");
        let everything = pb::RangeRequest { key: "\0".into(), range_end: "\0".into(), ..Default::default() };
        let left = member.range(everything).await?;
        ensure!(left.count == 0, "{} keys are left", left.count);
        run_ctl(Tool::Quoratectl, &member, "put /etcdctl-check-perf/mine 1", "").await?;
        let refused = "err: Error: prefix \"/etcdctl-check-perf/\" has keys. Delete with 'etcdctl del --prefix \
                       /etcdctl-check-perf/' first\nexit: 3\n";
        for tool in [Tool::Etcdctl, Tool::Quoratectl] {
            let said = run_ctl(tool, &member, "check perf", "").await?;
            ensure!(said == refused, "{said}");
        }
        Ok(())
    });
}

#[test]
fn datascale_is_checked_on_etcd() {
    datascale(Target::Etcd);
}

#[test]
fn datascale_is_checked_on_quorate() {
    datascale(Target::Quorate);
}

/// The script for bash completes commands and flags, under the name that the program was called by.
#[test]
fn bash_takes_the_completion() {
    let program = Tool::Quoratectl.program().expect("it is built");
    let script = "source <(\"$0\" completion bash)
        COMP_WORDS=(quoratectl member pro) COMP_CWORD=2; _quoratectl quoratectl pro member; echo ${COMPREPLY[@]}
        COMP_WORDS=(quoratectl get --pre) COMP_CWORD=2; _quoratectl quoratectl --pre get; echo ${COMPREPLY[@]}";
    let output = std::process::Command::new("bash").arg("-c").arg(script).arg(program).output().expect("there is bash");
    assert_eq!(String::from_utf8_lossy(&output.stdout), "promote\n--prefix\n", "{output:?}");
}

/// What docs/ctl.md shows is what happens.
fn page(tool: Tool, target: Target) {
    run(target, |target| async move {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/ctl.md");
        run_ctl_page(tool, target, &path).await
    });
}

/// A quota that is reached, and the way out of it, as an operator goes it.
fn quota(tool: Tool, target: Target) {
    run(target, |target| async move {
        let mut member = Member::start_with(target, &[("quota-backend-bytes", "8388608")]).await?;
        let value = "v".repeat(1_000_000);
        let refused = "err: Error: etcdserver: mvcc: database space exceeded\nexit: 1\n";
        let mut said = "OK\n".to_owned();
        for _ in 0..12 {
            if said == "OK\n" {
                said = run_ctl(tool, &member, "put big", &value).await?;
                // etcd counts what it has committed, ten times a second.
                sleep(Duration::from_millis(200)).await;
            }
        }
        ensure!(said == refused, "{said}");
        let alarm = run_ctl(tool, &member, "alarm list", "").await?;
        ensure!(alarm.ends_with(" alarm:NOSPACE \n") || alarm.ends_with("alarm:NOSPACE\n"), "{alarm}");
        let revision = member.range(e2e::request::get("big")).await?.header.context("a header")?.revision;
        let steps = [
            ("put small 1", "", refused.to_owned()),
            ("txn", "\nput small 1\n\n\n", refused.to_owned()),
            (
                "lease grant 100",
                "",
                "err: Error: failed to grant lease (etcdserver: mvcc: database space exceeded)\nexit: 1\n".to_owned(),
            ),
            (
                "endpoint health",
                "",
                "err: <endpoint> is unhealthy: failed to commit proposal: Active Alarm(s): NOSPACE \n\
                 err: Error: unhealthy cluster\nexit: 1\n"
                    .to_owned(),
            ),
            ("get big --keys-only", "", "big\n\n".to_owned()),
            ("del nothing", "", "0\n".to_owned()),
            ("defrag", "", "Finished defragmenting etcd member[<endpoint>]\n".to_owned()),
            ("put small 2", "", refused.to_owned()),
            (&format!("compact {revision}"), "", format!("compacted revision {revision}\n")),
            ("put small 3", "", refused.to_owned()),
            ("defrag", "", "Finished defragmenting etcd member[<endpoint>]\n".to_owned()),
            ("put small 4", "", refused.to_owned()),
            ("alarm disarm", "", alarm),
            ("put small 5", "", "OK\n".to_owned()),
            ("alarm list", "", String::new()),
            ("endpoint health", "", "<endpoint> is healthy: successfully committed proposal: took = <n>\n".to_owned()),
            ("defrag", "", "Finished defragmenting etcd member[<endpoint>]\n".to_owned()),
            ("get small", "", "small\n5\n".to_owned()),
            ("get big --keys-only", "", "big\n\n".to_owned()),
        ];
        for (command, input, expected) in steps {
            let said = run_ctl(tool, &member, command, input).await?;
            ensure!(said == expected, "{command}: {said:?} instead of {expected:?}");
        }
        let log = member.process().output();
        ensure!(log.contains("alarm raised") && log.contains("alarm disarmed"), "the log says nothing of the alarm");
        Ok(())
    });
}

/// `text` with a mark in place of each number.
fn numberless(text: &str) -> String {
    let mut marked = String::new();
    for symbol in text.chars().map(|symbol| if symbol.is_ascii_digit() { '#' } else { symbol }) {
        if symbol != '#' || !marked.ends_with('#') {
            marked.push(symbol);
        }
    }
    marked
}

/// Both tools ask one server: what they print is the same to the byte, order of fields and all. After a change numbers may
/// differ, and nothing else.
fn bytes(target: Target) {
    run(target, |target| async move {
        let member = Member::start(target).await?;
        let both = async |command: &str, input: &str| -> anyhow::Result<[String; 2]> {
            let etcdctl = ctl_output(Tool::Etcdctl, &member, command, input).await?;
            let quoratectl = ctl_output(Tool::Quoratectl, &member, command, input).await?;
            Ok([etcdctl, quoratectl].map(|output| String::from_utf8_lossy(&output).into_owned()))
        };
        run_ctl(Tool::Etcdctl, &member, "put s<&>\u{2028}\u{e9} 'v\"\\ \u{1f600}\u{7f}'", "").await?;
        run_ctl(Tool::Etcdctl, &member, "put b 1", "").await?;
        let changing = "\nput b 3\ndel none --prev-kv\nget b\n\n\n";
        for (command, input) in [
            ("put b 2", ""),
            ("put b 2 --prev-kv", ""),
            ("del none --prev-kv", ""),
            ("lease grant 1000", ""),
            ("txn", changing),
        ] {
            for format in ["fields", "json"] {
                let [etcdctl, quoratectl] = both(&format!("{command} -w {format}"), input).await?;
                let (etcdctl, quoratectl) = (numberless(&etcdctl), numberless(&quoratectl));
                ensure!(etcdctl == quoratectl, "{command} -w {format}:\n{etcdctl}\n{quoratectl}");
            }
        }
        for command in [
            "get --prefix ''",
            "get --prefix '' --limit 1",
            "get b --rev 3",
            "get none",
            "get --prefix '' --hex",
            "get --prefix '' --keys-only",
            "member list",
            "endpoint status",
            "endpoint hashkv",
            "alarm list",
            "lease list",
            "lease timetolive 1234",
            "lease timetolive 1234 --keys",
        ] {
            for format in ["simple", "fields", "json", "protobuf"] {
                let command = format!("{command} -w {format}");
                // Go prints a lease's answer in protobuf without what the lease's part of it says.
                if format == "protobuf" && (command.starts_with("lease") || command.starts_with("endpoint")) {
                    continue;
                }
                let [mut etcdctl, mut quoratectl] = both(&command, "").await?;
                if etcdctl != quoratectl {
                    // What was written before may have been committed between the two: then the file is larger.
                    sleep(Duration::from_secs(2)).await;
                    [etcdctl, quoratectl] = both(&command, "").await?;
                }
                ensure!(etcdctl == quoratectl, "{command}:\n{etcdctl}\n{quoratectl}");
            }
        }
        let txn = "mod(\"b\") > \"0\"\n\nget b\nget --prefix s\n\n\n";
        for format in ["simple", "fields", "json", "protobuf"] {
            let [etcdctl, quoratectl] = both(&format!("txn -w {format}"), txn).await?;
            ensure!(etcdctl == quoratectl, "txn -w {format}:\n{etcdctl}\n{quoratectl}");
        }
        Ok(())
    });
}

#[test]
fn both_tools_print_the_same_bytes_of_etcd() {
    bytes(Target::Etcd);
}

#[test]
fn both_tools_print_the_same_bytes_of_quorate() {
    bytes(Target::Quorate);
}

/// Flags of etcdctl 3.6, on servers that know what they ask for, and comparisons of leases, at which etcdctl panics.
fn beyond_etcdctl(target: Target) {
    run(target, |target| async move {
        let member = Member::start(target).await?;
        for (command, expected) in [
            ("put a 1", "OK\n"),
            ("put b 1", "OK\n"),
            ("put a 2", "OK\n"),
            ("get --prefix '' --print-value-only --min-mod-rev 4", "2\n"),
            ("get --prefix '' --keys-only --max-mod-rev 3", "b\n\n"),
            ("get --prefix '' --keys-only --min-create-rev 3", "b\n\n"),
            ("get --prefix '' --keys-only --max-create-rev 2", "a\n\n"),
            ("member list --consistency s -w table", ""),
            ("member list --consistency x", "err: Error: unknown consistency flag \"x\"\nexit: 4\n"),
        ] {
            let said = run_ctl(Tool::Quoratectl, &member, command, "").await?;
            ensure!(
                said == expected || (expected.is_empty() && said.contains("| started | m1 |")),
                "{command}: {said}"
            );
        }
        let lease = member.lease_grant(pb::LeaseGrantRequest { ttl: 100, id: 0x12ab }).await?.id;
        run_ctl(Tool::Quoratectl, &member, &format!("put leased 1 --lease {lease:x}"), "").await?;
        for (compared, outcome) in [("12ab", "SUCCESS\n"), ("12ac", "FAILURE\n")] {
            let input = format!("lease(\"leased\") = \"{compared}\"\n\n\n\n");
            ensure!(run_ctl(Tool::Quoratectl, &member, "txn", &input).await? == outcome, "{compared}");
        }
        Ok(())
    });
}

#[test]
fn etcd_is_asked_for_what_etcdctl_cannot() {
    beyond_etcdctl(Target::Etcd);
}

#[test]
fn quorate_is_asked_for_what_etcdctl_cannot() {
    beyond_etcdctl(Target::Quorate);
}

/// A test of each body for each tool and target.
macro_rules! four_ways {
    ($($body:ident),*) => {
        mod outputs {
            $(mod $body {
                #[test]
                fn of_etcdctl_from_etcd() {
                    crate::$body(e2e::Tool::Etcdctl, e2e::Target::Etcd);
                }

                #[test]
                fn of_etcdctl_from_quorate() {
                    crate::$body(e2e::Tool::Etcdctl, e2e::Target::Quorate);
                }

                #[test]
                fn of_quoratectl_from_etcd() {
                    crate::$body(e2e::Tool::Quoratectl, e2e::Target::Etcd);
                }

                #[test]
                fn of_quoratectl_from_quorate() {
                    crate::$body(e2e::Tool::Quoratectl, e2e::Target::Quorate);
                }
            })*
        }
    };
}

four_ways!(long_answers, protobuf, page, quota);

scripts!(
    keys,
    ranges,
    txn,
    watch,
    lease,
    lock,
    elect,
    compaction,
    endpoint,
    maintenance,
    json,
    errors,
    formats,
    arguments,
    environment,
    members,
    health,
    exec,
    interactive,
    version,
    holding
);
