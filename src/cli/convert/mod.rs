//! `mongotap convert`: a fixture of a capture, a capture of a fixture, packets of either, a capture of packets, and parts
//! of them.
//!
//! The input is told by its first bytes, the output by its name. What is written is under another name until it is whole.

mod output;

use std::fs::File;
use std::io::{BufReader, Read as _};
use std::path::{Path, PathBuf};

use output::{Output, clear_on_signals, refused};

use super::args::RedactArgs;
use super::event_file::{EventFile, say_ends, say_next, say_others};
use super::parts::of_one_capture;
use super::proxy::say_met_nowhere;
use super::{Code, Error, print};
use crate::bson::nearest;
use crate::capture::convert::{Filter, Masking, Only, Selecting, Selection, filter_capture, record};
use crate::capture::exchange::Exchange;
use crate::capture::fixture::{Collected, FileNames, Fixture, Header, ReadError, Reader, collect};
use crate::capture::mtap::CaptureError;
use crate::capture::open::{OpenError, Recorded, missing_exchanges};
use crate::capture::pcap::{PcapError, Summary, is_pcap, read_packets, write_packets};
use crate::config::{Config, Flags, Settings, io_reason};
use crate::net::say::say;
use crate::net::secrets;
use crate::sink::plural;

/// Make a fixture of a capture, or the other way round
#[derive(Debug, clap::Args)]
#[command(after_help = AFTER_HELP)]
pub struct Args {
    /// A capture, a fixture, or packets as tcpdump and Wireshark write them: told by its first bytes. Of a capture that was
    /// rotated all its files, in any order
    #[arg(required = true, value_name = "IN")]
    inputs: Vec<PathBuf>,

    /// What is written, by its name: .jsonl a fixture (mode 0644), .mtap a capture, .pcapng packets (both 0600); - is a
    /// fixture on stdout
    #[arg(required = true, value_name = "OUT")]
    output: PathBuf,

    /// Only this collection, or this database; may be repeated. Its cursors and transactions are kept whole
    #[arg(long, value_name = "DB.COLL", value_parser = |text: &str| text.parse::<Only>())]
    only: Vec<Only>,

    /// Leave out the connections of monitors and of their probes. A fixture never has them
    #[arg(long)]
    without_monitoring: bool,

    /// Only this connection of a capture, by its number in the log; may be repeated
    #[arg(long, value_name = "N")]
    connection: Vec<u64>,

    /// Mask the values of documents, not their structure: see below
    #[arg(long)]
    redact: bool,

    /// Read the section redact from this file; flags go before it
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,

    #[command(flatten)]
    fields: RedactArgs,

    /// Overwrite OUT if it is there
    #[arg(long)]
    force: bool,
}

impl Args {
    /// What is read, as it is called in messages.
    fn name(&self) -> String {
        self.inputs.iter().map(|path| path.display().to_string()).collect::<Vec<_>>().join(", ")
    }
}

/// What is written.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Form {
    Fixture,
    Capture,
    Packets,
}

impl Form {
    fn of(output: &Path) -> Result<Self, Error> {
        let extension = output.extension().map(|it| it.to_string_lossy().to_lowercase());
        match extension.as_deref() {
            _ if output == Path::new("-") => Ok(Self::Fixture),
            Some("jsonl") => Ok(Self::Fixture),
            Some("mtap") => Ok(Self::Capture),
            Some("pcapng") => Ok(Self::Packets),
            _ => Err(Error::new(Code::Usage, format!("{}: not a name that says what to write", output.display()))
                .hint("end it in .jsonl for a fixture, .mtap for a capture, .pcapng for packets")),
        }
    }
}

/// What is read.
enum Input {
    /// What its first line says.
    Fixture(Header),
    /// Where the files of the capture are.
    Capture(Vec<PathBuf>),
}

