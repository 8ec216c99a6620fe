//! The transport's thread: connections between members, and what a member does for its cluster.

use std::io;
use std::rc::Rc;
use std::sync::Arc;

use peer::Transport;
use tokio::task::LocalSet;

use crate::cluster_task;
use crate::member::Door;
use crate::peers::{PeerHost, PeerReceiver};
use crate::snapshots::{ArrivalSink, Arrivals, Departures};

pub(crate) struct PeerThread {
    pub(crate) door: Door,
    pub(crate) transport: Transport,
    pub(crate) listeners: Vec<std::net::TcpListener>,
    pub(crate) arrivals: Arc<Arrivals>,
    pub(crate) departures: Departures,
}

impl PeerThread {
    /// Returns when the member stops.
    pub(crate) fn run(self) {
        if let Err(error) = self.serve() {
            tracing::error!(%error, "the transport between members ended");
        }
    }

    fn serve(self) -> io::Result<()> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let served = LocalSet::new().block_on(&runtime, async {
            let handle = self.door.open();
            let host = Rc::new(PeerHost::new(handle.clone()));
            tokio::task::spawn_local(cluster_task::run(handle.clone()));
            let member = handle.inner();
            let (board, clock) = (member.board.clone(), member.clock.clone());
            let receiver = PeerReceiver {
                stepper: member.consensus.clone(),
                board: board.clone(),
                arrivals: self.arrivals.clone(),
            };
            let receiver = Arc::new(receiver);
            let sink = Arc::new(ArrivalSink { arrivals: self.arrivals, board, clock });
            let source = Arc::new(self.departures);
            let serve = async move {
                tokio::select! {
                    served = self.transport.serve(self.listeners, host, receiver, source, sink) => served.map(|never| match never {}),
                    () = handle.stopped() => Ok(()),
                }
            };
            // What the thread waits for by itself is looked at whenever any task wakes: a task of its own is not.
            match tokio::task::spawn_local(serve).await {
                Ok(served) => served,
                Err(error) => std::panic::resume_unwind(error.into_panic()),
            }
        });
        // Not waiting for name service, which may be asked for a member that is gone and take many seconds to say so.
        runtime.shutdown_background();
        served
    }
}
