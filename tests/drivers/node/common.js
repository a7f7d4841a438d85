// What the two workload programs share: checks, and data of ../workload.md.
'use strict';

const BSON = require('mongodb').BSON;
const { EJSON, Binary, Code, Decimal128, Double, Int32, Long, MaxKey, MinKey, ObjectId, BSONRegExp, Timestamp, UUID } = BSON;

let operations = 0;

// Counts an operation whose result is the wanted one; throws where it is not.
function expect(what, got, wanted) {
  const [left, right] = [got, wanted].map((value) => EJSON.stringify([value], { relaxed: false }));
  if (left !== right) {
    throw new Error(`${what}: got ${left.slice(0, 500)}, wanted ${right.slice(0, 500)}`);
  }
  operations += 1;
}

// Runs an operation that fails with this code, and gives the error.
async function failure(what, wanted, operation) {
  let error = null;
  try {
    await operation();
  } catch (thrown) {
    error = thrown;
  }
  expect(what, error?.code, wanted);
  return error;
}

// Reads until an unacknowledged write has taken effect.
async function until(what, wanted, read) {
  const end = Date.now() + 5000;
  let got = await read();
  while (EJSON.stringify([got]) !== EJSON.stringify([wanted]) && Date.now() < end) {
    await new Promise((resolve) => setTimeout(resolve, 20));
    got = await read();
  }
  expect(what, got, wanted);
}

const range = (count) => Array.from({ length: count }, (_, i) => i);

const items = range(250).map((i) => ({ _id: i, n: i, group: i % 5, name: `item-${i}` }));

// A document with every common BSON type. Numbers are wrapped, so that they keep their types when they are read back wrapped.
const types = {
  _id: 'types',
  double: new Double(1.5),
  nan: new Double(NaN),
  negativeZero: new Double(-0),
  infinity: new Double(Infinity),
  string: 'plain',
  emptyString: '',
  unicode: 'žluťoučký kůň 🐎',
  nul: 'a\0b',
  nested: { a: { b: { c: new Int32(1) } } },
  emptyDocument: {},
  array: [new Int32(1), 'two', [new Double(3)], { four: new Int32(4) }, []],
  binary: new Binary(Buffer.from([0, 1, 2, 255])),
  uuid: new UUID('00112233-4455-6677-8899-aabbccddeeff').toBinary(),
  objectId: new ObjectId('0123456789abcdef01234567'),
  true: true,
  false: false,
  date: new Date('2026-01-02T03:04:05.678Z'),
  earlyDate: new Date('1901-02-03T04:05:06Z'),
  null: null,
  regex: new BSONRegExp('^a.*b$', 'im'),
  code: new Code('function () {}'),
  int32: new Int32(2147483647),
  int64: Long.fromString('9007199254740993'),
  decimal128: Decimal128.fromString('1.10'),
  timestamp: new Timestamp({ t: 1, i: 2 }),
  minKey: new MinKey(),
  maxKey: new MaxKey(),
  '': 'empty key',
};

// Uploads and downloads a file.
async function files(db, GridFSBucket) {
  const content = Buffer.from(range(300_000).map((i) => (i * 31) % 251));
  const bucket = new GridFSBucket(db, { chunkSizeBytes: 65_536 });
  const upload = bucket.openUploadStream('file');
  await new Promise((resolve, reject) => upload.on('finish', resolve).on('error', reject).end(content));
  expect('chunks', await db.collection('fs.chunks').countDocuments({}), 5);
  const parts = [];
  for await (const part of bucket.openDownloadStream(upload.id)) {
    parts.push(part);
  }
  expect('download', Buffer.concat(parts).equals(content), true);
}

// Runs a program with its client's environment, and ends with the count or the first unexpected result.
function run(program) {
  const { MONGODB_URI: uri, MONGOTAP_TEST_DB: database, MONGOTAP_TEST_EVENTS: events } = process.env;
  program(uri, database, events).then(
    () => console.log(`ok ${operations}`),
    (error) => {
      console.error(error);
      process.exit(1);
    });
}

module.exports = { expect, failure, files, items, range, run, types, until };
