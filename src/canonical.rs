//! JSON in one form, so that equal values are equal bytes: what run ids, records and cache keys hash.
//!
//! No white space, keys sorted as RFC 8785 asks. Numbers of run ids are RFC 8785's too; records came first and keep serde_json's.

use serde_json::Value;

/// How numbers are written; both read back to the same double.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Numbers {
    /// As ECMAScript prints them, which is RFC 8785: `1`, `0.0001`, `1e+30`.
    EcmaScript,
    /// As serde_json does: `1.0`, `0.0001`, `1e30`.
    SerdeJson,
}

/// `value` in the canonical form of RFC 8785, with one extension: whole numbers beyond 2⁵³ keep all their digits.
pub fn canonical_json(value: &Value) -> String {
    canonical(value, Numbers::EcmaScript)
}

/// `value` with its keys sorted and without white space, its numbers in one of two forms.
pub fn canonical(value: &Value, numbers: Numbers) -> String {
    let mut out = String::new();
    write_json(value, numbers, &mut out);
    out
}

fn write_json(value: &Value, numbers: Numbers, out: &mut String) {
    match value {
        Value::Null => out.push_str("null"),
        Value::Bool(b) => out.push_str(if *b { "true" } else { "false" }),
        Value::Number(n) => out.push_str(&match (n.as_f64(), numbers) {
            (Some(x), Numbers::EcmaScript) if n.is_f64() => ecmascript(x),
            _ => n.to_string(),
        }),
        Value::String(s) => write_string(s, out),
        Value::Array(items) => {
            out.push('[');
            for (i, item) in items.iter().enumerate() {
                if i > 0 {
                    out.push(',');
                }
                write_json(item, numbers, out);
            }
            out.push(']');
        }
        Value::Object(fields) => {
            let mut fields: Vec<_> = fields.iter().collect();
            fields.sort_by(|a, b| a.0.encode_utf16().cmp(b.0.encode_utf16()));
            out.push('{');
            for (i, (key, item)) in fields.into_iter().enumerate() {
                if i > 0 {
                    out.push(',');
                }
                write_string(key, out);
                out.push(':');
                write_json(item, numbers, out);
            }
            out.push('}');
        }
    }
}

/// serde_json escapes exactly what RFC 8785 asks for: `"`, `\` and control characters, the latter in lower-case hex.
fn write_string(s: &str, out: &mut String) {
    out.push_str(&Value::from(s).to_string());
}

