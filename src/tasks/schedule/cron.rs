//! The five fields of cron, read into sets: minute, hour, day of the month, month, day of the week.
//!
//! A day is one of the month's *or* one of the week's where both are given, as cron has it; Celery's crontab wants both
//! ([`Pattern::of_sets`]). A field that begins with a star counts as not given, even with a step.

/// Which minutes, hours and days, as sets of bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pattern {
    pub(super) minutes: u64,
    pub(super) hours: u32,
    /// Bits 1 to 31.
    pub(super) days: u32,
    /// Bits 1 to 12.
    pub(super) months: u16,
    /// Bits 0 (Sunday) to 6.
    pub(super) weekdays: u8,
    /// A day is good if one of its two sets has it.
    pub(super) either_day: bool,
    /// The minutes are a rhythm ("*", "*/15") that goes on through an hour that comes twice.
    pub(super) any_minute: bool,
}

/// Why a text or a set is no pattern.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct BadPattern(String);

/// A field's name, bounds, and the names of its values from the lowest.
struct Field {
    name: &'static str,
    low: u8,
    high: u8,
    names: &'static [&'static str],
}

const MINUTE: Field = Field { name: "minute", low: 0, high: 59, names: &[] };
const HOUR: Field = Field { name: "hour", low: 0, high: 23, names: &[] };
const DAY: Field = Field { name: "day of the month", low: 1, high: 31, names: &[] };
const MONTH: Field = Field {
    name: "month",
    low: 1,
    high: 12,
    names: &["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"],
};
const WEEKDAY: Field =
    Field { name: "day of the week", low: 0, high: 7, names: &["sun", "mon", "tue", "wed", "thu", "fri", "sat"] };

/// Every hour of the day.
pub(super) const ALL_HOURS: u32 = (1 << 24) - 1;
/// Every minute of the hour.
const ALL_MINUTES: u64 = (1 << 60) - 1;

impl Pattern {
    /// Reads five fields, or "@hourly", "@daily", "@midnight", "@weekly", "@monthly", "@yearly", "@annually".
    ///
    /// # Errors
    /// What is wrong with the text, for people.
    pub fn parse(text: &str) -> Result<Self, BadPattern> {
        let text = text.trim();
        let fields = match text.to_ascii_lowercase().as_str() {
            "@hourly" => "0 * * * *",
            "@daily" | "@midnight" => "0 0 * * *",
            "@weekly" => "0 0 * * 0",
            "@monthly" => "0 0 1 * *",
            "@yearly" | "@annually" => "0 0 1 1 *",
            "@reboot" => return Err(bad("\"@reboot\" is no time: a start is nothing that a schedule knows")),
            other if other.starts_with('@') => return Err(bad(format!("\"{text}\" is not known"))),
            _ => text,
        };
        let fields: Vec<&str> = fields.split_ascii_whitespace().collect();
        let &[minute, hour, day, month, weekday] = &*fields else {
            return Err(bad(format!(
                "has {} fields instead of five: minute, hour, day of the month, month, day of the week",
                fields.len()
            )));
        };
        let weekdays = WEEKDAY.set(weekday)?;
        Self {
            minutes: MINUTE.set(minute)?,
            hours: HOUR.set(hour)? as u32,
            days: DAY.set(day)? as u32,
            months: MONTH.set(month)? as u16,
            // 7 is Sunday too.
            weekdays: (weekdays | weekdays >> 7) as u8 & 0x7f,
            either_day: !open(day) && !open(weekday),
            any_minute: open(minute),
        }
        .possible()
    }

    /// The sets of Celery's crontab: a day must be in both of its sets.
    ///
    /// # Errors
    /// A set is empty or has a value that its field does not know.
    pub fn of_sets(
        minutes: &[u8],
        hours: &[u8],
        days: &[u8],
        months: &[u8],
        weekdays: &[u8],
    ) -> Result<Self, BadPattern> {
        let minutes = MINUTE.of(minutes)?;
        Self {
            minutes,
            hours: HOUR.of(hours)? as u32,
            days: DAY.of(days)? as u32,
            months: MONTH.of(months)? as u16,
            weekdays: Field { high: 6, ..WEEKDAY }.of(weekdays)? as u8,
            either_day: false,
            any_minute: minutes == ALL_MINUTES,
        }
        .possible()
    }

    /// Refuses what never comes, such as the 30th of February.
    fn possible(self) -> Result<Self, BadPattern> {
        const LONGEST: [u32; 13] = [0, 31, 29, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];
        let day_exists = (1..=12).filter(|month| self.months >> month & 1 == 1).any(|month: usize| {
            let within = ((2_u64 << LONGEST[month]) - 2) as u32;
            self.days & within != 0
        });
        if day_exists || self.either_day { Ok(self) } else { Err(bad("names a day that no month of it has")) }
    }
}

impl Field {
    fn set(&self, text: &str) -> Result<u64, BadPattern> {
        text.split(',').try_fold(0, |set, part| Ok(set | self.part(part)?))
    }

    /// `*`, `5`, `5-9`, each perhaps with `/step`; a range may go over the end, as in "fri-mon" and "22-3".
    fn part(&self, text: &str) -> Result<u64, BadPattern> {
        let (range, step) = match text.split_once('/') {
            None => (text, 1),
            Some((range, step)) => {
                let step: u8 = step.parse().ok().filter(|step| *step > 0).ok_or_else(|| {
                    bad(format!("has the step \"{step}\" in its {}, which is no number above 0", self.name))
                })?;
                (range, step)
            }
        };
        let (from, to) = match range {
            "*" | "?" => (self.low, self.last()),
            _ => match range.split_once('-') {
                Some((from, to)) => (self.value(from)?, self.value(to)?),
                // "5/10" begins at 5 and goes on to the end.
                None if text.contains('/') => (self.value(range)?, self.last()),
                None => {
                    let value = self.value(range)?;
                    (value, value)
                }
            },
        };
        if from <= to {
            return Ok((from..=to).step_by(usize::from(step)).fold(0, |set, value| set | 1 << value));
        }
        let values = (from..=self.last()).chain(self.low..=to);
        Ok(values.step_by(usize::from(step)).fold(0, |set, value| set | 1 << value))
    }