/// Converts.
///
/// # Errors
/// [`Code::Usage`] if OUT is there or its name says nothing, [`Code::Input`] if IN cannot be read to its end,
/// [`Code::Io`] if OUT cannot be written.
pub fn run(args: &Args) -> Result<(), Error> {
    let masking = masking(args)?;
    let form = Form::of(&args.output)?;
    let to_stdout = args.output == Path::new("-");
    if !args.force && !to_stdout && args.output.exists() {
        let error = Error::new(Code::Usage, format!("{}: there is a file already", args.output.display()));
        return Err(error.hint("--force overwrites it"));
    }
    clear_on_signals().map_err(|error| Error::new(Code::Io, format!("signals: {error}")))?;
    let mut packets = None;
    let input = open(args, &mut packets)?;
    let selection = select(args, &input)?;
    check_matches(args, &selection)?;
    if form == Form::Fixture {
        let collected = fixture(args, &masking, &input, &selection)?;
        let text = collected.fixture.to_text();
        if to_stdout {
            say_unmet(&masking);
            return print(&text);
        }
        let mut output = Output::create(&args.output, "part", 0o644)?;
        output.write(|out| out.write_all(text.as_bytes()).map_err(|error| refused(&args.output, &error)))?;
        output.finish()?;
        done(args, &masking, collected.fixture.exchanges.len());
        return Ok(());
    }
    let mut output = Output::create(&args.output, "part", 0o600)?;
    let exchanges;
    if form == Form::Capture {
        exchanges = write_capture(args, &masking, &input, &selection, &mut output)?;
    } else {
        let mut capture = Output::create(&args.output, "mtap.part", 0o600)?;
        exchanges = write_capture(args, &masking, &input, &selection, &mut capture)?;
        let file = File::open(capture.path()).map_err(|error| refused(capture.path(), &error))?;
        let written =
            output.write(|out| write_packets(BufReader::new(file), out).map_err(|it| unread(args, it.into())))?;
        if written.missing > 0 {
            say(format_args!("mongotap: {} exchanges are missing in the capture", written.missing));
        }
        let others: Vec<_> = written.ports.iter().filter(|port| **port != 27017).map(u16::to_string).collect();
        if !others.is_empty() {
            let others = others.join(",");
            say(format_args!("mongotap: tell Wireshark the port: tshark -d tcp.port=={others},mongo -r FILE"));
        }
    }
    output.finish()?;
    done(args, &masking, exchanges);
    Ok(())
}

/// Which values go: those of the fields that are named, and of all documents if that is wanted.
fn masking(args: &Args) -> Result<Masking, Error> {
    let top = Settings { redact: Some(args.fields.settings()), ..Settings::default() };
    let config = Config::load(args.config.as_deref(), &Flags { top, ..Flags::default() })?;
    config.redact.check_key()?;
    let fields = secrets::fields(&config.redact)?;
    config.redact.line().iter().for_each(|line| say(format_args!("mongotap: {line}")));
    Ok(Masking { values: args.redact, fields })
}

fn done(args: &Args, masking: &Masking, exchanges: usize) {
    say(format_args!("mongotap: {}: {}", args.output.display(), plural(exchanges as u64, "exchange")));
    say_unmet(masking);
}

fn say_unmet(masking: &Masking) {
    let unmet = masking.fields.as_ref().map(|fields| fields.met_nowhere());
    say_met_nowhere("mongotap: ", &unmet.unwrap_or_default());
}

/// Whether there is something of what is asked for.
fn check_matches(args: &Args, selection: &Selection) -> Result<(), Error> {
    if selection.is_matched() {
        return Ok(());
    }
    let (input, there) = (args.name(), selection.namespaces());
    let connections = selection.connections().map(|id| id.to_string()).collect::<Vec<_>>();
    if !args.connection.iter().any(|id| connections.contains(&id.to_string())) && !args.connection.is_empty() {
        let wanted = args.connection.iter().map(u64::to_string).collect::<Vec<_>>().join(", ");
        let error = Error::new(Code::Usage, format!("{input}: nothing matches --connection {wanted}"));
        return Err(error.hint(some_of("its connections are", &connections)));
    }
    let wanted = args.only.iter().map(ToString::to_string).collect::<Vec<_>>();
    let error = Error::new(Code::Usage, format!("{input}: nothing matches --only {}", wanted.join(", ")));
    let meant = wanted.iter().find_map(|wanted| nearest(wanted, &there));
    Err(match meant {
        Some(meant) => error.hint(format!("did you mean {meant}?")),
        None => error.hint(some_of("its collections are", &there)),
    })
}

