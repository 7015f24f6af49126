//! What nodes say to each other: the generated messages and services, nothing else.
//!
//! **Never**: knows domain types, holds logic.
//! **Uses**: nothing of ours. **Used by**: `raft`, which converts at its edge.
//!
//! Start at `proto/raft.proto`, `proto/cluster.proto`, `proto/admin.proto` and `proto/backup.proto`. Field numbers are never
//! reused.

/// Replication: votes, log, snapshots.
pub mod raft {
    #![allow(
        clippy::all,
        clippy::allow_attributes_without_reason,
        unreachable_pub,
        unused_qualifications,
        missing_docs,
        reason = "generated"
    )]

    tonic::include_proto!("justrun.raft.v1");
}

/// Proposals, read indexes, signs of life.
pub mod cluster {
    #![allow(
        clippy::all,
        clippy::allow_attributes_without_reason,
        unreachable_pub,
        unused_qualifications,
        missing_docs,
        reason = "generated"
    )]

    tonic::include_proto!("justrun.cluster.v1");
}

/// What operators ask of any node.
pub mod admin {
    #![allow(
        clippy::all,
        clippy::allow_attributes_without_reason,
        unreachable_pub,
        unused_qualifications,
        missing_docs,
        reason = "generated"
    )]

    tonic::include_proto!("justrun.admin.v1");
}

/// The state on its way to a file, and back.
pub mod backup {
    #![allow(
        clippy::all,
        clippy::allow_attributes_without_reason,
        unreachable_pub,
        unused_qualifications,
        missing_docs,
        reason = "generated"
    )]

    tonic::include_proto!("justrun.backup.v1");
}
