//! etcd's checks that members hold the same data, for operators who ask for them: before a member takes part in raft, and by the
//! leader from time to time. What [`divergence`](crate::divergence) does without being asked sees what entries did; this
//! sees what lies on disk.
//!
//! Two hashes can be held against each other only if they are of the same revision and leave out what the same compaction
//! removes. Who has the hash that most voters have is right. Nobody is accused by one look alone: a compaction at the very
//! moment can make equal data hash differently, which passes.
//!
//! Source: etcd-io/etcd `server/etcdserver/corrupt.go`.

use std::collections::{BTreeMap, BTreeSet};
use std::future::pending;
use std::time::Duration;

use mvcc::HashKv;
use peer::client::ClientError;
use tokio::task::JoinSet;
use tokio::time::sleep;
use types::{ClusterId, MemberId};

use crate::divergence::{raise_corrupt, right_digest};
use crate::error::Error;
use crate::handle::Handle;
use crate::settings::CorruptionChecks;

/// Between the look that finds a difference and the one that has to find it, too.
const SECOND_LOOK: Duration = Duration::from_secs(1);
/// What counts as the hash of a member that has more revisions or compactions than its leader: no hash is so large.
const AHEAD: u64 = u64::MAX;

/// Compares this member's data, as its own log has it, with that of the others that can be reached. Meanwhile raft hears nothing and
/// counts no time, but whoever else starts and compares is told the hash of this member.
///
/// # Errors
/// Says what was found if most voters that can be asked do not hold what this member holds.
pub(crate) async fn check_before_taking_part(handle: &Handle) -> Result<(), String> {
    let me = handle.identity().member_id;
    let accused = match twice(async || look_at(handle, 0).await).await {
        Ok(accused) => accused,
        Err(error) => return Err(format!("cannot hash the data: {error}")),
    };
    if accused.contains(&me) || accused.contains(&MemberId(0)) {
        let advice = "remove this member and add it again without data, or restore the cluster from a backup";
        return Err(format!("{me} found data inconsistency with peers; {advice}"));
    }
    for member in accused {
        tracing::error!(%member, "another member holds other data than most");
    }
    Ok(())
}

/// Compares, while this member leads, as often as the settings say.
pub(crate) async fn check_regularly(handle: &Handle) {
    let CorruptionChecks { interval, compaction_interval, .. } = handle.inner().settings.corruption_checks;
    tokio::join!(
        every(interval, async || check(handle, async || look_ahead(handle).await).await),
        every(compaction_interval, async || check(handle, async || look_at_compactions(handle).await).await),
    );
}

async fn every(interval: Option<Duration>, check: impl AsyncFn()) {
    let Some(interval) = interval else { return pending().await };
    loop {
        sleep(interval).await;
        check().await;
    }
}

async fn check(handle: &Handle, look: impl AsyncFn() -> Result<BTreeSet<MemberId>, Error>) {
    if !handle.leads() {
        return;
    }
    match twice(look).await {
        Ok(accused) => {
            let raised = handle.state().alarms().clone();
            for member in accused.into_iter().filter(|member| !raised.is_corrupt(*member)) {
                tracing::error!(%member, "members hold different data; raising the alarm");
                if let Err(error) = handle.alarm(raise_corrupt(member)).await {
                    tracing::warn!(%error, "cannot raise the alarm yet");
                }
            }
        }
        Err(error) => tracing::warn!(%error, "cannot compare the members' data"),
    }
}

/// Those whom two looks find.
async fn twice(look: impl AsyncFn() -> Result<BTreeSet<MemberId>, Error>) -> Result<BTreeSet<MemberId>, Error> {
    let first = look().await?;
    if first.is_empty() {
        return Ok(first);
    }
    sleep(SECOND_LOOK).await;
    let second = look().await?;
    // That nobody can tell who is wrong says the same of everybody.
    Ok(second
        .into_iter()
        .filter(|member| member.0 == 0 || first.contains(member) || first.contains(&MemberId(0)))
        .collect())
}

/// Holds the hashes at a revision (0: this member's newest) against each other.
async fn look_at(handle: &Handle, revision: i64) -> Result<BTreeSet<MemberId>, Error> {
    let own = hash_here(handle, revision).await?;
    let others = hashes_elsewhere(handle, own.hash_revision).await;
    Ok(differing(handle, own, &comparable(own, &others)))
}