    /// The last value that is not another one's second name: a Sunday is 0 and 7.
    fn last(&self) -> u8 {
        if self.high == 7 { 6 } else { self.high }
    }

    fn value(&self, text: &str) -> Result<u8, BadPattern> {
        let lower = text.to_ascii_lowercase();
        let named = self.names.iter().position(|name| *name == lower).map(|place| place as u8 + self.low);
        named.or_else(|| text.parse().ok().filter(|value| (self.low..=self.high).contains(value))).ok_or_else(|| {
            bad(format!("has \"{text}\" as its {}, which goes from {} to {}", self.name, self.low, self.high))
        })
    }

    fn of(&self, values: &[u8]) -> Result<u64, BadPattern> {
        if values.is_empty() {
            return Err(bad(format!("has no {}", self.name)));
        }
        values.iter().try_fold(0, |set, value| {
            if (self.low..=self.high).contains(value) {
                Ok(set | 1 << value)
            } else {
                Err(bad(format!("has {value} as its {}, which goes from {} to {}", self.name, self.low, self.high)))
            }
        })
    }
}

fn open(field: &str) -> bool {
    field.starts_with(['*', '?'])
}

fn bad(why: impl Into<String>) -> BadPattern {
    BadPattern(why.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn values(set: u64) -> Vec<u8> {
        (0..64).filter(|value| set >> value & 1 == 1).collect()
    }

    #[test]
    fn fields_are_read_as_cron_reads_them() {
        for (field, text, expected) in [
            (&MINUTE, "*/20", vec![0, 20, 40]),
            (&MINUTE, "5,10-12", vec![5, 10, 11, 12]),
            (&MINUTE, "10-30/10,59", vec![10, 20, 30, 59]),
            (&MINUTE, "50/4", vec![50, 54, 58]),
            (&HOUR, "22-2", vec![0, 1, 2, 22, 23]),
            (&HOUR, "22-4/3", vec![1, 4, 22]),
            (&DAY, "*/10", vec![1, 11, 21, 31]),
            (&MONTH, "JAN,mar-may", vec![1, 3, 4, 5]),
            (&WEEKDAY, "mon-fri", vec![1, 2, 3, 4, 5]),
            (&WEEKDAY, "fri-mon", vec![0, 1, 5, 6]),
            (&WEEKDAY, "5-7", vec![5, 6, 7]),
            (&WEEKDAY, "*", vec![0, 1, 2, 3, 4, 5, 6]),
        ] {
            assert_eq!(values(field.set(text).unwrap()), expected, "{text}");
        }
        let sunday = Pattern::parse("0 0 * * 7").unwrap();
        assert_eq!(sunday, Pattern::parse("0 0 * * SUN").unwrap());
        assert_eq!(sunday, Pattern::parse("@weekly").unwrap());
        assert_eq!(Pattern::parse(" @Daily ").unwrap(), Pattern::parse("0  0 *\t* ?").unwrap());
        assert!(Pattern::parse("0 0 13 * 5").unwrap().either_day);
        assert!(!Pattern::parse("0 0 */2 * 5").unwrap().either_day, "a star with a step counts as a star");
    }

    #[test]
    fn what_is_no_pattern_is_refused_with_the_reason() {
        for (text, says) in [
            ("", "0 fields"),
            ("* * * *", "4 fields"),
            ("0 * * * * *", "6 fields"),
            ("60 * * * *", "\"60\" as its minute"),
            ("* 24 * * *", "hour"),
            ("* * 0 * *", "day of the month"),
            ("* * * 13 *", "month"),
            ("* * * * 8", "day of the week"),
            ("* * * * funday", "funday"),
            ("*/0 * * * *", "step"),
            ("*/x * * * *", "step"),
            ("1,,2 * * * *", "\"\""),
            ("-1 * * * *", "\"\""),
            ("0 0 30 2 *", "no month"),
            ("0 0 31 4,6 *", "no month"),
            ("@reboot", "no time"),
            ("@noon", "not known"),
        ] {
            let error = Pattern::parse(text).expect_err(text).to_string();
            assert!(error.contains(says), "{text}: {error}");
        }
        assert!(Pattern::parse("0 0 29 2 *").is_ok());
        assert!(Pattern::parse("0 0 30 2 1").is_ok(), "Mondays of February are there");
    }

    #[test]
    fn celery_s_sets_are_taken_as_they_are() {
        let all = |low: u8, high: u8| (low..=high).collect::<Vec<_>>();
        let both = Pattern::of_sets(&[0], &[0], &[13], &all(1, 12), &[5]).unwrap();
        assert!(!both.either_day && !both.any_minute);
        assert!(Pattern::of_sets(&all(0, 59), &all(0, 23), &all(1, 31), &all(1, 12), &all(0, 6)).unwrap().any_minute);
        assert!(Pattern::of_sets(&[], &[0], &[1], &[1], &[0]).is_err());
        assert!(Pattern::of_sets(&[0], &[0], &[1], &[1], &[7]).is_err());
        assert!(Pattern::of_sets(&[0], &[0], &[31], &[2], &all(0, 6)).is_err());
    }
}
