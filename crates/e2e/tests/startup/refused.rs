//! Starts that are refused: one clear line that names the flag, an exit code, and nothing written.

use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use e2e::request::put;
use e2e::{Ended, Ground, Member, Target, ended, run};

use crate::tree;

/// Runs the program, which must give up with `code`, and returns why it says it did.
async fn reason(ground: &Ground, front: &[&str], flags: &[&str], code: i32) -> Result<String> {
    let run = ground.run(front, flags).await?;
    ensure!(run.status.code() == Some(code), "it ended with {}:\n{}", run.status, run.output);
    run.reason().with_context(|| run.output.clone())
}

fn require_contains(text: &str, parts: &[&str]) -> Result<()> {
    for part in parts {
        ensure!(text.contains(part), "{part:?} is not in {text:?}");
    }
    Ok(())
}

/// A front that takes from root the power to pass over permissions; others do not have it.
fn without_privileges() -> &'static [&'static str] {
    match rustix::process::geteuid().is_root() {
        true => &["setpriv", "--bounding-set=-dac_override,-dac_read_search"],
        false => &[],
    }
}

#[test]
fn a_port_that_is_taken() {
    run(Target::Quorate, |_| async {
        let ground = Ground::new()?;
        let _taken = TcpListener::bind(ground.address())?;
        let said = reason(&ground, &[], &[], 1).await?;
        // etcd: "listen tcp 127.0.0.1:2379: bind: address already in use"
        let expected = format!("--listen-client-urls: listen tcp {}: bind: address already in use", ground.address());
        assert_eq!(said, expected);
        assert!(!ground.data_dir().exists());
        Ok(())
    });
}

#[test]
fn an_address_of_another_machine() {
    run(Target::Quorate, |_| async {
        let ground = Ground::new()?;
        let said = reason(&ground, &[], &["--listen-client-urls=http://192.0.2.1:2379"], 1).await?;
        let expected = "--listen-client-urls: listen tcp 192.0.2.1:2379: bind: cannot assign requested address";
        assert_eq!(said, expected);
        assert!(!ground.data_dir().exists());
        Ok(())
    });
}

#[test]
fn a_socket_file_goes_with_the_start_that_failed() {
    run(Target::Quorate, |_| async {
        let ground = Ground::new()?;
        let socket = ground.dir().join("socket");
        fs::create_dir(ground.data_dir())?;
        fs::write(ground.data_dir().join("notes.txt"), "mine")?;
        reason(&ground, &[], &[&format!("--listen-client-urls=unix://{}", socket.display())], 1).await?;
        assert!(!socket.exists());
        Ok(())
    });
}

#[test]
fn a_directory_without_permission() {
    run(Target::Quorate, |_| async {
        let ground = Ground::new()?;
        let closed = ground.dir().join("closed");
        fs::create_dir(&closed)?;
        fs::set_permissions(&closed, fs::Permissions::from_mode(0o555))?;
        let inside = closed.join("data");
        for (flag, dir) in [("data-dir", &inside), ("data-dir", &closed), ("wal-dir", &inside), ("wal-dir", &closed)] {
            let flag = format!("--{flag}={}", dir.display());
            let said = reason(&ground, without_privileges(), &[&flag], 1).await?;
            assert_eq!(said, format!("{}: Permission denied (os error 13)", flag.replace('=', " ")));
            assert!(tree::names(&closed)?.is_empty());
            assert!(!ground.data_dir().exists());
        }
        Ok(())
    });
}

#[test]
fn a_file_where_a_directory_should_be() {
    run(Target::Quorate, |_| async {
        let ground = Ground::new()?;
        let file = ground.dir().join("file");
        fs::write(&file, "mine")?;
        for path in [file.clone(), file.join("below")] {
            for flag in ["--data-dir", "--wal-dir"] {
                let said = reason(&ground, &[], &[&format!("{flag}={}", path.display())], 1).await?;
                require_contains(&said, &[flag, &path.display().to_string(), "ot a directory"])?;
            }
        }
        assert_eq!(fs::read_to_string(file)?, "mine");
        assert!(!ground.data_dir().exists());
        Ok(())
    });
}

