//! What the answers of servers mean when they are no file: wait, try again, or give up, and what to tell the user.

use super::client::{Response, Transient, tuned};
use super::error::{ErrorKind, FetchError};
use super::progress::{Event, OnEvent};
use std::time::{Duration, SystemTime};

/// The longest a server may ask to wait.
const MAX_WAIT: Duration = Duration::from_secs(15 * 60);

/// Waits before another attempt, as long as the server asks, else a little longer each time.
///
/// # Errors
/// [`ErrorKind::Unreachable`] where enough was tried or the wait is too long.
pub(super) fn pause(
    name: &str,
    Transient { why, wait, remedy }: &Transient,
    failed_attempts: u32,
    attempts: u32,
    on: OnEvent,
) -> Result<(), FetchError> {
    let wait = wait.unwrap_or_else(|| backoff(failed_attempts));
    if failed_attempts >= attempts || wait > MAX_WAIT {
        let found = if wait > MAX_WAIT {
            format!("{why}; to be tried again in {} min", wait.as_secs().div_ceil(60))
        } else {
            format!("{why}; tried {failed_attempts} times in a row")
        };
        let later = "Run the same command again later; what was downloaded is kept and continued.";
        let remedy = remedy.as_deref().unwrap_or(later);
        return Err(FetchError::new(ErrorKind::Unreachable, name, "the file", found, remedy));
    }
    on(Event::Note(format!(
        "{name}: {why}; trying again in {:.1} s",
        wait.as_secs_f64()
    )));
    std::thread::sleep(wait);
    Ok(())
}

/// Whether a response is one that passes, and how long its server asks to wait.
pub(super) fn passing(response: &Response) -> Option<Transient> {
    matches!(response.status, 408 | 425 | 429 | 500 | 502 | 503 | 504).then(|| Transient {
        why: format!("{} from {}", status_text(response.status), response.from),
        wait: response.header("retry-after").and_then(retry_after),
        remedy: None,
    })
}

/// What a response without a file means.
pub(super) fn refusal(name: &str, response: &Response, if_refused: &str, if_gone: &str) -> FetchError {
    let says = response
        .header("x-error-message")
        .map_or_else(String::new, |m| format!(": {}", m.trim_end_matches('.')));
    let failed = |why, what: &str, remedy: &str| {
        let found = format!("{what} ({} from {}){says}", response.status, response.from);
        FetchError::new(why, name, "the file", found, remedy)
    };
    match response.status {
        401 | 403 => failed(ErrorKind::Refused, "no access", if_refused),
        404 | 410 => failed(ErrorKind::Gone, "nothing", if_gone),
        _ => failed(
            ErrorKind::Unreachable,
            "an answer that cannot be used",
            "Check the address; get the file by hand from the page of its publisher.",
        ),
    }
}

fn status_text(status: u16) -> String {
    match status {
        429 => "too many requests (429)".into(),
        s => format!("an error of the server ({s})"),
    }
}

/// First byte and whole length of `bytes 5-9/10`.
pub(super) fn content_range(value: &str) -> Option<(u64, Option<u64>)> {
    let (range, total) = value.trim().strip_prefix("bytes ")?.split_once('/')?;
    let (from, _) = range.split_once('-')?;
    let total = match total {
        "*" => None,
        t => Some(t.parse().ok()?),
    };
    Some((from.trim().parse().ok()?, total))
}

/// Seconds or an HTTP date.
fn retry_after(value: &str) -> Option<Duration> {
    let value = value.trim();
    if let Ok(seconds) = value.parse() {
        return Some(Duration::from_secs(seconds));
    }
    let when = httpdate::parse_http_date(value).ok()?;
    Some(when.duration_since(SystemTime::now()).unwrap_or_default())
}

/// 1, 2, 4, 8, 16 s and up to a quarter more, so that many machines do not come back at once.
fn backoff(failed_attempts: u32) -> Duration {
    let base = tuned("MEDFT_HTTP_BACKOFF_MS", 1000) << failed_attempts.saturating_sub(1).min(5);
    let nanos = SystemTime::now()
        .duration_since(SystemTime::UNIX_EPOCH)
        .map_or(0, |d| u64::from(d.subsec_nanos()));
    Duration::from_millis(base + nanos % (base / 4 + 1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_and_waits_are_read_as_the_rfcs_write_them() {
        // RFC 9110, 14.4 and 10.2.3.
        assert_eq!(content_range("bytes 42-1233/1234"), Some((42, Some(1234))));
        assert_eq!(content_range("bytes 42-1233/*"), Some((42, None)));
        assert_eq!(content_range("bytes */1234"), None);
        assert_eq!(content_range("pages 1-2/3"), None);
        assert_eq!(retry_after(" 120 "), Some(Duration::from_secs(120)));
        assert_eq!(retry_after("Fri, 31 Dec 1999 23:59:59 GMT"), Some(Duration::ZERO));
        assert_eq!(retry_after("soon"), None);
    }

    #[test]
    fn waits_double_and_stay_within_a_quarter() {
        for n in 1..=5 {
            let base = 1000 << (n - 1);
            let wait = backoff(n).as_millis() as u64;
            assert!((base..=base + base / 4).contains(&wait), "{n}: {wait}");
        }
    }
}
