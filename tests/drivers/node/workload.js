// The workload of ../workload.md with the Node driver, `mongodb`. It has no exhaust cursors.
'use strict';

const { MongoClient, GridFSBucket } = require('mongodb');
const { expect, failure, files, items, range, run, types, until } = require('./common.js');
const { record } = require('./events.js');

async function start(client, db) {
  expect('ping', (await client.db('admin').command({ ping: 1 })).ok, 1);
  await db.dropDatabase();
}

async function writes(client, db) {
  expect('insert one', (await db.collection('single').insertOne({ _id: 1, text: 'one' })).insertedId, 1);
  expect('insert many', (await db.collection('items').insertMany(items)).insertedCount, 250);

  const bulk = db.collection('bulk');
  const result = await bulk.bulkWrite([
    { insertOne: { document: { _id: 1, v: 1 } } },
    { insertOne: { document: { _id: 2, v: 2 } } },
    { insertOne: { document: { _id: 3, v: 3 } } },
    { updateOne: { filter: { _id: 1 }, update: { $set: { v: 10 } } } },
    { updateMany: { filter: { v: { $gte: 2 } }, update: { $inc: { v: 1 } } } },
    { replaceOne: { filter: { _id: 2 }, replacement: { v: 20 } } },
    { deleteOne: { filter: { _id: 3 } } },
    { updateOne: { filter: { _id: 4 }, update: { $set: { v: 40 } }, upsert: true } },
  ]);
  const counts = [result.insertedCount, result.matchedCount, result.deletedCount, result.upsertedCount];
  expect('ordered bulk', counts, [3, 5, 1, 1]);
  const error = await failure('unordered bulk', 11000, () => bulk.bulkWrite([
    { insertOne: { document: { _id: 5 } } },
    { insertOne: { document: { _id: 1 } } },
    { insertOne: { document: { _id: 6 } } },
    { deleteOne: { filter: { _id: 4 } } },
  ], { ordered: false }));
  const failed = error.writeErrors.map((each) => [each.index, each.code]);
  expect('unordered bulk counts', [failed, error.insertedCount, error.deletedCount], [[[1, 11000]], 2, 1]);
  expect('bulk count', await bulk.countDocuments({}), 4);

  const unacked = db.collection('unacked');
  const blind = { writeConcern: { w: 0 } };
  expect('w:0 insert', (await unacked.insertOne({ _id: 1, v: 1 }, blind)).acknowledged, false);
  await unacked.insertOne({ _id: 2, v: 2 });
  await until('w:0 insert read', 2, () => unacked.countDocuments({}));
  expect('w:0 update', (await unacked.updateOne({ _id: 2 }, { $set: { v: 20 } }, blind)).acknowledged, false);
  await db.command({ ping: 1 });
  await until('w:0 update read', { _id: 2, v: 20 }, () => unacked.findOne({ _id: 2 }));
  expect('w:0 delete', (await unacked.deleteOne({ _id: 1 }, blind)).acknowledged, false);
  await db.command({ ping: 1 });
  await until('w:0 delete read', 1, () => unacked.countDocuments({}));
}

async function reads(client, db) {
  const collection = db.collection('items');
  const all = await collection.find({}, { sort: { _id: 1 }, batchSize: 50 }).toArray();
  expect('find in batches', all.map((each) => each._id), range(250));
  const some = await collection.find({ group: 3 }, { sort: { n: -1 }, limit: 7, projection: { _id: 0, n: 1 } }).toArray();
  expect('find with limit', some.map((each) => each.n), range(7).map((i) => 248 - 5 * i));
  const cursor = collection.find({}, { batchSize: 2 });
  const three = [await cursor.next(), await cursor.next(), await cursor.next()];
  expect('find three', three.every(Boolean), true);
  await cursor.close();
  expect('count', await collection.countDocuments({ group: 1 }), 50);
  expect('estimated count', await collection.estimatedDocumentCount(), 250);
  expect('distinct', await collection.distinct('group'), range(5));
}

