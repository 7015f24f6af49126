//! Figures for people and for programs.

use crate::scene::say;
use cluster_tests::check::on_time::{Sample, summarize};
use serde_json::{Map, Value, json};

/// Rows under named columns.
#[derive(Debug)]
pub(crate) struct Table {
    scenario: &'static str,
    columns: &'static [&'static str],
    rows: Vec<Vec<Value>>,
}

impl Table {
    pub(crate) fn new(scenario: &'static str, columns: &'static [&'static str]) -> Self {
        Self { scenario, columns, rows: Vec::new() }
    }

    /// Adds a row; it must have a value for each column.
    pub(crate) fn row(&mut self, values: Vec<Value>) {
        debug_assert_eq!(values.len(), self.columns.len());
        self.rows.push(values);
    }

    /// Prints the table and then each row as a JSON object in a line.
    pub(crate) fn print(&self) {
        say(self.aligned());
        say(self.json_lines());
    }

    fn aligned(&self) -> String {
        let header = self.columns.iter().map(|column| (*column).to_owned()).collect();
        let cells: Vec<Vec<String>> = std::iter::once(header)
            .chain(self.rows.iter().map(|row| row.iter().map(cell).collect()))
            .collect();
        let width =
            |column: usize| cells.iter().map(|row| row[column].chars().count()).max().unwrap_or_default();
        let widths: Vec<_> = (0..self.columns.len()).map(width).collect();
        let line = |row: &Vec<String>| {
            let padded = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}"));
            padded.collect::<Vec<_>>().join("  ").trim_end().to_owned()
        };
        format!("\n{}\n{}", self.scenario, cells.iter().map(line).collect::<Vec<_>>().join("\n"))
    }

    fn json_lines(&self) -> String {
        let object = |row: &Vec<Value>| {
            let mut object = Map::new();
            object.insert("scenario".to_owned(), Value::from(self.scenario));
            object.extend(self.columns.iter().map(|column| (*column).to_owned()).zip(row.iter().cloned()));
            Value::Object(object).to_string()
        };
        self.rows.iter().map(object).collect::<Vec<_>>().join("\n")
    }
}

fn cell(value: &Value) -> String {
    match value {
        Value::Null => "-".to_owned(),
        Value::String(text) => text.clone(),
        Value::Bool(_) | Value::Number(_) | Value::Array(_) | Value::Object(_) => value.to_string(),
    }
}

/// Count, p50, p99 and maximum of the lateness in milliseconds; nulls of nothing.
pub(crate) fn lateness_cells<'a>(samples: impl IntoIterator<Item = &'a Sample>) -> [Value; 4] {
    match summarize(samples) {
        Some(found) => [json!(found.count), ms(found.p50_us), ms(found.p99_us), ms(found.max_us)],
        None => [json!(0), Value::Null, Value::Null, Value::Null],
    }
}

/// With one decimal.
pub(crate) fn tenths(value: f64) -> f64 {
    (value * 10.0).round() / 10.0
}

/// With two decimals.
pub(crate) fn hundredths(value: f64) -> f64 {
    (value * 100.0).round() / 100.0
}

/// With three decimals.
pub(crate) fn thousandths(value: f64) -> f64 {
    (value * 1_000.0).round() / 1_000.0
}

/// Microseconds as milliseconds with one decimal.
pub(crate) fn ms(us: i64) -> Value {
    json!(tenths(float(us) / 1_000.0))
}

/// Microseconds as seconds with two decimals.
pub(crate) fn seconds(us: i64) -> Value {
    json!(hundredths(float(us) / 1_000_000.0))
}

// Past 2^53 us, which is 285 years, the last digits would be off.
#[expect(clippy::cast_precision_loss, reason = "only for show")]
fn float(us: i64) -> f64 {
    us as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_lines_up_and_a_row_is_an_object() {
        let mut table = Table::new("s", &["name", "p50_ms"]);
        table.row(vec![json!("overall"), ms(1_234)]);
        table.row(vec![json!("x"), Value::Null]);
        assert_eq!(table.aligned(), "\ns\nname     p50_ms\noverall  1.2\nx        -");
        let lines = table.json_lines();
        let first: Value = serde_json::from_str(lines.lines().next().unwrap()).unwrap();
        assert_eq!(first, json!({"scenario": "s", "name": "overall", "p50_ms": 1.2}));
    }
}
