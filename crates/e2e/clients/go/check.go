// Uses etcd's own Go client with its concurrency package against the server at the address given, as its users do.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"go.etcd.io/etcd/api/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/client/v3/clientv3util"
	"go.etcd.io/etcd/client/v3/concurrency"
	"go.etcd.io/etcd/client/v3/leasing"
	"go.etcd.io/etcd/client/v3/mirror"
	"go.etcd.io/etcd/client/v3/namespace"
	"go.etcd.io/etcd/client/v3/naming/endpoints"
	"go.etcd.io/etcd/client/v3/ordering"
	"go.uber.org/zap"
)

// Ends the program unless what was got is what was expected.
func equal[T comparable](what string, got, expected T) {
	if got != expected {
		panic(fmt.Sprintf("%s: %v in place of %v", what, got, expected))
	}
}

// Ends the program if there is an error.
func ok(err error) {
	if err != nil {
		panic(err)
	}
}

// What a call returned, which must not have failed.
func must[T any](value T, err error) T {
	ok(err)
	return value
}

func names(response *clientv3.GetResponse) string {
	var found []string
	for _, pair := range response.Kvs {
		found = append(found, string(pair.Key))
	}
	return strings.Join(found, " ")
}

func value(ctx context.Context, kv clientv3.KV, key string) string {
	response := must(kv.Get(ctx, key))
	if len(response.Kvs) == 0 {
		return "none"
	}
	return string(response.Kvs[0].Value)
}

func keys(ctx context.Context, client *clientv3.Client) {
	first := must(client.Put(ctx, "k", "v1")).Header.Revision
	put := must(client.Put(ctx, "k", "v2", clientv3.WithPrevKV()))
	equal("the previous value", string(put.PrevKv.Value), "v1")
	equal("the value", value(ctx, client, "k"), "v2")
	equal("the old value", string(must(client.Get(ctx, "k", clientv3.WithRev(first))).Kvs[0].Value), "v1")
	for _, key := range []string{"p/a", "p/b", "p/c", "q"} {
		must(client.Put(ctx, key, key))
	}
	equal("a prefix", names(must(client.Get(ctx, "p/", clientv3.WithPrefix()))), "p/a p/b p/c")
	equal("a range", names(must(client.Get(ctx, "p/b", clientv3.WithRange("q")))), "p/b p/c")
	equal("from a key on", names(must(client.Get(ctx, "p/c", clientv3.WithFromKey()))), "p/c q")
	newest := must(client.Get(ctx, "p/", clientv3.WithLastRev()...))
	equal("the newest", names(newest), "p/c")
	limited := must(client.Get(ctx, "p/", clientv3.WithPrefix(), clientv3.WithLimit(2), clientv3.WithKeysOnly(),
		clientv3.WithSort(clientv3.SortByKey, clientv3.SortDescend), clientv3.WithSerializable()))
	equal("the last two", names(limited), "p/c p/b")
	equal("of how many", limited.Count, 3)
	equal("there are more", limited.More, true)
	equal("how many", must(client.Get(ctx, "", clientv3.WithPrefix(), clientv3.WithCountOnly())).Count, 5)
	deleted := must(client.Delete(ctx, "p/", clientv3.WithPrefix(), clientv3.WithPrevKV()))
	equal("how many were deleted", deleted.Deleted, 3)
	equal("what was deleted", string(deleted.PrevKvs[2].Value), "p/c")
	_, err := client.Put(ctx, "", "")
	equal("the error for an empty key", err, error(rpctypes.ErrEmptyKey))
	_, err = client.Get(ctx, "k", clientv3.WithRev(1000000))
	equal("the error for a revision to come", err, error(rpctypes.ErrFutureRev))
	_, err = client.Put(ctx, "k", strings.Repeat("x", 1600000))
	equal("the error for a large request", err, error(rpctypes.ErrRequestTooLarge))
}

