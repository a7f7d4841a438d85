// The workload of ../workload.md with mongoose: models where mongoose has the operation, the connection's database elsewhere.
// It has no exhaust cursors.
'use strict';

const mongoose = require('mongoose');
const { expect, failure, files, items, range, run, types, until } = require('./common.js');
const { record } = require('./events.js');

// Any fields and any `_id`, no version field, and no collections or indexes made unasked: the commands are those of the workload.
const options = { strict: false, versionKey: false, autoCreate: false, autoIndex: false, minimize: false };

function model(connection, name, fields = {}) {
  const schema = new mongoose.Schema({ _id: mongoose.Schema.Types.Mixed, ...fields }, { ...options, collection: name });
  return connection.model(name, schema);
}

async function start(connection) {
  expect('ping', (await connection.db.admin().command({ ping: 1 })).ok, 1);
  await connection.dropDatabase();
}

async function writes(connection) {
  expect('insert one', (await model(connection, 'single').create({ _id: 1, text: 'one' }))._id, 1);
  expect('insert many', (await model(connection, 'items').insertMany(items)).length, 250);

  const Bulk = model(connection, 'bulk');
  const result = await Bulk.bulkWrite([
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
  const error = await failure('unordered bulk', 11000, () => Bulk.bulkWrite([
    { insertOne: { document: { _id: 5 } } },
    { insertOne: { document: { _id: 1 } } },
    { insertOne: { document: { _id: 6 } } },
    { deleteOne: { filter: { _id: 4 } } },
  ], { ordered: false }));
  const failed = error.writeErrors.map((each) => [each.index, each.code]);
  expect('unordered bulk counts', [failed, error.insertedCount, error.deletedCount], [[[1, 11000]], 2, 1]);
  expect('bulk count', await Bulk.countDocuments({}), 4);
  await unacknowledged(connection, model(connection, 'unacked'));
}

async function unacknowledged(connection, Unacked) {
  const blind = { writeConcern: { w: 0 } };
  expect('w:0 insert', (await Unacked.create([{ _id: 1, v: 1 }], blind)).length, 1);
  await Unacked.create({ _id: 2, v: 2 });
  await until('w:0 insert read', 2, () => Unacked.countDocuments({}));
  expect('w:0 update', (await Unacked.updateOne({ _id: 2 }, { $set: { v: 20 } }, blind)).acknowledged, false);
  await connection.db.command({ ping: 1 });
  await until('w:0 update read', { _id: 2, v: 20 }, () => Unacked.findOne({ _id: 2 }).lean());
  expect('w:0 delete', (await Unacked.deleteOne({ _id: 1 }, blind)).acknowledged, false);
  await connection.db.command({ ping: 1 });
  await until('w:0 delete read', 1, () => Unacked.countDocuments({}));
}

async function reads(connection) {
  const Item = connection.model('items');
  const all = await Item.find({}).sort({ _id: 1 }).batchSize(50).lean();
  expect('find in batches', all.map((each) => each._id), range(250));
  const some = await Item.find({ group: 3 }, { _id: 0, n: 1 }).sort({ n: -1 }).limit(7).lean();
  expect('find with limit', some.map((each) => each.n), range(7).map((i) => 248 - 5 * i));
  const cursor = Item.find({}).batchSize(2).cursor();
  const three = [await cursor.next(), await cursor.next(), await cursor.next()];
  expect('find three', three.every(Boolean), true);
  await cursor.close();
  expect('count', await Item.countDocuments({ group: 1 }), 50);
  expect('estimated count', await Item.estimatedDocumentCount(), 250);
  expect('distinct', await Item.distinct('group'), range(5));
}

async function aggregates(connection) {
  const Item = connection.model('items');
  const sums = [{ $group: { _id: '$group', sum: { $sum: '$n' } } }, { $sort: { _id: 1 } }];
  const wanted = range(5).map((group) => ({ _id: group, sum: 6125 + 50 * group }));
  expect('group', await Item.aggregate(sums), wanted);
  let count = 0;
  for await (const _ of Item.aggregate([{ $sort: { _id: 1 } }]).cursor({ batchSize: 20 })) {
    count += 1;
  }
  expect('aggregate in batches', count, 250);
  // A schema would cast the values; the collection behind the model takes them as they are.
  const { collection } = model(connection, 'types');
  await collection.insertOne(types);
  const wrapped = { promoteValues: false, bsonRegExp: true };
  expect('types', await collection.findOne({ _id: 'types' }, wrapped), types);
}

async function changes(connection) {
  const Item = connection.model('items');
  expect('update one', (await Item.updateOne({ _id: 1 }, { $set: { touched: true } })).modifiedCount, 1);
  expect('update many', (await Item.updateMany({ group: 2 }, { $inc: { n: 1000 } })).modifiedCount, 50);
  const upserted = await Item.replaceOne({ _id: 'up' }, { name: 'upserted' }, { upsert: true });
  expect('upsert', upserted.upsertedId, 'up');
  expect('delete one', (await Item.deleteOne({ _id: 'up' })).deletedCount, 1);
  expect('delete many', (await Item.deleteMany({ group: 4 })).deletedCount, 50);
  const after = await Item.findOneAndUpdate({ _id: 5 }, { $set: { name: 'after' } }, { returnDocument: 'after' }).lean();
  expect('find and update', after.name, 'after');
  expect('find and replace', (await Item.findOneAndReplace({ _id: 6 }, { name: 'replaced' }).lean()).name, 'item-6');
  expect('find and delete', (await Item.findOneAndDelete({ _id: 7 }).lean()).name, 'item-7');
}

async function schema(connection) {
  const Item = connection.model('items');
  expect('create index', await Item.collection.createIndex({ n: 1 }), 'n_1');
  const Keyed = model(connection, 'keyed', { key: { type: Number, index: true, unique: true } });
  await Keyed.createIndexes();
  expect('list indexes', (await Keyed.listIndexes()).map((index) => index.name).sort(), ['_id_', 'key_1']);
  await Item.collection.dropIndex('n_1');
  expect('drop index', (await Item.listIndexes()).length, 1);
  const has = async () => (await connection.listCollections()).some((each) => each.name === 'created');
  await connection.createCollection('created');
  expect('create collection', await has(), true);
  await connection.dropCollection('created');
  expect('drop collection', await has(), false);
  const { databases } = await connection.db.admin().listDatabases();
  expect('list databases', databases.some((each) => each.name === connection.name), true);
}

async function failures(connection) {
  const [Item, Single] = [connection.model('items'), connection.model('single')];
  await failure('unknown command', 59, () => connection.db.command({ mongotapNoSuchCommand: 1 }));
  // mongoose itself would refuse these operators; the collection behind the model sends them.
  await failure('bad operator', 2, () => Item.collection.findOne({ n: { $noSuchOperator: 1 } }));
  await failure('duplicate key', 11000, () => Single.create({ _id: 1 }));
  await failure('bad modifier', 9, () => Single.collection.updateOne({ _id: 1 }, { $noSuchModifier: { n: 1 } }));
}

async function sizeAndConcurrency(connection) {
  const text = 'x'.repeat(1_048_576);
  const [Large, Parallel] = [model(connection, 'large'), model(connection, 'parallel')];
  await Large.create({ _id: 1, text });
  expect('large document', (await Large.findOne({ _id: 1 }).lean()).text === text, true);
  await Promise.all(range(4).map(async (worker) => {
    for (const i of range(5)) {
      expect('parallel insert', (await Parallel.create({ _id: 10 * worker + i }))._id, 10 * worker + i);
    }
  }));
  expect('parallel count', await Parallel.countDocuments({}), 20);
}

run(async (uri, dbName, events) => {
  const connection = mongoose.createConnection();
  await connection.openUri(uri, { dbName, appName: 'mongotap-test-mongoose', monitorCommands: Boolean(events) });
  if (events) {
    record(connection.getClient(), events);
  }
  for (const step of [start, writes, reads, aggregates, changes, schema, failures, sizeAndConcurrency]) {
    await step(connection);
  }
  await files(connection.db, mongoose.mongo.GridFSBucket);
  await connection.close();
});
