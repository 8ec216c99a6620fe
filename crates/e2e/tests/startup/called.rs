//! The names the program is called by, and the health check of a container.

use std::net::TcpListener;
use std::os::unix::fs::symlink;
use std::process::{Command, Output};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use api::etcdserverpb::alarm_request::AlarmAction;
use api::etcdserverpb::{AlarmRequest, AlarmType};
use e2e::{Ground, Target, run};
use rustix::process::Signal;

/// Calls the program by `name`.
fn call(ground: &Ground, name: &str, arguments: &[&str], variables: &[(&str, &str)]) -> Result<Output> {
    let link = ground.dir().join(name);
    if !link.exists() {
        symlink(Target::Quorate.server_program()?, &link)?;
    }
    let ran = Command::new(&link).args(arguments).envs(variables.iter().copied()).output();
    ran.with_context(|| link.display().to_string())
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[test]
fn it_is_the_server_by_etcds_name_too() -> Result<()> {
    let ground = Ground::new()?;
    for name in ["etcd", "quorate"] {
        let output = call(&ground, name, &["--version"], &[])?;
        ensure!(output.status.success() && text(&output.stdout).starts_with("etcd Version: 3.5."), "{output:?}");
    }
    Ok(())
}

#[test]
fn it_is_the_client_tool_by_two_names() {
    run(Target::Quorate, |_| async {
        let ground = Ground::new()?;
        let (_process, _client) = ground.serve(&[], &[]).await?;
        let endpoint = format!("--endpoints={}", ground.address());
        for name in ["etcdctl", "quoratectl"] {
            let put = call(&ground, name, &[&endpoint, "put", "greeting", name], &[])?;
            ensure!(put.status.success() && text(&put.stdout) == "OK\n", "{put:?}");
            let get = call(&ground, name, &[&endpoint, "get", "greeting"], &[])?;
            ensure!(text(&get.stdout) == format!("greeting\n{name}\n"), "{get:?}");
        }
        Ok(())
    });
}

#[test]
fn what_the_tool_for_files_does_not_do_yet_it_refuses_by_name() -> Result<()> {
    let ground = Ground::new()?;
    for name in ["etcdutl", "quorateutl"] {
        let output = call(&ground, name, &["snapshot", "status", "x"], &[])?;
        ensure!(output.status.code() == Some(1), "{output:?}");
        ensure!(text(&output.stderr) == format!("Error: {name} snapshot status is not there yet\n"), "{output:?}");
        let output = call(&ground, name, &["version"], &[])?;
        ensure!(output.status.success(), "{output:?}");
        ensure!(text(&output.stdout).starts_with(&format!("{name} version: 3.5.30\nAPI version: 3.5\n")), "{output:?}");
    }
    Ok(())
}

#[test]
fn the_health_check_tells_whether_the_member_is_alive_and_ready() {
    run(Target::Quorate, |_| async {
        let ground = Ground::new()?;
        let url = format!("http://{}", ground.address());
        let flag = format!("--listen-client-urls={url}");
        let check = |flags: &[&str], variables: &[(&str, &str)]| {
            let arguments: Vec<&str> = ["healthcheck", "--ready"].into_iter().chain(flags.iter().copied()).collect();
            call(&ground, "quorate", &arguments, variables)
        };
        let (mut process, client) = ground.serve(&[], &[]).await?;
        let advertise = format!("--advertise-client-urls={url}");
        let by_flags = [flag.as_str(), advertise.as_str()];
        let by_variables = [("ETCD_LISTEN_CLIENT_URLS", url.as_str()), ("ETCD_ADVERTISE_CLIENT_URLS", url.as_str())];
        for output in [check(&by_flags, &[])?, check(&[], &by_variables)?] {
            ensure!(output.status.success(), "{output:?}");
            ensure!(text(&output.stdout) == format!("{url} is ready\n"), "{output:?}");
        }

        let alarm = AlarmRequest {
            action: AlarmAction::Activate.into(),
            alarm: AlarmType::Corrupt.into(),
            ..AlarmRequest::default()
        };
        client.alarm(alarm).await?;
        let output = check(&by_flags, &[])?;
        ensure!(output.status.code() == Some(1), "{output:?}");
        ensure!(text(&output.stderr).contains("[-]data_corruption failed"), "{output:?}");
        let alive = || call(&ground, "quorate", &["healthcheck", &flag, &advertise], &[]);
        let output = alive()?;
        ensure!(output.status.success() && text(&output.stdout) == format!("{url} is alive\n"), "{output:?}");

        process.signal(Signal::STOP)?;
        let output = alive()?;
        ensure!(output.status.code() == Some(1), "{output:?}");
        ensure!(text(&output.stderr).contains("does not answer"), "{output:?}");
        process.signal(Signal::CONT)?;

        process.kill()?;
        let output = check(&by_flags, &[])?;
        ensure!(output.status.code() == Some(1), "{output:?}");
        ensure!(text(&output.stderr).contains("cannot be asked: connection refused"), "{output:?}");

        let output = check(&["--no-such-flag"], &[])?;
        ensure!(output.status.code() == Some(1) && text(&output.stderr).contains("no-such-flag"), "{output:?}");
        Ok(())
    });
}

#[test]
fn the_health_check_calls_the_member_by_a_name_that_it_goes_by() {
    run(Target::Quorate, |_| async {
        let ground = Ground::new()?;
        let url = format!("http://{}", ground.address());
        let flags = ["--host-whitelist=a.example"];
        let (_process, _client) = ground.serve(&[], &flags).await?;
        let own = [format!("--listen-client-urls={url}"), format!("--advertise-client-urls={url}")];
        let arguments = ["healthcheck", "--ready", flags[0], &own[0], &own[1]];
        let output = call(&ground, "quorate", &arguments, &[])?;
        ensure!(text(&output.stdout) == format!("{url} is ready\n"), "{output:?}");
        Ok(())
    });
}

#[test]
fn the_health_check_asks_where_such_questions_are_answered() {
    run(Target::Quorate, |_| async {
        for setting in ["--listen-client-http-urls", "--listen-metrics-urls"] {
            let ground = Ground::new()?;
            let elsewhere = TcpListener::bind("127.0.0.1:0")?.local_addr()?;
            let flag = format!("{setting}=http://{elsewhere}");
            let (_process, _client) = ground.serve(&[], &[&flag]).await?;
            let output = call(&ground, "quorate", &["healthcheck", "--ready", &flag], &[])?;
            ensure!(text(&output.stdout) == format!("http://{elsewhere} is ready\n"), "{output:?}");
        }
        Ok(())
    });
}

/// Docker Swarm tells nobody the names of containers that are not healthy, and a new cluster's members need those.
#[test]
fn the_first_process_of_a_container_is_alive_while_it_waits_for_its_cluster() {
    run(Target::Quorate, |_| async {
        let ground = Ground::new()?;
        let peer = format!("http://{}", TcpListener::bind("127.0.0.1:0")?.local_addr()?);
        let flags = [
            "--name=a".to_owned(),
            format!("--listen-peer-urls={peer}"),
            format!("--initial-advertise-peer-urls={peer}"),
            format!("--initial-cluster=a={peer},b=http://127.0.0.1:1"),
        ];
        let flags: Vec<&str> = flags.iter().map(String::as_str).collect();
        let process = ground.start(&["unshare", "--pid", "--fork", "--kill-child", "--mount-proc"], &flags)?;
        while !process.output().contains("status changed") {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        let children = std::fs::read_to_string(format!("/proc/{0}/task/{0}/children", process.id()))?;
        let check = |arguments: &[&str]| {
            let mut inside = Command::new("nsenter");
            inside.args(["--target", children.trim(), "--pid", "--mount", "--"]).arg(Target::Quorate.server_program()?);
            Ok::<_, anyhow::Error>(inside.arg("healthcheck").args(arguments).output()?)
        };
        let output = check(&[])?;
        ensure!(output.status.success() && text(&output.stdout).contains("waits for the cluster"), "{output:?}");
        let output = check(&["--ready"])?;
        ensure!(output.status.code() == Some(1) && text(&output.stderr).contains("does not answer"), "{output:?}");
        Ok(())
    });
}
