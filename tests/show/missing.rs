//! What `show` and `stats` say of what is not there: lines, the end of a run, other files of a recording.

use std::fs;
use std::ops::Range;

use rustix::fs::{FlockOperation, flock};

use super::{Directory, End, Log};

const UNENDED: &str = "not ended in good order: the recorder was killed, its disk was full, or this is a copy";

/// A log of so many commands, each of two lines, with its first and its last line.
fn log(commands: usize) -> Log {
    let mut log = Log::new();
    (0..commands).for_each(|_| log.command("find", "shop.orders", 362, End::Ok));
    log.ended()
}

/// A file of a log that was rotated: in the place of the first of these lines is one that begins it.
fn part(log: &Log, seqs: Range<usize>) -> String {
    let first = log.lines[0].replacen("\"seq\":0,", &format!("\"seq\":{},", seqs.start), 1);
    first + &log.lines[seqs.start + 1..seqs.end].concat()
}

/// What is said of a log on stderr, by `show` and by `stats`: the same.
fn said(directory: &Directory, more: &[&str]) -> String {
    let said = |command: &str| {
        let (_, err, code) = directory.run(command, more);
        assert_eq!(code, 0, "{err}");
        err
    };
    let shown = said("show");
    assert_eq!(said("stats"), shown);
    shown
}

#[test]
fn lines_that_are_missing_are_told_where_they_are() {
    let log = log(20);
    let of = |seqs: &[Range<usize>]| seqs.iter().flat_map(|it| log.lines[it.clone()].to_vec()).collect::<String>();
    let directory = Directory::with(&of(&[0..5, 8..10, 11..42]));
    let expected = "mongotap: log.jsonl: 3 lines missing before line 6: seq 5 to 7\n\
        mongotap: log.jsonl: 1 line missing before line 8: seq 10\n";
    assert_eq!(said(&directory, &[]), expected);
    // Between two files, and before the first one.
    let directory = Directory::with(&part(&log, 20..42));
    let headless = "mongotap: log.jsonl: its run began before: 20 lines before line 1 are not here (seq 0 to 19)\n";
    assert_eq!(said(&directory, &[]), headless);
    fs::write(directory.directory.path().join("log.jsonl.1"), part(&log, 4..18)).unwrap();
    let expected = "mongotap: log.jsonl: 2 lines missing before line 1: seq 18 to 19\n\
        mongotap: log.jsonl.1: its run began before: 4 lines before line 1 are not here (seq 0 to 3)\n";
    assert_eq!(said(&directory, &["log.jsonl.1"]), expected);
    // Each second line: what is told stays short.
    let directory = Directory::with(&of(&(0..21).map(|at| 2 * at..2 * at + 1).collect::<Vec<_>>()[..]));
    let said = said(&directory, &[]);
    let (gaps, rest) = said.split_at(said.match_indices('\n').nth(4).unwrap().0 + 1);
    assert!(gaps.ends_with("mongotap: log.jsonl: 1 line missing before line 6: seq 9\n"), "{gaps}");
    assert!(rest.starts_with("mongotap: log.jsonl: 15 lines missing in 15 more places\n"), "{rest}");
}

