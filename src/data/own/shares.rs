//! How large the three parts are.

use std::str::FromStr;

/// Shares of train, val and test.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Shares(pub [f64; 3]);

impl Shares {
    /// How the parts came about.
    pub(super) fn description(self, groups: bool) -> String {
        let [a, b, c] = self.0;
        let what = if groups {
            "groups and copies of an image"
        } else {
            "copies of an image"
        };
        format!("stratified:{a}/{b}/{c}, {what} whole")
    }
}

impl FromStr for Shares {
    type Err = String;

    /// `stratified:0.8/0.1/0.1`.
    fn from_str(rule: &str) -> Result<Self, String> {
        let numbers = rule.strip_prefix("stratified:");
        let shares: Option<Vec<f64>> = numbers.and_then(|s| s.split('/').map(|x| x.trim().parse().ok()).collect());
        match shares.as_deref() {
            Some(&[a, b, c]) if [a, b, c].iter().all(|x| *x > 0.0) && (a + b + c - 1.0).abs() < 1e-9 => {
                Ok(Self([a, b, c]))
            }
            _ => Err(
                "stratified:TRAIN/VAL/TEST, three shares above 0 that add up to 1, such as stratified:0.8/0.1/0.1"
                    .to_owned(),
            ),
        }
    }
}
