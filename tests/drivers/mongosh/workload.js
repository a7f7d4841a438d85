// The workload of ../workload.md with mongosh, as a script of the shell: `mongosh --nodb workload.js`.
//
// A script has no listeners, no GridFS, no exhaust cursors, and one thread: the parallel step runs one worker after another.
// The shell reads int32 and double alike as numbers, so documents are compared as relaxed Extended JSON.
'use strict';

const { MONGODB_URI: uri, MONGOTAP_TEST_DB: database } = process.env;
let operations = 0;

// Counts an operation whose result is the wanted one; ends the script where it is not.
function expect(what, got, wanted) {
  const left = EJSON.stringify([got], { relaxed: true });
  const right = EJSON.stringify([wanted], { relaxed: true });
  if (left !== right) {
    throw new Error(`${what}: got ${left.slice(0, 500)}, wanted ${right.slice(0, 500)}`);
  }
  operations += 1;
}

// Runs an operation that fails with this code, and gives the error.
function failure(what, wanted, operation) {
  let error = null;
  try {
    operation();
  } catch (thrown) {
    error = thrown;
  }
  expect(what, error && error.code, wanted);
  return error;
}

// Reads until an unacknowledged write has taken effect.
function until(what, wanted, read) {
  const end = Date.now() + 5000;
  let got = read();
  while (EJSON.stringify([got]) !== EJSON.stringify([wanted]) && Date.now() < end) {
    sleep(20);
    got = read();
  }
  expect(what, got, wanted);
}

function range(count) {
  return Array.from(Array(count).keys());
}

function start(shell) {
  expect('ping', shell.adminCommand({ ping: 1 }).ok, 1);
  expect('drop database', shell.dropDatabase().ok, 1);
}