fn some_of(what: &str, names: &[impl AsRef<str>]) -> String {
    let told = names.iter().take(NAMES_TOLD).map(AsRef::as_ref).collect::<Vec<_>>().join(", ");
    match names.len() {
        0 => "nothing was asked in it".to_owned(),
        count if count > NAMES_TOLD => format!("{what} {told} and {} more", count - NAMES_TOLD),
        _ => format!("{what} {told}"),
    }
}

/// Names that are told of, where none is what was asked for.
const NAMES_TOLD: usize = 20;

/// Opens the input; packets are made a capture of, which `packets` keeps as long as it is needed.
fn open(args: &Args, packets: &mut Option<Output>) -> Result<Input, Error> {
    let [input] = &args.inputs[..] else { return Ok(Input::Capture(of_one_capture(&args.inputs)?)) };
    let mut first = [0; 8];
    let read = file(input)?.read(&mut first).map_err(|error| unread(args, error.into()))?;
    if is_pcap(&first[..read]) {
        let capture = packets.insert(Output::create(&args.output, "packets.part", 0o600)?);
        let run = input.file_name().unwrap_or_default().to_string_lossy();
        let input = BufReader::new(file(input)?);
        let summary =
            capture.write(|out| read_packets(input, &run, out).map_err(|error| unread(args, error.into())))?;
        say_of_packets(args, &summary);
        return Ok(Input::Capture(vec![capture.path().to_owned()]));
    }
    match Recorded::open(BufReader::new(file(input)?)).map_err(|error| unread(args, error.into()))? {
        Recorded::Capture(_) => Ok(Input::Capture(args.inputs.clone())),
        Recorded::Fixture(_) if !args.connection.is_empty() => {
            Err(Error::new(Code::Usage, format!("{}: a fixture has no connections", input.display()))
                .hint("--connection is for captures"))
        }
        Recorded::Fixture(fixture) => Ok(Input::Fixture(fixture.header().clone())),
    }
}

fn say_of_packets(args: &Args, summary: &Summary) {
    let input = args.name();
    for lost in &summary.lost {
        say(format_args!("mongotap: {input}: lost: {lost}"));
    }
    if summary.lost_count > summary.lost.len() as u64 {
        let (count, bytes) = (summary.lost_count, summary.lost_bytes);
        say(format_args!("mongotap: {input}: lost: {bytes} bytes in {count} places in all"));
    }
    if summary.in_pieces > 0 {
        let count = summary.in_pieces;
        say(format_args!("mongotap: {input}: {count} packets came in fragments that are not all there"));
    }
    if summary.cut_off > 0 {
        let count = summary.cut_off;
        say(format_args!("mongotap: {input}: {count} packets are cut off: capture them whole, with tcpdump -s 0"));
    }
    if summary.encrypted > 0 {
        say(format_args!(
            "mongotap: {input}: {} connections are encrypted: nothing of them is read",
            summary.encrypted
        ));
    }
    if let Some(offset) = summary.torn_at {
        say(format_args!("mongotap: {input}: torn at byte {offset}"));
    }
}

fn file(path: &Path) -> Result<File, Error> {
    File::open(path).map_err(|error| {
        Error::new(Code::Input, format!("{}: {}", path.display(), io_reason(&error)))
            .hint("mongotap proxy --capture FILE.mtap writes a capture")
    })
}

/// What is wanted of the input.
fn select(args: &Args, input: &Input) -> Result<Selection, Error> {
    let mut selecting = Selecting::new(Filter {
        only: args.only.clone(),
        connections: args.connection.clone(),
        without_monitoring: args.without_monitoring,
    });
    match input {
        Input::Fixture(_) if args.only.is_empty() => return Ok(Selection::everything()),
        Input::Fixture(_) => {
            for exchange in fixture_of(args)? {
                selecting.take(&exchange.map_err(|error| unread(args, error.into()))?);
            }
        }
        Input::Capture(paths) => {
            let mut exchanges = exchanges(args, paths)?;
            let mut unanswered = 0;
            for exchange in exchanges.by_ref() {
                let exchange = exchange.map_err(|error| unread(args, error.into()))?;
                unanswered +=
                    u64::from(exchange.wants_reply && exchange.replies.is_empty() && !exchange.is_housekeeping());
                selecting.take(&exchange);
            }
            say_ends(paths, exchanges.torn());
            let missing = exchanges.gaps().iter().cloned().chain(missing_exchanges(exchanges.missing()));
            missing.for_each(|missing| say(format_args!("mongotap: {}: {missing}", args.name())));
            say_what_is_beside(paths, unanswered);
        }
    }
    Ok(selecting.finish())
}

