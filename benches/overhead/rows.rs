//! What is measured, and the goals it is measured by.

/// One kind of work.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Row {
    pub(crate) name: &'static str,
    pub(crate) what: &'static str,
    pub(crate) plan: Plan,
    pub(crate) connections: u32,
    /// Requests in flight on each connection.
    pub(crate) depth: usize,
    /// Inserts of this length on the wire, instead of finds.
    pub(crate) insert_bytes: Option<usize>,
    /// The reply to a find, on the wire, before compression.
    pub(crate) reply_bytes: usize,
    pub(crate) zstd: bool,
    /// All processes on one core. With one message on its way at a time they take turns anyway, and where the
    /// scheduler happens to put them makes more of a difference than what they do.
    pub(crate) one_core: bool,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Plan {
    /// As many operations as go into a time.
    Timed,
    /// A few inserts, then a few finds, all of the largest size; what counts is the memory they leave behind.
    Large,
    /// Connections that have said hello and nothing since; what counts is their memory.
    Idle,
    /// More and more operations through one proxy; what counts is that each costs the same.
    Events,
}

const FINDS: Row = Row {
    name: "c64",
    what: "64 connections, 200 B replies",
    plan: Plan::Timed,
    connections: 64,
    depth: 1,
    insert_bytes: None,
    reply_bytes: 200,
    zstd: false,
    one_core: false,
};

pub(crate) const ROWS: [Row; 10] = [
    FINDS,
    Row { name: "c1", what: "1 connection, 200 B replies, on one core", connections: 1, one_core: true, ..FINDS },
    Row { name: "c1cores", what: "1 connection, 200 B replies, on any core", connections: 1, ..FINDS },
    Row { name: "c64x8", what: "64 connections, 8 requests in flight each", depth: 8, ..FINDS },
    Row {
        name: "insert64k",
        what: "8 connections, 64 KiB inserts",
        connections: 8,
        insert_bytes: Some(64 << 10),
        ..FINDS
    },
    Row { name: "reply1m", what: "8 connections, 1 MB replies", connections: 8, reply_bytes: 1_000_000, ..FINDS },
    Row { name: "zstd", what: "64 connections, 2 kB replies, zstd both ways", reply_bytes: 2000, zstd: true, ..FINDS },
    Row {
        name: "big48m",
        what: "2 connections, 48 MB inserts, then 48 MB replies",
        plan: Plan::Large,
        connections: 2,
        insert_bytes: Some(48_000_000),
        reply_bytes: 48_000_000,
        ..FINDS
    },
    Row { name: "idle1000", what: "1000 idle connections", plan: Plan::Idle, connections: 1000, ..FINDS },
    Row { name: "events", what: "cost of an event in longer and longer runs", plan: Plan::Events, ..FINDS },
];

/// One thing that there is more and more of.
pub(crate) struct Growth {
    /// What there is more of.
    pub(crate) of: &'static str,
    pub(crate) rows: &'static [Row],
    /// What is put in between, as `--proxies` takes it.
    pub(crate) proxies: &'static [&'static str],
}

const fn connections(name: &'static str, what: &'static str, connections: u32) -> Row {
    Row { name, what, connections, ..FINDS }
}

const fn replies(name: &'static str, what: &'static str, reply_bytes: usize) -> Row {
    Row { name, what, connections: 8, reply_bytes, ..FINDS }
}

pub(crate) const GROWTH: [Growth; 4] = [
    Growth {
        of: "connections, 200 B replies",
        rows: &[
            connections("connections1", "1", 1),
            connections("connections10", "10", 10),
            connections("connections100", "100", 100),
            connections("connections1000", "1 000", 1000),
        ],
        proxies: &["haproxy:1", "haproxy:2", "mongotap"],
    },
    Growth {
        of: "replies to 8 connections",
        rows: &[
            // With a document of 100 B.
            replies("reply200", "200 B", 200),
            replies("reply1k", "1 kB", 1000),
            replies("reply10k", "10 kB", 10_000),
            replies("reply100k", "100 kB", 100_000),
            replies("reply1m", "1 MB", 1_000_000),
            replies("reply10m", "10 MB", 10_000_000),
            replies("reply48m", "48 MB", 48_000_000),
        ],
        proxies: &["haproxy:1", "haproxy:2", "mongotap"],
    },
    Growth {
        of: "threads, 64 connections with 8 requests in flight each",
        rows: &[Row { name: "threads", what: "threads", depth: 8, ..FINDS }],
        proxies: &["haproxy:1", "haproxy:2", "mongotap:1", "mongotap:2", "mongotap:4"],
    },
    Growth {
        of: "events in a log",
        rows: &[Row { name: "events", what: "cost of an event", plan: Plan::Events, ..FINDS }],
        proxies: &["mongotap"],
    },
];

/// A number that a goal is about.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Figure {
    /// CPU time per operation, of the better HAProxy's.
    Cpu,
    /// Operations per second, of the better HAProxy's. For one size of message that is MB/s too.
    Throughput,
    /// What the median latency is above that of a direct connection, of the better HAProxy's.
    AddedP50,
    /// The most memory the process ever had resident, in MB.
    PeakMemory,
    /// Resident memory of one idle connection, in kB.
    IdleMemory,
    /// Cost of an event in the longest run, of the median of the shorter ones.
    Growth,
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct Goal {
    pub(crate) row: &'static str,
    pub(crate) figure: Figure,
    pub(crate) goal: f64,
    /// What must be reached even where the goal is missed.
    pub(crate) floor: Option<f64>,
}

pub(crate) const GOALS: [Goal; 8] = [
    Goal { row: "c64", figure: Figure::Cpu, goal: 1.0, floor: Some(1.3) },
    Goal { row: "c64", figure: Figure::Throughput, goal: 1.0, floor: None },
    Goal { row: "c1", figure: Figure::AddedP50, goal: 1.0, floor: Some(1.15) },
    Goal { row: "c64x8", figure: Figure::Cpu, goal: 1.0, floor: None },
    Goal { row: "insert64k", figure: Figure::Throughput, goal: 1.3, floor: None },
    Goal { row: "big48m", figure: Figure::PeakMemory, goal: 64.0, floor: None },
    Goal { row: "idle1000", figure: Figure::IdleMemory, goal: 16.0, floor: None },
    Goal { row: "events", figure: Figure::Growth, goal: 1.15, floor: None },
];

impl Goal {
    /// Whether more is better.
    pub(crate) fn at_least(&self) -> bool {
        self.figure == Figure::Throughput
    }

    pub(crate) fn met(&self, value: f64, limit: f64) -> bool {
        if self.at_least() { value >= limit } else { value <= limit }
    }
}
