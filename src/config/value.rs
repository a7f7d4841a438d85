//! Sizes and durations as people write them.

use std::time::Duration;

/// Reads a number of bytes: `10000`, `10kB`, `16 MiB`. `k`, `M`, `G` are powers of 1000, `Ki`, `Mi`, `Gi` of 1024.
///
/// # Errors
/// If it is not one; the message says what it is not, the caller says where it stood.
pub fn parse_size(text: &str) -> Result<u64, String> {
    let wrong = || format!("{text:?} is not a size");
    let (number, unit) = split(text);
    let factor: u64 = match unit.to_ascii_lowercase().as_str() {
        "" | "b" => 1,
        "kb" => 1_000,
        "mb" => 1_000_000,
        "gb" => 1_000_000_000,
        "kib" => 1 << 10,
        "mib" => 1 << 20,
        "gib" => 1 << 30,
        _ => return Err(wrong()),
    };
    let number: u64 = number.parse().map_err(|_| wrong())?;
    number.checked_mul(factor).ok_or_else(|| format!("{text:?} is too large"))
}

/// Reads a span of time: `100ms`, `5s`, `10m`, `1h`, `1d`, or `0`.
///
/// # Errors
/// If it is not one; the message says what it is not, the caller says where it stood.
pub fn parse_duration(text: &str) -> Result<Duration, String> {
    let wrong = || format!("{text:?} is not a duration");
    let (number, unit) = split(text);
    let number: u64 = number.parse().map_err(|_| wrong())?;
    let millis: u64 = match unit {
        "" if number == 0 => 0,
        "" => return Err(format!("{text:?} has no unit")),
        "ms" => 1,
        "s" => 1_000,
        "m" | "min" => 60_000,
        "h" => 3_600_000,
        "d" => 86_400_000,
        _ => return Err(wrong()),
    };
    number.checked_mul(millis).map(Duration::from_millis).ok_or_else(|| format!("{text:?} is too long"))
}

/// The way out of a bad size.
pub(crate) const SIZE_HINT: &str = "write it like 10000, \"10kB\" or \"16 MiB\"";

/// The way out of a bad duration.
pub(crate) const DURATION_HINT: &str = "write it like \"100ms\", \"5s\" or \"1h\"";

/// The digits that a text begins with (`_` may group them), and the unit after them.
fn split(text: &str) -> (String, &str) {
    let text = text.trim();
    let end = text.find(|c: char| !c.is_ascii_digit() && c != '_').unwrap_or(text.len());
    let (number, unit) = text.split_at(end);
    (number.replace('_', ""), unit.trim_start())
}

/// A duration as it would be written in the file.
pub(crate) fn show_duration(duration: Duration) -> String {
    let millis = duration.as_millis();
    let units = [(86_400_000, "d"), (3_600_000, "h"), (60_000, "m"), (1_000, "s"), (1, "ms")];
    let fitting = units.into_iter().find(|(unit, _)| millis >= *unit && millis.is_multiple_of(*unit));
    fitting.map_or_else(|| "0".to_owned(), |(unit, name)| format!("{}{name}", millis / unit))
}

/// A size as it would be written in the file.
pub(crate) fn show_size(bytes: u64) -> String {
    let units =
        [(1 << 30, "GiB"), (1_000_000_000, "GB"), (1 << 20, "MiB"), (1_000_000, "MB"), (1 << 10, "KiB"), (1_000, "kB")];
    let fitting = units.into_iter().find(|(unit, _)| bytes >= *unit && bytes.is_multiple_of(*unit));
    fitting.map_or_else(|| bytes.to_string(), |(unit, name)| format!("{} {name}", bytes / unit))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes() {
        for (text, bytes) in [
            ("0", 0),
            ("10000", 10_000),
            ("48_000_000", 48_000_000),
            ("10kB", 10_000),
            ("16 MiB", 16 << 20),
            ("1gib", 1 << 30),
            ("7 B", 7),
        ] {
            assert_eq!(parse_size(text), Ok(bytes), "{text}");
        }
        for text in ["", "MiB", "-1", "1.5 MB", "16 miles", "99999999999 GiB", "_"] {
            assert!(parse_size(text).is_err(), "{text}");
        }
    }

    #[test]
    fn durations() {
        for (text, millis) in [("0", 0), ("0s", 0), ("100ms", 100), ("5s", 5_000), ("10 m", 600_000), ("2h", 7_200_000)]
        {
            assert_eq!(parse_duration(text), Ok(Duration::from_millis(millis)), "{text}");
        }
        for text in ["", "5", "s", "-1s", "5 parsecs", "999999999999999999d"] {
            assert!(parse_duration(text).is_err(), "{text}");
        }
    }

    #[test]
    fn what_is_shown_reads_back() {
        for bytes in [0, 1, 999, 1_000, 10_000, 16 << 20, 48_000_000, (1 << 20) + 1] {
            assert_eq!(parse_size(&show_size(bytes)), Ok(bytes));
        }
        for millis in [0, 1, 1_500, 5_000, 90_000, 3_600_000, 86_400_000] {
            let duration = Duration::from_millis(millis);
            assert_eq!(parse_duration(&show_duration(duration)), Ok(duration));
        }
    }
}
