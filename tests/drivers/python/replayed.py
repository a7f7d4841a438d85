"""Work that a replay must follow and not merely repeat: `replayed.py STEP…`, each step by itself and in any order.

Every step makes its identities, tokens and dates anew and checks what it reads against them, so an answer that was
recorded for another run's values, or for another moment, is found. `MONGODB_URI` and `MONGOTAP_TEST_DB` are as for the
workload; `MONGOTAP_TEST_WORKERS` is how many threads, each with a client of its own, do what is done at the same time. The
output ends with `ok N`, N being the results that were checked.
"""

import datetime
import os
import sys
import threading
import uuid
from concurrent.futures import ThreadPoolExecutor

import pymongo
from bson import ObjectId
from pymongo.errors import BulkWriteError, DuplicateKeyError, OperationFailure

checked = 0
lock = threading.Lock()


def expect(what, got, wanted):
    """Counts a result that is the wanted one; ends the program where it is not."""
    global checked
    if got != wanted:
        raise AssertionError(f"{what}: got {str(got)[:800]}, wanted {str(wanted)[:800]}")
    with lock:
        checked += 1


def now():
    """The time, as a server keeps it: in whole milliseconds."""
    time = datetime.datetime.now(datetime.timezone.utc)
    return time.replace(microsecond=time.microsecond // 1000 * 1000)


def refill(db, names):
    """Empties the collection that the steps `first` and `second` have in common, and fills it its own way."""
    db.shared.delete_many({})
    expect("empty", db.shared.count_documents({}), 0)
    made = [{"_id": ObjectId(), "name": name} for name in names]
    db.shared.insert_many(made)
    expect("filled", db.shared.count_documents({}), len(made))
    expect("all", list(db.shared.find({}, sort=[("name", 1)])), made)


def first(client, db):
    refill(db, ["ada", "bob"])


def second(client, db):
    refill(db, ["cy", "dee", "eve"])


def poll(client, db):
    """Reads until somebody else's write is there."""
    db.polled.drop()
    waiting = threading.Event()

    def write():
        waiting.wait(10)
        with pymongo.MongoClient(os.environ["MONGODB_URI"], appName="mongotap-test-writer") as other:
            other[db.name].polled.insert_one({"_id": "news", "text": "it is there"})

    writer = threading.Thread(target=write)
    writer.start()
    expect("before", [db.polled.count_documents({"_id": "news"}) for _ in range(3)], [0, 0, 0])
    waiting.set()
    writer.join()
    expect("after", db.polled.count_documents({"_id": "news"}), 1)
    expect("after again", db.polled.find_one({"_id": "news"})["text"], "it is there")


def batches(client, db):
    """The same question at the same time from several threads, each answered in several batches."""
    db.batches.drop()
    db.batches.insert_many([{"_id": n, "text": f"number {n}"} for n in range(100)])

    def read(_):
        found = [each["_id"] for each in db.batches.find({}, sort=[("_id", 1)], batch_size=15)]
        expect("in batches", found, list(range(100)))

    with ThreadPoolExecutor(workers()) as pool:
        list(pool.map(read, range(4)))


def counter(client, db):
    """The same command over and over, with another answer each time."""
    db.counters.drop()
    for wanted in range(1, 6):
        got = db.counters.find_one_and_update(
            {"_id": "orders"}, {"$inc": {"n": 1}}, upsert=True, return_document=pymongo.ReturnDocument.AFTER)
        expect("counter", got["n"], wanted)
    expect("counted", db.counters.find_one({"_id": "orders"})["n"], 5)


def identities(client, db):
    """Identities in nested arrays, in `$in`, as text, as UUIDs, in error messages."""
    db.people.drop()
    db.groups.drop()
    members = [ObjectId() for _ in range(3)]
    db.people.insert_many([{"_id": member, "n": n} for n, member in enumerate(members)])
    group = {"_id": uuid.uuid4(), "lists": [{"of": members[:2]}, {"of": [members[2], members[0]]}],
             "label": str(members[1]), "key": str(uuid.uuid4())}
    db.groups.insert_one(group)
    expect("by $in", [each["n"] for each in db.people.find({"_id": {"$in": members[1:]}}, sort=[("n", 1)])], [1, 2])
    expect("by one", db.people.find_one({"_id": members[0]})["n"], 0)
    expect("nested", db.groups.find_one({"_id": group["_id"]}), group)
    expect("by nested", db.groups.find_one({"lists.of": members[2]})["_id"], group["_id"])
    expect("by text", db.groups.find_one({"label": str(members[1])})["_id"], group["_id"])
    try:
        db.people.insert_one({"_id": members[1], "n": 9})
        raise AssertionError("a duplicate was taken")
    except DuplicateKeyError as error:
        expect("key in the message", str(members[1]) in error.details["errmsg"], True)
        expect("key beside it", error.details["keyValue"], {"_id": members[1]})
    try:
        db.people.insert_many([{"_id": ObjectId(), "n": 10}, {"_id": members[2], "n": 11}], ordered=False)
        raise AssertionError("a duplicate was taken")
    except BulkWriteError as error:
        expect("in bulk", (error.details["nInserted"], error.details["writeErrors"][0]["keyValue"]), (1, {"_id": members[2]}))
    expect("people", db.people.count_documents({}), 4)


def dates(client, db):
    """Dates of now, read back and asked for; and one that is always the same."""
    db.dates.drop()
    made, always = now(), datetime.datetime(2020, 2, 29, 12, 0, 0, 500000, datetime.timezone.utc)
    expires = made + datetime.timedelta(hours=1)
    db.dates.insert_one({"_id": 1, "made": made, "expires": expires, "always": always})
    got = db.dates.find_one({"_id": 1})
    expect("dates", (got["made"], got["expires"], got["always"]), (made, expires, always))
    expect("by its date", db.dates.count_documents({"made": made}), 1)
    expect("of this week", db.dates.count_documents({"made": {"$gte": now() - datetime.timedelta(days=7)}}), 1)
    expect("of the future", db.dates.count_documents({"made": {"$gte": now() + datetime.timedelta(days=1)}}), 0)
    expect("of 2020", db.dates.count_documents({"always": always}), 1)


def retried(client, db):
    """A write that the server fails once and the driver sends again."""
    db.retried.drop()
    db.create_collection("retried")
    if client.topology_description.topology_type_name != "Single":
        fail = {"failCommands": ["insert"], "errorCode": 262, "errorLabels": ["RetryableWriteError"],
                "appName": "mongotap-test-replayed"}
        if os.environ.get("MONGOTAP_TEST_FAIL"):
            with pymongo.MongoClient(os.environ["MONGOTAP_TEST_FAIL"]) as server:
                server.admin.command("configureFailPoint", "failCommand", mode={"times": 1}, data=fail)
    expect("retried", db.retried.insert_one({"_id": "once"}).inserted_id, "once")
    expect("once", db.retried.count_documents({}), 1)


def transaction(client, db):
    """A transaction that is aborted, then done again and committed; seen inside, and outside only then."""
    db.accounts.drop()
    db.create_collection("accounts")
    db.accounts.insert_many([{"_id": "a", "sum": 10}, {"_id": "b", "sum": 0}])
    with client.start_session() as session:
        for commits in [False, True]:
            session.start_transaction()
            db.accounts.update_one({"_id": "a"}, {"$inc": {"sum": -4}}, session=session)
            db.accounts.update_one({"_id": "b"}, {"$inc": {"sum": 4}}, session=session)
            expect("inside", db.accounts.find_one({"_id": "b"}, session=session)["sum"], 4)
            expect("outside", db.accounts.find_one({"_id": "b"})["sum"], 0)
            session.commit_transaction() if commits else session.abort_transaction()
            expect("afterwards", db.accounts.find_one({"_id": "b"})["sum"], 4 if commits else 0)


def stream(client, db):
    """A change stream that tells of writes once they were made, and not before."""
    db.watched.drop()
    db.create_collection("watched")
    made = [ObjectId() for _ in range(3)]
    with db.watched.watch(max_await_time_ms=300) as changes:
        expect("nothing yet", changes.try_next(), None)
        for identity in made:
            db.watched.insert_one({"_id": identity})
            change = next(changes)
            expect("change", (change["operationType"], change["documentKey"]["_id"]), ("insert", identity))
        db.watched.delete_one({"_id": made[1]})
        change = next(changes)
        expect("deletion", (change["operationType"], change["documentKey"]["_id"]), ("delete", made[1]))
        token = changes.resume_token
    db.watched.insert_one({"_id": "late"})
    with db.watched.watch(resume_after=token, max_await_time_ms=300) as changes:
        expect("resumed", next(changes)["documentKey"]["_id"], "late")


def failing(client, db):
    """Errors come as they came."""
    for command, code in [({"find": "x", "filter": {"$nosuch": 1}}, 2), ({"nosuchcommand": 1}, 59)]:
        try:
            db.command(command)
            raise AssertionError(f"{command} did not fail")
        except OperationFailure as error:
            expect("code", error.code, code)


def workers():
    return int(os.environ.get("MONGOTAP_TEST_WORKERS", "1"))


def main(steps):
    options = {"appName": "mongotap-test-replayed", "uuidRepresentation": "standard", "tz_aware": True,
               "maxPoolSize": workers() + 2}
    with pymongo.MongoClient(os.environ["MONGODB_URI"], **options) as client:
        for step in steps:
            globals()[step](client, client[os.environ["MONGOTAP_TEST_DB"]])
    print(f"ok {checked}")


main(sys.argv[1:])
