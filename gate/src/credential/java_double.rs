//! `Double.toString` of JDK 19 and later: how a floating-point number stands in the minified form.
//!
//! That JDK writes the shortest decimal that reads back as the same double, the closest one among
//! several, like Rust does. Three things differ. Where one digit would do, Java considers all
//! decimals of **two** digits and takes the closest (`4.9E-324`, where the shortest is `5e-324`).
//! Of two that are equally close it takes the one with the even last digit, Rust the larger. And it
//! writes an exponent below 10⁻³ and from 10⁷ on, with at least one digit behind the point.

use core::fmt::{self, Write};

/// Bytes of the longest text: `-1.2345678901234567E-308`.
pub const MAX_TEXT_BYTES: usize = 24;

/// Only from so many digits on can two decimals of the same length read back as the same normal
/// double, so that one must be chosen. (Subnormal ones never lie in the middle of two decimals so short.)
const MIN_AMBIGUOUS_DIGITS: usize = 16;

/// The text of one double.
#[derive(Clone, Copy)]
pub struct JavaDouble(Text);

impl JavaDouble {
    /// As `Double.toString(value)`.
    pub fn of(value: f64) -> Self {
        let mut text = Text::new();
        if value.is_nan() {
            text.extend(b"NaN");
            return Self(text);
        }
        if value.is_sign_negative() {
            text.push(b'-');
        }
        if value.is_infinite() {
            text.extend(b"Infinity");
        } else if value == 0.0 {
            text.extend(b"0.0");
        } else {
            lay_out(&Decimal::closest(value.abs()), &mut text);
        }
        Self(text)
    }

    /// ASCII.
    pub fn as_bytes(&self) -> &[u8] {
        self.0.as_bytes()
    }
}

impl fmt::Debug for JavaDouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0.as_str())
    }
}

fn lay_out(decimal: &Decimal, text: &mut Text) {
    let exponent = decimal.exponent;
    match exponent {
        0..=6 => {
            // `exponent + 1` digits stand before the point.
            let whole_digits = usize::try_from(exponent).unwrap_or_default() + 1;
            let (whole, fraction) = decimal.split_at(whole_digits);
            text.extend(whole);
            for _ in whole.len()..whole_digits {
                text.push(b'0');
            }
            extend_by_fraction(fraction, text);
        }
        -3..=-1 => {
            text.extend(b"0.");
            for _ in exponent..-1 {
                text.push(b'0');
            }
            text.extend(decimal.digits());
        }
        _ => {
            let (first, fraction) = decimal.split_at(1);
            text.extend(first);
            extend_by_fraction(fraction, text);
            // Cannot fail: writing to a `Text` never does.
            let _ = write!(text, "E{exponent}");
        }
    }
}

/// At least one digit stands behind the point.
fn extend_by_fraction(fraction: &[u8], text: &mut Text) {
    text.push(b'.');
    text.extend(if fraction.is_empty() { b"0" } else { fraction });
}

/// `d₁.d₂d₃… × 10^exponent`, without trailing zeros.
struct Decimal {
    digits: [u8; 17],
    len: usize,
    exponent: i32,
}

impl Decimal {
    /// The decimal that Java chooses for a positive, finite value.
    fn closest(value: f64) -> Self {
        let shortest = Self::read(&Text::of(format_args!("{value:e}")));
        match shortest.len {
            // The closest of two digits is the exact value rounded to two.
            1 => Self::read(&Text::of(format_args!("{value:.1e}"))),
            2..MIN_AMBIGUOUS_DIGITS => shortest,
            digits => {
                // Rounding the exact value to as many digits goes to the even one from the middle.
                // Just above a power of two the closest decimal below may mean another double.
                let rounded = Text::of(format_args!("{value:.*e}", digits - 1));
                if rounded.as_str().parse() == Ok(value) { Self::read(&rounded) } else { shortest }
            }
        }
    }

    /// Reads Rust's `d.ddde-x`.
    fn read(text: &Text) -> Self {
        let (mantissa, exponent) = text.as_str().split_once('e').unwrap_or_default();
        let mut decimal = Self { digits: [0; 17], len: 0, exponent: exponent.parse().unwrap_or_default() };
        let digits = mantissa.trim_end_matches('0').bytes().filter(u8::is_ascii_digit);
        for (free, digit) in decimal.digits.iter_mut().zip(digits) {
            *free = digit;
            decimal.len += 1;
        }
        decimal
    }

    fn digits(&self) -> &[u8] {
        self.digits.get(..self.len).unwrap_or_default()
    }

    /// The first `at` digits, or as many as there are, and the rest.
    fn split_at(&self, at: usize) -> (&[u8], &[u8]) {
        let digits = self.digits();
        digits.split_at_checked(at).unwrap_or((digits, b""))
    }
}