function writes(shell) {
  expect('insert one', shell.single.insertOne({ _id: 1, text: 'one' }).insertedId, 1);
  const items = range(250).map((i) => ({ _id: i, n: i, group: i % 5, name: `item-${i}` }));
  expect('insert many', Object.keys(shell.items.insertMany(items).insertedIds).length, 250);

  const result = shell.bulk.bulkWrite([
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
  const error = failure('unordered bulk', 11000, () => shell.bulk.bulkWrite([
    { insertOne: { document: { _id: 5 } } },
    { insertOne: { document: { _id: 1 } } },
    { insertOne: { document: { _id: 6 } } },
    { deleteOne: { filter: { _id: 4 } } },
  ], { ordered: false }));
  const failed = error.writeErrors.map((each) => [each.index, each.code]);
  expect('unordered bulk counts', [failed, error.result.insertedCount, error.result.deletedCount], [[[1, 11000]], 2, 1]);
  expect('bulk count', shell.bulk.countDocuments({}), 4);

  const blind = { writeConcern: { w: 0 } };
  expect('w:0 insert', shell.unacked.insertOne({ _id: 1, v: 1 }, blind).acknowledged, false);
  shell.unacked.insertOne({ _id: 2, v: 2 });
  until('w:0 insert read', 2, () => shell.unacked.countDocuments({}));
  expect('w:0 update', shell.unacked.updateOne({ _id: 2 }, { $set: { v: 20 } }, blind).acknowledged, false);
  shell.runCommand({ ping: 1 });
  until('w:0 update read', { _id: 2, v: 20 }, () => shell.unacked.findOne({ _id: 2 }));
  expect('w:0 delete', shell.unacked.deleteOne({ _id: 1 }, blind).acknowledged, false);
  shell.runCommand({ ping: 1 });
  until('w:0 delete read', 1, () => shell.unacked.countDocuments({}));
}

function reads(shell) {
  const all = shell.items.find({}).sort({ _id: 1 }).batchSize(50).toArray();
  expect('find in batches', all.map((each) => each._id), range(250));
  const some = shell.items.find({ group: 3 }, { _id: 0, n: 1 }).sort({ n: -1 }).limit(7).toArray();
  expect('find with limit', some.map((each) => each.n), range(7).map((i) => 248 - 5 * i));
  const cursor = shell.items.find({}).batchSize(2);
  const three = [cursor.next(), cursor.next(), cursor.next()];
  expect('find three', three.every((each) => each !== null), true);
  cursor.close();
  expect('count', shell.items.countDocuments({ group: 1 }), 50);
  expect('estimated count', shell.items.estimatedDocumentCount(), 250);
  expect('distinct', shell.items.distinct('group'), range(5));
}

function aggregates(shell) {
  const sums = [{ $group: { _id: '$group', sum: { $sum: '$n' } } }, { $sort: { _id: 1 } }];
  const wanted = range(5).map((group) => ({ _id: group, sum: 6125 + 50 * group }));
  expect('group', shell.items.aggregate(sums).toArray(), wanted);
  expect('aggregate in batches', shell.items.aggregate([{ $sort: { _id: 1 } }], { batchSize: 20 }).toArray().length, 250);
  const types = {
    _id: 'types', double: Double(1.5), nan: NaN, negativeZero: Double(-0), infinity: Infinity,
    string: 'plain', emptyString: '', unicode: 'žluťoučký kůň 🐎', nul: 'a\0b',
    nested: { a: { b: { c: 1 } } }, emptyDocument: {}, array: [1, 'two', [Double(3)], { four: 4 }, []],
    binary: BinData(0, 'AAEC/w=='), uuid: UUID('00112233-4455-6677-8899-aabbccddeeff'),
    objectId: ObjectId('0123456789abcdef01234567'), true: true, false: false,
    date: ISODate('2026-01-02T03:04:05.678Z'), earlyDate: ISODate('1901-02-03T04:05:06Z'),
    null: null, regex: /^a.*b$/im, code: Code('function () {}'), int32: Int32(2147483647),
    int64: Long('9007199254740993'), decimal128: Decimal128('1.10'), timestamp: Timestamp(1, 2),
    minKey: MinKey(), maxKey: MaxKey(), '': 'empty key',
  };
  shell.types.insertOne(types);
  expect('types', shell.types.findOne({ _id: 'types' }), types);
}

function changes(shell) {
  const items = shell.items;
  expect('update one', items.updateOne({ _id: 1 }, { $set: { touched: true } }).modifiedCount, 1);
  expect('update many', items.updateMany({ group: 2 }, { $inc: { n: 1000 } }).modifiedCount, 50);
  expect('upsert', items.replaceOne({ _id: 'up' }, { name: 'upserted' }, { upsert: true }).insertedId, 'up');
  expect('delete one', items.deleteOne({ _id: 'up' }).deletedCount, 1);
  expect('delete many', items.deleteMany({ group: 4 }).deletedCount, 50);
  const after = items.findOneAndUpdate({ _id: 5 }, { $set: { name: 'after' } }, { returnDocument: 'after' });
  expect('find and update', after.name, 'after');
  expect('find and replace', items.findOneAndReplace({ _id: 6 }, { name: 'replaced' }).name, 'item-6');
  expect('find and delete', items.findOneAndDelete({ _id: 7 }).name, 'item-7');
}

function schema(shell) {
  expect('create index', shell.items.createIndex({ n: 1 }), 'n_1');
  expect('create unique index', shell.keyed.createIndex({ key: 1 }, { unique: true }), 'key_1');
  expect('list indexes', shell.keyed.getIndexes().map((index) => index.name).sort(), ['_id_', 'key_1']);
  shell.items.dropIndex('n_1');
  expect('drop index', shell.items.getIndexes().length, 1);
  shell.createCollection('created');
  expect('create collection', shell.getCollectionInfos().some((each) => each.name === 'created'), true);
  shell.getCollection('created').drop();
  expect('drop collection', shell.getCollectionNames().includes('created'), false);
  expect('list databases', shell.getMongo().getDBNames().includes(database), true);
}

function failures(shell) {
  failure('unknown command', 59, () => shell.runCommand({ mongotapNoSuchCommand: 1 }));
  failure('bad operator', 2, () => shell.items.findOne({ n: { $noSuchOperator: 1 } }));
  failure('duplicate key', 11000, () => shell.single.insertOne({ _id: 1 }));
  failure('bad modifier', 9, () => shell.single.updateOne({ _id: 1 }, { $noSuchModifier: { n: 1 } }));
}

function size(shell) {
  const text = 'x'.repeat(1048576);
  shell.large.insertOne({ _id: 1, text });
  expect('large document', shell.large.findOne({ _id: 1 }).text === text, true);
  for (const worker of range(4)) {
    for (const i of range(5)) {
      expect('parallel insert', shell.parallel.insertOne({ _id: 10 * worker + i }).insertedId, 10 * worker + i);
    }
  }
  expect('parallel count', shell.parallel.countDocuments({}), 20);
}

const named = new URL(uri);
named.searchParams.set('appName', 'mongotap-test-mongosh');
const connection = new Mongo(named.href);
for (const step of [start, writes, reads, aggregates, changes, schema, failures, size]) {
  step(connection.getDB(database));
}
connection.close();
print(`ok ${operations}`);
