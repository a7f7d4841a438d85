"""What an application asks of a replica set, step by step as a test says; see "Replica set" in ../workload.md."""

import os
import sys

import pymongo
from pymongo import ReadPreference
from pymongo.errors import PyMongoError

URI = os.environ["MONGODB_URI"]
NAME = "mongotap-test-pymongo"
client = pymongo.MongoClient(URI, appName=NAME)
db = client[os.environ["MONGOTAP_TEST_DB"]]
from_secondary = db.get_collection("steps", read_preference=ReadPreference.SECONDARY)


def expect(got, wanted):
    if got != wanted:
        raise AssertionError(f"got {got}, wanted {wanted}")


def create():
    db.create_collection("steps", write_concern=pymongo.WriteConcern(3))


def transaction():
    with client.start_session() as session:
        with session.start_transaction():
            db.steps.insert_one({"_id": "transaction"}, session=session)
            db.steps.update_one({"_id": "transaction"}, {"$set": {"step": "transaction"}}, session=session)
    expect(db.steps.find_one("transaction"), {"_id": "transaction", "step": "transaction"})


def change_stream():
    with db.steps.watch([{"$match": {"operationType": "insert"}}]) as stream:
        db.steps.insert_one({"_id": "change"})
        expect(stream.next()["documentKey"], {"_id": "change"})


def retryable_write():
    # This client asks its servers once a minute, so it does not know yet that the primary has stepped down.
    with pymongo.MongoClient(URI, appName=NAME, heartbeatFrequencyMS=60_000, serverMonitoringMode="poll") as unaware:
        unaware.admin.command("ping")
        client.admin.command("replSetStepDown", 10, secondaryCatchUpPeriodSecs=5)
        unaware[db.name].steps.insert_one({"_id": "retried"})
    expect(db.steps.count_documents({"_id": "retried"}), 1)


def read(step):
    """Often enough for chance to pick each secondary."""
    for _ in range(40):
        from_secondary.find_one({"step": step})


steps = {each.__name__: each for each in [create, transaction, change_stream, retryable_write, read]}
for line in sys.stdin:
    name, *arguments = line.split()
    try:
        steps[name](*arguments)
        print("ok", flush=True)
    except (AssertionError, PyMongoError) as error:
        print(f"failed {error}", flush=True)
client.close()
