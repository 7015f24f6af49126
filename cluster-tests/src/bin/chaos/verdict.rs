//! One page about a run: what was done, what came of it, and whether every promise was kept.

use crate::plan::Fault;
use cluster_tests::{
    check::{
        Observation, PROPERTIES, Window, back_us, every_firing_once,
        on_time::{Sample, Scope, samples, summarize},
    },
    history::{self, FaultKind, History, Outcome},
};
use std::{collections::HashSet, fmt::Write, time::Duration};

/// Upper ends of the histogram's rows, in milliseconds.
const ROWS_MS: [i64; 13] = [2, 5, 10, 25, 50, 100, 250, 500, 1_000, 2_500, 5_000, 10_000, 30_000];
/// Characters of its longest bar.
const BAR_CHARS: usize = 40;
/// Violations of one property that are shown.
const SHOWN_MAX: usize = 5;

/// A fault that is over.
#[derive(Clone, Debug)]
pub(crate) struct Healed {
    pub(crate) fault: Fault,
    pub(crate) leader: u64,
    pub(crate) lasting: Duration,
    /// From the end of the fault until every node said that it is ready.
    pub(crate) ready: Duration,
    /// From the end of the fault until every node was alive and every shard had an owner.
    pub(crate) whole: Duration,
}

/// Around every fault: from before it, since nodes claim ahead, to when work has been given to others.
pub(crate) fn troubled(history: &History, before: Duration, after: Duration) -> Vec<Window> {
    let goes_away =
        |kind| matches!(kind, FaultKind::Kill | FaultKind::Terminate | FaultKind::Pause | FaultKind::Cut);
    let window = |fault: &history::Fault| Window {
        from_us: Window::around(fault.at_us, before, before).from_us,
        until_us: Window::around(back_us(history, fault), after, after).until_us,
    };
    history.faults().filter(|fault| goes_away(fault.kind)).map(window).collect()
}

/// The page, and whether all is well.
pub(crate) fn verdict(
    history: &History,
    observation: &Observation,
    healed: &[Healed],
    troubled: &[Window],
) -> (String, bool) {
    let mut page = String::new();
    let mut is_valid = true;
    // Writing to a string does not fail.
    let mut line = |text: String| {
        let _ = writeln!(page, "{text}");
    };

    line("faults".to_owned());
    for fault in crate::plan::FAULTS {
        let of_kind: Vec<_> = healed.iter().filter(|healed| healed.fault == fault.0).collect();
        let slowest = |time: fn(&Healed) -> Duration| {
            of_kind.iter().map(|healed| time(healed)).max().unwrap_or_default().as_secs_f64()
        };
        if !of_kind.is_empty() {
            line(format!(
                "  {:<15} {:>4} times; afterwards ready within {:.1} s, whole within {:.1} s",
                fault.1,
                of_kind.len(),
                slowest(|healed| healed.ready),
                slowest(|healed| healed.whole),
            ));
        }
    }

    let count = |status: &str| history.executions().filter(|execution| execution.status == status).count();
    line(format!(
        "work\n  {} jobs, {} changes ({} whose outcome is unknown), {} pauses and deletions\n  \
         {} runs asked for ({} whose outcome is unknown); {} messages told to channels, {} of them again\n  \
         {} calls, {} of them retries or repeats\n  \
         {} executions read: {} success, {} failed, {} skipped",
        history.jobs().count(),
        history.edits().count(),
        history.edits().filter(|edited| edited.acknowledged_us.is_none()).count(),
        history.stops().count(),
        history.runs_asked().count(),
        history.runs_asked().filter(|asked| asked.execution.is_none()).count(),
        history.alerts().count(),
        again(history),
        history.calls().count(),
        every_firing_once::repeats(history),
        history.executions().count(),
        count("success"),
        count("failed"),
        count("skipped"),
    ));

    let outcomes =
        |is: fn(&Outcome) -> bool| history.operations().filter(|operation| is(&operation.outcome)).count();
    line(format!(
        "  {} reads and writes: {} acknowledged, {} refused, {} whose outcome is unknown",
        history.operations().count(),
        outcomes(|outcome| matches!(outcome, Outcome::Acknowledged { .. })),
        outcomes(|outcome| matches!(outcome, Outcome::Refused { .. })),
        outcomes(|outcome| matches!(outcome, Outcome::Unknown { .. })),
    ));

    let samples = samples(history);
    line("lateness at the target".to_owned());
    line(histogram(&samples, troubled));

    line("promises".to_owned());
    for property in PROPERTIES {
        let violations = (property.check)(history, observation);
        let mark = if violations.is_empty() { "kept" } else { "BROKEN" };
        line(format!("  {:<18} {mark}", property.name));
        for violation in violations.iter().take(SHOWN_MAX) {
            line(format!("    {violation}"));
        }
        if violations.len() > SHOWN_MAX {
            line(format!("    and {} more", violations.len() - SHOWN_MAX));
        }
        is_valid &= violations.is_empty();
    }
    line(format!("verdict: {}", if is_valid { "VALID" } else { "INVALID" }));
    (page, is_valid)
}

/// Messages that had been told before.
fn again(history: &History) -> usize {
    let mut told = HashSet::new();
    history.alerts().filter(|alert| !told.insert((&alert.path, &alert.id))).count()
}

/// Calm and troubled instants by how late they were called.
fn histogram(samples: &[Sample], troubled: &[Window]) -> String {
    let scopes =
        [("calm", Scope::Outside(troubled.to_vec())), ("troubled", Scope::Within(troubled.to_vec()))];
    let mut text = String::new();
    for (name, scope) in scopes {
        let inside: Vec<_> = samples.iter().filter(|sample| scope.contains(&sample.instant)).collect();
        let Some(summary) = summarize(inside.iter().copied()) else { continue };
        let ms = |us: i64| us as f64 / 1_000.0;
        let _ = writeln!(
            text,
            "  {name}: {} instants, p50 {:.1} ms, p99 {:.1} ms, max {:.1} ms",
            summary.count,
            ms(summary.p50_us),
            ms(summary.p99_us),
            ms(summary.max_us)
        );
        let mut counts = [0usize; ROWS_MS.len() + 1];
        for sample in &inside {
            let row = ROWS_MS.iter().position(|row_ms| sample.lateness_us <= row_ms * 1_000);
            counts[row.unwrap_or(ROWS_MS.len())] += 1;
        }
        let most = counts.iter().copied().max().unwrap_or(1).max(1);
        for (row, count) in counts.iter().enumerate().filter(|(_, count)| **count > 0) {
            let label =
                ROWS_MS.get(row).map_or_else(|| "later".to_owned(), |row_ms| format!("<= {row_ms} ms"));
            let bar = "#".repeat((count * BAR_CHARS).div_ceil(most));
            let _ = writeln!(text, "    {label:>12} {count:>8} {bar}");
        }
    }
    text.trim_end().to_owned()
}