/// The rotation has removed the files that a run began in: that is told of each such run, and of no other.
#[test]
fn a_beginning_that_is_not_there_is_told() {
    let log = log(9);
    let other = |text: &str, run: &str| text.replace("\"run\":\"r\"", &format!("\"run\":\"{run}\""));
    let headless = |name: &str, lines: &str| format!("mongotap: {name}: its run began before: {lines}\n");
    // Behind it another run in the same file, which is all there though it goes on in the next one.
    let directory = Directory::with(&other(&part(&log, 5..20), "s"));
    let path = |name: &str| directory.directory.path().join(name);
    fs::write(path("log.jsonl.1"), part(&log, 1..20) + &other(&part(&log, 0..5), "s")).unwrap();
    let expected = headless("log.jsonl.1", "1 line before line 1 is not here (seq 0)");
    assert_eq!(said(&directory, &["log.jsonl.1"]), expected);
    // Two logs of both runs: each goes on where it was left.
    let second = |text: &str| text.replace("127.0.0.1:27017\"", "127.0.0.1:27017\",\"log\":2");
    fs::write(path("b.jsonl.1"), second(&fs::read_to_string(path("log.jsonl.1")).unwrap())).unwrap();
    fs::write(path("b.jsonl"), second(&other(&part(&log, 5..20), "s"))).unwrap();
    let said_of_both = said(&directory, &["log.jsonl.1", "b.jsonl", "b.jsonl.1"]);
    let told: String = said_of_both.split_inclusive('\n').filter(|line| line.contains("began before")).collect();
    assert_eq!(told, expected.replace("log.jsonl.1", "b.jsonl.1") + &expected, "{said_of_both}");
    assert!(!said_of_both.contains("missing before"), "{said_of_both}");
    // A run whose beginning is missing in the midst of a file, and a file whose first line does not tell its run.
    fs::write(&directory.path, log.text() + &other(&part(&log, 7..20), "s")).unwrap();
    assert!(said(&directory, &[]).contains("log.jsonl.1 too\n"), "it is beside");
    fs::remove_file(path("log.jsonl.1")).unwrap();
    assert_eq!(said(&directory, &[]), headless("log.jsonl", "7 lines before line 21 are not here (seq 0 to 6)"));
    fs::write(&directory.path, log.lines[3..].concat()).unwrap();
    assert_eq!(said(&directory, &[]), headless("log.jsonl", "3 lines before line 1 are not here (seq 0 to 2)"));
    // What is told stays short.
    let many: String = (0..9).map(|run| other(&part(&log, 7..20), &format!("r{run}"))).collect();
    fs::write(&directory.path, many).unwrap();
    let said = said(&directory, &[]);
    assert_eq!(said.lines().count(), 6, "{said}");
    assert!(said.starts_with("mongotap: log.jsonl: the beginning of 4 more runs is not here\n"), "{said}");
}

/// As no recorder numbers them: the count of what is missing ends at the greatest number.
#[test]
fn the_greatest_numbers_are_read() {
    let log = log(8);
    let seqs = [u64::MAX - 1, 1].repeat(7).into_iter().chain([u64::MAX]);
    let numbered =
        |(at, seq): (usize, u64)| log.lines[at + 1].replacen(&format!(":{},", at + 1), &format!(":{seq},"), 1);
    let directory = Directory::with(&(log.lines[0].clone() + &seqs.enumerate().map(numbered).collect::<String>()));
    let said = said(&directory, &[]);
    assert!(said.contains(&format!("{} lines missing in 3 more places\n", u64::MAX)), "{said}");
}

#[test]
fn a_log_that_show_has_filtered_lacks_nothing() {
    let mut log = Log::sample();
    // Another run behind it, filtered as well.
    log.lines.extend(Log::sample().lines.iter().map(|line| line.replace("\"run\":\"r\"", "\"run\":\"s\"")));
    let directory = Directory::with(&log.text());
    let filtered = directory.show(&["--format", "jsonl", "--command", "find"]);
    assert_eq!(filtered.matches(",\"filtered\":true}\n").count(), 2, "{filtered}");
    let again = Directory::with(&filtered);
    assert_eq!(again.show(&["--format", "jsonl"]), filtered);
    assert_eq!(again.show(&["--format", "jsonl", "--failed"]).matches("filtered").count(), 2);
}

#[test]
fn a_run_that_was_not_ended_is_told() {
    let log = log(2);
    let killed = log.lines[..5].concat();
    let directory = Directory::with(&killed);
    assert_eq!(said(&directory, &[]), format!("mongotap: log.jsonl: {UNENDED}, or another file goes on\n"));
    // Torn as well: that says it.
    fs::write(&directory.path, killed.clone() + "{\"seq\":5,").unwrap();
    assert_eq!(said(&directory, &[]), "mongotap: log.jsonl: line 6 is torn, it was left out\n");
    // Another run goes on in the file.
    let next = log.text().replace("\"run\":\"r\"", "\"run\":\"s\"");
    fs::write(&directory.path, killed.clone() + &next).unwrap();
    assert_eq!(said(&directory, &[]), format!("mongotap: log.jsonl: the run before line 6 {UNENDED}\n"));
    // As long as it is written it has no end.
    fs::write(&directory.path, killed).unwrap();
    let writer = fs::File::open(&directory.path).unwrap();
    flock(&writer, FlockOperation::LockShared).unwrap();
    assert_eq!(said(&directory, &[]), "");
}

