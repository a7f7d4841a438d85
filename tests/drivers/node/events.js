// Writes what a client's events say to a file, one JSON object a line.
'use strict';

const fs = require('node:fs');
const { BSON } = require('mongodb');

// The canonical Extended JSON of a document. Commands hold buffers and models, which are documents only once serialized.
function canonical(document) {
  const raw = () => BSON.deserialize(BSON.serialize(document), { promoteValues: false, bsonRegExp: true });
  return document && JSON.parse(BSON.EJSON.stringify(raw(), { relaxed: false }));
}

function write(file, line) {
  fs.writeSync(file, JSON.stringify(line) + '\n');
}

// Writes the command events of a client to a file, which it returns for more.
function record(client, path) {
  const file = fs.openSync(path, 'w');
  const command = (name, event, more) =>
    write(file, {
      event: name,
      commandName: event.commandName,
      databaseName: event.databaseName,
      requestId: event.requestId,
      serverConnectionId: event.serverConnectionId == null ? undefined : Number(event.serverConnectionId),
      ...more,
    });
  const micros = (event) => Math.round(event.duration * 1000);
  client.on('commandStarted', (event) => command('commandStartedEvent', event, { command: canonical(event.command) }));
  client.on('commandSucceeded', (event) =>
    command('commandSucceededEvent', event, { durationMicros: micros(event), reply: canonical(event.reply) }));
  client.on('commandFailed', (event) => {
    const reply = event.failure.errorResponse ?? event.failure.result;
    command('commandFailedEvent', event, { durationMicros: micros(event), failure: canonical(reply) ?? String(event.failure) });
  });
  return file;
}

module.exports = { canonical, record, write };
