//! When to renew and when to try again.
//!
//! The point within a window is drawn from the certificate itself: it is uniform over certificates, as RFC 9773 section
//! 4.2 wants, and yet the same after a restart and in another process on the same folder.

use std::time::{Duration, SystemTime};

use sha2::{Digest as _, Sha256};

use crate::tls::certificate::Certificate;

/// 24 hours.
pub const DAY: Duration = Duration::from_hours(24);
/// The first wait after a failure.
const FIRST: Duration = Duration::from_mins(1);
/// The longest wait after a failure.
const LONGEST: Duration = Duration::from_hours(6);

/// When an authority suggests to renew (RFC 9773 section 4.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Window {
    start: SystemTime,
    end: SystemTime,
}

impl Window {
    /// A window; none when it ends before it starts, which is to be ignored.
    #[must_use]
    pub fn new(start: SystemTime, end: SystemTime) -> Option<Self> {
        (start <= end).then_some(Self { start, end })
    }
}

/// When to renew a certificate; in the past when it is high time.
#[must_use]
pub fn renewal_at(certificate: &Certificate, window: Option<Window>) -> SystemTime {
    let drawn = certificate.key.cert.first().map_or(0.5, |der| draw(der));
    moment(certificate.not_before, certificate.not_after, window, drawn)
}

/// `drawn` is from 0 to 1. Never later than 19/20 of the lifetime, whatever the window says.
fn moment(not_before: SystemTime, not_after: SystemTime, window: Option<Window>, drawn: f64) -> SystemTime {
    let life = not_after.duration_since(not_before).unwrap_or_default();
    let at = match window {
        Some(Window { start, end }) => start + end.duration_since(start).unwrap_or_default().mul_f64(drawn),
        // Two thirds, spread a little so that a fleet that was set up at once does not renew at once.
        None => not_before + life.mul_f64(0.65 + 0.03 * drawn),
    };
    at.min(not_before + life.mul_f64(0.95))
}

/// A number from 0 to 1 that is always the same for the same bytes.
fn draw(bytes: &[u8]) -> f64 {
    let digest = Sha256::digest(bytes);
    let head = digest.iter().take(4).fold(0u32, |all, byte| all << 8 | u32::from(*byte));
    f64::from(head) / f64::from(u32::MAX)
}

/// How long to wait after so many failures in a row: one minute, doubled each time, six hours at most, give or take a
/// fifth at random.
#[must_use]
pub fn back_off(failures: u32) -> Duration {
    let random = f64::from(getrandom::u32().unwrap_or(u32::MAX / 2)) / f64::from(u32::MAX);
    spread(failures, random)
}

fn spread(failures: u32, random: f64) -> Duration {
    let doubled = FIRST.saturating_mul(1 << failures.saturating_sub(1).min(16));
    doubled.min(LONGEST).mul_f64(0.8 + 0.4 * random)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::UNIX_EPOCH;

    fn day(number: u64) -> SystemTime {
        UNIX_EPOCH + Duration::from_secs(number * 86_400)
    }

    #[test]
    fn without_a_window_renewal_is_about_two_thirds_through() {
        for (life, earliest, latest) in [(90, 58, 62), (6, 3, 5)] {
            for drawn in [0.0, 0.5, 1.0] {
                let at = moment(day(0), day(life), None, drawn);
                assert!(at >= day(earliest) && at <= day(latest), "{life} days, drawn {drawn}: {at:?}");
            }
        }
    }

    #[test]
    fn the_window_of_the_authority_counts_also_when_it_is_early_or_past() {
        let window = Window::new(day(10), day(12));
        assert_eq!(moment(day(0), day(90), window, 0.0), day(10));
        assert_eq!(moment(day(0), day(90), window, 0.5), day(11));
        assert_eq!(moment(day(0), day(90), window, 1.0), day(12));
        assert_eq!(moment(day(80), day(90), Window::new(day(1), day(2)), 0.0), day(1), "revoked: at once");
    }

    #[test]
    fn a_senseless_window_does_not_let_the_certificate_expire() {
        assert_eq!(Window::new(day(5), day(4)), None);
        let at = moment(day(0), day(100), Window::new(day(200), day(300)), 0.5);
        assert_eq!(at, day(95));
    }

    #[test]
    fn waits_grow_from_a_minute_to_six_hours() {
        assert_eq!(spread(1, 0.5), Duration::from_mins(1));
        assert_eq!(spread(2, 0.5), Duration::from_mins(2));
        assert_eq!(spread(4, 0.0), Duration::from_secs(384));
        assert_eq!(spread(u32::MAX, 0.5), LONGEST);
        assert!(spread(u32::MAX, 1.0) <= LONGEST.mul_f64(1.2));
    }

    #[test]
    fn a_draw_is_stable_and_differs_between_certificates() {
        assert!((draw(b"a") - draw(b"a")).abs() < f64::EPSILON);
        let draws: Vec<f64> = (0..100u8).map(|n| draw(&[n])).collect();
        let mean = draws.iter().sum::<f64>() / 100.0;
        assert!((0.35..0.65).contains(&mean), "{mean}");
    }
}
