//! Every register behaves as if its operations took place one after the other, each at some instant between its question and
//! its answer: a read shows the last value written, on whichever node it is asked.
//!
//! A register is absent until its create, holds the last value written until its delete, and is absent for ever after.
//! A write or delete that is answered with 404 found it absent and changed nothing; what was refused changed nothing; what was
//! not answered may take effect at any time after it was asked, or never. Registers are judged each on its own: an
//! order of all operations exists if one exists for each (Herlihy and Wing).

mod search;
#[cfg(test)]
mod tests;

use super::{Observation, Violation};
use crate::history::{History, Operation, OperationKind, Outcome, Reply};
use search::{Entry, State, Step, Verdict, search};
use std::collections::{BTreeMap, HashMap};

/// How many configurations of one register are looked at: ten times what three thousand operations of eight clients take that
/// never rest, and at most some 200 MB.
const CONFIGURATIONS_MAX: usize = 2_000_000;

/// See the module.
pub fn check(history: &History, _: &Observation) -> Vec<Violation> {
    let mut registers: BTreeMap<u64, Vec<&Operation>> = BTreeMap::new();
    for operation in history.operations() {
        registers.entry(operation.register).or_default().push(operation);
    }
    registers
        .iter()
        .filter_map(|(register, operations)| judge(*register, operations, CONFIGURATIONS_MAX))
        .collect()
}

/// How many operations there are.
pub fn judged(history: &History, _: &Observation) -> usize {
    history.operations().count()
}

fn judge(register: u64, operations: &[&Operation], configurations_max: usize) -> Option<Violation> {
    let mut values = Values::default();
    let mut known = Vec::new();
    let mut entries = Vec::new();
    let mut creates = 0;
    for operation in operations {
        match values.entry(operation) {
            Ok(Some(entry)) => {
                creates += usize::from(matches!(entry.step, Step::Create(_)));
                known.push(*operation);
                entries.push(entry);
            }
            Ok(None) => {}
            Err(fault) => {
                return Some(Violation::Unreadable(format!(
                    "register {register}: {fault}: {}",
                    shown(operation)
                )));
            }
        }
    }
    if creates != 1 && !entries.is_empty() {
        return Some(Violation::Unreadable(format!("register {register} has {creates} creates")));
    }
    match search(&entries, configurations_max) {
        Verdict::Linearizable => None,
        Verdict::Refuted { entry, asked, states, beside } => Some(Violation::NotLinearizable {
            register,
            operation: shown(known[entry]),
            asked,
            states: states.into_iter().map(|state| values.shown(state)).collect(),
            beside: beside.into_iter().map(|entry| shown(known[entry])).collect(),
        }),
        Verdict::Undecided => Some(Violation::Undecided { register, operations: operations.len() }),
    }
}

/// The values of one register and their numbers.
#[derive(Default)]
struct Values<'a> {
    numbers: HashMap<&'a str, u32>,
    texts: Vec<&'a str>,
}

impl<'a> Values<'a> {
    fn number(&mut self, value: &'a str) -> u32 {
        let next =
            u32::try_from(self.texts.len()).expect("a history has less than four thousand million values");
        *self.numbers.entry(value).or_insert_with(|| {
            self.texts.push(value);
            next
        })
    }

    fn shown(&self, state: State) -> String {
        match state {
            State::Absent => "absent".to_owned(),
            State::Present(number) => format!("{:?}", self.texts[number as usize]),
        }
    }

    /// What the search has to know of an operation; nothing of one that says nothing. The error says why it cannot be.
    fn entry(&mut self, operation: &'a Operation) -> Result<Option<Entry>, &'static str> {
        let asked_us = operation.asked_us;
        let (reply, answered_us) = match &operation.outcome {
            Outcome::Refused { .. } => return Ok(None),
            Outcome::Unknown { .. } => {
                let step = match &operation.kind {
                    // Whoever got no id for it cannot have gone on with it.
                    OperationKind::Create { .. } | OperationKind::Read => return Ok(None),
                    OperationKind::Write { value } => Step::Write(self.number(value)),
                    OperationKind::Delete => Step::Delete,
                };
                return Ok(Some(Entry { step, asked_us, answered_us: None }));
            }
            Outcome::Acknowledged { reply, answered_us } => (reply, *answered_us),
        };
        if answered_us < asked_us {
            return Err("answered before it was asked");
        }
        let step = match (&operation.kind, reply) {
            (OperationKind::Create { value }, Reply::Done) => Step::Create(self.number(value)),
            (OperationKind::Write { value }, Reply::Done) => Step::Write(self.number(value)),
            (OperationKind::Delete, Reply::Done) => Step::Delete,
            (OperationKind::Read, Reply::Value(value)) => Step::See(State::Present(self.number(value))),
            (OperationKind::Write { .. } | OperationKind::Delete | OperationKind::Read, Reply::Absent) => {
                Step::See(State::Absent)
            }
            (OperationKind::Create { .. }, Reply::Value(_) | Reply::Absent)
            | (OperationKind::Write { .. } | OperationKind::Delete, Reply::Value(_))
            | (OperationKind::Read, Reply::Done) => return Err("an answer to another question"),
        };
        Ok(Some(Entry { step, asked_us, answered_us: Some(answered_us) }))
    }
}

/// An operation for people.
fn shown(operation: &Operation) -> String {
    let Operation { register: _, job, process, node, kind, asked_us, outcome } = operation;
    let kind = match kind {
        OperationKind::Create { value } => format!("create {value:?}"),
        OperationKind::Write { value } => format!("write {value:?}"),
        OperationKind::Read => "read".to_owned(),
        OperationKind::Delete => "delete".to_owned(),
    };
    let outcome = match outcome {
        Outcome::Acknowledged { reply, answered_us } => {
            let reply = match reply {
                Reply::Done => "done".to_owned(),
                Reply::Value(value) => format!("{value:?}"),
                Reply::Absent => "absent".to_owned(),
            };
            format!("answered {reply} at {answered_us}")
        }
        Outcome::Refused { reason } => format!("refused ({reason})"),
        Outcome::Unknown { reason } => format!("unknown ({reason})"),
    };
    format!("{kind} of {job} by process {process} on node {node}, asked at {asked_us}, {outcome}")
}