/// The leader's look at all data. It has applied whatever anybody else has, so nobody may be ahead of it.
async fn look_ahead(handle: &Handle) -> Result<BTreeSet<MemberId>, Error> {
    let own = hash_here(handle, 0).await?;
    let others = hashes_elsewhere(handle, own.hash_revision).await;
    handle.linearizable().await?;
    let (revision, compacted) = (handle.view().revision(), handle.view().compacted());
    let mut known = comparable(own, &others);
    for (member, other) in others {
        if other.revision > revision || other.compact_revision > compacted {
            known.insert(member, AHEAD);
        }
    }
    Ok(differing(handle, own, &known))
}

/// Looks at the hashes kept since the last compactions.
async fn look_at_compactions(handle: &Handle) -> Result<BTreeSet<MemberId>, Error> {
    let ask = async |own: HashKv| comparable(own, &hashes_elsewhere(handle, own.hash_revision).await);
    let others = || handle.state().membership().members().count() - 1;
    let accuse = |own, known: &_| differing(handle, own, known);
    Ok(newest_difference(handle.view().compaction_hashes(), others, ask, accuse).await)
}

/// Goes through `hashes`, the newest first, until one differs, and no further than all `others` have told theirs.
async fn newest_difference(
    hashes: Vec<HashKv>,
    others: impl Fn() -> usize,
    ask: impl AsyncFn(HashKv) -> BTreeMap<MemberId, u64>,
    accuse: impl Fn(HashKv, &BTreeMap<MemberId, u64>) -> BTreeSet<MemberId>,
) -> BTreeSet<MemberId> {
    for own in hashes {
        let known = ask(own).await;
        let accused = accuse(own, &known);
        if !accused.is_empty() || known.len() == others() {
            return accused;
        }
    }
    BTreeSet::new()
}

/// The hashes that say something about `own`.
fn comparable(own: HashKv, others: &BTreeMap<MemberId, peer::HashKv>) -> BTreeMap<MemberId, u64> {
    let comparable = others.iter().filter(|(_, other)| other.compact_revision == own.compact_revision);
    comparable.map(|(member, other)| (*member, u64::from(other.hash))).collect()
}

fn differing(handle: &Handle, own: HashKv, others: &BTreeMap<MemberId, u64>) -> BTreeSet<MemberId> {
    let mut known = others.clone();
    known.insert(handle.identity().member_id, u64::from(own.hash));
    accuse(&known, &handle.state().membership().conf_state().voters)
}

/// Who has another hash than most voters; `MemberId(0)` if there are different ones and most have none of them.
fn accuse(known: &BTreeMap<MemberId, u64>, voters: &[MemberId]) -> BTreeSet<MemberId> {
    match right_digest(known, voters) {
        Some(right) => known.iter().filter(|(_, hash)| **hash != right).map(|(member, _)| *member).collect(),
        None if known.values().collect::<BTreeSet<_>>().len() > 1 => BTreeSet::from([MemberId(0)]),
        None => BTreeSet::new(),
    }
}

async fn hash_here(handle: &Handle, revision: i64) -> Result<HashKv, Error> {
    let view = handle.view().clone();
    let hash = handle.large_reads().run(move || view.hash_kv(revision)).await?;
    hash.map_err(|error| Error::Internal(error.to_string()))
}

/// What the members answer that can be reached and have that revision. All are asked at once.
async fn hashes_elsewhere(handle: &Handle, revision: i64) -> BTreeMap<MemberId, peer::HashKv> {
    let (me, cluster) = (handle.identity().member_id, handle.identity().cluster_id);
    let patience = handle.limits().request_timeout;
    let mut asked = JoinSet::new();
    for member in handle.state().membership().members().filter(|member| member.id != me) {
        let (id, urls) = (member.id, member.peer_urls.clone());
        asked.spawn_local(async move { (id, ask(id, &urls, cluster, revision, patience).await) });
    }
    let answers = asked.join_all().await;
    answers.into_iter().filter_map(|(member, answer)| Some((member, answer?))).collect()
}