/// A short ASCII text; what is too long for it is cut off.
#[derive(Clone, Copy)]
struct Text {
    bytes: [u8; MAX_TEXT_BYTES],
    len: usize,
}

impl Text {
    fn new() -> Self {
        Self { bytes: [0; MAX_TEXT_BYTES], len: 0 }
    }

    fn of(arguments: fmt::Arguments<'_>) -> Self {
        let mut text = Self::new();
        // Cannot fail: writing to a `Text` never does.
        let _ = text.write_fmt(arguments);
        text
    }

    fn as_bytes(&self) -> &[u8] {
        self.bytes.get(..self.len).unwrap_or_default()
    }

    fn as_str(&self) -> &str {
        core::str::from_utf8(self.as_bytes()).unwrap_or_default()
    }

    fn push(&mut self, byte: u8) {
        if let Some(free) = self.bytes.get_mut(self.len) {
            *free = byte;
            self.len += 1;
        }
    }

    fn extend(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            self.push(byte);
        }
    }
}

impl Write for Text {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.extend(text.as_bytes());
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::format;
    use proptest::prelude::*;
    #[cfg(target_arch = "wasm32")]
    use wasm_bindgen_test::wasm_bindgen_test as test;

    fn check(value: f64, expected: &str) {
        assert_eq!(format!("{:?}", JavaDouble::of(value)), expected, "{value:e}");
    }

    #[test]
    fn doubles_are_written_as_jdk_19_writes_them() {
        for (value, expected) in [
            (0.0, "0.0"),
            (-0.0, "-0.0"),
            (1.0, "1.0"),
            (-1.5, "-1.5"),
            (100.0, "100.0"),
            (1.1, "1.1"),
            (12_345_678.9, "1.23456789E7"),
            (1e23, "1.0E23"),
            (2e23, "2.0E23"),
            (8.41e21, "8.41E21"),
            (9.999999999999997e22, "9.999999999999997E22"),
            (2e-3, "0.002"),
            (f64::MAX, "1.7976931348623157E308"),
            (f64::MIN_POSITIVE, "2.2250738585072014E-308"),
            (-1.234_567_890_123_456_7e-308, "-1.2345678901234567E-308"),
            (-2.234_567_890_123_456_7e-308, "-2.2345678901234566E-308"),
            (f64::INFINITY, "Infinity"),
            (f64::NEG_INFINITY, "-Infinity"),
            (f64::NAN, "NaN"),
        ] {
            check(value, expected);
        }
    }

    #[test]
    fn where_one_digit_would_do_the_closest_two_are_written() {
        for (units, expected) in [
            (1, "4.9E-324"),
            (2, "9.9E-324"),
            (3, "1.5E-323"),
            (4, "2.0E-323"),
            (6, "3.0E-323"),
            (10, "4.9E-323"),
            (20, "9.9E-323"),
            (21, "1.04E-322"),
        ] {
            check(f64::from_bits(units), expected);
        }
    }

    #[test]
    #[expect(clippy::excessive_precision, reason = "the exact values show which is in the middle")]
    fn of_two_equally_close_the_even_one_is_written() {
        for (value, expected) in [
            (1_151_507_801_859_672.25, "1.1515078018596722E15"),
            (1_151_507_801_859_672.75, "1.1515078018596728E15"),
            (1_311_481_034_258_617.25, "1.3114810342586172E15"),
            (-1_823_534_302_666_623.25, "-1.8235343026666232E15"),
        ] {
            check(value, expected);
        }
    }

    #[test]
    fn above_a_power_of_two_the_closest_may_be_another_double() {
        check(f64::from_bits(0x3D30_0000_0000_0000), "5.684341886080802E-14");
        check(9_007_199_254_740_992.0, "9.007199254740992E15");
    }

    #[test]
    fn an_exponent_stands_below_a_thousandth_and_from_ten_million_on() {
        for (value, expected) in [
            (0.001, "0.001"),
            (f64::from_bits(0.001_f64.to_bits() - 1), "9.999999999999998E-4"),
            (0.000_1, "1.0E-4"),
            (0.012_5, "0.0125"),
            (0.123, "0.123"),
            (1e6, "1000000.0"),
            (9_999_999.0, "9999999.0"),
            (9_999_999.999, "9999999.999"),
            (f64::from_bits(1e7_f64.to_bits() - 1), "9999999.999999998"),
            (1e7, "1.0E7"),
            (12_300_000.0, "1.23E7"),
        ] {
            check(value, expected);
        }
    }

    proptest! {
        #[test]
        fn every_text_reads_back_as_its_double(bits: u64) {
            let value = f64::from_bits(bits);
            prop_assume!(value.is_finite());
            let text = JavaDouble::of(value);
            let read: f64 = core::str::from_utf8(text.as_bytes()).unwrap().parse().unwrap();
            prop_assert_eq!(read.to_bits(), bits);
        }
    }
}