func transactions(ctx context.Context, client *clientv3.Client) {
	must(client.Put(ctx, "t", "1"))
	txn := must(client.Txn(ctx).
		If(clientv3.Compare(clientv3.Value("t"), "=", "1"), clientv3util.KeyExists("t")).
		Then(clientv3.OpPut("t", "2"), clientv3.OpTxn(nil, []clientv3.Op{clientv3.OpGet("t")}, nil)).
		Else(clientv3.OpPut("t", "wrong")).
		Commit())
	equal("succeeded", txn.Succeeded, true)
	inner := txn.Responses[1].GetResponseTxn()
	equal("the value inside", string(inner.Responses[0].GetResponseRange().Kvs[0].Value), "2")
	txn = must(client.Txn(ctx).If(clientv3util.KeyMissing("t")).Else(clientv3.OpDelete("t")).Commit())
	equal("succeeded", txn.Succeeded, false)
	equal("the value", value(ctx, client, "t"), "none")
	_, err := client.Txn(ctx).Then(clientv3.OpPut("twice", "1"), clientv3.OpPut("twice", "2")).Commit()
	equal("the error for a key put twice", err, error(rpctypes.ErrDuplicateKey))
}

// The next events of a watch, each as type, key, value and previous value.
func events(watch clientv3.WatchChan, count int) string {
	var seen []string
	for len(seen) < count {
		response, more := <-watch
		if !more {
			panic("the watch ended")
		}
		ok(response.Err())
		for _, event := range response.Events {
			text := fmt.Sprintf("%s %s=%s", event.Type, event.Kv.Key, event.Kv.Value)
			if event.PrevKv != nil {
				text += " was " + string(event.PrevKv.Value)
			}
			seen = append(seen, text)
		}
	}
	return strings.Join(seen, ", ")
}

func watches(ctx context.Context, client *clientv3.Client) {
	ctx, cancel := context.WithCancel(clientv3.WithRequireLeader(ctx))
	defer cancel()
	all := client.Watch(ctx, "w/", clientv3.WithPrefix(), clientv3.WithPrevKV(), clientv3.WithCreatedNotify())
	equal("created", (<-all).Created, true)
	deletes := client.Watch(ctx, "w/a", clientv3.WithFilterPut(), clientv3.WithCreatedNotify())
	equal("created", (<-deletes).Created, true)
	revision := must(client.Put(ctx, "w/a", "1")).Header.Revision
	must(client.Put(ctx, "elsewhere", "1"))
	must(client.Put(ctx, "w/a", "2"))
	must(client.Delete(ctx, "w/a"))
	equal("events", events(all, 3), "PUT w/a=1, PUT w/a=2 was 1, DELETE w/a= was 2")
	equal("deletes", events(deletes, 1), "DELETE w/a=")
	old := client.Watch(ctx, "w/a", clientv3.WithRev(revision), clientv3.WithFragment())
	equal("old events", events(old, 3), "PUT w/a=1, PUT w/a=2, DELETE w/a=")
	ok(client.RequestProgress(ctx))
	progress := <-all
	equal("progress", progress.IsProgressNotify(), true)
	cancel()
	for range all {
	}
}

func leases(ctx context.Context, client *clientv3.Client) {
	lease := must(client.Grant(ctx, 100)).ID
	must(client.Put(ctx, "l", "1", clientv3.WithLease(lease)))
	left := must(client.TimeToLive(ctx, lease, clientv3.WithAttachedKeys()))
	equal("the keys of a lease", string(left.Keys[0]), "l")
	equal("what was granted", left.GrantedTTL, 100)
	equal("kept alive once", must(client.KeepAliveOnce(ctx, lease)).TTL, 100)
	keeping, stop := context.WithCancel(ctx)
	alive := must(client.KeepAlive(keeping, lease))
	equal("kept alive", (<-alive).TTL, 100)
	stop()
	equal("how many leases", len(must(client.Leases(ctx)).Leases), 1)
	must(client.Put(ctx, "l", "2", clientv3.WithIgnoreLease()))
	must(client.Revoke(ctx, lease))
	equal("the key of a revoked lease", value(ctx, client, "l"), "none")
	_, err := client.KeepAliveOnce(ctx, lease)
	equal("the error for a lease that is gone", err, error(rpctypes.ErrLeaseNotFound))
	short := must(client.Grant(ctx, 1)).ID
	put := must(client.Put(ctx, "short", "1", clientv3.WithLease(short)))
	lapsed := client.Watch(ctx, "short", clientv3.WithRev(put.Header.Revision+1))
	equal("after a lease lapsed", events(lapsed, 1), "DELETE short=")
}

