//! Numbers as people read them: grouped, rounded to what they mean, with a unit that does not part from them.

/// `1 234 567`
pub(super) fn count(number: u64) -> String {
    let digits = number.to_string();
    let mut grouped = String::with_capacity(digits.len() * 2);
    for (index, digit) in digits.char_indices() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            grouped.push(THIN);
        }
        grouped.push(digit);
    }
    grouped
}

/// `-12`, `0`, `1 234`
pub(super) fn signed(number: i64) -> String {
    let sign = if number < 0 { "−" } else { "" };
    format!("{sign}{}", count(number.unsigned_abs()))
}

/// `812 ns`, `12.3 µs`, `1.25 ms`, `2.00 s`
pub(super) fn nanos(ns: u64) -> String {
    let value = ns as f64;
    let (value, unit) = match ns {
        0..1_000 => return format!("{ns}{SPACE}ns"),
        1_000..1_000_000 => (value / 1e3, "µs"),
        1_000_000..1_000_000_000 => (value / 1e6, "ms"),
        _ => (value / 1e9, "s"),
    };
    let digits = match value {
        ..9.995 => 2,
        ..99.95 => 1,
        _ => 0,
    };
    format!("{value:.digits$}{SPACE}{unit}")
}

/// As [`nanos`], of what is not whole, such as a mean.
pub(super) fn nanos_f64(ns: f64) -> String {
    if !is_sane(ns) || ns < 0.0 {
        return UNKNOWN.to_owned();
    }
    if ns < 100.0 {
        return format!("{ns:.1}{SPACE}ns");
    }
    nanos(whole(ns))
}

/// `50 000/s`
pub(super) fn rate(pps: f64) -> String {
    if !is_sane(pps) || pps < 0.0 {
        return UNKNOWN.to_owned();
    }
    if pps != 0.0 && pps < 100.0 {
        return format!("{pps:.2}/s");
    }
    format!("{}/s", count(whole(pps)))
}

/// `0 %`, `0.000 1 %`, `12.3 %`, `99.999 %`, `100 %`: never 0 or 100 for what is not.
pub(super) fn share(share: f64) -> String {
    if !is_sane(share) {
        return UNKNOWN.to_owned();
    }
    let percent = share * 100.0;
    // As many digits as the nearer end, 0 or 100, needs to be told from it.
    let away = percent.abs().min((100.0 - percent).abs());
    let digits = match away {
        0.0 => 0,
        10.0.. => 1,
        1.0.. => 2,
        _ => digits_of(away),
    };
    let text = format!("{percent:.digits$}");
    format!("{}{SPACE}%", trimmed(&text))
}

/// `4.0 MiB`
pub(super) fn bytes(bytes: u64) -> String {
    let value = bytes as f64;
    let (value, unit) = match bytes {
        0..1_024 => return format!("{bytes}{SPACE}B"),
        1_024..1_048_576 => (value / 1_024.0, "KiB"),
        1_048_576..1_073_741_824 => (value / 1_048_576.0, "MiB"),
        _ => (value / 1_073_741_824.0, "GiB"),
    };
    format!("{value:.1}{SPACE}{unit}")
}

/// `10 s`, `0.25 s`
pub(super) fn seconds(seconds: f64) -> String {
    if !is_sane(seconds) {
        return UNKNOWN.to_owned();
    }
    let text = format!("{seconds:.3}");
    format!("{}{SPACE}s", trimmed(&text))
}

/// `p99.9`, `max`
pub(super) fn percentile(quantile: f64) -> String {
    if quantile >= 1.0 {
        return "max".to_owned();
    }
    // Rounded: 0.999 * 100 is not 99.9.
    format!("p{}", (quantile * 1e8).round() / 1e6)
}

/// Without the zeros at its end: `1.500` is `1.5`.
pub(super) fn trimmed(digits: &str) -> &str {
    if !digits.contains('.') {
        return digits;
    }
    digits.trim_end_matches('0').trim_end_matches('.')
}

/// Whether it can be told in a few digits. What cannot was never measured.
fn is_sane(value: f64) -> bool {
    value.abs() < 1e18
}

/// To the nearest number that counts something; the ends where it is beyond them.
fn whole(value: f64) -> u64 {
    #[expect(
        clippy::cast_possible_truncation,
        reason = "the conversion saturates, which is what is wanted"
    )]
    let whole = value.round() as u64;
    whole
}

/// Digits behind the point that show two of a number below 1.
fn digits_of(percent: f64) -> usize {
    let mut digits = 1;
    let mut scaled = percent;
    while scaled < 1.0 && digits < 9 {
        scaled *= 10.0;
        digits += 1;
    }
    digits
}

/// Between groups of digits; no line ends here.
pub(super) const THIN: char = '\u{202f}';

/// Between a number and its unit; no line ends here.
pub(super) const SPACE: char = '\u{a0}';

pub(super) const UNKNOWN: &str = "–";

#[cfg(test)]
mod tests {
    use super::*;

    /// With plain spaces, which are easier to read in a test.
    fn plain(text: &str) -> String {
        text.replace([THIN, SPACE], " ")
    }

    #[test]
    fn counts_are_grouped_by_thousands() {
        for (number, text) in [
            (0, "0"),
            (999, "999"),
            (1_000, "1 000"),
            (12_345_678, "12 345 678"),
        ] {
            assert_eq!(plain(&count(number)), text);
        }
        assert_eq!(plain(&signed(-1_234)), "−1 234");
        assert_eq!(plain(&signed(i64::MIN)), "−9 223 372 036 854 775 808");
    }

    #[test]
    fn times_have_three_digits_and_a_unit() {
        for (ns, text) in [
            (0, "0 ns"),
            (999, "999 ns"),
            (1_250, "1.25 µs"),
            (12_340, "12.3 µs"),
            (99_990, "100 µs"),
            (9_876_543, "9.88 ms"),
            (2_000_000_000, "2.00 s"),
            (u64::MAX, "18446744074 s"),
        ] {
            assert_eq!(plain(&nanos(ns)), text);
        }
        assert_eq!(plain(&nanos_f64(61.25)), "61.2 ns");
        assert_eq!(nanos_f64(f64::NAN), "–");
    }

    #[test]
    fn a_share_is_never_rounded_to_nothing_or_to_all() {
        for (ratio, text) in [
            (0.0, "0 %"),
            (1.0, "100 %"),
            (0.000_001, "0.0001 %"),
            (0.000_024, "0.0024 %"),
            (0.123_45, "12.3 %"),
            (0.999_999, "99.9999 %"),
            (0.03, "3 %"),
            (f64::NAN, "–"),
        ] {
            assert_eq!(plain(&share(ratio)), text, "{ratio}");
        }
    }

    #[test]
    fn rates_sizes_and_percentiles_are_short() {
        assert_eq!(plain(&rate(50_000.4)), "50 000/s");
        assert_eq!(rate(0.5), "0.50/s");
        for broken in [f64::INFINITY, f64::NAN, f64::MAX, -1.0] {
            assert_eq!(rate(broken), "–");
        }
        assert_eq!(plain(&bytes(4 << 20)), "4.0 MiB");
        assert_eq!(plain(&bytes(1)), "1 B");
        assert_eq!(plain(&seconds(0.25)), "0.25 s");
        assert_eq!(plain(&seconds(10.0)), "10 s");
        assert_eq!(
            [0.5, 0.999, 0.9999, 1.0].map(percentile),
            ["p50", "p99.9", "p99.99", "max"]
        );
    }
}
