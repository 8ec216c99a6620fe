//! Starting and stopping one member: what it refuses, what it says then, what it leaves on the disk.

use anyhow::Result;
use e2e::request::{get, put};
use e2e::{Ground, run_unlimited};
use testkit::grpc::Client;

#[test]
fn big() {
    run_unlimited(async {
        let ground = Ground::new()?;
        let (mut process, client) = ground.serve(&[], &["--max-request-bytes=104857600"]).await?;
        println!("{:?}", client.put(put("a", vec![1; 70 << 20])).await.map(|_| ()));
        println!("{:?}", client.range(get("a")).await.map(|a| a.kvs[0].value.len()));
        println!("{:?} {}", process.exited()?, process.output());
        Ok(())
    });
}
