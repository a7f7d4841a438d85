"""Orders, with ids and times that are made anew in each run."""
import datetime

import pymongo
import pytest


def now():
    return datetime.datetime.now(datetime.timezone.utc).replace(microsecond=0)


def test_paid_orders_are_found(collection):
    collection.insert_many([{"n": n, "status": "paid" if n % 3 else "open"} for n in range(9)])
    paid = collection.find({"status": "paid"}, batch_size=2).sort("n")
    assert [order["n"] for order in paid] == [1, 2, 4, 5, 7, 8]


def test_an_order_is_found_by_its_id(collection):
    made = collection.insert_one({"item": "tea", "made": now()})
    order = collection.find_one({"_id": made.inserted_id})
    assert order["item"] == "tea" and str(order["_id"]) == str(made.inserted_id)


@pytest.mark.parametrize("discount", [5, 10])
def test_discounts(collection, discount):
    collection.insert_one({"_id": 1, "total": 100})
    collection.update_one({"_id": 1}, {"$inc": {"total": -discount}})
    assert collection.find_one({"_id": 1})["total"] == 100 - discount


def test_numbers_are_unique(collection):
    collection.create_index("number", unique=True)
    collection.insert_one({"number": 1})
    with pytest.raises(pymongo.errors.DuplicateKeyError):
        collection.insert_one({"number": 1})


@pytest.mark.parametrize("customer", range(6))
def test_each_customer_has_a_count(collection, customer):
    collection.insert_many([{"customer": customer, "n": n} for n in range(customer)]) if customer else None
    assert collection.count_documents({"customer": customer}) == customer
