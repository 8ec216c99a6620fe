//! Members that find each other at a discovery service, which is etcd or Quorate, and by name service.

use std::fs;
use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use api::etcdserverpb::MemberListRequest;
use discovery::{Registry, RegistryError};
use e2e::request::{get, put};
use e2e::{Ground, Member, Target, run};
use testkit::name_server::{Entry, NameServer};
use tokio::time::Instant;
use types::{InitialCluster, MemberId};

const PEER: &str = "http://127.250.250.250:23801";

fn size_key(token: &str) -> String {
    format!("/_etcd/registry/{token}/_config/size")
}

fn registry(endpoints: &[String], token: &str) -> Registry {
    Registry {
        endpoints: endpoints.to_vec(),
        token: token.to_owned(),
        user: None,
        dial_timeout: Duration::from_secs(2),
        request_timeout: Duration::from_secs(5),
        keepalive_time: Duration::from_secs(2),
        keepalive_timeout: Duration::from_secs(6),
    }
}

fn own(name: &str) -> InitialCluster {
    InitialCluster::new("t", [(name.to_owned(), format!("http://{name}:2380"))])
}

/// Also where the first endpoint is dead.
async fn members_wait_for_each_other_and_agree(target: Target) -> Result<()> {
    let service = Member::start(target).await?;
    service.put(put(size_key("three"), "3")).await?;
    let endpoints = [Ground::new()?.address().to_string(), service.address().to_string()];
    let registry = registry(&endpoints, "three");
    let join = async |id: u64, name: &str| registry.join(MemberId(id), &own(name)).await;
    let first = async {
        // The others register only once this one waits.
        while service.range(get("/_etcd/registry/three/members/a")).await?.kvs.is_empty() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        Ok::<_, anyhow::Error>(tokio::join!(join(11, "b"), join(12, "c")))
    };
    let (a, others) = tokio::join!(join(10, "a"), first);
    let (b, c) = others?;
    let cluster = a?;
    assert_eq!(cluster.to_string(), "a=http://a:2380,b=http://b:2380,c=http://c:2380");
    assert_eq!(cluster.token, "three");
    assert_eq!((b?, c?), (cluster.clone(), cluster.clone()));

    // There is no place for more, and one that comes again has its own.
    assert_eq!(join(13, "d").await, Err(RegistryError::Full));
    assert_eq!(join(11, "b").await, Ok(cluster));
    Ok(())
}

async fn what_is_not_there_is_told(target: Target) -> Result<()> {
    let service = Member::start(target).await?;
    let endpoints = [service.address().to_string()];
    let join = async |token: &str| registry(&endpoints, token).join(MemberId(1), &own("a")).await;
    assert_eq!(join("none").await, Err(RegistryError::SizeMissing));
    for size in ["many", "", "0", "-1", "3.5", " 3", "99999999999999999999"] {
        service.put(put(size_key("bad"), size)).await?;
        assert_eq!(join("bad").await, Err(RegistryError::SizeBad), "{size:?}");
    }
    Ok(())
}

e2e::on_both_targets!(members_wait_for_each_other_and_agree, what_is_not_there_is_told);

#[test]
fn a_member_founds_the_cluster_it_found_there() {
    run(Target::Quorate, |_| async {
        let mut service = Member::start(Target::Etcd).await?;
        service.put(put(size_key("one"), "1")).await?;
        let flags = |token: &str, peer: &str| {
            [
                "--name=m1".to_owned(),
                format!("--discovery-endpoints={}", service.address()),
                format!("--discovery-token={token}"),
                format!("--initial-advertise-peer-urls={peer}"),
            ]
        };
        let (mine, theirs, nobodys) = (flags("one", PEER), flags("one", "http://127.0.0.2:1"), flags("none", PEER));
        let ground = Ground::new()?;
        let (mut process, client) = ground.serve(&[], &mine.each_ref().map(String::as_str)).await?;
        let list = client.member_list(MemberListRequest { linearizable: true }).await?;
        let id = list.header.context("a header")?.member_id;
        assert_eq!(list.members.len(), 1);
        assert_eq!((list.members[0].name.as_str(), &list.members[0].peer_ur_ls), ("m1", &vec![PEER.to_owned()]));
        let kvs = service.range(get(format!("/_etcd/registry/one/members/{id:x}"))).await?.kvs;
        assert_eq!(kvs[0].value, format!("m1={PEER}").as_bytes());

        for (flags, why) in [(&theirs, "discovery: cluster is full"), (&nobodys, "discovery: size key not found")] {
            let late = Ground::new()?;
            let ended = late.run(&[], &flags.each_ref().map(String::as_str)).await?;
            assert_eq!(ended.status.code(), Some(1), "{}", ended.output);
            assert_eq!(ended.reason()?, format!("failed to join discovery cluster ({why})"));
            assert!(!late.data_dir().exists());
        }

        // With data, the service plays no part any more.
        service.stop().await?;
        process.kill()?;
        let (_process, client) = ground.serve(&[], &mine.each_ref().map(String::as_str)).await?;
        let again = client.member_list(MemberListRequest { linearizable: true }).await?;
        ensure!(again.members == list.members, "{again:?}");
        Ok(())
    });
}

