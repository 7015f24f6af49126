use super::*;
use proptest::prelude::*;

/// A whole hour.
const START: u64 = 1_780_272_000;

fn at(secs: u64) -> Timestamp {
    Timestamp::from_secs(START + secs)
}

fn span(from: u64, to: u64) -> Span {
    Span { from: at(from), to: at(to) }
}

fn ran(secs: u64) -> Entry {
    Entry { at: at(secs), ended: true, several: None }
}

fn missed(from: u64, until: u64, count: u64) -> Entry {
    Entry { at: at(from), ended: true, several: Some(Several { until: at(until), count, exact: true }) }
}

fn instants(first: u64, last: u64, count: u64) -> Instants {
    Instants { first: at(first), last: at(last), count }
}

/// From `since` on, every minute, beginning with `first`.
fn minutely(since: u64, found: Option<u64>, first: Option<u64>) -> Timetable {
    Timetable {
        since: at(since),
        found: found.map(at),
        first: first.map(at),
        cron_expression: "* * * * *".to_owned(),
        timezone: "UTC".to_owned(),
        kept_from: None,
    }
}

fn check(timetables: &[Timetable], cursor: Option<u64>, entries: &[Entry], span: Span, expected: Findings) {
    assert_eq!(verify(timetables, cursor.map(at), entries, span), Ok(expected));
}

fn proven(proven: u64) -> Findings {
    Findings { proven, ..Findings::default() }
}

#[test]
fn each_instant_up_to_the_cursor_has_a_record() {
    let timetables = [minutely(5, None, Some(60))];
    let entries = [ran(60), ran(120), ran(180)];
    check(&timetables, Some(240), &entries, span(0, 200), proven(3));
    check(&timetables, Some(240), &entries, span(61, 180), proven(1));
    check(&timetables, Some(240), &entries, span(60, 181), proven(3));
    let gap = Findings { faults: vec![Fault::Missing(instants(120, 120, 1))], ..proven(2) };
    check(&timetables, Some(240), &[ran(60), ran(180)], span(0, 200), gap);
    let all = Findings { faults: vec![Fault::Missing(instants(60, 180, 3))], ..proven(0) };
    check(&timetables, Some(240), &[], span(0, 200), all);
}

#[test]
fn what_has_not_ended_and_what_waits_is_named_apart() {
    let timetables = [minutely(5, None, Some(60))];
    let open = Entry { ended: false, ..ran(120) };
    let expected = Findings { open: vec![at(120)], waiting: Some(instants(180, 300, 3)), ..proven(1) };
    check(&timetables, Some(180), &[ran(60), open], span(0, 301), expected);
    // Claimed ahead of the end of the span.
    check(&timetables, Some(180), &[ran(60), open], span(0, 119), proven(1));
}

#[test]
fn a_record_of_several_stands_for_each_of_them() {
    let timetables = [minutely(5, None, Some(60))];
    let entries = [ran(60), missed(120, 240, 3), ran(300)];
    check(&timetables, Some(360), &entries, span(0, 350), proven(5));
    check(&timetables, Some(360), &entries, span(180, 350), proven(3));
    check(&timetables, Some(360), &entries, span(0, 200), proven(3));
    let fault = Fault::Miscounted { at: at(120), until: at(240), says: 4, are: 3 };
    let wrong = [ran(60), missed(120, 240, 4), ran(300)];
    check(&timetables, Some(360), &wrong, span(0, 350), Findings { faults: vec![fault], ..proven(5) });
    let least = Several { until: at(240), count: 2, exact: false };
    let entries = [ran(60), Entry { several: Some(least), ..ran(120) }, ran(300)];
    check(&timetables, Some(360), &entries, span(0, 350), proven(5));
}

#[test]
fn what_was_not_due_or_stands_there_twice_is_named() {
    let timetables = [minutely(5, None, Some(60))];
    let fault = |faults| Findings { faults, ..proven(3) };
    let entries = [ran(60), ran(61), ran(120), ran(180)];
    check(&timetables, Some(240), &entries, span(0, 200), fault(vec![Fault::NotDue(at(61))]));
    let entries = [ran(60), ran(120), ran(180), ran(190)];
    check(&timetables, Some(240), &entries, span(0, 200), fault(vec![Fault::NotDue(at(190))]));
    let entries = [missed(60, 180, 3), ran(120)];
    check(&timetables, Some(240), &entries, span(0, 200), fault(vec![Fault::Twice(at(120))]));
    let entries = [ran(60), ran(60), ran(120), ran(180)];
    check(&timetables, Some(240), &entries, span(0, 200), fault(vec![Fault::Twice(at(60))]));
    let entries = [ran(60), ran(120), missed(120, 180, 2)];
    check(&timetables, Some(240), &entries, span(0, 200), fault(vec![Fault::Twice(at(120))]));
}

