//! Waiting for a level, never for a duration.

use crate::Error;
use std::time::Duration;
use tokio::time::{Instant, sleep};

/// Between two looks: short beside everything that is waited for, long beside what a look costs.
const INTERVAL: Duration = Duration::from_millis(25);

/// Asks `probe` until it gives a value.
///
/// # Errors
/// [`Error::Deadline`] with what the last look saw.
pub async fn eventually<T>(
    what: &str,
    deadline: Duration,
    mut probe: impl AsyncFnMut() -> Result<T, String>,
) -> Result<T, Error> {
    let end = Instant::now() + deadline;
    loop {
        let seen = match probe().await {
            Ok(value) => return Ok(value),
            Err(seen) => seen,
        };
        if Instant::now() >= end {
            return Err(Error::Deadline { what: what.to_owned(), deadline, seen });
        }
        sleep(INTERVAL).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn gives_the_value_or_the_last_thing_seen() {
        let mut looks = 0;
        let third = eventually("third look", Duration::from_secs(1), async || {
            looks += 1;
            if looks == 3 { Ok(looks) } else { Err(format!("look {looks}")) }
        });
        assert_eq!(third.await.unwrap(), 3);

        let never = eventually::<()>("miracle", Duration::ZERO, async || Err("nothing".to_owned()));
        let error = never.await.unwrap_err().to_string();
        assert_eq!(error, "no miracle within 0ns; last seen: nothing");
    }
}