#[test]
fn a_directory_with_files_of_others() {
    run(Target::Quorate, |_| async {
        let ground = Ground::new()?;
        fs::create_dir(ground.data_dir())?;
        fs::write(ground.data_dir().join("notes.txt"), "mine")?;
        let said = reason(&ground, &[], &[], 1).await?;
        require_contains(&said, &["--data-dir", "notes.txt", "choose an empty directory"])?;
        assert_eq!(tree::names(&ground.data_dir())?, ["notes.txt"]);
        Ok(())
    });
}

#[test]
fn data_of_etcd_itself() {
    run(Target::Quorate, |_| async {
        let mut etcd = Member::start(Target::Etcd).await?;
        etcd.put(put("a", "1")).await?;
        let data = etcd.data_dir();
        let ground = Ground::new()?;
        let while_it_runs = reason(&ground, &[], &[&format!("--data-dir={}", data.display())], 1).await?;
        require_contains(&while_it_runs, &["data of etcd"])?;
        etcd.stop().await?;

        let before = tree::contents(&data)?;
        let member = data.join("member");
        for (flag, path) in [("--data-dir", &data), ("--data-dir", &member), ("--wal-dir", &member.join("wal"))] {
            let said = reason(&ground, &[], &[&format!("{flag}={}", path.display())], 1).await?;
            let path = path.display().to_string();
            require_contains(&said, &[flag, &path, "holds data of etcd itself", "quorateutl migrate"])?;
            assert!(tree::contents(&data)? == before, "etcd's data was changed");
            assert!(!ground.data_dir().exists());
        }
        Ok(())
    });
}

#[test]
fn a_directory_that_another_process_uses() {
    run(Target::Quorate, |_| async {
        let ground = Ground::new()?;
        let wal_dir = format!("--wal-dir={}", ground.dir().join("log").display());
        let (_first, client) = ground.serve(&[], &[&wal_dir]).await?;
        client.put(put("a", "1")).await?;

        let second = Ground::new()?;
        let data_dir = format!("--data-dir={}", ground.data_dir().display());
        let said = reason(&second, &[], &[&data_dir, &wal_dir], 1).await?;
        assert_eq!(said, format!("{} is in use by another process", data_dir.replace('=', " ")));
        let said = reason(&second, &[], &[&wal_dir], 1).await?;
        assert_eq!(said, format!("{} is in use by another process", wal_dir.replace('=', " ")));
        assert!(!second.data_dir().exists());
        client.put(put("a", "2")).await?;
        Ok(())
    });
}

/// The last line says what could not be done, and `error` why; of etcd it is "discovery failed" whatever it was.
#[test]
fn the_last_line_says_what_failed() {
    run(Target::Quorate, |_| async {
        let (ground, free, damaged) = (Ground::new()?, Ground::new()?, Ground::new()?);
        let taken = TcpListener::bind(ground.address())?;
        let file = ground.dir().join("file");
        fs::write(&file, "")?;
        fs::create_dir(damaged.data_dir())?;
        fs::write(damaged.data_dir().join("state.redb"), "no database")?;
        let in_file = format!("--data-dir={}", file.display());
        let log_in_file = format!("--log-outputs={}/log", file.display());
        let cases = [
            (&ground, "--pre-vote", "failed to listen for clients"),
            (&free, in_file.as_str(), "failed to take the data directory"),
            (&damaged, "--pre-vote", "failed to open the data"),
            (&free, "--initial-cluster=other=http://localhost:2380", "failed to verify flags"),
            (&free, log_in_file.as_str(), "failed to verify flags"),
        ];
        for (ground, flag, expected) in cases {
            let line = ground.run(&[], &[flag]).await?.last_line()?;
            ensure!(line["msg"] == expected && line["level"] == "fatal", "{flag}: {line}");
            ensure!(line["error"].is_string(), "{flag}: {line}");
        }
        drop(taken);
        Ok(())
    });
}

