//! Uses the Rust crate `etcd-client` against the server at the address given, as its users do.

use std::env;
use std::error::Error;
use std::time::Duration;

use etcd_client::{
    Client, CompactionOptions, Compare, CompareOp, DeleteOptions, EventType, GetOptions, LockOptions, PutOptions,
    SortOrder, SortTarget, Txn, TxnOp, TxnOpResponse, WatchOptions,
};

type Outcome = Result<(), Box<dyn Error>>;

async fn keys(client: &mut Client) -> Outcome {
    client.put("k", "v1", None).await?;
    let previous = client.put("k", "v2", Some(PutOptions::new().with_prev_key())).await?;
    assert_eq!(previous.prev_key().ok_or("no previous pair")?.value(), b"v1");
    for key in ["p/a", "p/b", "p/c"] {
        client.put(key, key, None).await?;
    }
    let options = GetOptions::new().with_prefix().with_limit(2).with_sort(SortTarget::Key, SortOrder::Descend);
    let answer = client.get("p/", Some(options)).await?;
    let found: Vec<_> = answer.kvs().iter().map(|pair| pair.key_str()).collect::<Result<_, _>>()?;
    assert_eq!((found, answer.count(), answer.more()), (vec!["p/c", "p/b"], 3, true));
    let deleted = client.delete("p/", Some(DeleteOptions::new().with_prefix().with_prev_key())).await?;
    assert_eq!((deleted.deleted(), deleted.prev_kvs().len()), (3, 3));
    let error = client.put("", "", None).await.expect_err("an empty key is refused");
    assert!(error.to_string().contains("etcdserver: key is not provided"), "{error}");
    Ok(())
}

async fn transactions(client: &mut Client) -> Outcome {
    client.put("t", "1", None).await?;
    let txn = Txn::new()
        .when([Compare::value("t", CompareOp::Equal, "1"), Compare::version("t", CompareOp::Greater, 0)])
        .and_then([TxnOp::put("t", "2", None), TxnOp::txn(Txn::new().and_then([TxnOp::get("t", None)]))])
        .or_else([TxnOp::delete("t", None)]);
    let answer = client.txn(txn).await?;
    assert!(answer.succeeded());
    let responses = answer.op_responses();
    let TxnOpResponse::Txn(inner) = &responses[1] else { return Err("not a nested answer".into()) };
    let TxnOpResponse::Get(got) = &inner.op_responses()[0] else { return Err("not an answer to get".into()) };
    assert_eq!(got.kvs()[0].value(), b"2");
    Ok(())
}

async fn watches(client: &mut Client) -> Outcome {
    let mut stream = client.watch("w", Some(WatchOptions::new().with_prefix().with_prev_key())).await?;
    client.put("w1", "1", None).await?;
    client.put("w1", "2", None).await?;
    client.delete("w1", None).await?;
    let mut seen = Vec::new();
    while seen.len() < 3 {
        let response = stream.message().await?.ok_or("the stream ended")?;
        for event in response.events() {
            let previous = event.prev_kv().map(|pair| pair.value().to_vec());
            seen.push((event.event_type(), previous));
        }
    }
    let expected = [
        (EventType::Put, None),
        (EventType::Put, Some(b"1".to_vec())),
        (EventType::Delete, Some(b"2".to_vec())),
    ];
    assert_eq!(seen, expected);
    stream.request_progress().await?;
    let progress = stream.message().await?.ok_or("the stream ended")?;
    assert!(progress.events().is_empty() && !progress.canceled());
    stream.cancel(0).await?;
    assert!(stream.message().await?.ok_or("the stream ended")?.canceled());
    Ok(())
}

async fn leases(client: &mut Client) -> Outcome {
    let lease = client.lease_grant(100, None).await?.id();
    client.put("l", "1", Some(PutOptions::new().with_lease(lease))).await?;
    let (mut keeper, mut answers) = client.lease_keep_alive(lease).await?;
    keeper.keep_alive().await?;
    assert_eq!(answers.message().await?.ok_or("the stream ended")?.ttl(), 100);
    let left = client.lease_time_to_live(lease, None).await?;
    assert!(left.ttl() > 90 && left.granted_ttl() == 100);
    assert_eq!(client.leases().await?.leases().len(), 1);
    client.lease_revoke(lease).await?;
    assert_eq!(client.get("l", None).await?.count(), 0);
    Ok(())
}

async fn locks_and_elections(client: &mut Client) -> Outcome {
    let lease = client.lease_grant(100, None).await?.id();
    let held = client.lock("lock", Some(LockOptions::new().with_lease(lease))).await?;
    assert_eq!(held.key(), format!("lock/{lease:x}").as_bytes());
    client.unlock(held.key()).await?;
    let won = client.campaign("election", "me", lease).await?;
    assert!(won.leader().is_some());
    let leader = client.leader("election").await?;
    assert_eq!(leader.kv().ok_or("nobody leads")?.value(), b"me");
    client.lease_revoke(lease).await?;
    assert!(client.leader("election").await.is_err());
    Ok(())
}

async fn maintenance(client: &mut Client) -> Outcome {
    let status = client.status().await?;
    assert!(status.version().starts_with("3.") && status.db_size() > 0);
    assert_eq!(client.member_list().await?.members().len(), 1);
    assert_eq!(client.hash_kv(0).await?.hash(), client.hash_kv(0).await?.hash());
    let put = client.put("c", "1", None).await?;
    let revision = put.header().ok_or("no header")?.revision();
    client.compact(revision, Some(CompactionOptions::new().with_physical())).await?;
    client.defragment().await?;
    assert_eq!(client.get("c", None).await?.kvs()[0].value(), b"1");
    Ok(())
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Outcome {
    let address = env::args().nth(1).ok_or("usage: check HOST:PORT")?;
    let mut client = Client::connect([address], None).await?;
    let all = async {
        keys(&mut client).await?;
        transactions(&mut client).await?;
        watches(&mut client).await?;
        leases(&mut client).await?;
        locks_and_elections(&mut client).await?;
        maintenance(&mut client).await
    };
    tokio::time::timeout(Duration::from_secs(60), all).await?
}