/// ECMAScript's `Number::toString` for finite numbers. serde_json's digits are the shortest that read back to `x`, ties to
/// even, as ECMAScript asks (Rust's own `{:e}` rounds such ties up); this only places the point anew.
fn ecmascript(x: f64) -> String {
    if x == 0.0 {
        return "0".into();
    }
    let text = Value::from(x.abs()).to_string();
    let (mantissa, exponent) = text.split_once('e').unwrap_or((&text, "0"));
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let exponent: i32 = exponent.parse().expect("JSON writes a decimal exponent");
    let all = format!("{whole}{fraction}");
    let digits = all.trim_start_matches('0');
    // The value is 0.digits × 10^n, with k digits.
    let n = whole.len() as i32 + exponent - (all.len() - digits.len()) as i32;
    let digits = digits.trim_end_matches('0');
    let k = digits.len() as i32;
    let sign = if x < 0.0 { "-" } else { "" };
    let zeros = |n: i32| "0".repeat(n as usize);
    let body = if k <= n && n <= 21 {
        format!("{digits}{}", zeros(n - k))
    } else if 0 < n && n <= 21 {
        format!("{}.{}", &digits[..n as usize], &digits[n as usize..])
    } else if -6 < n && n <= 0 {
        format!("0.{}{digits}", zeros(-n))
    } else {
        let point = if k > 1 { "." } else { "" };
        format!(
            "{}{point}{}e{}{}",
            &digits[..1],
            &digits[1..],
            if n > 0 { "+" } else { "" },
            n - 1
        )
    };
    format!("{sign}{body}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    /// RFC 8785, appendix B.
    #[test]
    fn numbers_are_those_of_rfc_8785() {
        for (bits, text) in [
            (0x0000_0000_0000_0000, "0"),
            (0x8000_0000_0000_0000, "0"),
            (0x0000_0000_0000_0001, "5e-324"),
            (0x8000_0000_0000_0001, "-5e-324"),
            (0x7fef_ffff_ffff_ffff, "1.7976931348623157e+308"),
            (0xffef_ffff_ffff_ffff, "-1.7976931348623157e+308"),
            (0x4340_0000_0000_0000, "9007199254740992"),
            (0xc340_0000_0000_0000, "-9007199254740992"),
            (0x4430_0000_0000_0000, "295147905179352830000"),
            (0x44b5_2d02_c7e1_4af5, "9.999999999999997e+22"),
            (0x44b5_2d02_c7e1_4af6, "1e+23"),
            (0x44b5_2d02_c7e1_4af7, "1.0000000000000001e+23"),
            (0x444b_1ae4_d6e2_ef4e, "999999999999999700000"),
            (0x444b_1ae4_d6e2_ef4f, "999999999999999900000"),
            (0x444b_1ae4_d6e2_ef50, "1e+21"),
            (0x3eb0_c6f7_a0b5_ed8c, "9.999999999999997e-7"),
            (0x3eb0_c6f7_a0b5_ed8d, "0.000001"),
            (0x41b3_de43_5555_5553, "333333333.3333332"),
            (0x41b3_de43_5555_5554, "333333333.33333325"),
            (0x41b3_de43_5555_5555, "333333333.3333333"),
            (0x41b3_de43_5555_5556, "333333333.3333334"),
            (0x41b3_de43_5555_5557, "333333333.33333343"),
            (0xbecb_f647_612f_3696, "-0.0000033333333333333333"),
            (0x4314_3ff3_c1cb_0959, "1424953923781206.2"),
        ] {
            assert_eq!(ecmascript(f64::from_bits(bits)), text, "{bits:x}");
        }
    }

    /// RFC 8785, section 3.2.2 and 3.2.3: the sample of the text and the order of its keys.
    #[test]
    fn text_is_that_of_rfc_8785() {
        let sample: Value = serde_json::from_str(
            r#"{"numbers": [333333333.33333329, 1E30, 4.50, 2e-3, 0.000000000000000000000000001],
                "string": "\u20ac$\u000F\u000aA'\u0042\u0022\u005c\\\"\/", "literals": [null, true, false]}"#,
        )
        .unwrap();
        assert_eq!(
            canonical_json(&sample),
            r#"{"literals":[null,true,false],"numbers":[333333333.3333333,1e+30,4.5,0.002,1e-27],"string":"€$\u000f\nA'B\"\\\\\"/"}"#
        );
        let keys = json!({"€": 1, "\r": 2, "\u{fb33}": 3, "1": 4, "😀": 5, "\u{80}": 6, "ö": 7});
        let order: Vec<char> = canonical_json(&keys).chars().filter(char::is_ascii_digit).collect();
        assert_eq!(
            order,
            ['2', '1', '4', '6', '7', '1', '5', '3'],
            "the key \"1\" and the value 1 both show"
        );
        assert_eq!(canonical_json(&json!(u64::MAX)), "18446744073709551615");
    }

    #[test]
    fn records_keep_the_numbers_of_serde_json() {
        let a: Value = serde_json::from_str(r#"{"b": [1, 2.50, 1.0, null], "a": {"d": "x\"y", "c": 1e-4}}"#).unwrap();
        assert_eq!(
            canonical(&a, Numbers::SerdeJson),
            r#"{"a":{"c":0.0001,"d":"x\"y"},"b":[1,2.5,1.0,null]}"#
        );
    }
}