func sessions(ctx context.Context, client *clientv3.Client) {
	one := must(concurrency.NewSession(client, concurrency.WithTTL(20)))
	other := must(concurrency.NewSession(client, concurrency.WithTTL(20)))
	mutex := concurrency.NewMutex(one, "mutex")
	waiting := concurrency.NewMutex(other, "mutex")
	ok(mutex.Lock(ctx))
	equal("the key of a lock", mutex.Key(), fmt.Sprintf("mutex/%x", one.Lease()))
	equal("the error for a lock that is held", waiting.TryLock(ctx), concurrency.ErrLocked)
	txn := must(client.Txn(ctx).If(mutex.IsOwner()).Then(clientv3.OpPut("guarded", "1")).Commit())
	equal("is the owner", txn.Succeeded, true)
	locked := make(chan error)
	go func() { locked <- waiting.Lock(ctx) }()
	select {
	case <-locked:
		panic("locked twice")
	case <-time.After(100 * time.Millisecond):
	}
	// Whoever holds the lock goes, and with it the lease.
	ok(one.Close())
	<-one.Done()
	ok(<-locked)
	ok(waiting.Unlock(ctx))
	ok(other.Close())

	// Many at once.
	session := must(concurrency.NewSession(client))
	counter := 0
	var all sync.WaitGroup
	for range 5 {
		all.Add(1)
		go func() {
			defer all.Done()
			own := must(concurrency.NewSession(client, concurrency.WithTTL(20)))
			locker := concurrency.NewLocker(own, "locker")
			locker.Lock()
			seen := counter
			time.Sleep(time.Millisecond)
			counter = seen + 1
			locker.Unlock()
			ok(own.Close())
		}()
	}
	all.Wait()
	equal("counted under a lock", counter, 5)
	ok(session.Close())
}

func elections(ctx context.Context, client *clientv3.Client) {
	one := must(concurrency.NewSession(client, concurrency.WithTTL(20)))
	other := must(concurrency.NewSession(client, concurrency.WithTTL(20)))
	first, second := concurrency.NewElection(one, "election"), concurrency.NewElection(other, "election")
	_, err := first.Leader(ctx)
	equal("the error for no leader", err, concurrency.ErrElectionNoLeader)
	watching, stop := context.WithCancel(ctx)
	observed := second.Observe(watching)
	ok(first.Campaign(ctx, "first"))
	equal("the leader", string(must(second.Leader(ctx)).Kvs[0].Value), "first")
	campaign := make(chan error)
	go func() { campaign <- second.Campaign(ctx, "second") }()
	equal("observed", string((<-observed).Kvs[0].Value), "first")
	ok(first.Proclaim(ctx, "still first"))
	equal("observed", string((<-observed).Kvs[0].Value), "still first")
	resumed := concurrency.ResumeElection(one, "election", first.Key(), first.Rev())
	ok(resumed.Resign(ctx))
	ok(<-campaign)
	equal("observed", string((<-observed).Kvs[0].Value), "second")
	stop()
	ok(second.Resign(ctx))
	ok(one.Close())
	ok(other.Close())
}

// Software transactions that move money between accounts keep the sum.
func softwareTransactions(ctx context.Context, client *clientv3.Client) {
	const accounts, transfers = 4, 20
	for account := range accounts {
		must(client.Put(ctx, fmt.Sprint("account/", account), "100"))
	}
	var all sync.WaitGroup
	for teller := range accounts {
		all.Add(1)
		go func() {
			defer all.Done()
			for transfer := range transfers {
				from := fmt.Sprint("account/", teller)
				to := fmt.Sprint("account/", (teller+1+transfer%(accounts-1))%accounts)
				move := func(stm concurrency.STM) error {
					stm.Put(from, strconv.Itoa(must(strconv.Atoi(stm.Get(from)))-1))
					stm.Put(to, strconv.Itoa(must(strconv.Atoi(stm.Get(to)))+1))
					return nil
				}
				must(concurrency.NewSTM(client, move, concurrency.WithAbortContext(ctx), concurrency.WithPrefetch(from, to)))
			}
		}()
	}
	all.Wait()
	sum := 0
	for _, pair := range must(client.Get(ctx, "account/", clientv3.WithPrefix())).Kvs {
		sum += must(strconv.Atoi(string(pair.Value)))
	}
	equal("the sum of all accounts", sum, 100*accounts)
	refused := errors.New("refused")
	_, err := concurrency.NewSTM(client, func(concurrency.STM) error { return refused })
	equal("the error of a transaction", err, refused)
}

