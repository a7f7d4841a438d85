//! Durations as people read them.

use std::time::Duration;

/// `362µs`, `1.84ms`, `12.3ms`, `362ms`, `2.31s`, `12.3s`, `123s`: three digits where there are as many.
pub(crate) fn shown(duration: Duration) -> String {
    let micros = duration.as_micros();
    let (unit, name) = match micros {
        ..1_000 => return format!("{micros}µs"),
        1_000..1_000_000 => (1_000, "ms"),
        _ => (1_000_000, "s"),
    };
    let hundredths = micros * 100 / unit;
    match hundredths {
        ..1_000 => format!("{}.{:02}{name}", hundredths / 100, hundredths % 100),
        1_000..10_000 => format!("{}.{}{name}", hundredths / 100, hundredths / 10 % 10),
        _ => format!("{}{name}", hundredths / 100),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn three_digits() {
        for (micros, text) in [
            (0, "0µs"),
            (999, "999µs"),
            (1_000, "1.00ms"),
            (1_849, "1.84ms"),
            (12_399, "12.3ms"),
            (999_999, "999ms"),
            (1_000_000, "1.00s"),
            (2_319_000, "2.31s"),
            (12_345_678, "12.3s"),
            (123_456_789, "123s"),
            (86_400_000_000, "86400s"),
        ] {
            assert_eq!(shown(Duration::from_micros(micros)), text);
        }
    }
}
