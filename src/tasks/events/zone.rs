//! How far the local time is from UTC, which Celery's events tell.
//!
//! Celery's consumers move the time of each event by the difference between the sender's offset and their own. A worker
//! that gave none on a host whose time is not UTC would look dead to a Flower on the same host.

use std::sync::OnceLock;

use jiff::Timestamp;
use jiff::tz::TimeZone;

/// Where the system keeps its own zone.
const LOCAL: &str = "/etc/localtime";

/// Hours that the local time is behind UTC at this moment: -1 in Berlin's winter.
pub(super) fn hours_west() -> f64 {
    static ZONE: OnceLock<TimeZone> = OnceLock::new();
    west_of(ZONE.get_or_init(|| local(std::env::var("TZ").ok().as_deref())), Timestamp::now())
}

fn west_of(zone: &TimeZone, at: Timestamp) -> f64 {
    // Not -0.0 for UTC.
    0.0 - f64::from(zone.to_offset(at).seconds()) / 3_600.0
}

/// The zone that the variable TZ names in one of its forms, else the system's, else UTC.
fn local(named: Option<&str>) -> TimeZone {
    let file = |path: &str| TimeZone::tzif("", &std::fs::read(path).ok()?).ok();
    let zone = match named.map(|text| text.strip_prefix(':').unwrap_or(text)) {
        None => file(LOCAL),
        Some("") => None,
        Some(path) if path.starts_with('/') => file(path),
        Some(name) => TimeZone::get(name).or_else(|_| TimeZone::posix(name)).ok(),
    };
    zone.unwrap_or(TimeZone::UTC)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_form_of_the_variable_gives_its_offset() {
        let (winter, summer) =
            (Timestamp::from_second(1_795_573_092).unwrap(), Timestamp::from_second(1_784_000_000).unwrap());
        for (named, in_winter, in_summer) in [
            ("UTC", 0.0, 0.0),
            ("", 0.0, 0.0),
            ("nowhere/at all", 0.0, 0.0),
            ("Europe/Berlin", -1.0, -2.0),
            (":America/New_York", 5.0, 4.0),
            ("Asia/Kolkata", -5.5, -5.5),
            ("CET-1CEST,M3.5.0,M10.5.0/3", -1.0, -2.0),
        ] {
            let zone = local(Some(named));
            assert_eq!((west_of(&zone, winter), west_of(&zone, summer)), (in_winter, in_summer), "{named}");
        }
        assert!(hours_west().abs() <= 14.0);
    }
}