func wrappers(ctx context.Context, client *clientv3.Client) {
	inner := namespace.NewKV(client, "inner/")
	must(inner.Put(ctx, "k", "v"))
	equal("in a name space", value(ctx, inner, "k"), "v")
	equal("from outside", value(ctx, client, "inner/k"), "v")

	violated := func(clientv3.Op, clientv3.OpResponse, int64) error { return errors.New("went back in time") }
	ordered := ordering.NewKV(client, violated)
	equal("in order", value(ctx, ordered, "inner/k"), "v")

	owned, end, err := leasing.NewKV(client, "leasing/")
	ok(err)
	must(owned.Put(ctx, "cached", "1"))
	equal("leased", value(ctx, owned, "cached"), "1")
	must(owned.Put(ctx, "cached", "2"))
	equal("leased", value(ctx, owned, "cached"), "2")
	equal("the value", value(ctx, client, "cached"), "2")
	end()

	syncer := mirror.NewSyncer(client, "inner/", 0)
	base, failures := syncer.SyncBase(ctx)
	equal("mirrored", names((*clientv3.GetResponse)(ptr(<-base))), "inner/k")
	for range base {
	}
	ok(<-failures)
	mirroring, stop := context.WithCancel(ctx)
	updates := syncer.SyncUpdates(mirroring)
	must(inner.Put(ctx, "k", "v2"))
	equal("mirrored", events(updates, 1), "PUT inner/k=v2")
	stop()

	services := must(endpoints.NewManager(client, "service"))
	ok(services.AddEndpoint(ctx, "service/a", endpoints.Endpoint{Addr: "10.0.0.1:80"}))
	listed := must(services.List(ctx))
	equal("the address of a service", listed["service/a"].Addr, "10.0.0.1:80")
	ok(services.DeleteEndpoint(ctx, "service/a"))
}

func ptr[T any](value T) *T { return &value }

func maintenance(ctx context.Context, client *clientv3.Client) {
	ok(client.Sync(ctx))
	members := must(client.MemberList(ctx)).Members
	equal("the name of the member", members[0].Name, "m1")
	equal("the addresses after synchronising", slices.Equal(client.Endpoints(), members[0].ClientURLs), true)
	endpoint := client.Endpoints()[0]
	status := must(client.Status(ctx, endpoint))
	equal("the leader", status.Leader, members[0].ID)
	equal("alarms", len(must(client.AlarmList(ctx)).Alarms), 0)
	hash := must(client.HashKV(ctx, endpoint, 0))
	equal("the same hash again", must(client.HashKV(ctx, endpoint, hash.Header.Revision)).Hash, hash.Hash)
	revision := must(client.Put(ctx, "c", "1")).Header.Revision
	must(client.Compact(ctx, revision, clientv3.WithCompactPhysical()))
	must(client.Defragment(ctx, endpoint))
	equal("the value", value(ctx, client, "c"), "1")
	_, err := client.Compact(ctx, revision)
	equal("the error for a second compaction", err, error(rpctypes.ErrCompacted))
	watch := <-client.Watch(ctx, "c", clientv3.WithRev(1))
	equal("the error of a watch of the past", watch.Err(), error(rpctypes.ErrCompacted))
	equal("from where on there is history", watch.CompactRevision, revision)
}

func main() {
	ctx, cancel := context.WithTimeout(context.Background(), 40*time.Second)
	defer cancel()
	client := must(clientv3.New(clientv3.Config{
		Endpoints:            []string{os.Args[1]},
		DialTimeout:          5 * time.Second,
		DialKeepAliveTime:    10 * time.Second,
		DialKeepAliveTimeout: 5 * time.Second,
		Logger:               zap.NewNop(),
	}))
	keys(ctx, client)
	transactions(ctx, client)
	watches(ctx, client)
	leases(ctx, client)
	sessions(ctx, client)
	elections(ctx, client)
	softwareTransactions(ctx, client)
	wrappers(ctx, client)
	maintenance(ctx, client)
	ok(client.Close())
}
