// What the Node driver's own events say while a test does things to the servers; see "Servers and topologies" in ../workload.md.
'use strict';

const readline = require('node:readline');
const { MongoClient } = require('mongodb');
const { canonical, record, write } = require('./events.js');

const present = (values) => Object.fromEntries(Object.entries(values).filter(([, value]) => value != null));
const hex = (id) => id && id.toString('hex');

const server = (it) =>
  present({
    address: it.address,
    type: it.type,
    setName: it.setName,
    setVersion: it.setVersion,
    electionId: hex(it.electionId),
    me: it.me,
    hosts: it.hosts,
    passives: it.passives,
    arbiters: it.arbiters,
    primary: it.primary,
    tags: it.tags,
    minWireVersion: it.minWireVersion,
    maxWireVersion: it.maxWireVersion,
    logicalSessionTimeoutMinutes: it.logicalSessionTimeoutMinutes,
    topologyVersion: it.topologyVersion && canonical(it.topologyVersion),
    error: it.error && String(it.error.message),
  });

const topology = (it) =>
  present({
    type: it.type,
    setName: it.setName,
    maxSetVersion: it.maxSetVersion,
    maxElectionId: hex(it.maxElectionId),
    logicalSessionTimeoutMinutes: it.logicalSessionTimeoutMinutes,
    servers: Array.from(it.servers.values(), server),
  });

// The driver numbers its topologies.
const id = (event) => String(event.topologyId);
const changed = (event, describe) => ({
  previousDescription: describe(event.previousDescription),
  newDescription: describe(event.newDescription),
});
const heartbeat = (event) => ({
  connectionId: event.connectionId,
  awaited: event.awaited,
  durationMicros: event.duration == null ? undefined : Math.round(event.duration * 1000),
});

const kinds = {
  serverOpening: (event) => ({ topologyId: id(event), address: event.address }),
  serverDescriptionChanged: (event) => ({ topologyId: id(event), address: event.address, ...changed(event, server) }),
  serverClosed: (event) => ({ topologyId: id(event), address: event.address }),
  topologyOpening: (event) => ({ topologyId: id(event) }),
  topologyDescriptionChanged: (event) => ({ topologyId: id(event), ...changed(event, topology) }),
  topologyClosed: (event) => ({ topologyId: id(event) }),
  serverHeartbeatStarted: heartbeat,
  serverHeartbeatSucceeded: (event) => ({ ...heartbeat(event), reply: canonical(event.reply) }),
  serverHeartbeatFailed: (event) => ({ ...heartbeat(event), failure: String(event.failure.message) }),
};

async function main() {
  const client = new MongoClient(process.env.MONGODB_URI, { appName: 'mongotap-test-node', monitorCommands: true });
  const file = record(client, process.env.MONGOTAP_TEST_EVENTS);
  for (const [name, fields] of Object.entries(kinds)) {
    client.on(name, (event) => write(file, { event: `${name}Event`, ...fields(event) }));
  }
  const steps = {
    ping: () => client.db('admin').command({ ping: 1 }),
    insert: () => client.db(process.env.MONGOTAP_TEST_DB).collection('topology').insertOne({}),
  };
  for await (const line of readline.createInterface({ input: process.stdin })) {
    try {
      await steps[line.trim()]();
      console.log('ok');
    } catch (error) {
      console.log(`failed ${error.message}`);
    }
  }
  await client.close();
  // What monitors say at their end is said by then.
  await new Promise((resolve) => setTimeout(resolve, 500));
  console.log('closed');
}

main();
