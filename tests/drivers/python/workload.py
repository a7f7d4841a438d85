"""The workload of ../workload.md with PyMongo, PyMongo's asynchronous client or Motor: `workload.py pymongo|pymongo_async|motor`.

The three share one text: `done` awaits what an asynchronous driver returns and passes on what PyMongo returns, and `documents` reads
either kind of cursor.
"""

import asyncio
import datetime
import inspect
import os
import sys
import time
import uuid
from concurrent.futures import ThreadPoolExecutor

import gridfs
import motor.motor_asyncio
import pymongo
from bson import Binary, Code, Decimal128, Int64, MaxKey, MinKey, ObjectId, Regex, Timestamp
from pymongo import DeleteOne, InsertOne, ReplaceOne, ReturnDocument, UpdateMany, UpdateOne
from pymongo.errors import BulkWriteError, DuplicateKeyError, OperationFailure, WriteError
from pymongo.write_concern import WriteConcern

import events

CLIENTS = {
    "pymongo": (pymongo.MongoClient, gridfs.GridFSBucket),
    "pymongo_async": (pymongo.AsyncMongoClient, gridfs.AsyncGridFSBucket),
    "motor": (motor.motor_asyncio.AsyncIOMotorClient, motor.motor_asyncio.AsyncIOMotorGridFSBucket),
}
UNACKNOWLEDGED = WriteConcern(w=0)

operations = []


def expect(what, got, wanted):
    """Counts an operation whose result is the wanted one; ends the program where it is not."""
    if got != wanted:
        raise AssertionError(f"{what}: got {str(got)[:500]}, wanted {str(wanted)[:500]}")
    operations.append(what)


async def done(result):
    return await result if inspect.isawaitable(result) else result


async def documents(cursor, limit=None):
    """Reads a cursor to its end, or `limit` documents of it."""
    cursor = await done(cursor)
    found = []
    if hasattr(cursor, "__aiter__"):
        async for document in cursor:
            found.append(document)
            if len(found) == limit:
                break
    else:
        for document in cursor:
            found.append(document)
            if len(found) == limit:
                break
    return found


async def failure(what, kind, wanted, operation):
    """Runs an operation that fails with this kind of exception and this code."""
    try:
        await done(operation())
        raise AssertionError(f"{what}: did not fail")
    except kind as error:
        expect(what, error.code, wanted)


async def until(what, wanted, read):
    """Reads until an unacknowledged write has taken effect."""
    end = time.monotonic() + 5
    while (got := await done(read())) != wanted and time.monotonic() < end:
        await asyncio.sleep(0.02)
    expect(what, got, wanted)


async def start(client, db):
    expect("ping", (await done(client.admin.command("ping")))["ok"], 1.0)
    await done(client.drop_database(db.name))


async def writes(client, db):
    expect("insert one", (await done(db.single.insert_one({"_id": 1, "text": "one"}))).inserted_id, 1)
    items = [{"_id": i, "n": i, "group": i % 5, "name": f"item-{i}"} for i in range(250)]
    expect("insert many", len((await done(db["items"].insert_many(items))).inserted_ids), 250)

    result = await done(db.bulk.bulk_write([
        InsertOne({"_id": 1, "v": 1}), InsertOne({"_id": 2, "v": 2}), InsertOne({"_id": 3, "v": 3}),
        UpdateOne({"_id": 1}, {"$set": {"v": 10}}), UpdateMany({"v": {"$gte": 2}}, {"$inc": {"v": 1}}),
        ReplaceOne({"_id": 2}, {"v": 20}), DeleteOne({"_id": 3}), UpdateOne({"_id": 4}, {"$set": {"v": 40}}, upsert=True),
    ]))
    counts = (result.inserted_count, result.matched_count, result.deleted_count, result.upserted_count)
    expect("ordered bulk", counts, (3, 5, 1, 1))
    try:
        await done(db.bulk.bulk_write(
            [InsertOne({"_id": 5}), InsertOne({"_id": 1}), InsertOne({"_id": 6}), DeleteOne({"_id": 4})], ordered=False))
        raise AssertionError("unordered bulk: did not fail")
    except BulkWriteError as error:
        codes = [(each["index"], each["code"]) for each in error.details["writeErrors"]]
        expect("unordered bulk", (codes, error.details["nInserted"], error.details["nRemoved"]), ([(1, 11000)], 2, 1))
    expect("bulk count", await done(db.bulk.count_documents({})), 4)

    unacked, blind = db.unacked, db.get_collection("unacked", write_concern=UNACKNOWLEDGED)
    expect("w:0 insert", (await done(blind.insert_one({"_id": 1, "v": 1}))).acknowledged, False)
    await done(unacked.insert_one({"_id": 2, "v": 2}))
    await until("w:0 insert read", 2, lambda: unacked.count_documents({}))
    expect("w:0 update", (await done(blind.update_one({"_id": 2}, {"$set": {"v": 20}}))).acknowledged, False)
    await done(db.command("ping"))
    await until("w:0 update read", {"_id": 2, "v": 20}, lambda: unacked.find_one({"_id": 2}))
    expect("w:0 delete", (await done(blind.delete_one({"_id": 1}))).acknowledged, False)
    await done(db.command("ping"))
    await until("w:0 delete read", 1, lambda: unacked.count_documents({}))


