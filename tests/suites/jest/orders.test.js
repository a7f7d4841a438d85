// Orders, at the server that MONGODB_URI names.
const { MongoClient } = require('mongodb');

const client = new MongoClient(process.env.MONGODB_URI, { serverSelectionTimeoutMS: 10000 });
const orders = client.db('shop').collection('jest_orders');

beforeEach(() => orders.deleteMany({}));
afterAll(() => client.close());

test('paid orders are found', async () => {
  await orders.insertMany([1, 2, 3].map((n) => ({ n, status: n === 2 ? 'open' : 'paid', made: new Date() })));
  const paid = await orders.find({ status: 'paid' }).sort({ n: 1 }).toArray();
  expect(paid.map((order) => order.n)).toEqual([1, 3]);
});

test('an order is found by its id', async () => {
  const { insertedId } = await orders.insertOne({ item: 'tea' });
  expect(await orders.findOne({ _id: insertedId })).toEqual({ _id: insertedId, item: 'tea' });
});
