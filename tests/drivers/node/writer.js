// Steady writes with the Node driver; see "Writer" in ../workload.md.
'use strict';

const { setTimeout } = require('node:timers/promises');
const { MongoClient } = require('mongodb');

async function main() {
  let ended = false;
  process.stdin.on('end', () => (ended = true)).resume();
  const client = new MongoClient(process.env.MONGODB_URI, { appName: 'mongotap-test-node' });
  const collection = client.db(process.env.MONGOTAP_TEST_DB).collection('writes_node');
  for (let number = 0; !ended; number += 1) {
    const began = performance.now();
    const outcome = await collection.insertOne({ _id: number }).then(() => '', (error) => ` ${error.message}`);
    const micros = Math.round((performance.now() - began) * 1000);
    console.log(`${outcome ? 'failed' : 'ok'} ${number} ${micros}${outcome.replaceAll('\n', ' ')}`);
    await setTimeout(20);
  }
  await client.close();
}

main();
