"""Uses the Python package etcd3 against the server at HOST PORT as its users do; exits with an error if anything differs."""

import sys
import threading

import etcd3


def keys(client):
    assert client.get("missing") == (None, None)
    client.put("k", "v1")
    value, meta = client.get("k")
    assert value == b"v1" and meta.key == b"k" and meta.version == 1, (value, meta.version)
    client.put("k", "v2", prev_kv=True)
    assert client.get("k")[1].version == 2
    for name in ("p/a", "p/b", "p/c", "q"):
        client.put(name, name)
    assert [meta.key for _, meta in client.get_prefix("p/")] == [b"p/a", b"p/b", b"p/c"]
    descending = client.get_prefix("p/", sort_order="descend", sort_target="key")
    assert [value for value, _ in descending] == [b"p/c", b"p/b", b"p/a"]
    assert len(list(client.get_range("p/b", "q"))) == 2
    assert client.delete("q") is True
    assert client.delete("q") is False
    assert client.delete_prefix("p/").deleted == 3
    assert client.put_if_not_exists("once", "1") is True
    assert client.put_if_not_exists("once", "2") is False
    assert client.replace("once", "1", "3") is True
    assert client.replace("once", "1", "4") is False
    assert client.get("once")[0] == b"3"


def transactions(client):
    client.put("t", "1")
    succeeded, responses = client.transaction(
        compare=[client.transactions.value("t") == "1", client.transactions.version("t") > 0],
        success=[client.transactions.put("t", "2"), client.transactions.get("t")],
        failure=[client.transactions.put("t", "wrong")],
    )
    assert succeeded and responses[1][0][0] == b"2", responses
    succeeded, responses = client.transaction(
        compare=[client.transactions.create("t") == "0"],
        success=[],
        failure=[client.transactions.delete("t")],
    )
    assert not succeeded and len(responses) == 1
    assert client.get("t") == (None, None)


def watches(client):
    events, cancel = client.watch_prefix("w/")
    client.put("w/a", "1")
    client.put("elsewhere", "1")
    client.delete("w/a")
    first, second = next(events), next(events)
    assert isinstance(first, etcd3.events.PutEvent) and first.value == b"1", first
    assert isinstance(second, etcd3.events.DeleteEvent) and second.key == b"w/a", second
    cancel()
    seen, done = [], threading.Event()

    def collect(response):
        seen.extend(response.events)
        done.set()

    watch_id = client.add_watch_callback("cb", collect)
    client.put("cb", "x")
    assert done.wait(10) and seen[0].value == b"x"
    client.cancel_watch(watch_id)
    client.put("h", "1")
    revision = client.get("h")[1].mod_revision
    client.put("h", "2")
    events, cancel = client.watch("h", start_revision=revision)
    assert [next(events).value, next(events).value] == [b"1", b"2"]
    cancel()


def leases(client):
    lease = client.lease(100)
    client.put("l", "1", lease=lease)
    assert client.get("l")[1].lease_id == lease.id
    assert 0 < lease.remaining_ttl <= 100 and lease.granted_ttl == 100
    assert lease.keys == [b"l"]
    assert [answer.TTL for answer in lease.refresh()] == [100]
    lease.revoke()
    assert client.get("l") == (None, None)


def locks(client):
    with client.lock("lock", ttl=20) as lock:
        assert lock.is_acquired()
        other = client.lock("lock", ttl=20)
        assert other.acquire(timeout=0.2) is False
    assert other.acquire(timeout=10) is True
    other.release()


def maintenance(client):
    status = client.status()
    assert status.version and status.db_size > 0 and status.leader is not None
    members = list(client.members)
    assert len(members) == 1 and members[0].name == "m1"
    assert list(client.list_alarms()) == []
    assert client.hash()
    client.put("c", "1")
    revision = client.get("c")[1].mod_revision
    client.compact(revision, physical=True)
    client.defragment()
    assert client.get("c")[0] == b"1"
    try:
        client.compact(revision)
    except Exception as error:
        assert "compacted" in str(error), error
    else:
        raise AssertionError("compacted twice")


def main():
    host, port = sys.argv[1], int(sys.argv[2])
    with etcd3.client(host=host, port=port, timeout=20) as client:
        for check in (keys, transactions, watches, leases, locks, maintenance):
            check(client)
            print(check.__name__, "ok", flush=True)


if __name__ == "__main__":
    main()
