//! Files that somebody removes, with those put aside or one by one: what was lost is counted, what was taken away on
//! purpose is not.

use std::fs;
use std::path::Path;
use std::time::Duration;

use mongotap::config::{Capture, Log, Writing};
use serde_json::Value;

use crate::bench::{self, Bench, exchange, lines, log};
use crate::rotation::{aside, capturing, files, messages, write_capture};
use crate::{events, whole_and_missing};

const KEEP: u32 = 20;

fn rotating() -> Writing {
    Writing { rotate_bytes: 4000, keep: KEEP, ..Writing::default() }
}

/// Does so many exchanges and waits until they are written.
fn write(bench: &Bench, exchanges: u64) {
    let mut feed = bench.feed();
    (0..exchanges).for_each(|_| exchange(&mut feed, bench::next(), 40));
    drop(feed);
    bench::wait_for(|| bench.recorder.is_idle());
}

fn all(files: &[std::path::PathBuf]) -> Vec<Value> {
    files.iter().flat_map(|file| lines(file)).collect()
}

/// How many exchanges end in a log, of which others may hold the beginnings.
fn ended(lines: &[Value]) -> u64 {
    events(lines).iter().filter(|event| **event == "commandSucceededEvent").count() as u64
}

fn reasons(lines: &[Value]) -> Vec<&str> {
    let dropped = lines.iter().filter(|line| line["event"] == "eventsDroppedEvent");
    dropped.map(|line| line["reason"].as_str().unwrap()).collect()
}

/// Has it gone as a whole, as if a disk were unmounted and another mounted.
fn empty(directory: &Path) {
    let away = directory.with_extension("away");
    fs::rename(directory, &away).unwrap();
    fs::create_dir(directory).unwrap();
    fs::remove_dir_all(&away).unwrap();
}

#[test]
fn a_log_that_goes_with_its_directory_is_counted_with_what_was_put_aside() {
    let outer = tempfile::tempdir().unwrap();
    let directory = outer.path().join("logs");
    fs::create_dir(&directory).unwrap();
    let path = directory.join("a.jsonl");
    let bench = Bench::start(&[Log { writing: rotating(), ..log(&path) }]);
    let said = bench.said();
    for round in 1..=2 {
        write(&bench, 40);
        let put_aside = files(&path).len() - 1;
        assert!((4..KEEP as usize).contains(&put_aside), "{put_aside} files were put aside");
        let newest = ended(&lines(&path));
        bench.pass(Duration::from_secs(10));
        empty(&directory);
        write(&bench, 1);
        let all = all(&files(&path));
        assert_eq!(whole_and_missing(&all), (1, 40 + round - 1), "with the one that came after the first time");
        assert_eq!(reasons(&all), ["the file was removed, with those that were put aside"]);
        let said = std::mem::take(&mut *said.lock().unwrap());
        let older = 40 + round - 1 - newest;
        assert!(said[0].contains(&format!("a.jsonl: was removed, and {newest} exchange")), "{said:?}");
        let gone = format!("{put_aside} files put aside went with it, and {older} exchanges with them");
        assert!(said[1].ends_with(&gone), "{said:?}");
    }
    let totals = bench.stop();
    assert_eq!((totals[0].counts.exchanges, totals[0].counts.dropped_exchanges), (1, 81));
}

/// Somebody is in the middle of removing them when another is put aside, and no other can be begun in its place.
#[test]
fn what_goes_before_the_next_file_is_begun_is_counted_once() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("a.jsonl");
    let bench = Bench::start(&[Log { writing: rotating(), ..log(&path) }]);
    write(&bench, 20);
    fs::remove_file(&path).unwrap();
    write(&bench, 1);
    let mut exchanges = 21;
    std::thread::scope(|scope| {
        let stands_in_the_way = scope.spawn(|| {
            // Between the old file's new name and the new file's making.
            while fs::create_dir(&path).is_err() {}
            files(&path).iter().filter(|file| **file != path).for_each(|file| fs::remove_file(file).unwrap());
            fs::remove_dir(&path).unwrap();
        });
        while !stands_in_the_way.is_finished() {
            write(&bench, 20);
            exchanges += 20;
        }
    });
    write(&bench, 1);
    let totals = bench.stop();
    assert_eq!(totals.len(), 1, "the log has come to its end");
    let counts = &totals[0].counts;
    assert_eq!(counts.exchanges + counts.dropped_exchanges, exchanges + 1, "{counts:?}");
}

#[test]
fn files_that_were_put_aside_and_taken_away_are_no_loss() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("a.jsonl");
    let bench = Bench::start(&[Log { writing: rotating(), ..log(&path) }]);
    write(&bench, 40);
    let put_aside = files(&path).len() as u32 - 1;
    bench.pass(Duration::from_secs(10));
    // All but one are shipped, and that is counted as lost when the newest goes much later, with it.
    let left = ended(&lines(&aside(&path, 2)));
    (1..=put_aside).filter(|number| *number != 2).for_each(|number| fs::remove_file(aside(&path, number)).unwrap());
    write(&bench, 1);
    assert_eq!(reasons(&lines(&path)), [""; 0]);
    bench.pass(Duration::from_secs(10));
    let newest = ended(&lines(&path));
    fs::remove_file(aside(&path, 2)).unwrap();
    fs::remove_file(&path).unwrap();
    write(&bench, 1);
    assert_eq!(whole_and_missing(&lines(&path)), (1, newest + left));
    let totals = bench.stop();
    assert_eq!(totals[0].counts.exchanges + totals[0].counts.dropped_exchanges, 42);
}

/// Whoever removes a file and has it opened anew has lost what was in it all the same.
#[test]
fn a_log_that_is_removed_and_reopened_counts_what_was_in_it() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("a.jsonl");
    let bench = Bench::start(&[log(&path)]);
    write(&bench, 5);
    fs::remove_file(&path).unwrap();
    bench.recorder.reopen();
    bench::wait_for(|| path.exists());
    write(&bench, 1);
    bench.stop();
    assert_eq!(whole_and_missing(&lines(&path)), (1, 5));
    assert_eq!(events(&lines(&path))[..2], ["recorderStartedEvent", "eventsDroppedEvent"]);
}

#[test]
fn a_capture_that_is_removed_counts_what_was_in_it_and_in_those_put_aside() {
    for is_reopened in [false, true] {
        let outer = tempfile::tempdir().unwrap();
        let directory = outer.path().join("captures");
        fs::create_dir(&directory).unwrap();
        let path = directory.join("run.mtap");
        let writing = Writing { rotate_bytes: 300_000, keep: KEEP, queue_bytes: 1 << 30, ..Writing::default() };
        let bench = capturing(&[], &Capture { writing, ..Capture::to(&path) });
        let lost = write_capture(&bench.recorder, &|exchanges| exchanges < 700);
        bench::wait_for(|| bench.recorder.is_idle());
        assert!(files(&path).len() > 3, "{} files", files(&path).len());
        bench.pass(Duration::from_secs(10));
        empty(&directory);
        if is_reopened {
            bench.recorder.reopen();
            bench::wait_for(|| path.exists());
        }
        let kept = write_capture(&bench.recorder, &|exchanges| exchanges < 10);
        let said = bench.said();
        let totals = bench.stop();
        assert_eq!(totals[0].counts.dropped_exchanges, lost, "{said:?}");
        assert_eq!(messages(&files(&path)).len() as u64, 2 * kept);
        let told = said.lock().unwrap().last().unwrap().clone();
        assert!(told.contains(&format!(": {lost} exchanges (")), "{told}");
    }
}
