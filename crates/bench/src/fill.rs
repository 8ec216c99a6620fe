//! Puts many keys quickly: transactions of a hundred puts, many at once.

use std::net::SocketAddr;

use anyhow::Context;
use api::etcdserverpb::TxnRequest;
use bytes::Bytes;
use testkit::grpc::Client;
use tokio::task::JoinSet;

use crate::workload::{TXN, encode, key, put_op};

const PUTS_PER_TXN: u64 = 100;
const CONNECTIONS: u64 = 8;
const STREAMS: u64 = 4;
const KEY_SIZE: usize = 20;

/// Puts keys number 0 to `keys`, each 20 bytes long, with values of `value_size` bytes.
///
/// # Errors
/// If the server cannot be reached or refuses.
pub(crate) async fn fill(endpoint: SocketAddr, keys: u64, value_size: usize) -> anyhow::Result<()> {
    let value = Bytes::from(vec![b'v'; value_size]);
    let tasks = CONNECTIONS * STREAMS;
    let mut streams = JoinSet::new();
    for connection in 0..CONNECTIONS {
        let client = Client::connect(endpoint).await.with_context(|| format!("connecting {endpoint}"))?;
        for stream in 0..STREAMS {
            let (client, value) = (client.clone(), value.clone());
            let first = connection * STREAMS + stream;
            streams.spawn_local(async move {
                for batch in (first..keys.div_ceil(PUTS_PER_TXN)).step_by(tasks as usize) {
                    let numbers = batch * PUTS_PER_TXN..((batch + 1) * PUTS_PER_TXN).min(keys);
                    // Spread over the key space as real insertions are, not in order.
                    let success =
                        numbers.map(|number| put_op(key(scatter(number, keys), KEY_SIZE), value.clone())).collect();
                    client.call(TXN, &[], encode(&TxnRequest { success, ..Default::default() })).await?;
                }
                Ok::<_, testkit::grpc::Status>(())
            });
        }
    }
    while let Some(stream) = streams.join_next().await {
        stream?.context("filling")?;
    }
    Ok(())
}

/// A permutation of `0..keys`, far from order.
fn scatter(number: u64, keys: u64) -> u64 {
    const PRIME: u64 = 2_654_435_761;
    if keys.is_multiple_of(PRIME) { number } else { (u128::from(number) * u128::from(PRIME) % u128::from(keys)) as u64 }
}
