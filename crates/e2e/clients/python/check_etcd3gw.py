"""Uses the Python package etcd3gw (JSON over HTTP) against the server at HOST PORT as its users do; exits with an error if
anything differs."""

import sys
import time

import etcd3gw
from etcd3gw import exceptions


def keys(client):
    assert client.get("missing") == []
    assert client.put("k", "v1") is True
    [(value, kv)] = client.get("k", metadata=True)
    # 64-bit numbers are text in JSON.
    assert (value, kv["key"], kv["version"]) == (b"v1", b"k", "1"), (value, kv)
    client.put("k", b"\x00\xff")
    assert client.get("k") == [b"\x00\xff"]
    assert client.get("k", revision=int(kv["mod_revision"])) == [b"v1"]
    for name in ("p/a", "p/b", "p/c", "q"):
        client.put(name, name)
    assert [kv["key"] for _, kv in client.get_prefix("p/")] == [b"p/a", b"p/b", b"p/c"]
    descending = client.get_prefix("p/", sort_order="descend", sort_target="value")
    assert [value for value, _ in descending] == [b"p/c", b"p/b", b"p/a"]
    assert client.get("p/b", range_end="q", limit=1, serializable=True) == [b"p/b"]
    assert client.get("p/", range_end="p0", keys_only=True) == [b"", b"", b""]
    assert len(client.get_all()) == 5
    assert client.delete("q") is True
    assert client.delete("q") is False
    assert client.delete_prefix("p/") is True
    client.put("empty", "")
    assert client.get("empty") == [b""]
    assert client.create("once", "1") is True
    assert client.create("once", "2") is False
    assert client.replace("once", "1", "3") is True
    assert client.replace("once", "1", "4") is False
    assert client.get("once") == [b"3"]
    try:
        client.put("", "")
    except exceptions.Etcd3Exception as error:
        assert "etcdserver: key is not provided" in error.detail_text, error
    else:
        raise AssertionError("an empty key was put")


def transactions(client):
    encoded = etcd3gw.utils._encode
    client.put("t", "1")
    answer = client.transaction({
        "compare": [
            {"key": encoded("t"), "result": "EQUAL", "target": "VALUE", "value": encoded("1")},
            {"key": encoded("t"), "result": "GREATER", "target": "VERSION", "version": 0},
        ],
        "success": [
            {"request_put": {"key": encoded("t"), "value": encoded("2")}},
            {"request_range": {"key": encoded("t")}},
        ],
        "failure": [{"request_delete_range": {"key": encoded("t")}}],
    })
    assert answer["succeeded"] is True
    assert answer["responses"][1]["response_range"]["kvs"][0]["value"] == encoded("2"), answer


def watches(client):
    events, cancel = client.watch_prefix("w/", prev_kv=True)
    # The call returns with the first bytes of the answer, which do not come before the watch is there.
    client.put("w/a", "1")
    client.put("elsewhere", "1")
    client.delete("w/a")
    first, second = next(events), next(events)
    assert (first["kv"]["key"], first["kv"]["value"]) == (b"w/a", b"1") and "type" not in first, first
    assert second["type"] == "DELETE" and second["prev_kv"]["value"] == etcd3gw.utils._encode("1"), second
    cancel()
    start = int(first["kv"]["mod_revision"])
    event = client.watch_once("w/a", timeout=10, start_revision=start, filters=["NOPUT"])
    assert event["kv"]["mod_revision"] == second["kv"]["mod_revision"], event
    try:
        client.watch_once("quiet", timeout=0.1)
    except exceptions.WatchTimedOut:
        pass
    else:
        raise AssertionError("an event of a key that nobody touched")
    # Events that come long after the watch began, large ones too.
    events, cancel = client.watch("late")
    time.sleep(0.5)
    for size in (1, 10_000, 1_000_000):
        client.put("late", b"x" * size)
        assert next(events)["kv"]["value"] == b"x" * size
    cancel()


def leases(client):
    lease = client.lease(ttl=100)
    client.put("l", "1", lease=lease)
    [(_, kv)] = client.get("l", metadata=True)
    assert kv["lease"] == str(lease.id), kv
    assert 0 < lease.ttl() <= 100
    assert lease.keys() == [b"l"]
    assert lease.refresh() == 100
    assert lease.revoke() is True
    assert client.get("l") == []
    assert lease.ttl() == -1
    assert lease.refresh() == -1
    try:
        client.put("l", "1", lease=lease)
    except exceptions.Etcd3Exception as error:
        assert "etcdserver: requested lease not found" in error.detail_text, error
    else:
        raise AssertionError("put with a lease that is gone")


def locks(client):
    with client.lock("lock", ttl=20) as lock:
        assert lock.is_acquired()
        assert lock.refresh() == 20
        other = client.lock("lock", ttl=20)
        assert other.acquire() is False
    assert other.acquire() is True
    assert other.release() is True


def maintenance(client):
    status = client.status()
    assert status["version"].startswith("3.") and int(status["dbSize"]) > 0, status
    [member] = client.members()
    assert member["name"] == "m1" and member["ID"] == status["leader"] and len(member["clientURLs"]) == 1, member


def main():
    host, port = sys.argv[1], int(sys.argv[2])
    for path in (None, "/v3/", "/v3beta/"):
        client = etcd3gw.client(host=host, port=port, timeout=20, api_path=path)
        client.delete("\0", range_end="\0")
        checks = (keys, transactions, watches, leases, locks, maintenance)
        # Under the path it finds by itself all, under others one of each kind.
        for check in checks if path is None else (keys, watches):
            check(client)
            print(path or client.api_path, check.__name__, "ok", flush=True)
    assert etcd3gw.client(host=host, port=port).api_path == "/v3/"


if __name__ == "__main__":
    main()
