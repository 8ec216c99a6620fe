//! A member that joins, stopped before it has applied its own addition.

use std::path::Path;
use std::sync::Arc;

use env::{Disk, Monotonic, SimDisk, SystemRng};
use machine::Applied;
use server::{Bootstrap, Core, InitialState, Layout, Settings, StartError, boot};
use types::{ClusterId, MemberId};

const JOINING: MemberId = MemberId(99);

fn start(disk: &Arc<dyn Disk>, begin: &Bootstrap, initial_state: InitialState) -> Result<Core, StartError> {
    let layout = Layout::new(Path::new("/data"), None);
    layout.create_root(disk.as_ref()).expect("the root can be made");
    let settings = Settings { initial_state, ..Settings::new("/data".into()) };
    boot(disk, &layout, &settings, begin, Box::new(SystemRng::with_seed(1)))
}

#[test]
fn it_goes_on_where_it_was_stopped_if_it_is_said_to_join() {
    let disk: Arc<dyn Disk> = Arc::new(SimDisk::new());
    let join = Bootstrap::Join { cluster: ClusterId(0xc1), member: JOINING, remotes: vec![] };
    let mut core = start(&disk, &join, InitialState::Existing).expect("it waits for others");
    // What the cluster's founder had in its log from the start.
    let founder = Settings::new("/founder".into());
    let Some(Bootstrap::NewCluster { hard_state, entries, member: founder, .. }) =
        Bootstrap::founding(&founder.initial_cluster, &founder.name)
    else {
        panic!("the defaults found a cluster of one");
    };
    core.wal.append(&entries, Some(hard_state)).expect("there is room");
    core.wal.sync().expect("the disk works");
    core.machine.apply(&entries, Monotonic::default(), &mut Applied::default()).expect("they can be applied");
    core.backend.commit().expect("the disk works");
    let applied = core.backend.applied();
    drop(core);

    let again = start(&disk, &Bootstrap::Restart, InitialState::Existing).expect("it is still about to join");
    assert_eq!((again.identity.member_id, again.backend.applied()), (JOINING, applied));
    assert!(again.machine.shared().membership().member(founder).is_some());
    drop(again);

    // Otherwise the files of two members may have been mixed up.
    let error = start(&disk, &Bootstrap::Restart, InitialState::New).err().expect("it is refused");
    assert!(matches!(error, StartError::Mismatch { .. }), "{error}");
    assert!(error.to_string().contains("--initial-cluster-state=existing"), "{error}");
}
