//! Numbers in the words of Go: who compares `le` labels compares texts.

use std::fmt::Write;

/// From this power of ten on, and below the other, Go writes an exponent.
const EXPONENT_FROM: i32 = 6;
const EXPONENT_BELOW: i32 = -4;

/// Appends `number` as Go's `strconv.FormatFloat(number, 'g', -1, 64)` writes it.
pub(crate) fn push(out: &mut String, number: f64) {
    if !number.is_finite() || number == 0.0 {
        let name = match number {
            0.0 => "0",
            f64::INFINITY => "+Inf",
            f64::NEG_INFINITY => "-Inf",
            _ => "NaN",
        };
        return out.push_str(name);
    }
    // The shortest digits that tell it from every other number, as `d.ddde-7`.
    let scientific = format!("{number:e}");
    let (digits, exponent) = scientific.split_once('e').expect("the format has an exponent");
    let exponent: i32 = exponent.parse().expect("an exponent is a number");
    let written = if (EXPONENT_BELOW..EXPONENT_FROM).contains(&exponent) {
        write!(out, "{number}")
    } else {
        let sign = if exponent < 0 { '-' } else { '+' };
        write!(out, "{digits}e{sign}{:02}", exponent.abs())
    };
    written.expect("writing to a string does not fail");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_written_as_go_does() {
        let cases = [
            (0.0, "0"),
            (-0.0, "0"),
            (1.0, "1"),
            (-1.0, "-1"),
            (0.0001, "0.0001"),
            (0.00001, "1e-05"),
            (3.921999999999999e-6, "3.921999999999999e-06"),
            (0.1, "0.1"),
            (524_288.0, "524288"),
            (123_456.75, "123456.75"),
            (1_000_000.0, "1e+06"),
            (1_048_576.0, "1.048576e+06"),
            (2_147_483_648.0, "2.147483648e+09"),
            (1.795_705_173_08e9, "1.79570517308e+09"),
            (1.844_674_407_370_955_2e19, "1.8446744073709552e+19"),
            (f64::INFINITY, "+Inf"),
            (f64::NEG_INFINITY, "-Inf"),
            (f64::NAN, "NaN"),
        ];
        for (number, expected) in cases {
            let mut text = String::new();
            push(&mut text, number);
            assert_eq!(text, expected);
        }
    }
}
