// Customers: another file, which Jest gives to another worker.
const { MongoClient } = require('mongodb');

const client = new MongoClient(process.env.MONGODB_URI, { serverSelectionTimeoutMS: 10000 });
const customers = client.db('shop').collection('jest_customers');

beforeAll(() => customers.deleteMany({}));
afterAll(() => client.close());

test.each([1, 2, 3])('visit %i is counted', async (visit) => {
  const after = await customers.findOneAndUpdate(
    { name: 'Ann' }, { $inc: { visits: 1 } }, { upsert: true, returnDocument: 'after' });
  expect(after.visits).toBe(visit);
});
