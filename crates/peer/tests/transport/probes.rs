//! Members ask each other how late it is.

use std::sync::Arc;
use std::time::Duration;

use env::{Clock, Monotonic, SystemClock};

use crate::ground::{Member, Setup, join, run};

const HOUR: Duration = Duration::from_secs(3600);

struct Ahead(SystemClock);

impl Clock for Ahead {
    fn now(&self) -> Monotonic {
        self.0.now()
    }

    fn wall(&self) -> Duration {
        self.0.wall() + HOUR
    }
}

fn eager() -> Setup {
    Setup { probe_interval: Duration::from_millis(5), ..Setup::default() }
}

#[test]
fn it_is_known_how_far_a_peer_is_and_how_far_off_its_clock() {
    run(async {
        let clock = Arc::new(Ahead(SystemClock::default()));
        let (a, b, c) = (
            Member::start_with(1, eager()),
            Member::start(2),
            Member::start_with(3, Setup { clock, ..Setup::default() }),
        );
        join(&[&a, &b, &c]);
        let figures = |peer: &Member| a.outbox.figures(peer.id).expect("it is a peer");
        while figures(&b).round_trip.is_none() || figures(&c).round_trip.is_none() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        let drift = |peer| figures(peer).clock_drift.expect("it was probed");
        let (near, far) = (drift(&b), drift(&c));
        // Half a round trip is all that can be known.
        assert!(near <= figures(&b).round_trip.expect("it was probed") + HOUR / 2, "{near:?}");
        assert!(far >= HOUR / 2 && far <= HOUR * 2, "{far:?}");
        assert_eq!(b.outbox.figures(a.id).expect("it is a peer").round_trip, None, "nobody was in a hurry there");

        // Who went and comes back is probed anew, over a new connection.
        let address = b.stop().await;
        let again = Member::start_with(2, Setup { address, ..eager() });
        join(&[&a, &again, &c]);
        while again.outbox.figures(a.id).expect("it is a peer").round_trip.is_none() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    });
}
