"""Runs single tests of the unified test format with PyMongo: entities, initial data and operations.

It is for the files about command monitoring and knows the operations they use. What those files expect to be observed is
checked elsewhere, on the proxy's log; here only the outcome of each operation is, as far as it should raise or not.

A line of JSON on standard input names a test: `file`, `index` in its `tests`, `uri` for the clients that are observed,
`direct` for all others. A line on standard output answers: `{"status": "ran"}`, `{"status": "not runnable", "reason": …}` by the
test's own requirements, or `{"status": "failed", "error": …}`.
"""

import collections
import json
import sys
import time
import traceback

import pymongo
from bson import json_util
from pymongo import DeleteMany, DeleteOne, InsertOne, MongoClient, ReplaceOne, UpdateMany, UpdateOne
from pymongo.errors import PyMongoError
from pymongo.monitoring import ConnectionPoolListener, ServerListener
from pymongo.write_concern import WriteConcern

OPTIONS = json_util.JSONOptions(json_mode=json_util.JSONMode.RELAXED)

FIND = {
    "batchSize": "batch_size",
    "comment": "comment",
    "filter": "filter",
    "hint": "hint",
    "limit": "limit",
    "max": "max",
    "maxTimeMS": "max_time_ms",
    "min": "min",
    "projection": "projection",
    "returnKey": "return_key",
    "session": "session",
    "showRecordId": "show_record_id",
    "skip": "skip",
    "sort": "sort",
}


class Counter(ConnectionPoolListener, ServerListener):
    """Counts what a client says of its connections and its server, by the names of the test format."""

    def __init__(self):
        self.counts = collections.Counter()


def counts(method):
    """The method of a listener that counts one kind of event."""
    first, *rest = method.split("_")
    name = first + "".join(word.capitalize() for word in rest) + "Event"
    name = {"descriptionChangedEvent": "serverDescriptionChangedEvent"}.get(name, name)

    def count(listener, event):
        listener.counts[name] += 1

    return count


for method in dir(Counter):
    if not method.startswith("__"):
        setattr(Counter, method, counts(method))


class Test:
    """One test: its entities, and what its operations do with them."""

    def __init__(self, uri, direct):
        self.uri, self.direct = uri, direct
        self.entities, self.clients, self.counters = {}, [], {}

    def create(self, entities):
        for entity in entities:
            ((kind, spec),) = entity.items()
            make = getattr(self, "create_" + kind)
            self.entities[spec["id"]] = make(spec)

    def create_client(self, spec):
        observed = "observeEvents" in spec or "observeLogMessages" in spec
        uri = self.uri if observed else self.direct
        options = dict(spec.get("uriOptions", {}), directConnection=True)
        # PyMongo takes its time over a client that has such listeners.
        if any(not name.startswith("command") for name in spec.get("observeEvents", [])):
            options["event_listeners"] = [self.counters.setdefault(spec["id"], Counter())]
        client = MongoClient(uri, **options)
        self.clients.append(client)
        return client

    def create_database(self, spec):
        return self.entities[spec["client"]][spec["databaseName"]]

    def create_collection(self, spec):
        options = {}
        if "writeConcern" in spec.get("collectionOptions", {}):
            options["write_concern"] = WriteConcern(**spec["collectionOptions"]["writeConcern"])
        return self.entities[spec["database"]].get_collection(spec["collectionName"], **options)

    def create_session(self, spec):
        return self.entities[spec["client"]].start_session()

    def run(self, operation):
        arguments = dict(operation.get("arguments", {}))
        target = operation["object"]
        if "session" in arguments:
            arguments["session"] = self.entities[arguments["session"]]
        if target == "testRunner":
            getattr(self, "runner_" + operation["name"])(**arguments)
            return
        act = globals()["operation_" + operation["name"]]
        try:
            act(self.entities[target], arguments)
        except PyMongoError as error:
            if "expectError" not in operation:
                raise
            return error
        if "expectError" in operation:
            raise AssertionError(f"{operation['name']} did not fail")

    def runner_createEntities(self, entities):
        self.create(entities)

    def runner_failPoint(self, client, failPoint):
        """By another client: the command that sets a fail point is never observed."""
        with MongoClient(self.direct, directConnection=True) as direct:
            direct.admin.command(failPoint)

    def runner_waitForEvent(self, client, event, count):
        (name,) = event
        end = time.monotonic() + 10
        while self.counters[client].counts[name] < count:
            assert time.monotonic() < end, f"fewer than {count} of {event}"
            time.sleep(0.01)

    def close(self):
        for client in self.clients:
            client.close()


