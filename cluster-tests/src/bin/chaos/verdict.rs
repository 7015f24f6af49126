//! One page about a run: what was done, what came of it, and whether every promise was kept.

use crate::plan::Fault;
use cluster_tests::{
    check::{
        Observation, PROPERTIES, Property, Violation, Window, back_us, covered_us, every_firing_once,
        on_time::{Sample, Scope, samples, summarize},
    },
    history::{self, FaultKind, Healed, History, Outcome},
    time::SECOND_US,
};
use std::{collections::HashSet, fmt::Write, time::Duration};

/// Upper ends of the histogram's rows, in milliseconds.
const ROWS_MS: [i64; 13] = [2, 5, 10, 25, 50, 100, 250, 500, 1_000, 2_500, 5_000, 10_000, 30_000];
/// Characters of its longest bar.
const BAR_CHARS: usize = 40;
/// Violations of one property that are shown.
const SHOWN_MAX: usize = 5;

/// What the run was to do.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Wanted<'a> {
    /// The faults that somebody asked for.
    pub(crate) asked: &'a [Fault],
    /// Those that this machine and these builds allow.
    pub(crate) possible: &'a [Fault],
}

/// Around every fault: from before it, since nodes claim ahead, to when work has been given to others.
pub(crate) fn troubled(history: &History, before: Duration, after: Duration) -> Vec<Window> {
    let goes_away =
        |kind| matches!(kind, FaultKind::Kill | FaultKind::Terminate | FaultKind::Pause | FaultKind::Cut);
    let window = |fault: &history::Fault| Window {
        from_us: Window::around(fault.at_us, before, before).from_us,
        until_us: Window::around(back_us(history, fault), after, after).until_us,
    };
    let skewed = history.skews().map(|skewed| Window {
        from_us: Window::around(skewed.from_us, before, before).from_us,
        until_us: Window::around(skewed.until_us, after, after).until_us,
    });
    history.faults().filter(|fault| goes_away(fault.kind)).map(window).chain(skewed).collect()
}

/// The page, and whether all is well.
pub(crate) fn verdict(
    history: &History,
    observation: &Observation,
    wanted: Option<Wanted<'_>>,
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
        let of_kind: Vec<_> = history.healed().filter(|healed| healed.fault == fault.1).collect();
        let slowest = |time_us: fn(&Healed) -> i64| {
            of_kind.iter().map(|healed| time_us(healed)).max().unwrap_or_default() as f64 / SECOND_US as f64
        };
        if !of_kind.is_empty() {
            line(format!(
                "  {:<15} {:>4} times; afterwards ready within {:.1} s, whole within {:.1} s",
                fault.1,
                of_kind.len(),
                slowest(|healed| healed.ready_us),
                slowest(|healed| healed.whole_us),
            ));
        }
    }
    if let Some(wanted) = wanted {
        for (what, faults) in wanted.left_out(history) {
            line(format!("  {what}: {}", faults.join(", ")));
        }
    }
    if let Some(percent) = disturbed_percent(history, observation) {
        line(format!("  {percent:.0} % of the time a fault may excuse something"));
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
        line(format!("  {}", judgement(property, &violations, (property.judged)(history, observation))));
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

impl Wanted<'_> {
    /// What of it came to nothing, by why.
    fn left_out(&self, history: &History) -> Vec<(&'static str, Vec<&'static str>)> {
        let names = |is: &dyn Fn(&Fault) -> bool| {
            let mut names: Vec<_> =
                self.asked.iter().filter(|fault| is(fault)).map(|fault| fault.name()).collect();
            names.dedup();
            names
        };
        let is_possible = |fault: &Fault| self.possible.contains(fault);
        let was_reached = |fault: &Fault| history.healed().any(|healed| healed.fault == fault.name());
        let left_out = [
            ("not reached", names(&|fault| is_possible(fault) && !was_reached(fault))),
            ("SKIPPED", names(&|fault| !is_possible(fault))),
        ];
        left_out.into_iter().filter(|(_, names)| !names.is_empty()).collect()
    }
}

/// A promise, whether it was kept, and by how much that is judged.
fn judgement(property: &Property, violations: &[Violation], judged: usize) -> String {
    let mark = match (violations.is_empty(), judged) {
        (true, 0) => return format!("{:<18} nothing to judge", property.name),
        (true, _) => "kept",
        (false, _) => "BROKEN",
    };
    format!("{:<18} {mark:<7} {:>12} {}", property.name, grouped(judged), property.unit)
}

/// A number for people: 1,234,567.
fn grouped(number: usize) -> String {
    let digits = number.to_string();
    let groups = digits.as_bytes().rchunks(3).rev().map(String::from_utf8_lossy);
    groups.collect::<Vec<_>>().join(",")
}

/// How much of the time from the first job to the end lies in disturbed windows; none without a job.
fn disturbed_percent(history: &History, observation: &Observation) -> Option<f64> {
    let from_us = history.jobs().map(|job| job.acknowledged_us).min()?;
    let all_us = observation.until_us - from_us;
    let covered_us = covered_us(&observation.disturbed, from_us, observation.until_us);
    (all_us > 0).then(|| covered_us as f64 / all_us as f64 * 100.0)
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

#[cfg(test)]
mod tests {
    use super::*;
    use cluster_tests::history::Event;

    fn healed(fault: &str) -> Event {
        let fault = fault.to_owned();
        Event::Healed(Healed { fault, leader: 1, lasting_us: 1, at_us: 1, ready_us: 1, whole_us: 2_500_000 })
    }

    fn page(history: &History, wanted: Option<Wanted<'_>>) -> (String, bool) {
        let observation = Observation::of(history, 3, 0, Duration::ZERO);
        verdict(history, &observation, wanted, &[])
    }

    #[test]
    fn the_page_says_by_how_much_a_promise_is_judged() {
        let (text, is_valid) = page(&History { events: vec![healed("roll"), healed("roll")] }, None);
        assert!(is_valid && text.contains("heals              kept               2 faults\n"), "{text}");
        assert!(text.contains("kept               nothing to judge\n"), "{text}");
        assert!(
            text.contains("roll               2 times; afterwards ready within 0.0 s, whole within 2.5 s"),
            "{text}"
        );
        let [late] = [healed("roll")].map(|event| match event {
            Event::Healed(healed) => Event::Healed(Healed { whole_us: 20_000_001, ..healed }),
            other => other,
        });
        let (text, is_valid) = page(&History { events: vec![late] }, None);
        assert!(!is_valid && text.contains("heals              BROKEN             1 faults\n"), "{text}");
        assert!(text.ends_with("verdict: INVALID\n"), "{text}");
        assert_eq!([7, 1_234, 1_234_567].map(grouped), ["7", "1,234", "1,234,567"]);
    }

    #[test]
    fn the_page_names_the_faults_that_were_not_to_be_had() {
        let asked = [Fault::Roll, Fault::KillAll, Fault::MixedVersion, Fault::DiskFull];
        let wanted = Wanted { asked: &asked, possible: &asked[..2] };
        let (text, _) = page(&History { events: vec![healed("roll")] }, Some(wanted));
        assert!(text.contains("  not reached: kill-all\n  SKIPPED: mixed-version, disk-full\n"), "{text}");
        let (text, _) = page(&History { events: vec![healed("roll"), healed("kill-all")] }, Some(wanted));
        assert!(!text.contains("not reached"), "{text}");
    }
}
