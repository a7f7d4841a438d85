//! What an application with orders says to its server, made by a seed: inserts of ten, finds of one and of many, updates,
//! an aggregation. Drivers' own fields are there; the dates are old ones, so that they are constants.

use bson::oid::ObjectId;
use bson::spec::BinarySubtype;
use bson::{Binary, DateTime, RawDocumentBuf, rawdoc};
use bytes::BytesMut;
use mongotap::wire::{OpMsg, Sequence};

/// Orders of a customer.
const ORDERS: u32 = 10;

/// Words of a language, some of them frequent and most rare: a capture of them is about as well compressed as one of prose.
const VOCABULARY: f64 = 20_000.0;

/// A question, and whether what it is answered changes nothing and is worth comparing.
pub(crate) struct Question {
    pub(crate) frame: Vec<u8>,
    pub(crate) is_find: bool,
}

/// What is asked about one customer, in that order.
pub(crate) fn of_customer(customer: u32) -> Vec<Question> {
    let mut random = Random(u64::from(customer) + 1);
    let orders: Vec<_> = (0..ORDERS).map(|order| order_of(customer, order, &mut random)).collect();
    let name = format!("customer {customer}");
    let asks = |document: RawDocumentBuf| Question { frame: frame(document, customer, None), is_find: true };
    let writes = |document, identifier, documents: &[RawDocumentBuf]| Question {
        frame: frame(document, customer, Some((identifier, documents))),
        is_find: false,
    };
    let by_id = |order: u32| asks(rawdoc! { "find": "orders", "filter": { "_id": id(customer, order) }, "limit": 1 });
    let update = rawdoc! {
        "q": { "_id": id(customer, 3) },
        "u": { "$set": { "status": "shipped" }, "$push": { "history": { "by": random.words(2), "at": random.date() } } },
    };
    vec![
        writes(rawdoc! { "insert": "orders", "ordered": true }, "documents", &orders),
        asks(
            rawdoc! { "find": "orders", "filter": { "customer.name": name.as_str() }, "sort": { "placed": -1 }, "limit": 20 },
        ),
        by_id(1),
        by_id(3),
        writes(rawdoc! { "update": "orders", "ordered": true }, "updates", &[update]),
        asks(
            rawdoc! { "find": "orders", "filter": { "customer.name": name.as_str(), "status": { "$in": ["open", "paid"] } } },
        ),
        by_id(7),
        asks(rawdoc! {
            "aggregate": "orders",
            "pipeline": [
                { "$match": { "customer.name": name.as_str() } },
                { "$group": { "_id": "$status", "total": { "$sum": "$total" } } },
                { "$sort": { "_id": 1 } },
            ],
            "cursor": {},
        }),
    ]
}

/// The command that makes the finds quick to record.
pub(crate) fn index() -> Vec<u8> {
    let keys = rawdoc! { "key": { "customer.name": 1 }, "name": "customer" };
    frame(rawdoc! { "createIndexes": "orders", "indexes": [keys] }, 0, None)
}

fn order_of(customer: u32, order: u32, random: &mut Random) -> RawDocumentBuf {
    let mut item = || {
        let sku = format!("{:08x}", random.next() as u32);
        rawdoc! { "sku": sku, "title": random.words(3), "quantity": random.below(9) as i32 + 1, "price": random.price() }
    };
    let items = bson::RawArrayBuf::from_iter([item(), item(), item()]);
    let status = ["open", "paid", "packed", "shipped"][random.below(4) as usize];
    rawdoc! {
        "_id": id(customer, order),
        "customer": {
            "name": format!("customer {customer}"),
            "email": format!("{}.{}@example.com", random.words(1), random.below(100_000)),
            "address": { "street": random.words(2), "number": random.below(300) as i32, "city": random.words(1) },
        },
        "status": status,
        "items": items,
        "total": random.price(),
        "placed": random.date(),
        "note": random.words(16),
    }
}

fn id(customer: u32, order: u32) -> ObjectId {
    let mut bytes = [0x5c; 12];
    bytes[4..8].copy_from_slice(&customer.wrapping_mul(2_654_435_761).to_be_bytes());
    bytes[8..].copy_from_slice(&(customer * ORDERS + order).to_be_bytes());
    ObjectId::from_bytes(bytes)
}

/// A command as drivers send it: with a session, and a write's documents beside it.
fn frame(mut command: RawDocumentBuf, customer: u32, sequence: Option<(&str, &[RawDocumentBuf])>) -> Vec<u8> {
    let session = Binary { subtype: BinarySubtype::Uuid, bytes: vec![customer as u8; 16] };
    command.append(bson::raw::cstr!("lsid"), rawdoc! { "id": session });
    command.append(bson::raw::cstr!("$db"), "shop");
    let documents = sequence.map(|(_, documents)| documents).unwrap_or_default();
    let documents: Vec<u8> = documents.iter().flat_map(|document| document.as_bytes()).copied().collect();
    let mut message = OpMsg::new(0, command.as_bytes());
    if let Some((identifier, _)) = sequence {
        message.sequences = vec![Sequence { identifier: identifier.as_bytes(), documents: &documents }];
    }
    let mut frame = BytesMut::new();
    message.encode(1, 0, &mut frame).unwrap();
    frame.to_vec()
}

/// Numbers by a seed (xorshift64).
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 16
    }

    fn below(&mut self, limit: u64) -> u64 {
        self.next() % limit
    }

    fn words(&mut self, count: usize) -> String {
        (0..count).map(|_| self.word()).collect::<Vec<_>>().join(" ")
    }

    /// How frequent a word is goes by its place among them all.
    fn word(&mut self) -> String {
        let place = VOCABULARY.powf(self.below(1 << 20) as f64 / f64::from(1 << 20)) as u64;
        let mut letters = Self(place.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
        let syllables = 1 + letters.below(3);
        let mut syllable = || {
            let consonant = b"bcdfghklmnprstvz"[letters.below(16) as usize];
            let vowel = b"aeiou"[letters.below(5) as usize];
            let end = b"nrst"[letters.below(4) as usize];
            [consonant, vowel, end].map(char::from)
        };
        (0..syllables).flat_map(|_| syllable()).collect()
    }

    fn price(&mut self) -> f64 {
        self.below(50_000) as f64 / 100.0
    }

    fn date(&mut self) -> DateTime {
        DateTime::from_millis(1_546_300_800_000 + self.below(31_536_000_000) as i64)
    }
}
