//! What `etcdctl` and `quoratectl` tell a server with each call: how long they wait, that they need a leader, and by which
//! version of the API they speak.
#![allow(clippy::unwrap_used, reason = "a failed expectation fails the test")]
#![allow(clippy::disallowed_methods, clippy::disallowed_types, reason = "real processes need real time and files")]

use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use e2e::Tool;
use http::{HeaderMap, HeaderValue, Response};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpListener;
use tokio::process::Command;
use tokio::sync::mpsc;
use tokio::time::timeout;

/// No command takes this long unless it hangs.
const LIMIT: Duration = Duration::from_secs(20);

#[derive(Debug, PartialEq)]
struct Call {
    method: String,
    /// Not above what the tool was told to wait.
    has_limit: bool,
    needs_leader: bool,
}

/// The calls in order, with what else was said of them.
struct Recorder {
    address: String,
    heads: mpsc::UnboundedReceiver<http::request::Parts>,
}

impl Recorder {
    /// A server that knows no method.
    async fn start() -> Result<Recorder> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?.to_string();
        let (record, heads) = mpsc::unbounded_channel();
        tokio::spawn(async move {
            while let Ok((socket, _)) = listener.accept().await {
                let record = record.clone();
                tokio::spawn(async move {
                    let mut connection = h2::server::handshake(socket).await?;
                    while let Some(call) = connection.accept().await {
                        let (request, mut respond) = call?;
                        let _ = record.send(request.into_parts().0);
                        let mut refusal = Response::new(());
                        *refusal.headers_mut() = HeaderMap::from_iter([
                            (http::header::CONTENT_TYPE, HeaderValue::from_static("application/grpc")),
                            (http::HeaderName::from_static("grpc-status"), HeaderValue::from_static("12")),
                        ]);
                        respond.send_response(refusal, true)?;
                    }
                    Ok::<_, h2::Error>(())
                });
            }
        });
        Ok(Recorder { address, heads })
    }

    /// What the command said with its calls; none may wait for longer than `wait`.
    async fn run(&mut self, tool: Tool, command: &str, wait: Duration) -> Result<Vec<Call>> {
        let mut process = Command::new(tool.program()?)
            .args(["--endpoints", &self.address])
            .args(command.split_whitespace())
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn()?;
        // An empty transaction, for the command that reads one.
        process.stdin.take().context("it is piped")?.write_all(b"\n\n\n").await?;
        timeout(LIMIT, process.wait()).await.with_context(|| format!("{command} goes on"))??;
        let mut calls = Vec::new();
        while let Ok(head) = self.heads.try_recv() {
            let said = |name: &str| head.headers.get(name).map(|value| value.to_str().unwrap().to_owned());
            ensure!(said("client-api-version").as_deref() == Some("3.5"), "{command}: {head:?}");
            let limit = said("grpc-timeout");
            if let Some(limit) = &limit {
                let micros: u64 = limit.strip_suffix('u').context("it is some seconds")?.parse()?;
                let limit = Duration::from_micros(micros);
                ensure!(limit <= wait && limit > wait / 2, "{command}: {limit:?} of {wait:?}");
            }
            calls.push(Call {
                method: head.uri.path().rsplit('/').next().unwrap_or_default().to_owned(),
                has_limit: limit.is_some(),
                needs_leader: said("hasleader").as_deref() == Some("true"),
            });
        }
        Ok(calls)
    }
}

/// A command, the call it makes, whether that has a time limit, and whether it needs a leader.
const COMMANDS: [(&str, &str, bool, bool); 17] = [
    ("put k v", "Put", true, false),
    ("get k", "Range", true, false),
    ("del k", "DeleteRange", true, false),
    ("txn", "Txn", false, false),
    ("compaction 1", "Compact", true, false),
    ("watch k", "Watch", false, true),
    ("lease grant 5", "LeaseGrant", true, false),
    ("lease revoke 5", "LeaseRevoke", true, false),
    ("lease keep-alive --once 5", "LeaseKeepAlive", false, false),
    ("lock l", "LeaseGrant", false, false),
    ("elect e v", "LeaseGrant", false, false),
    ("member list", "MemberList", true, false),
    ("endpoint status", "Status", true, false),
    ("endpoint hashkv", "HashKV", true, false),
    ("alarm list", "Alarm", true, false),
    ("defrag", "Defragment", true, false),
    ("move-leader 1", "Status", true, false),
];

async fn tells_with_each_call(tool: Tool) -> Result<()> {
    let mut recorder = Recorder::start().await?;
    for (command, method, has_limit, needs_leader) in COMMANDS {
        let expected = Call { method: method.to_owned(), has_limit, needs_leader };
        let calls = recorder.run(tool, command, Duration::from_secs(5)).await?;
        ensure!(calls == [expected], "{command} makes {calls:?}, not one {method}");
    }
    let calls = recorder.run(tool, "get k --command-timeout 20s", Duration::from_secs(20)).await?;
    ensure!(calls.len() == 1 && calls[0].has_limit, "{calls:?}");
    Ok(())
}

#[tokio::test]
async fn etcdctl_tells_version_limit_and_need_of_a_leader() {
    tells_with_each_call(Tool::Etcdctl).await.unwrap();
}

#[tokio::test]
async fn quoratectl_tells_what_etcdctl_tells() {
    tells_with_each_call(Tool::Quoratectl).await.unwrap();
}