type Exchanges = crate::capture::exchanges::Exchanges<BufReader<File>>;

fn exchanges(args: &Args, paths: &[PathBuf]) -> Result<Exchanges, Error> {
    let mut exchanges = Exchanges::new(readers(paths)?);
    exchanges.header().map_err(|error| unread(args, error.into()))?;
    Ok(exchanges)
}

fn readers(paths: &[PathBuf]) -> Result<Vec<BufReader<File>>, Error> {
    paths.iter().map(|path| Ok(BufReader::new(file(path)?))).collect()
}

/// Says where replies may be that are missing, or else that there are other files.
fn say_what_is_beside(paths: &[PathBuf], unanswered: u64) {
    let last = paths.last().filter(|_| unanswered > 0);
    match last.and_then(|last| Some((last, EventFile::open(last).ok()?.next()?))) {
        Some((last, next)) => say_next(last, &plural(unanswered, "command"), &next.path),
        None => say_others(paths),
    }
}

/// The fixture that is read.
fn fixture_of(args: &Args) -> Result<Reader<BufReader<File>>, Error> {
    Reader::new(BufReader::new(file(&args.inputs[0])?)).map_err(|error| unread(args, error.into()))
}

/// What is wanted of the fixture that is read.
fn wanted_of<'a>(
    (args, masking): (&'a Args, &'a Masking),
    selection: &'a Selection,
    fixture: impl Iterator<Item = Result<Exchange, ReadError>> + 'a,
) -> impl Iterator<Item = Result<Exchange, Error>> + 'a {
    let exchanges = fixture.filter(|it| it.as_ref().map_or(true, |it| selection.has(it)));
    exchanges.map(|it| it.map(|exchange| wanted(masking, exchange)).map_err(|error| unread(args, error.into())))
}

/// The fixture of what is wanted.
fn fixture(args: &Args, masking: &Masking, input: &Input, selection: &Selection) -> Result<Collected, Error> {
    let mut collected = match input {
        Input::Fixture(header) => {
            let mut fixture = fixture_of(args)?;
            let exchanges = wanted_of((args, masking), selection, fixture.by_ref()).collect::<Result<_, _>>()?;
            let names = if masking.is_something() { FileNames::anew() } else { fixture.into_names() };
            let fixture = Fixture { header: header.clone(), exchanges, names };
            Collected { fixture, unread: 0 }
        }
        Input::Capture(paths) => {
            let mut exchanges = exchanges(args, paths)?;
            let header = exchanges.header().map_err(|error| unread(args, error.into()))?;
            let (redacted, redact) =
                header.map_or((false, Vec::new()), |header| (header.redacted, header.redact.clone()));
            let exchanges = exchanges.filter(|it| it.as_ref().map_or(true, |it| selection.has(it)));
            let exchanges = exchanges.map(|it| it.map(|exchange| wanted(masking, exchange)));
            let collected = collect(exchanges, RECORDED_WITH);
            let mut collected = collected.map_err(|error: CaptureError| unread(args, error.into()))?;
            (collected.fixture.header.redacted, collected.fixture.header.redact) = (redacted, redact);
            collected
        }
    };
    collected.fixture.header.redacted |= masking.is_something();
    collected.fixture.header.redact.extend(masking.rules());
    if collected.unread > 0 {
        let (input, unread) = (args.name(), plural(collected.unread as u64, "exchange"));
        say(format_args!("mongotap: {input}: {unread} too long to be read, left out"));
    }
    Ok(collected)
}

/// An exchange as it is wanted.
fn wanted(masking: &Masking, mut exchange: Exchange) -> Exchange {
    masking.exchange(&mut exchange);
    exchange
}