/// What an etcd 3.5.30 with these records and flags calls the cluster and itself.
const IDS: (u64, u64) = (0xedce_5803_f583_10f8, 0x0797_e258_d7c9_7a0f);
const SERVICE: &str = "_etcd-server._tcp.example.test";

/// What stands in front of a program that sees another list of name servers than the rest of the machine. Both that and the
/// usual port need root.
fn asking(server: IpAddr, options: &str, ground: &Ground) -> Result<[String; 6]> {
    let list = ground.dir().join("resolv.conf");
    fs::write(&list, format!("nameserver {server}\noptions {options}\n"))?;
    let mount = "mount --bind \"$0\" /etc/resolv.conf && exec \"$@\"";
    Ok(["unshare", "--mount", "sh", "-c", mount, &list.display().to_string()].map(str::to_owned))
}

/// As on networks where a name is told only once its member runs, and where nobody says meanwhile that there is none.
#[test]
fn a_name_that_nobody_knows_yet_does_not_hold_up_a_founder() {
    run(Target::Quorate, |_| async {
        let ground = Ground::new()?;
        let server = ground.address().ip();
        let _silent = std::net::UdpSocket::bind((server, 53)).context("port 53 needs root")?;
        let front = asking(server, "timeout:30 attempts:5", &ground)?;
        let own = format!("http://{server}:2380");
        let flags = [
            format!("--initial-advertise-peer-urls={own}"),
            format!("--initial-cluster=default={own},other=http://other.example.test:2380"),
        ];
        let process = ground.start(&front.each_ref().map(String::as_str), &flags.each_ref().map(String::as_str))?;
        let begun = Instant::now();
        while !process.output().contains("configuration in force") {
            ensure!(begun.elapsed() < Duration::from_secs(20), "it still waits:\n{}", process.output());
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        Ok(())
    });
}

#[test]
fn a_member_founds_the_cluster_that_name_service_lists() {
    run(Target::Quorate, |_| async {
        let ground = Ground::new()?;
        let zone = vec![
            (SERVICE, Entry::Srv(vec![(0, 2380, "m1.example.test")])),
            ("_etcd-server-x._tcp.example.test", Entry::Srv(vec![(0, 2380, "m2.example.test")])),
            ("m1.example.test", Entry::Address(Ipv4Addr::new(127, 250, 250, 1))),
            ("m2.example.test", Entry::Address(Ipv4Addr::new(127, 250, 250, 2))),
        ];
        let server: IpAddr = ground.address().ip();
        let _name_server = NameServer::start_at(server, zone).context("port 53 needs root")?;
        let front = asking(server, "timeout:2 attempts:5", &ground)?;
        let front = front.each_ref().map(String::as_str);

        let flags =
            ["--name=m1", "--discovery-srv=example.test", "--initial-advertise-peer-urls=http://m1.example.test:2380"];
        for (more, why) in [
            ("--discovery-srv-name=x", "cannot find local etcd member \"m1\" in SRV records"),
            ("--discovery-srv=none.test", "lookup _etcd-server._tcp.none.test: no such host"),
        ] {
            let flags: Vec<&str> = flags.iter().copied().chain([more]).collect();
            let ended = ground.run(&front, &flags).await?;
            assert_eq!(ended.status.code(), Some(1), "{}", ended.output);
            ensure!(ended.reason()?.contains(why), "{}", ended.output);
            assert!(!ground.data_dir().exists());
        }
        let (_process, client) = ground.serve(&front, &flags).await?;
        let header = client.member_list(MemberListRequest::default()).await?.header.context("a header")?;
        assert_eq!((header.cluster_id, header.member_id), IDS);
        Ok(())
    });
}

#[test]
fn three_members_become_a_cluster_through_a_discovery_service() {
    run(Target::Quorate, |_| async {
        let service = Member::start(Target::Etcd).await?;
        service.put(put(size_key("three"), "3")).await?;
        let grounds = [Ground::new()?, Ground::new()?, Ground::new()?];
        let mut processes = Vec::new();
        for (number, ground) in grounds.iter().enumerate() {
            let flags = [
                format!("--name=m{number}"),
                format!("--discovery-endpoints={}", service.address()),
                "--discovery-token=three".to_owned(),
                format!("--initial-advertise-peer-urls=http://{}:2380", ground.address().ip()),
            ];
            processes.push(ground.start(&[], &flags.each_ref().map(String::as_str))?);
        }
        let mut clients = Vec::new();
        for (ground, process) in grounds.iter().zip(&mut processes) {
            clients.push(ground.ready(process).await?);
        }
        clients[0].put(put("a", "1")).await?;
        for client in &clients {
            assert_eq!(client.range(get("a")).await?.kvs[0].value, "1");
            let members = client.member_list(MemberListRequest { linearizable: true }).await?.members;
            let mut names: Vec<String> = members.into_iter().map(|member| member.name).collect();
            names.sort();
            assert_eq!(names, ["m0", "m1", "m2"]);
        }
        Ok(())
    });
}