async def reads(client, db):
    items = db["items"]
    found = await documents(items.find({}, sort=[("_id", 1)], batch_size=50))
    expect("find in batches", [each["_id"] for each in found], list(range(250)))
    found = await documents(items.find({"group": 3}, {"_id": 0, "n": 1}, sort=[("n", -1)], limit=7))
    expect("find with limit", [each["n"] for each in found], list(range(248, 217, -5)))
    cursor = items.find({}, batch_size=2)
    expect("find three", len(await documents(cursor, limit=3)), 3)
    await done(cursor.close())
    expect("count", await done(items.count_documents({"group": 1})), 50)
    expect("estimated count", await done(items.estimated_document_count()), 250)
    expect("distinct", await done(items.distinct("group")), [0, 1, 2, 3, 4])


async def aggregates(client, db):
    sums = [{"$group": {"_id": "$group", "sum": {"$sum": "$n"}}}, {"$sort": {"_id": 1}}]
    wanted = [{"_id": group, "sum": 6125 + 50 * group} for group in range(5)]
    expect("group", await documents(db["items"].aggregate(sums)), wanted)
    found = await documents(db["items"].aggregate([{"$sort": {"_id": 1}}], batchSize=20))
    expect("aggregate in batches", len(found), 250)
    document = {
        "_id": "types", "double": 1.5, "nan": float("nan"), "negativeZero": -0.0, "infinity": float("inf"),
        "string": "plain", "emptyString": "", "unicode": "žluťoučký kůň 🐎", "nul": "a\0b",
        "nested": {"a": {"b": {"c": 1}}}, "emptyDocument": {}, "array": [1, "two", [3.0], {"four": 4}, []],
        "binary": Binary(b"\x00\x01\x02\xff"), "uuid": Binary.from_uuid(uuid.UUID("00112233-4455-6677-8899-aabbccddeeff")),
        "objectId": ObjectId("0123456789abcdef01234567"), "true": True, "false": False,
        "date": datetime.datetime(2026, 1, 2, 3, 4, 5, 678000), "earlyDate": datetime.datetime(1901, 2, 3, 4, 5, 6),
        "null": None, "regex": Regex("^a.*b$", "im"), "code": Code("function () {}"), "int32": 2147483647,
        "int64": Int64(9007199254740993), "decimal128": Decimal128("1.10"), "timestamp": Timestamp(1, 2),
        "minKey": MinKey(), "maxKey": MaxKey(), "": "empty key",
    }
    await done(db.types.insert_one(document))
    expect("types", events.canonical(await done(db.types.find_one({"_id": "types"}))), events.canonical(document))


