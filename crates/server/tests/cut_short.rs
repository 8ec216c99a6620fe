//! A first start that got no further than to make an empty log.

use std::path::Path;
use std::sync::Arc;

use env::{Disk, SimDisk, SystemRng};
use server::{Bootstrap, Core, InitialState, Layout, Settings, StartError, boot};
use types::{ClusterId, Index, InitialCluster, MemberId};
use wal::{Wal, WalMeta, WalOptions};

const OPTIONS: WalOptions = WalOptions { segment_size_bytes: 64 << 10 };

fn initial(url: &str) -> InitialCluster {
    InitialCluster::new("t", [("default".to_owned(), url.to_owned())])
}

/// The start after the one that made the empty log of `meta`.
fn start_again(meta: WalMeta, url: &str, state: InitialState) -> Result<Core, StartError> {
    let disk: Arc<dyn Disk> = Arc::new(SimDisk::new());
    let layout = Layout::new(Path::new("/data"), None);
    layout.create_root(disk.as_ref()).expect("the root can be made");
    drop(Wal::create(disk.clone(), &layout.wal, meta, OPTIONS).expect("a new log"));
    let mut settings = Settings::new("/data".into());
    settings.wal_segment_size_bytes = OPTIONS.segment_size_bytes;
    settings.initial_cluster = initial(url);
    settings.initial_state = state;
    boot(&disk, &layout, &settings, &Bootstrap::Restart, Box::new(SystemRng::with_seed(1)))
}

fn founder(url: &str) -> WalMeta {
    match Bootstrap::founding(&initial(url), "default") {
        Some(Bootstrap::NewCluster { cluster, member, .. }) => WalMeta { cluster, member },
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_founder_founds_its_cluster_then() {
    let core = start_again(founder("http://a:1"), "http://a:1", InitialState::New).expect("it starts");
    assert_eq!(core.driver.last_index(), Index(1));
}

#[test]
fn a_founder_that_is_told_otherwise_says_so_instead_of_waiting() {
    let refused = start_again(founder("http://a:1"), "http://b:1", InitialState::New).err().expect("refused");
    let text = refused.to_string();
    assert!(text.starts_with("--data-dir /data: the first start was cut short"), "{text}");
}

#[test]
fn one_that_joins_waits_for_the_others() {
    let meta = WalMeta { cluster: ClusterId(7), member: MemberId(8) };
    let core = start_again(meta, "http://a:1", InitialState::Existing).expect("it starts");
    assert_eq!((core.identity.member_id, core.driver.last_index()), (MemberId(8), Index(0)));
}
