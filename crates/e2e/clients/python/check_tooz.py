"""Uses OpenStack's tooz with its driver for etcd's JSON gateway against the server at HOST PORT as its users do; exits with
an error if anything differs."""

import sys
import time

from tooz import coordination


def refused(error, call):
    try:
        call().get(timeout=10)
    except error:
        return
    raise AssertionError(f"no {error.__name__}")


def groups(first, second):
    refused(coordination.GroupNotCreated, lambda: first.join_group(b"workers"))
    first.create_group(b"workers").get(timeout=10)
    refused(coordination.GroupAlreadyExist, lambda: second.create_group(b"workers"))
    assert first.get_groups().get(timeout=10) == [b"workers"]

    came, went = [], []
    first.watch_join_group(b"workers", came.append)
    first.watch_leave_group(b"workers", went.append)
    first.run_watchers()
    first.join_group(b"workers", capabilities={"cores": 2}).get(timeout=10)
    second.join_group(b"workers").get(timeout=10)
    refused(coordination.MemberAlreadyExist, lambda: first.join_group(b"workers"))
    assert first.get_members(b"workers").get(timeout=10) == {b"first", b"second"}
    assert second.get_member_capabilities(b"workers", b"first").get(timeout=10) == {"cores": 2}
    first.update_capabilities(b"workers", {"cores": 4}).get(timeout=10)
    assert second.get_member_capabilities(b"workers", b"first").get(timeout=10) == {"cores": 4}
    first.run_watchers()
    assert sorted(event.member_id for event in came) == [b"first", b"second"], came

    refused(coordination.GroupNotEmpty, lambda: first.delete_group(b"workers"))
    second.leave_group(b"workers").get(timeout=10)
    refused(coordination.MemberNotJoined, lambda: second.leave_group(b"workers"))
    first.run_watchers()
    assert [event.member_id for event in went] == [b"second"], went
    first.leave_group(b"workers").get(timeout=10)
    first.delete_group(b"workers").get(timeout=10)
    refused(coordination.GroupNotCreated, lambda: first.get_members(b"workers"))


def locks(first, second):
    held, wanted = first.get_lock(b"lock"), second.get_lock(b"lock")
    assert held.acquire() and held.acquired
    assert wanted.acquire(blocking=False) is False
    assert held.heartbeat() is True
    assert wanted.release() is False
    assert held.release() is True
    assert wanted.acquire(blocking=5) is True
    assert held.break_() is True
    with first.get_lock(b"lock"):
        assert second.get_lock(b"lock").acquire(blocking=False) is False
    assert second.get_lock(b"lock").acquire(blocking=False) is True


def ends(first, url):
    """A member that ends without a word is gone when its lease has lapsed."""
    first.create_group(b"mortals").get(timeout=10)
    mortal = coordination.get_coordinator(url + "?membership_timeout=1", b"mortal")
    mortal.start()
    mortal.join_group(b"mortals").get(timeout=10)
    assert first.get_members(b"mortals").get(timeout=10) == {b"mortal"}
    assert mortal.heartbeat() == 1
    until = time.monotonic() + 20
    while first.get_members(b"mortals").get(timeout=10):
        assert time.monotonic() < until, "the member outlives its lease"
        time.sleep(0.1)


def main():
    host, port = sys.argv[1], int(sys.argv[2])
    url = f"etcd3+http://{host}:{port}"
    first, second = (coordination.get_coordinator(url, name) for name in (b"first", b"second"))
    first.start(start_heart=True)
    second.start(start_heart=True)
    groups(first, second)
    print("groups ok", flush=True)
    locks(first, second)
    print("locks ok", flush=True)
    ends(first, url)
    print("ends ok", flush=True)
    first.stop()
    second.stop()


if __name__ == "__main__":
    main()
