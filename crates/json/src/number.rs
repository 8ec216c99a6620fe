//! Whole numbers, as JSON may write them: `5`, `5.0`, `50e-1`.

/// The number that `text` is, if it is one by JSON's grammar and whole.
pub(crate) fn parse_whole(text: &str) -> Option<i128> {
    let (negative, text) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text),
    };
    let (mantissa, exponent) = match text.split_once(['e', 'E']) {
        Some((mantissa, exponent)) => (mantissa, parse_exponent(exponent)?),
        None => (text, 0),
    };
    let (whole, fraction) = match mantissa.split_once('.') {
        Some((whole, fraction)) => (whole, Some(fraction)),
        None => (mantissa, None),
    };
    let all_digits = |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
    if !all_digits(whole)
        || (whole.len() > 1 && whole.starts_with('0'))
        || fraction.is_some_and(|part| !all_digits(part))
    {
        return None;
    }
    let fraction = fraction.unwrap_or_default();
    let digits = [whole, fraction].concat();
    let significant = digits.trim_matches('0');
    if significant.is_empty() {
        return Some(0);
    }
    // The value is `significant` times ten to the power of `zeros`.
    let trailing = digits.len() - digits.trim_end_matches('0').len();
    let zeros =
        exponent.checked_sub(i64::try_from(fraction.len()).ok()?)?.checked_add(i64::try_from(trailing).ok()?)?;
    let zeros = usize::try_from(zeros).ok()?;
    if significant.len().checked_add(zeros)? > DIGITS_MAX {
        return None;
    }
    let number: i128 = (significant.to_owned() + &"0".repeat(zeros)).parse().ok()?;
    Some(if negative { -number } else { number })
}

/// More than any number of 64 bits has.
const DIGITS_MAX: usize = 25;

fn parse_exponent(text: &str) -> Option<i64> {
    let digits = text.strip_prefix(['+', '-']).unwrap_or(text);
    match digits.bytes().all(|byte| byte.is_ascii_digit()) {
        true => text.parse().ok(),
        false => None,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn every_way_to_write_a_whole_number_is_understood() {
        for (text, number) in [
            ("0", 0),
            ("-0", 0),
            ("0.000e99999", 0),
            ("5.0", 5),
            ("1e3", 1000),
            ("1.25E+2", 125),
            ("1200e-2", 12),
            ("-9223372036854775808", i64::MIN.into()),
            ("9223372036854775807.0", i64::MAX.into()),
            ("18446744073709551615", u64::MAX.into()),
        ] {
            assert_eq!(parse_whole(text), Some(number), "{text}");
        }
    }

    #[test]
    fn what_is_none_is_refused() {
        for text in [
            "",
            "-",
            "1.5",
            "1e-1",
            "01",
            "+1",
            " 1",
            "1 ",
            "0x1",
            "1.",
            ".5",
            "1e",
            "1e+",
            "1e++1",
            "1e99",
            "NaN",
            "1e99999999999999999999",
        ] {
            assert_eq!(parse_whole(text), None, "{text}");
        }
    }

    proptest! {
        #[test]
        fn numbers_are_read_as_they_are_printed(number: i64, zeros in 0..5usize) {
            prop_assert_eq!(parse_whole(&number.to_string()), Some(number.into()));
            prop_assert_eq!(parse_whole(&format!("{number}.{}", "0".repeat(zeros + 1))), Some(number.into()));
            prop_assert_eq!(parse_whole(&format!("{number}{}e-{zeros}", "0".repeat(zeros))), Some(number.into()));
        }

        #[test]
        fn no_text_panics(text in "[-+0-9.eE]{0,12}") {
            let _ = parse_whole(&text);
        }
    }
}
