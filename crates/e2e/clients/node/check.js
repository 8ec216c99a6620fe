// Uses the npm package etcd3 against the server at HOST PORT as its users do; exits with an error if anything differs.
'use strict';

const assert = require('assert/strict');
const { once } = require('events');
const { Etcd3, EtcdLockFailedError, GRPCInvalidArgumentError, STMConflictError } = require('etcd3');

async function keys(client) {
  assert.equal(await client.get('missing'), null);
  await client.put('k').value('v1');
  assert.equal(await client.get('k').string(), 'v1');
  const previous = await client.put('k').value('v2').getPrevious();
  assert.equal(previous.value.toString(), 'v1');
  const { kvs: [pair] } = await client.get('k').exec();
  assert.equal(pair.version, '2');
  for (const name of ['p/a', 'p/b', 'p/c', 'q']) await client.put(name).value(name);
  assert.deepEqual(await client.getAll().prefix('p/').keys(), ['p/a', 'p/b', 'p/c']);
  assert.deepEqual(await client.getAll().prefix('p/').sort('Value', 'Descend').limit(2).strings(), {
    'p/c': 'p/c',
    'p/b': 'p/b',
  });
  assert.deepEqual(await client.getAll().inRange({ start: 'p/b', end: 'q' }).keys(), ['p/b', 'p/c']);
  assert.equal(await client.getAll().prefix('p/').count(), 3);
  assert.deepEqual(await client.getAll().prefix('p/').minModRevision(Number(pair.mod_revision) + 2).keys(), ['p/b', 'p/c']);
  assert.equal(await client.get('k').revision(Number(pair.mod_revision) - 1).string(), 'v1');
  const [gone] = await client.delete().key('q').getPrevious();
  assert.equal(gone.value.toString(), 'q');
  assert.equal((await client.delete().prefix('p/')).deleted, '3');
  await client.put('n').value(7);
  assert.equal(await client.get('n').number(), 7);
  const inner = client.namespace('inner/');
  await inner.put('k').value('v');
  assert.deepEqual(await inner.getAll().strings(), { k: 'v' });
  assert.equal(await client.get('inner/k').string(), 'v');
  await assert.rejects(async () => { await client.put('').value('').exec(); }, GRPCInvalidArgumentError);
}

async function transactions(client) {
  await client.put('t').value('1');
  const put = await client
    .if('t', 'Value', '==', '1')
    .and('t', 'Version', '>', 0)
    .then(client.put('t').value('2'), client.get('t'))
    .else(client.put('t').value('wrong'))
    .commit();
  assert.equal(put.succeeded, true);
  assert.equal(put.responses[1].response_range.kvs[0].value.toString(), '2');
  const deleted = await client.if('t', 'Create', '==', 0).else(client.delete().key('t')).commit();
  assert.equal(deleted.succeeded, false);
  assert.equal(await client.get('t'), null);
}

async function softwareTransactions(client) {
  await client.put('stm').value(1);
  const double = tx => tx.get('stm').number().then(value => tx.put('stm').value(value * 2));
  await client.stm().transact(double);
  assert.equal(await client.get('stm').number(), 2);
  // Whoever writes in between makes it start again, and in the end fail.
  let attempts = 0;
  const disturbed = async tx => {
    attempts += 1;
    await tx.get('stm');
    await client.put('stm').value(attempts);
    await tx.put('stm').value('wrong');
  };
  await assert.rejects(client.stm({ retries: 2 }).transact(disturbed), STMConflictError);
  assert.equal(attempts, 3);
  assert.equal(await client.get('stm').number(), 3);
}

// The next `count` events of `watcher`, as [type, value, previous value].
function events(watcher, count) {
  return new Promise((resolve, reject) => {
    const seen = [];
    watcher.on('error', reject);
    watcher.on('data', ({ events }) => {
      for (const { type, kv, prev_kv: previous } of events) {
        seen.push([type, kv.value.toString(), previous ? previous.value.toString() : null]);
      }
      if (seen.length >= count) resolve(seen);
    });
  });
}

async function watches(client) {
  const watcher = await client.watch().prefix('w/').withPreviousKV().create();
  const seen = events(watcher, 2);
  const { header } = await client.put('w/a').value('1');
  await client.put('elsewhere').value('1');
  await client.delete().key('w/a');
  assert.deepEqual(await seen, [['Put', '1', null], ['Delete', '', '1']]);
  await watcher.cancel();
  const puts = await client.watch().key('w/a').only('put').startRevision(header.revision).create();
  const old = await events(puts, 1);
  assert.deepEqual(old, [['Put', '1', null]]);
  await puts.cancel();
}

async function leases(client) {
  const lease = client.lease(100, { autoKeepAlive: false });
  await lease.put('l').value('1');
  const id = await lease.grant();
  assert.equal((await client.get('l').exec()).kvs[0].lease, id);
  assert.equal((await lease.keepaliveOnce()).TTL, '100');
  const left = await client.leaseClient.leaseTimeToLive({ ID: id, keys: true });
  assert.deepEqual(left.keys.map(String), ['l']);
  await lease.revoke();
  assert.equal(await client.get('l'), null);
  // One that its client keeps alive by itself.
  const kept = client.lease(1);
  await kept.put('kept').value('1');
  await once(kept, 'keepaliveSucceeded');
  await kept.revoke();
}

async function locks(client) {
  const inside = await client.lock('lock').ttl(20).do(async () => {
    await assert.rejects(client.lock('lock').acquire(), EtcdLockFailedError);
    return 'done';
  });
  assert.equal(inside, 'done');
  const lock = await client.lock('lock').acquire();
  await lock.release();
}

async function elections(client) {
  const election = client.election('election', 20);
  const observer = await election.observe();
  const first = election.campaign('first');
  await once(first, 'elected');
  assert.equal(await election.leader(), 'first');
  const second = election.campaign('second');
  const elected = once(second, 'elected');
  await second.getCampaignKey();
  await first.proclaim('still first');
  assert.equal(await election.leader(), 'still first');
  await first.resign();
  await elected;
  assert.equal(await election.leader(), 'second');
  while (observer.leader() !== 'second') await once(observer, 'change');
  await observer.cancel();
  await second.resign();
  assert.equal(await election.leader(), undefined);
}

async function maintenance(client) {
  const status = await client.maintenance.status();
  assert.match(status.version, /^3\./);
  const { members } = await client.cluster.memberList({});
  assert.deepEqual(members.map(member => member.name), ['m1']);
  const { header } = await client.put('c').value('1');
  await client.kv.compact({ revision: header.revision, physical: true });
  await client.maintenance.defragment();
  assert.equal(await client.get('c').string(), '1');
  await assert.rejects(client.kv.compact({ revision: header.revision }), /required revision has been compacted/);
}

async function main() {
  const [host, port] = process.argv.slice(2);
  const client = new Etcd3({ hosts: `${host}:${port}` });
  const checks = [keys, transactions, softwareTransactions, watches, leases, locks, elections, maintenance];
  for (const check of checks) {
    await check(client);
    console.log(check.name, 'ok');
  }
  client.close();
}

// Exits in any case, as a closed client may keep the program going for half a minute.
main().then(() => process.exit(0), error => {
  console.error(error);
  process.exit(1);
});
