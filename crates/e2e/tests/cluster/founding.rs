//! How a cluster comes to be, and every way in which that is refused.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use e2e::request::{get, put};
use e2e::{Cluster, SETTLE_LIMIT, Target, Wiring};

/// How long a start that fails may take.
const REFUSAL_LIMIT: Duration = Duration::from_secs(30);

/// Starts one seat, which must give up with exit code 1 and say all of `parts`.
async fn refused(cluster: &mut Cluster, seat: usize, parts: &[&str]) -> Result<()> {
    cluster.spawn(seat)?;
    let (status, output) = cluster.seat(seat).ended(REFUSAL_LIMIT).await?;
    ensure!(status.code() == Some(1), "it ended with {status}:\n{output}");
    let said = parts.iter().all(|part| output.contains(part));
    ensure!(said, "it does not say all of {parts:?}:\n{output}");
    // etcd leaves a directory with an empty database, which the next start takes for none.
    let left = cluster.seats()[seat].data_dir().exists();
    ensure!(cluster.target() == Target::Etcd || !left, "it left data behind");
    Ok(())
}

async fn mistakes_in_the_initial_cluster_are_refused(target: Target) -> Result<()> {
    let mut cluster = Cluster::prepare(target, 3, Wiring::Direct, &[])?;
    let all = cluster.initial_cluster(0..3);
    // Its own name is not there.
    let others = cluster.initial_cluster(1..3);
    cluster.seat(0).set_flags(&[("initial-cluster", &others)]);
    refused(&mut cluster, 0, &["couldn't find local name", "m0", "in the initial cluster configuration"]).await?;
    // Its own URL is another one than it advertises.
    let other_url = all.replace(&cluster.seats()[0].peer_url(), "http://127.255.255.254:2380");
    cluster.seat(0).set_flags(&[("initial-cluster", &other_url)]);
    refused(&mut cluster, 0, &["--initial-cluster", "--initial-advertise-peer-urls", "127.255.255.254:2380"]).await?;
    // Two members with one URL.
    let twice = format!("m0={0},m1={0}", cluster.seats()[0].peer_url());
    cluster.seat(0).set_flags(&[("initial-cluster", &twice)]);
    refused(&mut cluster, 0, &["duplicate url"]).await?;
    // No name=url at all.
    cluster.seat(0).set_flags(&[("initial-cluster", "m0")]);
    cluster.spawn(0)?;
    let (status, _) = cluster.seat(0).ended(REFUSAL_LIMIT).await?;
    ensure!(!status.success(), "it ended with {status}");
    Ok(())
}

/// Flags of the first of three founders, and why it does not start; `OWN` stands for its URL. One word for word.
const MISTAKES: [(&[(&str, &str)], &str); 11] = [
    (
        &[("initial-cluster", "m1=http://127.0.0.9:2380")],
        r#"couldn't find local name "m0" in the initial cluster configuration"#,
    ),
    (
        &[("initial-cluster", "m0=http://127.0.0.9:2380")],
        "--initial-cluster has m0=http://127.0.0.9:2380 but missing from --initial-advertise-peer-urls=OWN \
         (resolved urls: \"OWN\" != \"http://127.0.0.9:2380\")",
    ),
    (
        &[("initial-cluster", "m0=OWN,m0=http://127.0.0.9:2380")],
        "--initial-cluster has m0=http://127.0.0.9:2380 but missing from --initial-advertise-peer-urls=OWN \
         (len([\"OWN\"]) != len([\"http://127.0.0.9:2380\" \"OWN\"]))",
    ),
    (
        &[("initial-cluster", "m0=OWN"), ("initial-advertise-peer-urls", "OWN,http://127.0.0.9:2380")],
        "--initial-advertise-peer-urls has http://127.0.0.9:2380 but missing from \
         --initial-cluster=m0=http://127.0.0.9:2380,m0=OWN",
    ),
    (&[("initial-cluster", "m0=OWN,m1=OWN")], "initial cluster m0=OWN,m1=OWN has duplicate url"),
    (
        &[("initial-cluster", "m0")],
        "error setting up initial cluster: URL scheme must be http, https, unix, or unixs: ",
    ),
    (
        &[("initial-cluster", "m0=OWN,m1=")],
        "error setting up initial cluster: URL scheme must be http, https, unix, or unixs: ",
    ),
    (
        &[("initial-cluster", "m0=OWN,m1=ftp://127.0.0.9:2380")],
        "error setting up initial cluster: URL scheme must be http, https, unix, or unixs: ftp://127.0.0.9:2380",
    ),
    (
        &[("initial-cluster", "m0=OWN,m1=127.0.0.9:2380")],
        "error setting up initial cluster: parse \"127.0.0.9:2380\": first path segment in URL cannot contain colon",
    ),
    (
        &[("initial-cluster", "m0=OWN,m1=http://127.0.0.9")],
        "error setting up initial cluster: URL address does not have the form \"host:port\": http://127.0.0.9",
    ),
    (
        &[("initial-cluster", "m0=OWN,m1=http://127.0.0.9:2380/x")],
        "error setting up initial cluster: URL must not contain a path: http://127.0.0.9:2380/x",
    ),
];

