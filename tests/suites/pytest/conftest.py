"""A collection of its own for each test, at the server that MONGODB_URI names."""
import os

import pymongo
import pytest


@pytest.fixture
def collection(request):
    with pymongo.MongoClient(os.environ["MONGODB_URI"], serverSelectionTimeoutMS=10000) as client:
        collection = client.get_default_database("shop")[request.node.name]
        collection.drop()
        yield collection
