//! Connections that end: by a close or a reset, of either side, in every phase, and by halves.

use std::io::Read as _;
use std::net::Shutdown;
use std::time::Duration;

use bson::doc;

use crate::pair::{Between, Pair, exchange, pass, reset, rest};
use crate::stalls::write_until_it_waits;
use crate::support::now;
use crate::usage::{descriptors, wait_for_descriptors};

/// How far a connection comes before it ends.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Phase {
    /// Nothing was said.
    Fresh,
    /// Within the first request.
    Asking,
    /// Between a request and its reply.
    Waiting,
    /// Within the reply.
    Answering,
    /// Behind the reply.
    Answered,
}

use Phase::{Answered, Answering, Asking, Fresh, Waiting};

pub(crate) fn in_every_phase() -> String {
    let between = Between::start(&[]);
    let pid = between.proxy.pid();
    let files = descriptors(pid);
    let (mut failed, mut succeeded) = (0, 0);
    for phase in [Fresh, Asking, Waiting, Answering, Answered] {
        for (by_client, by_reset) in [(true, true), (true, false), (false, true), (false, false)] {
            let pair = between.pair();
            let (ending, mut other) = come_to(phase, pair, by_client);
            if by_reset {
                reset(ending)
            } else {
                drop(ending)
            }
            let rest = rest(&mut other);
            assert!(rest.is_empty(), "{phase:?}, by client {by_client}, by reset {by_reset}: {rest:?}");
            drop(other);
            wait_for_descriptors(pid, files);
            match phase {
                Fresh | Asking => {}
                Waiting | Answering => failed += 1,
                Answered => succeeded += 1,
            }
        }
    }
    let (tally, _) = between.proxy.end();
    assert_eq!((tally.opened, tally.failed, tally.succeeded), (20, failed, succeeded), "{tally:?}");
    format!("{} ends of connections in 5 phases, {failed} commands failed, {succeeded} did not", tally.closed)
}

/// Brings a connection so far. The end that is to end it, and the other one.
fn come_to(phase: Phase, pair: Pair, by_client: bool) -> (std::net::TcpStream, std::net::TcpStream) {
    let Pair { mut client, mut server } = pair;
    let (request, reply) = exchange(&doc! { "find": "items", "$db": "ends" });
    match phase {
        Fresh => {}
        Asking => pass(&mut client, &mut server, &request[..20]),
        Waiting => pass(&mut client, &mut server, &request),
        Answering => {
            pass(&mut client, &mut server, &request);
            pass(&mut server, &mut client, &reply[..20]);
        }
        Answered => {
            pass(&mut client, &mut server, &request);
            pass(&mut server, &mut client, &reply);
        }
    }
    if by_client { (client, server) } else { (server, client) }
}

pub(crate) fn by_halves() -> String {
    let between = Between::start(&[]);
    let files = descriptors(between.proxy.pid());
    let (request, reply) = exchange(&doc! { "find": "items", "filler": "x".repeat(300_000), "$db": "ends" });

    // A client that has said all still hears.
    let Pair { mut client, mut server } = between.pair();
    pass(&mut client, &mut server, &request);
    client.shutdown(Shutdown::Write).expect("the connection stands");
    assert_eq!(server.read(&mut [0]).expect("it is told"), 0, "that nothing more comes");
    pass(&mut server, &mut client, &reply);
    drop(server);
    assert_eq!(client.read(&mut [0]).expect("it is told"), 0);

    // A server that has said all still listens.
    let Pair { mut client, mut server } = between.pair();
    server.shutdown(Shutdown::Write).expect("the connection stands");
    assert_eq!(client.read(&mut [0]).expect("it is told"), 0, "that nothing more comes");
    pass(&mut client, &mut server, &request);
    drop(client);
    assert!(rest(&mut server).is_empty());
    drop(server);

    wait_for_descriptors(between.proxy.pid(), files);
    let (tally, _) = between.proxy.end();
    assert_eq!((tally.opened, tally.succeeded), (2, 1), "{tally:?}");
    "either side may end first".to_owned()
}

/// Servers that stand still do not keep what clients that have gone had.
pub(crate) fn unheard() -> String {
    let between = Between::start(&[]);
    let pid = between.proxy.pid();
    let files = descriptors(pid);
    let (request, _) = exchange(&doc! { "insert": "items", "filler": "x".repeat(1_000_000), "$db": "ends" });

    // It had said all, and waited.
    let Pair { mut client, mut server } = between.pair();
    pass(&mut client, &mut server, &request);
    client.shutdown(Shutdown::Write).expect("the connection stands");
    assert_eq!(server.read(&mut [0]).expect("it is told"), 0, "that nothing more comes");
    reset(client);
    let begun = now();
    wait_for_descriptors(pid, files);
    let after_all = begun.elapsed();

    // It had more to say than anybody took.
    let Pair { client: mut loud, server: deaf } = between.pair();
    loud.set_write_timeout(Some(Duration::from_millis(300))).expect("a socket has the option");
    write_until_it_waits(&mut loud, &request);
    reset(loud);
    let begun = now();
    wait_for_descriptors(pid, files);
    let before_all = begun.elapsed();
    drop((server, deaf));
    let (tally, _) = between.proxy.end();
    assert_eq!((tally.opened, tally.succeeded), (2, 0), "{tally:?}");
    format!("let go of {after_all:.1?} after one that waited went, and {before_all:.1?} after one that was writing")
}