async fn mistakes_are_told_in_the_same_words(target: Target) -> Result<()> {
    for (flags, expected) in MISTAKES {
        let mut cluster = Cluster::prepare(target, 1, Wiring::Direct, &[])?;
        let own = cluster.seats()[0].peer_url();
        for (name, value) in flags {
            cluster.seat(0).set_flags(&[(name, &value.replace("OWN", &own))]);
        }
        cluster.spawn(0)?;
        let (status, output) = cluster.seat(0).ended(REFUSAL_LIMIT).await?;
        assert_eq!(status.code(), Some(1), "{flags:?}: {output}");
        let fatal = output.lines().find(|line| line.contains(r#""level":"fatal""#)).context("no fatal line")?;
        let fatal: serde_json::Value = serde_json::from_str(fatal)?;
        assert_eq!(fatal["error"], expected.replace("OWN", &own), "{flags:?}");
    }
    Ok(())
}

/// One name twice is one member with two URLs, not two members.
async fn a_name_that_stands_twice_has_two_urls(target: Target) -> Result<()> {
    let mut cluster = Cluster::prepare(target, 1, Wiring::Direct, &[])?;
    let peer = cluster.seats()[0].peer_address();
    let urls = [format!("http://{peer}"), format!("http://{}:2384", peer.ip())];
    let both = urls.join(",");
    cluster.seat(0).set_flags(&[
        ("listen-peer-urls", &both),
        ("initial-advertise-peer-urls", &both),
        ("initial-cluster", &format!("m0={},m0={}", urls[0], urls[1])),
    ]);
    cluster.spawn_all()?;
    cluster.settled().await?;
    let list = cluster.client(0).await?.member_list(Default::default()).await?;
    assert_eq!(list.members.len(), 1);
    let mut listed = list.members[0].peer_ur_ls.clone();
    listed.sort();
    assert_eq!(listed, urls);
    Ok(())
}

/// To join, a member must list the members there are.
async fn joining_with_a_wrong_list_is_refused(target: Target) -> Result<()> {
    let mut cluster = Cluster::start(target, 1).await?;
    let seat = cluster.add(0, false).await?;
    // One too many.
    let right = cluster.initial_cluster(0..2);
    let more = format!("{right},m9=http://127.255.255.254:2380");
    cluster.seat(seat).set_flags(&[("initial-cluster", &more)]);
    refused(&mut cluster, seat, &["member count is unequal"]).await?;
    // As many, but one of them is another.
    let other = right.replace(&cluster.seats()[0].peer_url(), "http://127.255.255.254:2380");
    cluster.seat(seat).set_flags(&[("initial-cluster", &other)]);
    refused(&mut cluster, seat, &["cannot fetch cluster info from peer urls"]).await?;
    // The right list joins.
    cluster.seat(seat).set_flags(&[("initial-cluster", &right)]);
    cluster.restart(seat).await?;
    cluster.settled().await?;
    cluster.equal().await?;
    Ok(())
}

/// The members listed are those of another cluster; nobody listed but itself; all but itself.
async fn joining_another_cluster_is_refused(target: Target) -> Result<()> {
    let mut cluster = Cluster::start(target, 1).await?;
    let other = Cluster::start_with(target, 2, Wiring::Direct, &[("initial-cluster-token", "another")]).await?;
    let seat = cluster.add(0, false).await?;
    let (own, all) = (cluster.initial_cluster(1..2), cluster.initial_cluster(0..2));
    let theirs = |seats| other.initial_cluster(seats).replace('m', "other");
    for (listed, part) in [
        (format!("{own},{}", theirs(0..2)), "member count is unequal"),
        // As many as there are.
        (format!("{own},{}", theirs(0..1)), "no match found for existing member"),
        (own.clone(), "could not retrieve cluster information from the given URLs"),
        (cluster.initial_cluster(0..1), "couldn't find local name"),
    ] {
        cluster.seat(seat).set_flags(&[("initial-cluster", &listed)]);
        refused(&mut cluster, seat, &[part]).await.context(listed)?;
    }
    // What the others are called, and the token, means nothing to one who joins.
    let renamed = all.replace("m0=", "q0=");
    cluster.seat(seat).set_flags(&[("initial-cluster", &renamed), ("initial-cluster-token", "a third")]);
    cluster.restart(seat).await?;
    cluster.settled().await?;
    cluster.equal().await?;
    Ok(())
}

/// A member that was removed comes again with nothing, as the one it was.
async fn a_member_that_is_gone_does_not_come_back_without_data(target: Target) -> Result<()> {
    let mut cluster = Cluster::start(target, 3).await?;
    let gone = cluster.follower().await?;
    let via = (gone + 1) % 3;
    let id = cluster.id(gone).await?;
    cluster.remove(via, id).await?;
    cluster.seat(gone).ended(SETTLE_LIMIT).await?;
    // Its id comes from its URLs and the token, so as a founder it is who it was.
    cluster.seat(gone).wipe()?;
    let before = cluster.seats()[gone].output().len();
    cluster.spawn(gone)?;
    let (_, output) = cluster.seat(gone).ended(SETTLE_LIMIT).await?;
    ensure!(output[before..].contains("removed"), "it does not say that it was removed: {}", &output[before..]);
    if cluster.seats()[gone].data_dir().exists() {
        cluster.seat(gone).wipe()?;
    }
    cluster.seat(gone).set_flags(&[("initial-cluster-state", "existing")]);
    refused(&mut cluster, gone, &["member count is unequal"]).await?;
    cluster.settled().await?;
    cluster.client(via).await?.put(put("key", "1")).await?;
    cluster.equal().await?;
    Ok(())
}

async fn joining_what_cannot_be_reached_is_refused(target: Target) -> Result<()> {
    let mut cluster = Cluster::prepare(target, 2, Wiring::Direct, &[("initial-cluster-state", "existing")])?;
    refused(&mut cluster, 1, &["cannot fetch cluster info from peer urls"]).await
}

/// A founder that its cluster does not know, with its state said to exist: it was never added.
async fn a_stranger_does_not_join(target: Target) -> Result<()> {
    let mut cluster = Cluster::prepare(target, 2, Wiring::Direct, &[])?;
    let alone = cluster.initial_cluster(0..1);
    cluster.seat(0).set_flags(&[("initial-cluster", &alone)]);
    cluster.restart(0).await?;
    cluster.seat(1).set_flags(&[("initial-cluster-state", "existing")]);
    refused(&mut cluster, 1, &["member count is unequal"]).await?;
    cluster.client(0).await?.put(put("key", "1")).await?;
    Ok(())
}

/// Members with another token, and so another cluster, do not mix: neither side serves them or is harmed.
async fn members_of_another_cluster_are_not_heard(target: Target) -> Result<()> {
    let mut cluster = Cluster::prepare(target, 3, Wiring::Direct, &[])?;
    cluster.seat(2).set_flags(&[("initial-cluster-token", "other")]);
    cluster.spawn_all()?;
    for seat in [0, 1] {
        cluster.seat(seat).ready().await?;
    }
    cluster.client(0).await?.put(put("key", "1")).await?;
    // The third goes on asking for votes, and serves nobody.
    let third = cluster.seat(2).ready_within(Duration::from_secs(3)).await;
    ensure!(third.is_err(), "a member of another cluster serves");
    assert_eq!(cluster.client(1).await?.range(get("key")).await?.count, 1);
    Ok(())
}

/// With data, the flags about founding are not looked at.
async fn flags_for_founding_mean_nothing_to_a_member_with_data(target: Target) -> Result<()> {
    let mut cluster = Cluster::start(target, 3).await?;
    cluster.client(0).await?.put(put("key", "1")).await?;
    let id = cluster.id(1).await?;
    let own = cluster.initial_cluster(1..2);
    cluster.seat(1).set_flags(&[("initial-cluster", &own), ("initial-cluster-token", "another")]);
    let back = cluster.restart(1).await?;
    assert_eq!(back.range(get("key")).await?.count, 1);
    assert_eq!(cluster.id(1).await?, id);
    cluster.seat(1).set_flags(&[("initial-cluster-state", "existing")]);
    cluster.restart(1).await?;
    cluster.equal().await?;
    Ok(())
}

/// One of three alone waits for a second, without serving; with it, it serves.
async fn founders_wait_for_one_another(target: Target) -> Result<()> {
    let mut cluster = Cluster::prepare(target, 3, Wiring::Direct, &[])?;
    cluster.spawn(0)?;
    let early = cluster.seat(0).ready_within(Duration::from_secs(2)).await;
    ensure!(early.is_err(), "one of three serves alone");
    cluster.spawn(1)?;
    cluster.seat(0).ready_within(SETTLE_LIMIT).await?;
    cluster.client(0).await?.put(put("key", "1")).await?;
    // The third comes late, as a founder still, and catches up. etcd lets it in: it has not been there yet.
    cluster.spawn(2)?;
    cluster.settled().await?;
    cluster.equal().await?;
    Ok(())
}

e2e::on_both_targets!(clusters:
    mistakes_in_the_initial_cluster_are_refused,
    mistakes_are_told_in_the_same_words,
    a_name_that_stands_twice_has_two_urls,
    joining_with_a_wrong_list_is_refused,
    joining_another_cluster_is_refused,
    a_member_that_is_gone_does_not_come_back_without_data,
    joining_what_cannot_be_reached_is_refused,
    a_stranger_does_not_join,
    members_of_another_cluster_are_not_heard,
    flags_for_founding_mean_nothing_to_a_member_with_data,
    founders_wait_for_one_another,
);
