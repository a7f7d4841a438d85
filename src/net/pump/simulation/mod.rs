//! The pump and the session between peers in memory, in time that is made up, with something going wrong at any read and
//! any write: whatever happens, what goes on is what came, nobody waits for ever, and every request has its events.
//!
//! A run is made from its seed alone. `MONGOTAP_TEST_SEED=N` makes the one run of that seed, `MONGOTAP_TEST_LONG=SECONDS`
//! makes runs of new seeds for so long. What a broken pump would do is planted, to see that it is found.

mod checks;
mod random;
mod script;
mod world;

use std::cell::RefCell;
use std::future::poll_fn;
use std::panic::{self, AssertUnwindSafe};
use std::rc::Rc;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::time::Instant;

use super::{Pump, Rewriting, Stop};
use crate::capture::mtap::Records;
use crate::config::{Config, Flags};
use crate::event::{Connection, Entry, Input, Side};
use crate::net::members::{Member, Members};
use crate::net::{clock, local};
use crate::pipeline::Pipeline;
use crate::redact::Redacted;
use crate::session::{Limits, Shared};
use crate::sink::sample::connection;
use random::Random;
use script::Script;
use world::{Faults, Leaving, Planted, Simulated, World};

/// Runs that are made without being asked for more.
const RUNS: u64 = 3000;

/// A connection that has not ended by then has been forgotten by somebody.
const PATIENCE: Duration = Duration::from_secs(3600);

/// A date in 2026.
const DATE: i64 = 1_795_333_471_000_000;

/// How a run went.
struct Outcome {
    world: World,
    entries: Vec<Redacted<Entry<'static>>>,
    /// What a capture of it would hold, if there was one.
    captured: Option<Records>,
    shared: Shared,
    connection: Arc<Connection>,
    /// Whether the pump was told to end.
    stop: Option<Stopping>,
    is_over: bool,
    /// For how long the pump listened to a side that had closed its socket.
    heard_deaf: [Option<Duration>; 2],
    /// The most that a direction kept, and how much a thread reads at a time.
    most_kept: usize,
    scratch_len: usize,
    /// How often the pipeline was away.
    away: usize,
    /// Whether a read waited for it, and whether the rest of one did that is rewritten.
    waited: [bool; 2],
    /// What the client is to hear in the place of the reply to its `hello`, if that is not to go on as it is.
    rewritten: Option<Vec<u8>>,
}

/// When the proxy ends: first gently, and then at once.
#[derive(Clone, Copy, Debug)]
struct Stopping {
    drain: Duration,
    abort: Option<Duration>,
}

/// What a run is to be like.
#[derive(Debug)]
struct Plan {
    faults: Faults,
    leaving: Leaving,
    stop: Option<Stopping>,
    scratch_len: usize,
    /// What is more is understood on another thread.
    at_once: usize,
    idle_after: Duration,
    is_captured: bool,
    /// The server is a member of a replica set.
    is_member: bool,
    /// The wall clock is set, by so many microseconds, after so many looks at it.
    set_clock: (u64, i64),
}

impl Plan {
    fn new(random: &mut Random) -> Self {
        let faults = match random.below(4) {
            0 => Faults::default(),
            1 => Faults { waits: 4, parts: 3, ..Faults::default() },
            2 => Faults { waits: 6, parts: 2, errors: random.pick(&[10, 60]), ends: 0 },
            _ => Faults { waits: 6, parts: 2, errors: random.pick(&[0, 100]), ends: random.pick(&[3, 10, 60]) },
        };
        let stop = random.once_in(4).then(|| {
            let millis = |random: &mut Random| Duration::from_millis(random.pick(&[0, 1, 10, 300, 3000]));
            let drain = millis(random);
            Stopping { drain, abort: random.once_in(2).then(|| drain + millis(random)) }
        });
        let leaving = match random.below(6) {
            0 => Leaving::ClientEarly,
            1 => Leaving::Server,
            2 => Leaving::ServerAfter(1 + random.below(4)),
            3 if stop.is_some_and(|stop| stop.abort.is_some()) => Leaving::Nobody,
            _ => Leaving::Client,
        };
        let hour = 3_600_000_000;
        Self {
            faults,
            leaving,
            stop,
            scratch_len: random.pick(&[64, 1000, 16_384]),
            at_once: random.pick(&[0, 100, usize::MAX]),
            idle_after: Duration::from_millis(random.pick(&[1, 100, 15_000])),
            is_captured: random.once_in(2),
            is_member: random.once_in(3),
            set_clock: (random.below(60) as u64, random.pick(&[0, hour, -hour, 50_000, -50_000])),
        }
    }
}