async fn ask(
    member: MemberId,
    urls: &[String],
    cluster: ClusterId,
    revision: i64,
    patience: Duration,
) -> Option<peer::HashKv> {
    for url in urls {
        match peer::client::hash_kv(url, cluster, revision, patience).await {
            Ok(hash) => return Some(hash),
            // It is behind, or further than this one: no other address will help.
            Err(error @ ClientError::Refused(_)) => {
                tracing::warn!(%member, revision, %error, "a member's data cannot be compared");
                return None;
            }
            Err(error) => tracing::warn!(%member, url, %error, "a member does not tell the hash of its data"),
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    const VOTERS: [MemberId; 3] = [MemberId(1), MemberId(2), MemberId(3)];

    fn accused(known: &[(u64, u64)]) -> Vec<u64> {
        let known = known.iter().map(|&(member, hash)| (MemberId(member), hash)).collect();
        accuse(&known, &VOTERS).into_iter().map(|member| member.0).collect()
    }

    #[test]
    fn most_voters_are_right_and_without_most_nobody_is() {
        assert_eq!(accused(&[(1, 5)]), [0; 0]);
        assert_eq!(accused(&[(1, 5), (2, 5), (3, 5), (9, 5)]), [0; 0]);
        assert_eq!(accused(&[(1, 5), (2, 6), (3, 5)]), [2]);
        assert_eq!(accused(&[(1, 5), (2, 6), (3, 6)]), [1]);
        assert_eq!(accused(&[(1, 5), (2, 5), (3, AHEAD), (9, 4)]), [3, 9]);
        assert_eq!(accused(&[(1, 5), (2, 6)]), [0]);
        assert_eq!(accused(&[(1, 5), (9, 6)]), [0], "a learner may be the one that is right");
        assert_eq!(accused(&[(1, 5), (2, 6), (3, 7)]), [0]);
    }

    #[test]
    fn hashes_after_other_compactions_say_nothing() {
        let own = HashKv { hash: 7, compact_revision: 3, hash_revision: 9 };
        let other = |hash, compact_revision| peer::HashKv { revision: 9, hash, compact_revision };
        let others = BTreeMap::from([(MemberId(2), other(8, 3)), (MemberId(3), other(8, 5))]);
        assert_eq!(comparable(own, &others), BTreeMap::from([(MemberId(2), 8)]));
    }

    /// Which of the hashes at revisions 9, 6 and 3 are asked for, and who is accused: `told` has what members 2 and 3 answer,
    /// where this member's hash is 7.
    async fn walked(told: [&[(u64, u64)]; 3]) -> (Vec<i64>, Vec<u64>) {
        let hashes = [(9, 6), (6, 3), (3, -1)];
        let hashes =
            hashes.map(|(hash_revision, compact_revision)| HashKv { hash: 7, compact_revision, hash_revision });
        let asked = std::cell::RefCell::new(vec![]);
        let ask = async |own: HashKv| {
            asked.borrow_mut().push(own.hash_revision);
            let told = told[asked.borrow().len() - 1];
            told.iter().map(|&(member, hash)| (MemberId(member), hash)).collect()
        };
        let accuse = |own: HashKv, known: &BTreeMap<_, _>| {
            let mut known = known.clone();
            known.insert(MemberId(1), u64::from(own.hash));
            accuse(&known, &VOTERS)
        };
        let accused = newest_difference(hashes.to_vec(), || 2, ask, accuse).await;
        (asked.into_inner(), accused.into_iter().map(|member| member.0).collect())
    }

    #[tokio::test]
    async fn hashes_of_compactions_are_asked_for_until_all_have_told_one() {
        assert_eq!(walked([&[(2, 7), (3, 7)], &[], &[]]).await, (vec![9], vec![]));
        assert_eq!(walked([&[(2, 7), (3, 8)], &[], &[]]).await, (vec![9], vec![3]));
        assert_eq!(walked([&[(2, 7)], &[(2, 7), (3, 7)], &[]]).await, (vec![9, 6], vec![]));
        assert_eq!(walked([&[], &[(2, 7)], &[(2, 7), (3, 8)]]).await, (vec![9, 6, 3], vec![3]));
        assert_eq!(walked([&[(2, 8)], &[(2, 7), (3, 7)], &[]]).await, (vec![9], vec![0]), "two of three tell");
        assert_eq!(walked([&[], &[], &[]]).await, (vec![9, 6, 3], vec![]));
    }

    #[tokio::test(start_paused = true)]
    async fn a_difference_that_passes_accuses_nobody() {
        let looks = std::cell::Cell::new(0);
        let look = |found: [&'static [u64]; 2]| {
            looks.set(0);
            let looks = &looks;
            async move || {
                let found = found[looks.replace(looks.get() + 1)];
                Ok(found.iter().map(|&member| MemberId(member)).collect())
            }
        };
        let found = async |looks| twice(look(looks)).await.map(|found| Vec::from_iter(found.iter().map(|id| id.0)));
        assert_eq!(found([&[], &[2]]).await.unwrap(), [0; 0], "there is no second look");
        assert_eq!(found([&[2], &[]]).await.unwrap(), [0; 0]);
        assert_eq!(found([&[2], &[3]]).await.unwrap(), [0; 0]);
        assert_eq!(found([&[2], &[2, 3]]).await.unwrap(), [2]);
        assert_eq!(found([&[0], &[2]]).await.unwrap(), [2], "one more member has told its hash");
        assert_eq!(found([&[2], &[0]]).await.unwrap(), [0]);
    }
}
