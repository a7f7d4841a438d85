//! Moments as people and programs read them, always in UTC.

use crate::event::Timestamp;

const SECONDS_A_DAY: i64 = 86_400;

/// `2026-11-22T07:44:31.867123Z`: RFC 3339 with microseconds. Remembers the last second it wrote, which the next
/// event mostly shares.
#[derive(Debug)]
pub(super) struct Rfc3339 {
    second: i64,
    /// The text of that second up to and with the point.
    text: [u8; 20],
}

impl Default for Rfc3339 {
    fn default() -> Self {
        Self { second: 0, text: *b"1970-01-01T00:00:00." }
    }
}

impl Rfc3339 {
    /// Appends a moment.
    pub(super) fn write(&mut self, at: Timestamp, out: &mut Vec<u8>) {
        let second = at.unix_micros.div_euclid(1_000_000);
        if second != self.second {
            self.second = second;
            self.text = text_of(second);
        }
        out.extend_from_slice(&self.text);
        let mut micros = [0; 7];
        digits(at.unix_micros.rem_euclid(1_000_000), &mut micros[..6]);
        micros[6] = b'Z';
        out.extend_from_slice(&micros);
    }
}

/// Appends `07:44:31.867`.
pub(super) fn time_of_day(at: Timestamp, out: &mut Vec<u8>) {
    let mut text = *b"00:00:00.000";
    let second = at.unix_micros.div_euclid(1_000_000).rem_euclid(SECONDS_A_DAY);
    digits(second / 3600, &mut text[0..2]);
    digits(second / 60 % 60, &mut text[3..5]);
    digits(second % 60, &mut text[6..8]);
    digits(at.unix_micros.rem_euclid(1_000_000) / 1000, &mut text[9..12]);
    out.extend_from_slice(&text);
}

fn text_of(second: i64) -> [u8; 20] {
    let (year, month, day) = date_of(second.div_euclid(SECONDS_A_DAY));
    let of_day = second.rem_euclid(SECONDS_A_DAY);
    let mut text = *b"0000-00-00T00:00:00.";
    digits(year.clamp(0, 9999), &mut text[0..4]);
    digits(month, &mut text[5..7]);
    digits(day, &mut text[8..10]);
    digits(of_day / 3600, &mut text[11..13]);
    digits(of_day / 60 % 60, &mut text[14..16]);
    digits(of_day % 60, &mut text[17..19]);
    text
}

/// Year, month and day of a number of days since 1970-01-01.
///
/// The year is taken to begin in March, so that the leap day is its last, and 400 years have 146 097 days.
pub(super) fn date_of(days: i64) -> (i64, i64, i64) {
    let days = days + 719_468; // from 0000-03-01 to 1970-01-01
    let era = days.div_euclid(146_097);
    let of_era = days.rem_euclid(146_097);
    let year_of_era = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let from_march = (5 * of_year + 2) / 153;
    let day = of_year - (153 * from_march + 2) / 5 + 1;
    let month = if from_march < 10 { from_march + 3 } else { from_march - 9 };
    let year = era * 400 + year_of_era + i64::from(month <= 2);
    (year, month, day)
}

/// Fills `field` with the decimal digits of a number that is not negative, zeros first.
fn digits(mut number: i64, field: &mut [u8]) {
    for digit in field.iter_mut().rev() {
        *digit = b'0' + u8::try_from(number % 10).unwrap_or_default();
        number /= 10;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(unix_micros: i64) -> (String, String) {
        let at = Timestamp { monotonic_nanos: 0, unix_micros };
        let (mut full, mut short) = (Vec::new(), Vec::new());
        Rfc3339::default().write(at, &mut full);
        time_of_day(at, &mut short);
        (String::from_utf8(full).unwrap(), String::from_utf8(short).unwrap())
    }

    #[test]
    fn known_moments() {
        for (micros, full, short) in [
            (0, "1970-01-01T00:00:00.000000Z", "00:00:00.000"),
            (1_795_333_471_867_123, "2026-11-22T07:44:31.867123Z", "07:44:31.867"),
            (951_827_696_000_001, "2000-02-29T12:34:56.000001Z", "12:34:56.000"),
            (4_107_542_399_999_999, "2100-02-28T23:59:59.999999Z", "23:59:59.999"),
            (4_107_542_400_000_000, "2100-03-01T00:00:00.000000Z", "00:00:00.000"),
            (-1, "1969-12-31T23:59:59.999999Z", "23:59:59.999"),
        ] {
            assert_eq!(written(micros), (full.to_owned(), short.to_owned()));
        }
    }

    #[test]
    fn every_day_agrees_with_bson() {
        for day in (-700_000..2_900_000).step_by(37) {
            let expected = bson::DateTime::from_millis(day * SECONDS_A_DAY * 1000).try_to_rfc3339_string().unwrap();
            assert_eq!(written(day * SECONDS_A_DAY * 1_000_000).0[..10], expected[..10], "day {day}");
        }
    }

    #[test]
    fn the_second_is_not_kept_too_long() {
        let mut clock = Rfc3339::default();
        let mut out = Vec::new();
        for unix_micros in [1_000_000, 1_999_999, 2_000_000, 1_000_000] {
            clock.write(Timestamp { monotonic_nanos: 0, unix_micros }, &mut out);
        }
        let seconds: Vec<_> = out.chunks(27).map(|text| String::from_utf8_lossy(&text[17..26]).into_owned()).collect();
        assert_eq!(seconds, ["01.000000", "01.999999", "02.000000", "01.000000"]);
    }
}
