//! Rates, times and counts as people read them, short enough for narrow terminals.

/// Packets per second: `312 345`.
pub(crate) fn pps(rate: f64) -> String {
    grouped(whole(rate))
}

/// `812 ns`, `12.3 us`, `1.25 ms`, `2.00 s`.
pub(crate) fn nanos(ns: u64) -> String {
    let value = ns as f64;
    let (value, unit) = match ns {
        0..1_000 => return format!("{ns} ns"),
        1_000..1_000_000 => (value / 1e3, "us"),
        1_000_000..1_000_000_000 => (value / 1e6, "ms"),
        _ => (value / 1e9, "s"),
    };
    let digits = match value {
        ..10.0 => 2,
        10.0..100.0 => 1,
        _ => 0,
    };
    format!("{value:.digits$} {unit}")
}

/// `1 234 567`
pub(crate) fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (index, digit) in digits.char_indices() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(' ');
        }
        text.push(digit);
    }
    text
}

/// `0`, `0.0012 %`, `3.45 %`: as exact as a share of lost packets needs, however small.
pub(crate) fn share(ratio: f64) -> String {
    match ratio * 100.0 {
        0.0 => "0".to_owned(),
        percent @ ..0.01 => format!("{percent:.4} %"),
        percent => format!("{percent:.2} %"),
    }
}

/// The nearest whole number; 0 for what is none.
#[expect(
    clippy::cast_possible_truncation,
    reason = "a cast of a float saturates"
)]
pub(crate) fn whole(number: f64) -> u64 {
    number.round() as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_have_three_digits_and_a_unit() {
        for (ns, text) in [
            (0, "0 ns"),
            (999, "999 ns"),
            (1_250, "1.25 us"),
            (12_340, "12.3 us"),
            (123_456, "123 us"),
            (9_876_543, "9.88 ms"),
            (2_000_000_000, "2.00 s"),
        ] {
            assert_eq!(nanos(ns), text);
        }
    }

    #[test]
    fn rates_are_whole_packets_in_groups_of_three_digits() {
        for (rate, text) in [
            (0.4, "0"),
            (999.5, "1 000"),
            (1_234_567.0, "1 234 567"),
            (f64::NAN, "0"),
        ] {
            assert_eq!(pps(rate), text);
        }
    }

    #[test]
    fn a_share_is_never_rounded_to_nothing() {
        for (ratio, text) in [
            (0.0, "0"),
            (1e-6, "0.0001 %"),
            (0.0345, "3.45 %"),
            (1.0, "100.00 %"),
        ] {
            assert_eq!(share(ratio), text);
        }
    }
}