/// Makes the run of a seed.
fn run(seed: u64, planted: Option<Planted>, is_traced: bool) -> Outcome {
    let mut random = Random::new(seed);
    let plan = Plan::new(&mut random);
    let script = Script::new(&mut random);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
    runtime.block_on(async {
        let mut world = World::new(random, script, plan.faults, plan.leaving, planted);
        world.trace = is_traced.then(Vec::new);
        pump(world, plan, planted).await
    })
}

async fn pump(world: World, plan: Plan, planted: Option<Planted>) -> Outcome {
    let started = Instant::now();
    clock::simulated::set(0, DATE);
    let entries = Rc::new(RefCell::new(Vec::new()));
    local::pretended::start(plan.scratch_len, plan.at_once, tap(&entries, planted));
    let (connection, shared) = (connection(1), shared(plan.idle_after, plan.is_captured));
    let captured = Arc::new(Mutex::new(Records::default()));
    let at = clock::now();
    let pipeline = match plan.is_captured {
        true => Pipeline::recorded(Arc::clone(&connection), at, shared.clone(), {
            let captured = Arc::clone(&captured);
            Box::new(move |input: &Redacted<Input<'_>>| captured.lock().unwrap().push(input))
        }),
        false => Pipeline::new(Arc::clone(&connection), at, shared.clone()),
    };
    let world = Rc::new(RefCell::new(world));
    let stream = |side| Simulated { side, world: Rc::clone(&world) };
    let stop = Stop::default();
    let (rewriting, rewritten) = if plan.is_member { rewriting(&world.borrow().script) } else { (None, None) };
    let (client, server) = (stream(Side::Client), stream(Side::Server));
    let mut pump = Box::pin(Pump::new(client, server, pipeline, rewriting, plan.idle_after, &stop));
    let (mut most_kept, mut waited) = (0, [false; 2]);
    let mut looks = 0;
    let polled = poll_fn(|cx| {
        looks += 1;
        let elapsed = started.elapsed();
        let set_by = if looks > plan.set_clock.0 { plan.set_clock.1 } else { 0 };
        clock::simulated::set(elapsed.as_nanos() as u64, DATE + elapsed.as_micros() as i64 + set_by);
        let polled = pump.as_mut().poll(cx);
        waited[0] |= [Side::Client, Side::Server].iter().any(|side| pump.watch.is_full(*side));
        waited[1] |= pump.rewriting.as_ref().is_some_and(|rewriting| rewriting.has_rest());
        most_kept = most_kept.max(pump.requests.kept.len()).max(pump.replies.kept.len());
        polled
    });
    let stopping = async {
        let Some(Stopping { drain, abort }) = plan.stop else { return std::future::pending().await };
        tokio::time::sleep_until(started + drain).await;
        stop.drain();
        let Some(abort) = abort else { return std::future::pending().await };
        tokio::time::sleep_until(started + abort).await;
        stop.abort();
        std::future::pending::<()>().await;
    };
    let is_over = tokio::select! {
        over = tokio::time::timeout(PATIENCE, polled) => over.is_ok(),
        () = stopping => unreachable!("it goes on"),
    };
    drop(pump);
    let away = local::pretended::end();
    clock::simulated::stop();
    let world = Rc::into_inner(world).unwrap().into_inner();
    let captured = plan.is_captured.then(|| std::mem::take(&mut *captured.lock().unwrap()));
    let entries = entries.take();
    let heard_deaf = [&world.client, &world.server].map(|peer| peer.deaf_since.map(|since| since.elapsed()));
    let (stop, scratch_len) = (plan.stop, plan.scratch_len);
    Outcome {
        world,
        entries,
        captured,
        shared,
        connection,
        stop,
        is_over,
        heard_deaf,
        most_kept,
        scratch_len,
        away,
        waited,
        rewritten,
    }
}

/// What has the member of [`script::MEMBER`] go by its listener's name, and what becomes of the script's `hello`.
fn rewriting(script: &Script) -> (Option<Box<Rewriting>>, Option<Vec<u8>>) {
    thread_local! {
        static MEMBERS: (Arc<Members>, Arc<Member>) = {
            let upstream = format!("mongodb://{}/?replicaSet=rs0", script::MEMBER);
            let text = format!("listen = \"127.0.0.1:0\"\nupstream = \"{upstream}\"");
            let members = Members::new(&Config::parse("", &text, &Flags::default()).unwrap()).0;
            let member = members.add_seed(&script::MEMBER.parse().unwrap(), None).unwrap();
            (Arc::new(members), member)
        };
    }
    MEMBERS.with(|(members, member)| {
        let hello = script.requests.first().filter(|request| request.is_hello).map(|it| &it.replies[0].frame);
        let rewritten = hello.map(|frame| members.rewrite(member, frame).unwrap().unwrap().to_vec());
        (Rewriting::of(members, member, Limits::default().max_message_bytes), rewritten)
    })
}

/// Keeps what would be recorded, unless something is planted.
fn tap(entries: &Rc<RefCell<Vec<Redacted<Entry<'static>>>>>, planted: Option<Planted>) -> local::pretended::Tap {
    let entries = Rc::clone(entries);
    Box::new(move |entry| {
        let times = match planted.filter(|_| entry.event.ends_command()) {
            Some(Planted::LosesAnEnd) => 0,
            Some(Planted::TellsAnEndTwice) => 2,
            _ => 1,
        };
        (0..times).for_each(|_| entries.borrow_mut().push(entry.clone().into_owned()));
    })
}

fn shared(idle_after: Duration, is_captured: bool) -> Shared {
    let max_document_bytes = if is_captured { 0 } else { 10_000 };
    Shared { limits: Limits { max_document_bytes, ..Limits::default() }, idle_after, ..Shared::default() }
}

/// Makes the run of a seed, or says what is wrong with it.
fn checked(seed: u64, planted: Option<Planted>) -> Result<Outcome, String> {
    let ran = panic::catch_unwind(AssertUnwindSafe(|| run(seed, planted, false)));
    let outcome = ran.map_err(|panicked| {
        let said = panicked.downcast_ref::<String>().cloned();
        said.or_else(|| panicked.downcast_ref().map(|it: &&str| (*it).to_owned())).unwrap_or_default()
    })?;
    checks::check(&outcome)?;
    Ok(outcome)
}

/// The last that the streams did in the run of a seed, and that was told.
fn trace(seed: u64) -> String {
    let ran = panic::catch_unwind(|| run(seed, None, true));
    let Ok(outcome) = ran else { return "it panics".to_owned() };
    let trace = outcome.world.trace.unwrap_or_default();
    let told: Vec<_> = outcome.entries.iter().map(|entry| format!("{:?}", entry.event)).collect();
    let last = |lines: &[String]| lines[lines.len().saturating_sub(60)..].join("\n");
    format!("{}\nstop: {:?}, told:\n{}", last(&trace), outcome.stop, last(&told))
}

fn asked(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

/// The seeds that are asked for.
fn seeds() -> Box<dyn Iterator<Item = u64>> {
    if let Some(seed) = asked("MONGOTAP_TEST_SEED") {
        return Box::new(std::iter::once(seed));
    }
    let Some(seconds) = asked("MONGOTAP_TEST_LONG") else { return Box::new(0..RUNS) };
    // Others every time.
    let first = clock::now();
    let until = first.after(Duration::from_secs(seconds));
    Box::new(
        (first.unix_micros.unsigned_abs()..).take_while(move |_| clock::now().monotonic_nanos < until.monotonic_nanos),
    )
}

#[test]
fn whatever_goes_wrong_what_came_goes_on_and_every_request_has_its_events() {
    let mut seen = checks::Seen::default();
    for seed in seeds() {
        match checked(seed, None) {
            Ok(outcome) => seen.add(&outcome),
            Err(wrong) => panic!("{wrong}\nMONGOTAP_TEST_SEED={seed} makes this run again:\n{}", trace(seed)),
        }
    }
    if asked("MONGOTAP_TEST_SEED").is_none() {
        seen.assert_everything_was_seen();
    }
}

#[test]
fn the_same_seed_makes_the_same_run() {
    for seed in 0..50 {
        let entries = |outcome: Outcome| outcome.entries.iter().map(|it| format!("{it:?}")).collect::<Vec<_>>();
        let (one, other) = (run(seed, None, false), run(seed, None, false));
        assert_eq!(one.world.server.heard, other.world.server.heard);
        assert_eq!(entries(one), entries(other));
    }
}

/// Each of them within so many runs.
const FOUND_WITHIN: u64 = 300;

#[test]
fn what_a_broken_pump_would_do_is_found_out() {
    use Planted::*;
    let missed: Vec<Planted> =
        [DropsAByte, ForgetsToFlush, SwapsWrites, LosesAnEnd, TellsAnEndTwice, EndsInGoodOrder, ForgetsTheEnd]
            .into_iter()
            .filter(|planted| (0..FOUND_WITHIN).all(|seed| checked(seed, Some(*planted)).is_ok()))
            .collect();
    assert!(missed.is_empty(), "{missed:?}");
}
