//! What applied requests are counted as.

use api::etcdserverpb::internal_raft_request::Request;
use machine::{Counts, Operation};
use types::EntryKind;

use crate::harness::{Member, bytes, compact, delete, delete_request, encode, put, put_request, range, txn};

fn counted(member: &mut Member, request: Request) -> Counts {
    member.entry(EntryKind::Normal, encode(1, request)).counts
}

#[test]
fn operations_are_counted_by_their_outcome() {
    let mut member = Member::new();
    let of = |counts: &Counts, operation: Operation| counts.operations[operation as usize];
    assert_eq!(of(&counted(&mut member, put("a", "1")), Operation::Put), [0, 1]);
    assert_eq!(of(&counted(&mut member, put("", "1")), Operation::Put), [1, 0]);
    assert_eq!(of(&counted(&mut member, delete("a", "")), Operation::DeleteRange), [0, 1]);
    assert_eq!(of(&counted(&mut member, compact(2)), Operation::Compaction), [0, 1]);
    assert_eq!(of(&counted(&mut member, compact(1)), Operation::Compaction), [0, 1], "as etcd has it");
    assert_eq!(of(&counted(&mut member, compact(99)), Operation::Compaction), [1, 0]);
    let empty = member.entry(EntryKind::Normal, bytes("")).counts;
    assert_eq!(empty, Counts::default(), "the begin of a term is no request");
}

#[test]
fn work_is_counted_by_what_was_asked() {
    let mut member = Member::new();
    let work = |counts: Counts| (counts.work.puts, counts.work.deletes, counts.work.ranges, counts.txns);
    let put_size = counted(&mut member, put("key", "value")).work.put_bytes;
    assert_eq!(put_size, 8);
    assert_eq!(work(counted(&mut member, put("a", "1"))), (1, 0, 0, 0));
    let prev_kv = Request::Put(api::etcdserverpb::PutRequest { prev_kv: true, ..put_request("a", "2") });
    assert_eq!(work(counted(&mut member, prev_kv)), (1, 0, 1, 1), "it reads what was there");
    assert_eq!(work(counted(&mut member, delete("a", "z"))), (0, 1, 0, 0), "however many keys");
    let prev_kv = api::etcdserverpb::DeleteRangeRequest { prev_kv: true, ..delete_request("a", "") };
    assert_eq!(work(counted(&mut member, Request::DeleteRange(prev_kv))), (0, 1, 1, 1));
    let several = txn([], [put("a", "1"), Request::Range(range("a", "")), delete("a", "")], []);
    assert_eq!(work(counted(&mut member, several)), (1, 1, 1, 1));
    assert_eq!(work(counted(&mut member, put("", "1"))), (0, 0, 0, 0), "refused before anything is asked of the store");
}
