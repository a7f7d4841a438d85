"""Steady writes with PyMongo; see "Writer" in ../workload.md."""

import os
import sys
import threading
import time

import pymongo

ended = threading.Event()


def wait_for_end():
    sys.stdin.read()
    ended.set()


def main():
    threading.Thread(target=wait_for_end, daemon=True).start()
    client = pymongo.MongoClient(os.environ["MONGODB_URI"], appName="mongotap-test-pymongo")
    collection = client[os.environ["MONGOTAP_TEST_DB"]].writes_pymongo
    number = 0
    while not ended.wait(0.02):
        began = time.monotonic()
        try:
            collection.insert_one({"_id": number})
            outcome, message = "ok", ""
        except pymongo.errors.PyMongoError as error:
            outcome, message = "failed", " " + str(error).replace("\n", " ")
        micros = round((time.monotonic() - began) * 1_000_000)
        print(f"{outcome} {number} {micros}{message}", flush=True)
        number += 1
    client.close()


main()