/// Writes a capture; how many exchanges are in it.
fn write_capture(
    args: &Args,
    masking: &Masking,
    input: &Input,
    selection: &Selection,
    output: &mut Output,
) -> Result<usize, Error> {
    match input {
        // Its names, of which a capture has values, may tell what is taken out: it is named anew.
        Input::Fixture(_) if masking.is_something() => {
            let Collected { fixture, .. } = fixture(args, masking, input, selection)?;
            let text = fixture.to_text();
            let anew = Reader::new(text.as_bytes()).map_err(|error| unread(args, error.into()))?;
            record_all(args, &fixture.header, anew.map(|it| it.map_err(|error| unread(args, error.into()))), output)
        }
        Input::Fixture(header) => {
            record_all(args, header, wanted_of((args, masking), selection, fixture_of(args)?), output)
        }
        Input::Capture(paths) => {
            let files = readers(paths)?;
            let written = output.write(|out| {
                filter_capture(files, selection, masking, out).map_err(|error| unread(args, error.into()))
            });
            written.map(|_| selection.len())
        }
    }
}

/// Writes a capture of exchanges; how many there were.
fn record_all(
    args: &Args,
    header: &Header,
    exchanges: impl Iterator<Item = Result<Exchange, Error>>,
    output: &mut Output,
) -> Result<usize, Error> {
    let mut count = 0;
    let recorded = exchanges.map(|it| it.map_err(Failed::Read)).inspect(|_| count += 1);
    output.write(|out| record(header, recorded, out).map_err(|error| error.into_error(&args.output)))?;
    Ok(count)
}

/// Why a fixture does not become a capture.
enum Failed {
    Read(Error),
    Write(std::io::Error),
}

impl From<std::io::Error> for Failed {
    fn from(error: std::io::Error) -> Self {
        Self::Write(error)
    }
}

impl Failed {
    fn into_error(self, output: &Path) -> Error {
        match self {
            Self::Read(error) => error,
            Self::Write(error) => refused(output, &error),
        }
    }
}

/// That the input cannot be read, or not to its end.
enum Unread {
    Open(OpenError),
    Packets(PcapError),
}

impl From<OpenError> for Unread {
    fn from(error: OpenError) -> Self {
        Self::Open(error)
    }
}

impl From<ReadError> for Unread {
    fn from(error: ReadError) -> Self {
        Self::Open(error.into())
    }
}

impl From<CaptureError> for Unread {
    fn from(error: CaptureError) -> Self {
        Self::Open(error.into())
    }
}

impl From<std::io::Error> for Unread {
    fn from(error: std::io::Error) -> Self {
        Self::Open(error.into())
    }
}

impl From<PcapError> for Unread {
    fn from(error: PcapError) -> Self {
        Self::Packets(error)
    }
}

fn unread(args: &Args, error: Unread) -> Error {
    let (what, hint) = match &error {
        Unread::Open(OpenError::Io(error)) => (io_reason(error), Some("name a file that you may read")),
        Unread::Open(error) => (error.to_string(), error.hint()),
        Unread::Packets(error) => (error.to_string(), Some("capinfos FILE, of Wireshark, says what is in it")),
    };
    let error = Error::new(Code::Input, format!("{}: {what}", args.name()));
    match hint {
        Some(hint) => error.hint(hint),
        None => error,
    }
}

/// What a fixture says of how it was made: the same each time.
const RECORDED_WITH: &str = "mongotap convert";

const AFTER_HELP: &str = "\
A fixture holds what applications asked and what they were answered, for replay, to be read, edited and compared: \
the same questions in the same order give the same file. Handshakes, authentication, monitoring, ping, endSessions \
and killCursors are not in it.

--redact masks values in documents, filters, updates and pipelines, in replies and in the errors that quote them: \
strings become ***, numbers 0, dates 1970, binaries empty. Structure, names of fields, true, false and null stay, \
and so do ObjectIds, UUIDs, an _id that is no document, and dates made at the time of their command: a replay still \
answers what asks by these alone. Options of commands (limit, sort, projection, hint, indexes, …) stay.

--redact-fields 'users.ssn,*.password' takes out the values of these fields alone, as mongotap proxy does while it records: \
see [redact] in proxy.toml, which --config reads. A replay takes them out of what is asked too, and so still matches.";