async function aggregates(client, db) {
  const collection = db.collection('items');
  const sums = [{ $group: { _id: '$group', sum: { $sum: '$n' } } }, { $sort: { _id: 1 } }];
  const wanted = range(5).map((group) => ({ _id: group, sum: 6125 + 50 * group }));
  expect('group', await collection.aggregate(sums).toArray(), wanted);
  const all = await collection.aggregate([{ $sort: { _id: 1 } }], { batchSize: 20 }).toArray();
  expect('aggregate in batches', all.length, 250);
  await db.collection('types').insertOne(types);
  const wrapped = { promoteValues: false, bsonRegExp: true };
  expect('types', await db.collection('types').findOne({ _id: 'types' }, wrapped), types);
}

async function changes(client, db) {
  const collection = db.collection('items');
  expect('update one', (await collection.updateOne({ _id: 1 }, { $set: { touched: true } })).modifiedCount, 1);
  expect('update many', (await collection.updateMany({ group: 2 }, { $inc: { n: 1000 } })).modifiedCount, 50);
  const upserted = await collection.replaceOne({ _id: 'up' }, { name: 'upserted' }, { upsert: true });
  expect('upsert', upserted.upsertedId, 'up');
  expect('delete one', (await collection.deleteOne({ _id: 'up' })).deletedCount, 1);
  expect('delete many', (await collection.deleteMany({ group: 4 })).deletedCount, 50);
  const after = await collection.findOneAndUpdate({ _id: 5 }, { $set: { name: 'after' } }, { returnDocument: 'after' });
  expect('find and update', after.name, 'after');
  expect('find and replace', (await collection.findOneAndReplace({ _id: 6 }, { name: 'replaced' })).name, 'item-6');
  expect('find and delete', (await collection.findOneAndDelete({ _id: 7 })).name, 'item-7');
}

async function schema(client, db) {
  expect('create index', await db.collection('items').createIndex({ n: 1 }), 'n_1');
  expect('create unique index', await db.collection('keyed').createIndex({ key: 1 }, { unique: true }), 'key_1');
  const indexes = await db.collection('keyed').listIndexes().toArray();
  expect('list indexes', indexes.map((index) => index.name).sort(), ['_id_', 'key_1']);
  await db.collection('items').dropIndex('n_1');
  expect('drop index', (await db.collection('items').listIndexes().toArray()).length, 1);
  const has = async () => (await db.listCollections().toArray()).some((each) => each.name === 'created');
  await db.createCollection('created');
  expect('create collection', await has(), true);
  await db.dropCollection('created');
  expect('drop collection', await has(), false);
  const { databases } = await client.db('admin').admin().listDatabases();
  expect('list databases', databases.some((each) => each.name === db.databaseName), true);
}

async function failures(client, db) {
  await failure('unknown command', 59, () => db.command({ mongotapNoSuchCommand: 1 }));
  await failure('bad operator', 2, () => db.collection('items').findOne({ n: { $noSuchOperator: 1 } }));
  await failure('duplicate key', 11000, () => db.collection('single').insertOne({ _id: 1 }));
  await failure('bad modifier', 9, () => db.collection('single').updateOne({ _id: 1 }, { $noSuchModifier: { n: 1 } }));
}

async function sizeAndConcurrency(client, db) {
  const text = 'x'.repeat(1_048_576);
  await db.collection('large').insertOne({ _id: 1, text });
  expect('large document', (await db.collection('large').findOne({ _id: 1 })).text === text, true);
  const parallel = db.collection('parallel');
  await Promise.all(range(4).map(async (worker) => {
    for (const i of range(5)) {
      expect('parallel insert', (await parallel.insertOne({ _id: 10 * worker + i })).insertedId, 10 * worker + i);
    }
  }));
  expect('parallel count', await parallel.countDocuments({}), 20);
}

run(async (uri, database, events) => {
  const client = new MongoClient(uri, { appName: 'mongotap-test-node', monitorCommands: Boolean(events) });
  if (events) {
    record(client, events);
  }
  const db = client.db(database);
  for (const step of [start, writes, reads, aggregates, changes, schema, failures, sizeAndConcurrency]) {
    await step(client, db);
  }
  await files(db, GridFSBucket);
  await client.close();
});
