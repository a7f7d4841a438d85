// Visits the service once and prints what it answers, without what is made anew each time.
const mongoose = require('mongoose');
const { app, User, Note } = require('./app');

async function main() {
  await mongoose.connect(process.env.MONGODB_URI, { dbName: 'notes', serverSelectionTimeoutMS: 10000 });
  await Promise.all([User.init(), Note.init()]);
  await Promise.all([User.deleteMany({}), Note.deleteMany({})]);
  const server = await new Promise((done) => { const it = app.listen(0, '127.0.0.1', () => done(it)); });
  const base = `http://127.0.0.1:${server.address().port}`;
  const ask = async (method, path, body) => {
    const headers = { 'content-type': 'application/json' };
    const response = await fetch(base + path, { method, headers, body: body && JSON.stringify(body) });
    const text = await response.text();
    return { status: response.status, body: text && JSON.parse(text) };
  };
  const ann = await ask('POST', '/users', { name: 'Ann' });
  const owner = ann.body._id;
  const one = await ask('POST', '/notes', { title: 'one', tags: ['a', 'b'], owner });
  const two = await ask('POST', '/notes', { title: 'two', tags: ['b'], owner });
  console.log('POST', ann.status, one.status, two.status, one.body.owner === owner);
  console.log('POST again', (await ask('POST', '/notes', { title: 'one', owner })).status);
  const tagged = await ask('GET', '/notes?tag=b');
  console.log('GET', tagged.body.map((note) => [note.title, note.owner.name, note._id === one.body._id]));
  const found = await ask('GET', `/notes/${two.body._id}`);
  console.log('GET', found.status, found.body.title, found.body.createdAt === two.body.createdAt);
  const commented = await ask('POST', `/notes/${two.body._id}/comments`, { text: 'well' });
  console.log('POST', commented.body.comments.map((comment) => [comment.text, comment._id.length]));
  console.log('GET', (await ask('GET', `/notes/${owner}`)).status);
  console.log('DELETE', (await ask('DELETE', `/notes/${one.body._id}`)).status);
  server.close();
  await mongoose.disconnect();
}

main().catch((error) => { console.error(error); process.exit(1); });
