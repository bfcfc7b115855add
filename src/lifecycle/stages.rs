//! A stage of a stop: work that may take so long, or less when somebody is in a hurry.

use std::future::Future;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

/// Runs `work` for at most `grace`; `hurry` ends it at once. Gives whether it came to its end.
pub async fn within(grace: Duration, hurry: &CancellationToken, work: impl Future<Output = ()>) -> bool {
    tokio::select! {
        biased;
        () = work => true,
        () = hurry.cancelled() => false,
        () = tokio::time::sleep(grace) => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn work_ends_by_itself_by_its_grace_or_in_a_hurry() {
        let calm = CancellationToken::new();
        let grace = Duration::from_secs(30);
        assert!(within(grace, &calm, async {}).await);
        assert!(!within(grace, &calm, std::future::pending()).await);
        let hurry = CancellationToken::new();
        hurry.cancel();
        let before = tokio::time::Instant::now();
        assert!(!within(grace, &hurry, std::future::pending()).await);
        assert_eq!(before.elapsed(), Duration::ZERO);
    }
}
