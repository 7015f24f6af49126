//! THE LEVELS: what each feature level brings. See ADR 18.
//!
//! | level | since | what may be written from it on |
//! |---|---|---|
//! | 1 | 0.1 | everything there is |
//!
//! A release that adds a command, a kind of entry, or a field whose loss on an older node would matter adds a line here, raises
//! [`SUPPORTED`], and says so in [`Command::needs`] or where the field is written. What a build supports it supports for ever.

use crate::belonging::Dismissed;
use crate::codec::{self, Mark};
use crate::command::Command;
use crate::error::StartError;
use domain::node::FeatureLevel;
use storage::State;

/// The highest level that this build supports; it supports all below.
pub const SUPPORTED: FeatureLevel = FeatureLevel(1);

/// Makes sure that this build may read `state`. To be called before anything else is read of it.
///
/// # Errors
/// [`StartError::Dismissed`] if it is of a higher level; otherwise when it cannot be read.
pub fn must_support(state: &State) -> Result<(), StartError> {
    let Some(mark) = state.applied() else { return Ok(()) };
    let Mark { level, .. } = codec::decode_mark(&mark)?;
    match level > SUPPORTED {
        true => Err(Dismissed::TooOld { level, supported: SUPPORTED }.into()),
        false => Ok(()),
    }
}

impl Command {
    /// The level from which on this may be applied. Before, it is refused on every node alike.
    #[must_use]
    pub fn needs(&self) -> FeatureLevel {
        match self {
            Self::RegisterNode(_)
            | Self::DrainNode(_)
            | Self::ExpireNode(_)
            | Self::RemoveNode(_)
            | Self::RaiseLevel(_)
            | Self::SetShardMap(_)
            | Self::Bootstrap(_)
            | Self::CreateSpace(_)
            | Self::CreateJob(_)
            | Self::UpdateJob(_)
            | Self::DeleteJob(_)
            | Self::PauseJob(_)
            | Self::ResumeJob(_)
            | Self::RunJob(_)
            | Self::Claim(_)
            | Self::Release(_)
            | Self::Record(_)
            | Self::Sweep(_)
            | Self::Prune(_)
            | Self::CreateAccount(_)
            | Self::CreateKey(_)
            | Self::RevokeKey(_)
            | Self::NoteKeyUse(_)
            | Self::SetSessionKey(_)
            | Self::EndSession(_)
            | Self::ChangeBilling(_)
            | Self::SaveDiagnosis(_)
            | Self::UpdateSpace(_)
            | Self::DeleteSpace(_)
            | Self::PauseSpace(_)
            | Self::ResumeSpace(_)
            | Self::AlignSpace(_)
            | Self::BeginRestore(_)
            | Self::RestorePart(_)
            | Self::StepRestore(_)
            | Self::CreateChannel(_)
            | Self::UpdateChannel(_)
            | Self::DeleteChannel(_)
            | Self::RecordDelivery(_)
            // The commands in it are looked at one by one.
            | Self::Once(_) => FeatureLevel(1),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_state_of_a_higher_level_is_not_looked_at() {
        let with_level = |level| {
            let state = State::in_memory();
            let mark = codec::encode_mark(&Mark { level: FeatureLevel(level), ..Mark::default() });
            state.begin().commit(mark).unwrap();
            must_support(&state)
        };
        assert!(must_support(&State::in_memory()).is_ok());
        assert!(with_level(SUPPORTED.0).is_ok());
        let refused = with_level(SUPPORTED.0 + 1).unwrap_err();
        assert!(matches!(refused, StartError::Dismissed(Dismissed::TooOld { .. })), "{refused}");
    }
}
