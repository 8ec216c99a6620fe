//! Seeds that failed once, each by the fault that was found (`LEDGER.md`).
//!
//! What a seed is made into changes with the simulator; so the mends themselves are held by tests of their crates, and
//! this is the cheapest of looks at whether a kind of run that failed fails again.

use sim::{Plan, World};

const ONCE_FAILED: [(u64, &str); 18] = [
    (10_614, "rot was met after a later fault of the same disk was mended"),
    (12_137, "what a failing disk had left of a snapshot kept the next one out"),
    (1_761_573_037_167, "a new leader said of a lease that it was gone, before it knew that the grant was committed"),
    (2_737_686_155_199, "who joined was cut short and started again as a founder"),
    (2_737_686_155_217, "of two voters one left before the other knew"),
    (2_737_686_155_347, "the only voter was removed"),
    (2_737_686_155_368, "who joined was cut short and started again as a founder"),
    (2_737_686_155_385, "of two voters one left, and the other forgot"),
    (760_958_151_200, "of two voters the leader left, with a log that was longer"),
    (760_958_151_121, "the log of one of two voters rotted"),
    (1_361_504_342_147, "a new leader renewed a lease whose end was in its log"),
    (7_000_002_289, "a leader whose data had rotted led on with a full disk, and leases did not end meanwhile"),
    (7_000_004_062, "who had led, and was frozen meanwhile, ended a lease that had been renewed at the new leader"),
    (8_810_028, "one of three voters rotted, and before that showed another was removed"),
    (253_864_508_169, "without PreVote, a candidate stayed behind the term of one who did not know it"),
    (475_809_448_262, "a lease ended just before the end, and not every member had heard of it"),
    (3_243_232_893_429, "a member that was called back met a disk error from before"),
    (3_372_343_357_131, "the name of a segment was undone after its sync had failed"),
];

#[test]
fn seeds_that_failed_once_pass() {
    for (seed, what) in ONCE_FAILED {
        let report = World::new(seed, Plan::of(seed), None).run(10 * 60_000_000);
        assert!(report.found.is_none(), "seed {seed}, where {what}: {:#?}", report.found);
    }
}
