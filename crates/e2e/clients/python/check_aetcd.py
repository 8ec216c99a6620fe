"""Uses the Python package aetcd against the server at HOST PORT as its users do; exits with an error if anything differs."""

import asyncio
import sys

import aetcd


async def keys(client):
    assert await client.get(b"missing") is None
    await client.put(b"k", b"v1")
    got = await client.get(b"k")
    assert (got.key, got.value, got.version) == (b"k", b"v1", 1), got
    put = await client.put(b"k", b"v2", prev_kv=True)
    assert put.prev_kv.value == b"v1" and put.header.revision == got.mod_revision + 1, put
    for name in (b"p/a", b"p/b", b"p/c", b"q"):
        await client.put(name, name)
    found = await client.get_prefix(b"p/")
    assert [kv.key for kv in found] == [b"p/a", b"p/b", b"p/c"] and found.count == 3 and not found.more, found
    descending = await client.get_prefix(b"p/", sort_order="descend", sort_target="value")
    assert [kv.value for kv in descending] == [b"p/c", b"p/b", b"p/a"]
    bare = await client.get_prefix(b"p/", keys_only=True)
    assert [(kv.key, kv.value) for kv in bare] == [(b"p/a", b""), (b"p/b", b""), (b"p/c", b"")]
    assert [kv.key for kv in await client.get_range(b"p/b", b"q")] == [b"p/b", b"p/c"]
    assert len(await client.get_all()) == 5
    deleted = await client.delete(b"q", prev_kv=True)
    assert deleted.prev_kv.value == b"q", deleted
    assert await client.delete(b"q") is None
    assert (await client.delete_prefix(b"p/")).deleted == 3
    assert await client.replace(b"k", b"v2", b"v3") is True
    assert await client.replace(b"k", b"v2", b"v4") is False
    assert (await client.get(b"k", serializable=True)).value == b"v3"
    try:
        await client.put(b"", b"")
    except aetcd.InvalidArgumentError as error:
        assert str(error) == "etcdserver: key is not provided", error
    else:
        raise AssertionError("an empty key was put")


async def transactions(client):
    operations = client.transactions
    await client.put(b"t", b"1")
    succeeded, responses = await client.transaction(
        compare=[operations.value(b"t") == b"1", operations.version(b"t") > 0],
        success=[
            operations.put(b"t", b"2"),
            operations.txn(compare=[], success=[operations.get(b"t")], failure=[]),
        ],
        failure=[operations.put(b"t", b"wrong")],
    )
    assert succeeded and len(responses) == 2, responses
    assert (await client.get(b"t")).value == b"2"
    succeeded, responses = await client.transaction(
        compare=[operations.create(b"t") == 0],
        success=[],
        failure=[operations.delete(b"t")],
    )
    assert not succeeded and len(responses) == 1, responses
    assert await client.get(b"t") is None


async def watches(client):
    watch = await client.watch_prefix(b"w/", prev_kv=True)
    only_deleted = await client.watch(b"w/a", kind=aetcd.EventKind.DELETE)
    await client.put(b"w/a", b"1")
    await client.put(b"elsewhere", b"1")
    await client.delete(b"w/a")
    events = aiter(watch)
    first, second = await anext(events), await anext(events)
    assert (first.kind, first.kv.value) == (aetcd.EventKind.PUT, b"1"), first
    assert (second.kind, second.kv.key, second.prev_kv.value) == (aetcd.EventKind.DELETE, b"w/a", b"1"), second
    event = await anext(aiter(only_deleted))
    assert event.kind == aetcd.EventKind.DELETE and event.kv.mod_revision == second.kv.mod_revision, event
    await watch.cancel()
    await only_deleted.cancel()
    revision = (await client.put(b"h", b"1")).header.revision
    await client.put(b"h", b"2")
    history = await client.watch(b"h", start_revision=revision)
    events = aiter(history)
    assert [(await anext(events)).kv.value for _ in range(2)] == [b"1", b"2"]
    await history.cancel()
    try:
        await client.watch_once(b"quiet", timeout=0.1)
    except aetcd.WatchTimeoutError:
        pass
    else:
        raise AssertionError("an event of a key that nobody touched")


async def leases(client):
    lease = await client.lease(100)
    await client.put(b"l", b"1", lease=lease)
    assert (await client.get(b"l")).lease == lease.id
    assert 0 < await lease.remaining_ttl() <= 100 and await lease.granted_ttl() == 100
    assert list(await lease.keys()) == [b"l"]
    assert (await lease.refresh()).TTL == 100
    try:
        await client.lease(100, lease_id=lease.id)
    except aetcd.DuplicateLeaseError:
        pass
    else:
        raise AssertionError("granted twice")
    await lease.revoke()
    assert await client.get(b"l") is None


async def locks(client):
    async with client.lock(b"lock", ttl=20) as lock:
        assert await lock.is_acquired()
        await lock.refresh()
        other = client.lock(b"lock", ttl=20)
        waiting = asyncio.create_task(other.acquire(timeout=10))
        await asyncio.sleep(0.1)
        assert not waiting.done()
    assert await waiting is True and await other.is_acquired()
    assert await other.release() is True


async def maintenance(client):
    status = await client.status()
    assert status.version.startswith("3.") and status.db_size > 0 and status.leader.name == "m1"
    assert [member.name async for member in client.members()] == ["m1"]
    assert [alarm async for alarm in client.list_alarms()] == []
    assert await client.hash()
    revision = (await client.put(b"c", b"1")).header.revision
    await client.compact(revision, physical=True)
    await client.defragment()
    assert (await client.get(b"c")).value == b"1"
    old = await client.watch(b"c", start_revision=1)
    try:
        await anext(aiter(old))
    except aetcd.RevisionCompactedError as error:
        assert error.compacted_revision == revision, error
    else:
        raise AssertionError("an event of before the compaction")


async def main():
    host, port = sys.argv[1], int(sys.argv[2])
    async with aetcd.Client(host=host, port=port, timeout=20) as client:
        for check in (keys, transactions, watches, leases, locks, maintenance):
            await check(client)
            print(check.__name__, "ok", flush=True)


if __name__ == "__main__":
    asyncio.run(main())