#[test]
fn a_pause_makes_nothing_due_and_gives_up_what_had_come() {
    let paused = minutely(130, Some(180), None);
    let resumed = minutely(290, None, Some(300));
    let timetables = [minutely(5, None, Some(60)), paused, resumed.clone()];
    check(&timetables, Some(360), &[ran(60), ran(120), ran(300)], span(0, 350), proven(3));
    // It was paused while nobody took up what was due.
    let late = minutely(250, Some(180), None);
    let timetables = [minutely(5, None, Some(60)), late, resumed];
    let expected = Findings { given_up: vec![instants(180, 240, 2)], ..proven(3) };
    check(&timetables, Some(360), &[ran(60), ran(120), ran(300)], span(0, 350), expected);
}

#[test]
fn an_edit_begins_where_it_says() {
    let hourly =
        Timetable { cron_expression: "0 * * * *".to_owned(), ..minutely(130, Some(180), Some(3_600)) };
    let timetables = [minutely(5, None, Some(60)), hourly];
    check(&timetables, Some(7_200), &[ran(60), ran(120), ran(3_600)], span(0, 7_000), proven(3));
    let expected = Findings { faults: vec![Fault::NotDue(at(180))], ..proven(3) };
    let entries = [ran(60), ran(120), ran(180), ran(3_600)];
    check(&timetables, Some(7_200), &entries, span(0, 7_000), expected);
}

#[test]
fn a_history_that_was_pruned_is_proven_from_there_on() {
    let mut kept = minutely(5, None, Some(60));
    kept.kept_from = Some(at(150));
    check(&[kept], Some(240), &[ran(180)], span(0, 200), proven(1));
}

#[test]
fn without_a_timetable_or_with_one_nobody_can_read_nothing_is_said() {
    assert_eq!(verify(&[], None, &[], span(0, 1)), Err(Unknown::NoTimetable));
    let unreadable = Timetable { cron_expression: "never".to_owned(), ..minutely(5, None, Some(60)) };
    let Err(error) = verify(&[unreadable], None, &[], span(0, 1)) else { panic!("it cannot be read") };
    assert_eq!(error.to_string(), "its schedule \"never\" in UTC cannot be read");
}

const SCHEDULES: [&str; 5] = ["* * * * *", "@every 7s", "*/5 * * * *", "@every 61s", "0 * * * *"];

/// What happens to a job.
#[derive(Clone, Debug)]
enum Step {
    /// Its next instant is claimed.
    Claim,
    /// So many seconds pass while nobody claims; then the last runs, or all are skipped.
    Outage(u64, bool),
    Edit(usize),
    Pause,
    Resume,
    /// So many seconds pass without a firing.
    Wait(u64),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => Just(Step::Claim),
        1 => (31u64..900, any::<bool>()).prop_map(|(secs, runs)| Step::Outage(secs, runs)),
        1 => (0..SCHEDULES.len()).prop_map(Step::Edit),
        1 => Just(Step::Pause),
        1 => Just(Step::Resume),
        1 => (0u64..90).prop_map(Step::Wait),
    ]
}

/// A job that follows the rules, as the replicated state does.
struct Job {
    now: u64,
    expression: &'static str,
    paused: bool,
    cursor: Option<Timestamp>,
    claimed_until: Option<Timestamp>,
    timetables: Vec<Timetable>,
    entries: Vec<Entry>,
}

impl Job {
    fn new() -> Self {
        let mut job = Self {
            now: 0,
            expression: SCHEDULES[0],
            paused: false,
            cursor: None,
            claimed_until: None,
            timetables: Vec::new(),
            entries: Vec::new(),
        };
        job.turn();
        job
    }

    fn schedule(&self) -> Schedule {
        Schedule::parse(self.expression, "UTC").unwrap()
    }

    /// Moves the cursor after a change.
    fn turn(&mut self) {
        let now = at(self.now);
        let from = self.claimed_until.map_or(now, |until| until.max(now));
        let cursor = self.schedule().next_after(from).filter(|_| !self.paused);
        let next =
            Timetable { cron_expression: self.expression.to_owned(), ..minutely(self.now, None, None) };
        let next = Timetable { found: self.cursor, first: cursor, ..next };
        match self.timetables.last().map(|last| (last.makes_due_as(&next), last.followed_by(&next))) {
            Some((true, _)) => {}
            Some((false, Some(both))) => *self.timetables.last_mut().unwrap() = both,
            Some((false, None)) | None => self.timetables.push(next),
        }
        self.cursor = cursor;
    }

