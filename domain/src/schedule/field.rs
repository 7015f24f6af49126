//! The grammar of one field: numbers, names, ranges, steps and lists, as a bit set.

use super::ScheduleError;

/// One of the five fields of an expression.
#[derive(Debug)]
pub(super) struct Field {
    name: &'static str,
    min: u32,
    max: u32,
    /// Three-letter names, the first of which stands for `min`.
    names: &'static [&'static str],
}

pub(super) const MINUTE: Field = Field { name: "minute", min: 0, max: 59, names: &[] };
pub(super) const HOUR: Field = Field { name: "hour", min: 0, max: 23, names: &[] };
pub(super) const DAY_OF_MONTH: Field = Field { name: "day of month", min: 1, max: 31, names: &[] };
pub(super) const MONTH: Field = Field {
    name: "month",
    min: 1,
    max: 12,
    names: &["JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT", "NOV", "DEC"],
};
/// Runs to 7 because 7 is Sunday too, and steps count through it.
pub(super) const DAY_OF_WEEK: Field =
    Field { name: "day of week", min: 0, max: 7, names: &["SUN", "MON", "TUE", "WED", "THU", "FRI", "SAT"] };

impl Field {
    /// The values that `text` names: bit `n` for value `n`. Never empty.
    pub(super) fn parse(&self, text: &str) -> Result<u64, ScheduleError> {
        let mut bits = 0;
        for item in text.split(',') {
            bits |= self
                .item(item)
                .map_err(|reason| ScheduleError::Expression(format!("{}: {reason}", self.name)))?;
        }
        Ok(bits)
    }

    fn item(&self, item: &str) -> Result<u64, String> {
        if item.is_empty() {
            return Err("empty list item".to_owned());
        }
        let (range, step) = match item.split_once('/') {
            Some((range, step)) => (range, Some(step_size(step)?)),
            None => (item, None),
        };
        let (first, last) = if range == "*" {
            (self.min, self.max)
        } else if let Some((first, last)) = range.split_once('-') {
            (self.value(first)?, self.value(last)?)
        } else {
            let first = self.value(range)?;
            (first, if step.is_some() { self.max } else { first })
        };
        if last < first {
            return Err(format!("range {range:?} ends before it starts"));
        }
        Ok((first..=last).step_by(step.unwrap_or(1)).fold(0, |bits, value| bits | 1 << value))
    }

    fn value(&self, text: &str) -> Result<u32, String> {
        if let Some((_, value)) =
            self.names.iter().zip(self.min..).find(|(n, _)| n.eq_ignore_ascii_case(text))
        {
            return Ok(value);
        }
        let (min, max) = (self.min, self.max);
        match two_digits(text) {
            Some(value) if (min..=max).contains(&value) => Ok(value),
            Some(value) => Err(format!("{value} is out of range {min}-{max}")),
            None if text.is_empty() => Err("a value is missing".to_owned()),
            None if self.names.is_empty() => Err(format!("{text:?} is not a number {min}-{max}")),
            None => Err(format!("{text:?} is neither a number {min}-{max} nor a three-letter name")),
        }
    }
}

fn step_size(text: &str) -> Result<usize, String> {
    match two_digits(text).map(usize::try_from) {
        Some(Ok(step)) if step > 0 => Ok(step),
        _ => Err(format!("step {text:?} is not a number 1-99")),
    }
}

/// One or two ASCII digits. A third is refused, so that nothing can overflow or wrap round.
fn two_digits(text: &str) -> Option<u32> {
    let digits = matches!(text.len(), 1 | 2) && text.bytes().all(|byte| byte.is_ascii_digit());
    if digits { text.parse().ok() } else { None }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(field: &Field, text: &str, expected: &[u32]) {
        let bits = field.parse(text).unwrap();
        let values: Vec<u32> = (0..64).filter(|value| bits >> value & 1 == 1).collect();
        assert_eq!(values, expected, "{} {text}", field.name);
    }

    fn check_refused(field: &Field, text: &str, expected: &str) {
        assert_eq!(field.parse(text).unwrap_err().to_string(), expected);
    }

    #[test]
    fn steps_start_where_their_range_does() {
        check(&MINUTE, "*/20", &[0, 20, 40]);
        check(&MINUTE, "*/60", &[0]);
        check(&MINUTE, "5/20", &[5, 25, 45]);
        check(&MINUTE, "10-35/20", &[10, 30]);
        check(&MINUTE, "7-7/2", &[7]);
        check(&DAY_OF_MONTH, "*/10", &[1, 11, 21, 31]);
    }

    #[test]
    fn names_mix_with_numbers_in_any_case() {
        check(&MONTH, "jan,Apr-6,NOV/1", &[1, 4, 5, 6, 11, 12]);
        check(&DAY_OF_WEEK, "SUN-2,fri-7/2", &[0, 1, 2, 5, 7]);
    }

    #[test]
    fn refusals_name_the_field_and_the_fault() {
        check_refused(&MINUTE, "60", "minute: 60 is out of range 0-59");
        check_refused(&HOUR, "22-2", "hour: range \"22-2\" ends before it starts");
        check_refused(&HOUR, "1,,2", "hour: empty list item");
        check_refused(&HOUR, "5-", "hour: a value is missing");
        check_refused(&MINUTE, "*/0", "minute: step \"0\" is not a number 1-99");
        check_refused(&MINUTE, "007", "minute: \"007\" is not a number 0-59");
        check_refused(&MONTH, "MON", "month: \"MON\" is neither a number 1-12 nor a three-letter name");
    }
}
