//! openraft's own suite over our log and our state machine.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use openraft::StorageError;
use openraft::testing::log::{StoreBuilder, Suite};
use openraft::type_config::TypeConfigExt;
use raft::{LogStore, StateMachine, TypeConfig};
use storage::{Settings, Storage};
use tempfile::TempDir;

struct Builder;

/// What a test holds on to: the directory outlives the stores.
struct Guard {
    _storage: Storage,
    _dir: TempDir,
}

impl StoreBuilder<TypeConfig, LogStore, StateMachine, Guard> for Builder {
    async fn build(&self) -> Result<(Guard, LogStore, StateMachine), StorageError<TypeConfig>> {
        let dir = TempDir::new().unwrap();
        let storage = Storage::open(dir.path(), Settings::default()).unwrap();
        let log = LogStore::new(storage.log.clone());
        let machine = StateMachine::new(storage.state.clone()).unwrap();
        Ok((Guard { _storage: storage, _dir: dir }, log, machine))
    }
}

#[test]
fn the_stores_pass_openrafts_suite() {
    TypeConfig::run(async {
        Suite::test_all(Builder).await.unwrap();
    });
}
