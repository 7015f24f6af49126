//! A backup of another cluster, and the commands that restore it.

use crate::records::bootstrap;
use crate::writer::Writer;
use crate::{commit, open};
use bytes::Bytes;
use raft::command::{BeginRestore, Command, RestorePart, StepRestore};
use std::io::BufReader;
use storage::backup::BackupReader;
use storage::schema::{Accounts, RestoreStage, Restores};
use storage::{Read, State};

/// Proposals that the other cluster has seen.
const PROPOSALS: usize = 100;

pub(crate) struct Backup {
    number: u64,
    parts: Vec<Bytes>,
    begun: bool,
}

impl Backup {
    pub(crate) fn of_another(seed: u64) -> Self {
        let (_dir, storage) = open();
        let mut writer = Writer::bare(seed);
        for index in 0..PROPOSALS {
            let entry = writer.proposal(&storage.state);
            commit(&storage.state, std::slice::from_ref(&entry), index);
        }
        let file = storage.state.backup(|mark| mark.to_vec()).unwrap();
        let mut reader = BackupReader::new(BufReader::new(file)).unwrap();
        let mut parts = Vec::new();
        while let Some(part) = reader.next_part().unwrap() {
            parts.push(part.block);
        }
        Self { number: reader.number(), parts, begun: false }
    }

    /// What is to be done next; `None` once all of it is restored.
    pub(crate) fn next(&mut self, state: &State) -> Option<Command> {
        let (backup, parts) = (self.number, self.parts.len() as u64);
        match state.view().get::<Restores>(&()).unwrap().map(|restore| restore.stage) {
            None if self.begun => None,
            None if state.view().keys_prefix::<Accounts>(&[], None, 1).unwrap().is_empty() => {
                Some(Command::Bootstrap(bootstrap()))
            }
            None => Some(Command::BeginRestore(BeginRestore { backup, parts, replaces: None })),
            Some(RestoreStage::Filling { next }) => {
                self.begun = true;
                let block = self.parts[usize::try_from(next).unwrap()].clone();
                Some(Command::RestorePart(RestorePart { backup, number: next, block }))
            }
            Some(_) => {
                self.begun = true;
                Some(Command::StepRestore(StepRestore { backup }))
            }
        }
    }
}