#[test]
fn other_files_of_a_recording_are_told_of() {
    let log = log(9);
    let directory = Directory::with("");
    let path = |name: &str| directory.directory.path().join(name);
    fs::write(&directory.path, part(&log, 13..20)).unwrap();
    fs::write(path("log.jsonl.1"), part(&log, 6..13)).unwrap();
    let beside = "mongotap: log.jsonl: 1 other file of this recording is beside it\nhint: give log.jsonl.1 too\n";
    assert_eq!(said(&directory, &[]), beside);
    fs::write(path("log.jsonl.2"), part(&log, 0..6)).unwrap();
    let other = log.text().replace("\"run\":\"r\"", "\"run\":\"s\"");
    fs::write(path("log.jsonl.3"), other).unwrap();
    let beside = "mongotap: log.jsonl: 2 other files of this recording are beside it\n\
        hint: give log.jsonl.1 and log.jsonl.2 too\n";
    assert_eq!(said(&directory, &[]), beside);
    assert_eq!(said(&directory, &["log.jsonl.1", "./log.jsonl.2"]), "");
}

/// Where a file goes on its numbers tell, not its name.
#[test]
fn a_file_that_was_renamed_belongs_where_its_numbers_are() {
    let log = log(9);
    let directory = Directory::with(&part(&log, 13..20));
    let path = |name: &str| directory.directory.path().join(name);
    fs::write(path("log.jsonl.1"), part(&log, 0..6)).unwrap();
    fs::write(path("log.old"), part(&log, 6..13)).unwrap();
    let files = ["log.jsonl.1", "log.old"];
    assert_eq!(said(&directory, &files), "");
    let (out, _, _) = directory.run("show", &[&files[..], &["--format", "jsonl"]].concat());
    let seqs: Vec<u64> = out.lines().map(|line| line[7..line.find(',').unwrap()].parse().unwrap()).collect();
    assert_eq!(seqs, (0..20).collect::<Vec<_>>());
    // The end of the last one is missed, of no other.
    fs::write(&directory.path, part(&log, 13..19)).unwrap();
    let unended = format!("mongotap: log.jsonl: {UNENDED}, or another file goes on\n");
    assert_eq!(said(&directory, &files), unended);
    // And lines that are in none of them.
    fs::write(path("log.old"), part(&log, 6..11)).unwrap();
    let missing = "mongotap: log.jsonl: 2 lines missing before line 1: seq 11 to 12\n";
    assert_eq!(said(&directory, &files), missing.to_owned() + &unended);
}

/// Two logs of a run are two whatever they are called, and each has an end.
#[test]
fn logs_of_the_same_name_in_two_directories_are_two() {
    let log = log(9);
    let directory = Directory::with(&part(&log, 6..20));
    let path = |name: &str| directory.directory.path().join(name);
    fs::create_dir(path("else")).unwrap();
    fs::write(path("log.old"), part(&log, 0..6)).unwrap();
    fs::write(path("else/log.jsonl"), part(&log, 9..20)).unwrap();
    fs::write(path("else/log.jsonl.1"), part(&log, 0..9)).unwrap();
    let files = ["log.old", "else/log.jsonl", "else/log.jsonl.1"];
    assert_eq!(said(&directory, &files), "");
    fs::write(path("else/log.jsonl"), part(&log, 9..19)).unwrap();
    let unended = format!("mongotap: else/log.jsonl: {UNENDED}, or another file goes on\n");
    assert_eq!(said(&directory, &files), unended);
}

/// Two logs of a run whose numbers happen not to overlap, as of their files only some are left: their first lines tell.
#[test]
fn a_log_does_not_go_on_with_another_of_its_run() {
    let log = log(9);
    let directory = Directory::with(&part(&log, 0..9));
    let other =
        part(&log, 9..20).replacen("\"upstream\":\"127.0.0.1:27017\"", "\"upstream\":\"127.0.0.1:27017\",\"log\":2", 1);
    assert!(other.contains("\"log\":2"));
    fs::write(directory.directory.path().join("other.jsonl"), other).unwrap();
    // The one has no end; it was said to go on with the other, which has one.
    let told = format!(
        "mongotap: log.jsonl: {UNENDED}, or another file goes on\n\
        mongotap: other.jsonl: its run began before: 9 lines before line 1 are not here (seq 0 to 8)\n"
    );
    assert_eq!(said(&directory, &["other.jsonl"]), told);
}