async def changes(client, db):
    items = db["items"]
    expect("update one", (await done(items.update_one({"_id": 1}, {"$set": {"touched": True}}))).modified_count, 1)
    expect("update many", (await done(items.update_many({"group": 2}, {"$inc": {"n": 1000}}))).modified_count, 50)
    expect("upsert", (await done(items.replace_one({"_id": "up"}, {"name": "upserted"}, upsert=True))).upserted_id, "up")
    expect("delete one", (await done(items.delete_one({"_id": "up"}))).deleted_count, 1)
    expect("delete many", (await done(items.delete_many({"group": 4}))).deleted_count, 50)
    found = await done(
        items.find_one_and_update({"_id": 5}, {"$set": {"name": "after"}}, return_document=ReturnDocument.AFTER))
    expect("find and update", found["name"], "after")
    found = await done(items.find_one_and_replace({"_id": 6}, {"name": "replaced"}))
    expect("find and replace", found["name"], "item-6")
    expect("find and delete", (await done(items.find_one_and_delete({"_id": 7})))["name"], "item-7")


async def schema(client, db):
    expect("create index", await done(db["items"].create_index([("n", 1)])), "n_1")
    expect("create unique index", await done(db.keyed.create_index([("key", 1)], unique=True)), "key_1")
    names = sorted(index["name"] for index in await documents(db.keyed.list_indexes()))
    expect("list indexes", names, ["_id_", "key_1"])
    await done(db["items"].drop_index("n_1"))
    expect("drop index", len(await documents(db["items"].list_indexes())), 1)
    await done(db.create_collection("created"))
    expect("create collection", "created" in [each["name"] for each in await documents(db.list_collections())], True)
    await done(db.drop_collection("created"))
    expect("drop collection", "created" in await done(db.list_collection_names()), False)
    expect("list databases", db.name in await done(client.list_database_names()), True)


async def failures(client, db):
    await failure("unknown command", OperationFailure, 59, lambda: db.command("mongotapNoSuchCommand"))
    await failure("bad operator", OperationFailure, 2, lambda: db["items"].find_one({"n": {"$noSuchOperator": 1}}))
    await failure("duplicate key", DuplicateKeyError, 11000, lambda: db.single.insert_one({"_id": 1}))
    await failure("bad modifier", WriteError, 9, lambda: db.single.update_one({"_id": 1}, {"$noSuchModifier": {"n": 1}}))


async def size_and_concurrency(client, db):
    text = "x" * 1_048_576
    await done(db.large.insert_one({"_id": 1, "text": text}))
    expect("large document", (await done(db.large.find_one({"_id": 1})))["text"], text)

    async def worker(number):
        for i in range(5):
            identity = 10 * number + i
            expect("parallel insert", (await done(db.parallel.insert_one({"_id": identity}))).inserted_id, identity)

    if isinstance(client, pymongo.MongoClient):
        with ThreadPoolExecutor(4) as pool:
            list(pool.map(lambda number: asyncio.run(worker(number)), range(4)))
    else:
        await asyncio.gather(*(worker(number) for number in range(4)))
    expect("parallel count", await done(db.parallel.count_documents({})), 20)


async def files(db, bucket_of):
    content = bytes(i * 31 % 251 for i in range(300_000))
    bucket = bucket_of(db, chunk_size_bytes=65_536)
    identity = await done(bucket.upload_from_stream("file", content))
    expect("chunks", await done(db["fs.chunks"].count_documents({})), 5)
    stream = await done(bucket.open_download_stream(identity))
    expect("download", await done(stream.read()), content)


async def exhaust(client, db):
    found = await documents(db["items"].find({}, batch_size=50, cursor_type=pymongo.CursorType.EXHAUST))
    expect("exhaust cursor", len(found), 199)


async def main(driver):
    client_of, bucket_of = CLIENTS[driver]
    path = os.environ.get("MONGOTAP_TEST_EVENTS")
    listeners = [events.Commands(events.File(path))] if path else []
    client = client_of(os.environ["MONGODB_URI"], appName=f"mongotap-test-{driver}", event_listeners=listeners)
    db = client[os.environ["MONGOTAP_TEST_DB"]]
    for step in [start, writes, reads, aggregates, changes, schema, failures, size_and_concurrency, exhaust]:
        await step(client, db)
    await files(db, bucket_of)
    await done(client.close())
    print(f"ok {len(operations)}")


asyncio.run(main(sys.argv[1]))