def operation_runCommand(database, arguments):
    command = arguments["command"]
    assert next(iter(command)) == arguments["commandName"]
    database.command(command)


def operation_find(collection, arguments):
    options = {FIND[name]: value for name, value in arguments.items()}
    for name in ("sort", "hint"):
        if isinstance(options.get(name), dict):
            options[name] = list(options[name].items())
    bounds = {name: list(options.pop(name).items()) for name in ("max", "min") if name in options}
    cursor = collection.find(**options)
    for name, bound in bounds.items():
        getattr(cursor, name)(bound)
    list(cursor)


def operation_insertOne(collection, arguments):
    collection.insert_one(**arguments)


def operation_insertMany(collection, arguments):
    collection.insert_many(**arguments)


def operation_updateOne(collection, arguments):
    collection.update_one(**arguments)


def operation_updateMany(collection, arguments):
    collection.update_many(**arguments)


def operation_deleteOne(collection, arguments):
    collection.delete_one(**arguments)


def operation_deleteMany(collection, arguments):
    collection.delete_many(**arguments)


def operation_bulkWrite(collection, arguments):
    models = {
        "insertOne": lambda spec: InsertOne(spec["document"]),
        "updateOne": lambda spec: UpdateOne(**spec),
        "updateMany": lambda spec: UpdateMany(**spec),
        "replaceOne": lambda spec: ReplaceOne(**spec),
        "deleteOne": lambda spec: DeleteOne(**spec),
        "deleteMany": lambda spec: DeleteMany(**spec),
    }
    requests = [models[name](spec) for request in arguments["requests"] for name, spec in request.items()]
    collection.bulk_write(requests, ordered=arguments.get("ordered", True))


def operation_startTransaction(session, arguments):
    session.start_transaction()


def operation_commitTransaction(session, arguments):
    session.commit_transaction()


def operation_abortTransaction(session, arguments):
    session.abort_transaction()


def version(text):
    return [int(part) for part in text.split("-")[0].split(".")]


def unmet(requirements, client):
    """Why none of the requirements is met; None if one is, or there are none."""
    if not requirements:
        return None
    server = version(client.server_info()["version"])
    hello = client.admin.command("hello")
    topology = "sharded" if hello.get("msg") == "isdbgrid" else "replicaset" if "setName" in hello else "single"
    reasons = []
    for requirement in requirements:
        reason = None
        for name, value in requirement.items():
            if name == "minServerVersion" and server < version(value):
                reason = f"needs server {value} or newer"
            elif name == "maxServerVersion" and server > version(value):
                reason = f"needs server {value} or older"
            elif name == "topologies" and topology not in value:
                reason = f"needs topology {' or '.join(value)}"
            elif name == "auth" and value:
                reason = "needs authentication"
            elif name == "serverless" and value == "require":
                reason = "needs serverless"
        if reason is None:
            return None
        reasons.append(reason)
    return "; ".join(reasons)


def fill(client, initial):
    for spec in initial:
        collection = client[spec["databaseName"]].get_collection(
            spec["collectionName"], write_concern=WriteConcern(w="majority")
        )
        collection.drop()
        if spec["documents"]:
            collection.insert_many(spec["documents"])
        else:
            collection.database.create_collection(collection.name)


def run(request):
    with open(request["file"], encoding="utf-8") as file:
        suite = json_util.loads(file.read(), json_options=OPTIONS)
    spec = suite["tests"][request["index"]]
    with MongoClient(request["direct"], directConnection=True) as direct:
        for requirements in (suite.get("runOnRequirements"), spec.get("runOnRequirements")):
            reason = unmet(requirements, direct)
            if reason:
                return {"status": "not runnable", "reason": reason}
        if "skipReason" in spec:
            return {"status": "not runnable", "reason": spec["skipReason"]}
        fill(direct, suite.get("initialData", []))
    test = Test(request["uri"], request["direct"])
    try:
        test.create(suite.get("createEntities", []))
        for operation in spec["operations"]:
            test.run(operation)
    finally:
        test.close()
    return {"status": "ran"}


def main():
    print(json.dumps({"pymongo": pymongo.version}), flush=True)
    for line in sys.stdin:
        try:
            answer = run(json.loads(line))
        except Exception:  # What went wrong is the answer, whatever it is.
            answer = {"status": "failed", "error": traceback.format_exc()}
        print(json.dumps(answer), flush=True)


main()