    fn take(&mut self, step: &Step) {
        match step {
            Step::Claim => {
                let Some(cursor) = self.cursor else { return };
                self.entries.push(Entry { at: cursor, ended: true, several: None });
                self.now = self.now.max(cursor.as_secs() - START);
                self.claimed_until = Some(cursor);
                self.cursor = self.schedule().next_after(cursor);
            }
            Step::Outage(secs, runs) => {
                self.now += secs;
                let now = at(self.now);
                let Some(cursor) = self.cursor.filter(|cursor| *cursor <= now) else { return };
                let due = self.schedule().missed(cursor, now, 100_000).unwrap();
                let (until, count) =
                    if *runs { (due.before_last, due.count - 1) } else { (Some(due.last), due.count) };
                if let Some(until) = until {
                    let several = Some(Several { until, count, exact: due.exact });
                    self.entries.push(Entry { at: cursor, ended: true, several });
                }
                if *runs {
                    self.entries.push(Entry { at: due.last, ended: true, several: None });
                }
                self.claimed_until = Some(due.last);
                self.cursor = self.schedule().next_after(now);
            }
            Step::Edit(index) => {
                self.expression = SCHEDULES[*index];
                self.turn();
            }
            Step::Pause => {
                self.paused = true;
                self.turn();
            }
            Step::Resume => {
                self.paused = false;
                self.turn();
            }
            Step::Wait(secs) => self.now += secs,
        }
    }

    fn verify(&self, entries: &[Entry]) -> Findings {
        verify(&self.timetables, self.cursor, entries, Span { from: at(0), to: at(self.now + 7_200) })
            .unwrap()
    }
}

fn job(steps: &[Step]) -> Job {
    let mut job = Job::new();
    steps.iter().for_each(|step| job.take(step));
    job
}

/// How many instants a record stands for.
fn stands_for(entry: &Entry) -> u64 {
    entry.several.map_or(1, |several| several.count)
}

proptest! {
    #[test]
    fn a_history_that_followed_the_rules_is_complete(steps in prop::collection::vec(step(), 0..80)) {
        let job = job(&steps);
        let findings = job.verify(&job.entries);
        prop_assert_eq!(&findings.faults, &vec![]);
        prop_assert_eq!(findings.proven, job.entries.iter().map(stands_for).sum::<u64>());
    }

    #[test]
    fn a_record_that_was_taken_out_is_the_one_that_is_missing(
        steps in prop::collection::vec(step(), 1..80),
        choice: prop::sample::Index,
    ) {
        let job = job(&steps);
        prop_assume!(!job.entries.is_empty());
        let mut entries = job.entries.clone();
        let gone = entries.remove(choice.index(entries.len()));
        let missing = Instants { first: gone.at, last: gone.until(), count: stands_for(&gone) };
        prop_assert_eq!(job.verify(&entries).faults, vec![Fault::Missing(missing)]);
    }

    #[test]
    fn a_record_that_stands_there_twice_is_named(
        steps in prop::collection::vec(step(), 1..80),
        choice: prop::sample::Index,
    ) {
        let job = job(&steps);
        prop_assume!(!job.entries.is_empty());
        let mut entries = job.entries.clone();
        let index = choice.index(entries.len());
        let doubled = entries[index];
        entries.insert(index + 1, Entry { at: doubled.until(), several: None, ..doubled });
        prop_assert_eq!(job.verify(&entries).faults, vec![Fault::Twice(doubled.until())]);
    }

    #[test]
    fn a_record_that_was_moved_leaves_a_gap_and_is_not_due(
        steps in prop::collection::vec(step(), 1..80),
        choice: prop::sample::Index,
    ) {
        let job = job(&steps);
        let single: Vec<usize> =
            (0..job.entries.len()).filter(|index| job.entries[*index].several.is_none()).collect();
        prop_assume!(!single.is_empty());
        let mut entries = job.entries.clone();
        let moved = &mut entries[single[choice.index(single.len())]];
        let was = moved.at;
        moved.at = Timestamp::from_millis(was.as_millis() + 1);
        let mut faults = job.verify(&entries).faults;
        faults.sort_by_key(|fault| matches!(fault, Fault::NotDue(_)));
        let missing = Fault::Missing(Instants { first: was, last: was, count: 1 });
        prop_assert_eq!(faults, vec![missing, Fault::NotDue(Timestamp::from_millis(was.as_millis() + 1))]);
    }

    #[test]
    fn a_span_of_any_bounds_finds_nothing_that_is_not_wrong(
        steps in prop::collection::vec(step(), 0..60),
        from in 0u64..4_000,
        secs in 0u64..4_000,
    ) {
        let job = job(&steps);
        let span = span(from, from + secs);
        let findings = verify(&job.timetables, job.cursor, &job.entries, span).unwrap();
        prop_assert_eq!(findings.faults, vec![]);
    }
}