/// Flags, exit code and what must be in the line that says so. etcd has the same codes and texts.
const MISTAKES: &[(&str, i32, &[&str])] = &[
    ("--listen-client-urls=localhost:1", 2, &["-listen-client-urls", "URL scheme must be http, https, unix, or unixs"]),
    ("--listen-client-urls=http://127.0.0.1:99999", 2, &["-listen-client-urls", "99999"]),
    ("--listen-client-urls=http://name.invalid:2379", 1, &["--listen-client-urls", "expected IP in URL for binding"]),
    ("--max-request-bytes=many", 2, &["-max-request-bytes", "parse error"]),
    ("--nonsense=1", 2, &["flag provided but not defined: -nonsense"]),
    ("--log-level=loud", 2, &["-log-level", "unrecognized level: \"loud\""]),
    ("--election-timeout=20", 1, &["--election-timeout", "should be at least as 5 times as"]),
    ("--unsafe-no-fsync", 1, &["--unsafe-no-fsync"]),
    ("--client-cert-auth", 1, &["--client-cert-auth"]),
    ("--initial-cluster=other=http://127.0.0.1:2380", 1, &["--initial-cluster", "default"]),
    ("surplus", 1, &["surplus"]),
];

#[test]
fn settings_that_cannot_be_meant() {
    run(Target::Quorate, |_| async {
        let ground = Ground::new()?;
        for (flag, code, parts) in MISTAKES {
            let Ended { status, output } = ground.run(&[], &[flag]).await?;
            ensure!(status.code() == Some(*code), "{flag}: it ended with {status}:\n{output}");
            let said = |line: &str| parts.iter().all(|part| line.replace("\\\"", "\"").contains(part));
            ensure!(output.lines().any(said), "{flag}: no line of\n{output}");
            assert!(!ground.data_dir().exists(), "{flag}");
        }
        Ok(())
    });
}

#[test]
fn help_and_version_start_nothing() {
    run(Target::Quorate, |_| async {
        let ground = Ground::new()?;
        for (flag, part) in [
            ("--help", "--listen-client-urls"),
            ("-h", "Usage:"),
            ("--version", "etcd Version: 3.5.30\n"),
            ("--check-config", "the settings are good\n"),
        ] {
            let Ended { status, output } = ground.run(&[], &[flag]).await?;
            ensure!(status.success() && output.contains(part), "{flag}: it ended with {status}:\n{output}");
            assert!(!ground.data_dir().exists(), "{flag}");
        }
        Ok(())
    });
}

#[test]
fn too_few_open_files() {
    run(Target::Quorate, |_| async {
        let ground = Ground::new()?;
        let said = reason(&ground, &["prlimit", "--nofile=100"], &[], 1).await?;
        require_contains(&said, &["the limit of open files is 100", "ulimit -n"])?;
        assert!(!ground.data_dir().exists());
        Ok(())
    });
}

/// With no flags at all it serves on the usual port, from the directory it was started in; here it cannot bind.
#[test]
fn the_default_directory_is_not_made_in_vain() {
    run(Target::Quorate, |_| async {
        let ground = Ground::new()?;
        let home = ground.dir().join("home");
        fs::create_dir(&home)?;
        let _taken = TcpListener::bind(ground.address())?;
        let front = ["env", "-C", home.to_str().context("a path of ours")?];
        let url = format!("http://{}", ground.address());
        let listen = [format!("--listen-client-urls={url}"), format!("--advertise-client-urls={url}")];
        let run = ended(ground.start_bare(&front, &[&listen[0], &listen[1]])?).await?;
        assert_eq!(run.status.code(), Some(1), "{}", run.output);
        assert!(tree::names(Path::new(&home))?.is_empty());
        Ok(())
    });
}
