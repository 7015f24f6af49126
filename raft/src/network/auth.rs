//! Who may call: whoever knows the cluster's secret, and means this node.
//!
//! A call carries the id of the node it is for and a token, the HMAC-SHA256 of that id under the secret.
//! The secret never crosses the wire, and a token that leaks opens one node only.

use crate::belonging::Belonging;
use crate::settings::Secret;
use domain::id::NodeId;
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;
use std::fmt::Write;
use subtle::ConstantTimeEq;
use tonic::metadata::{Ascii, MetadataMap, MetadataValue};
use tonic::service::Interceptor;
use tonic::{Request, Status};

const TO: &str = "x-justrun-to";
const TOKEN: &str = "x-justrun-token";
/// Which node calls; an operator does not say.
const FROM: &str = "x-justrun-from";
/// Whom a call was refused to because it was removed from the cluster.
const REMOVED: &str = "x-justrun-removed";
/// Who a node is, said to whoever takes it for another one.
const ME: &str = "x-justrun-me";
/// Bound to its use, so that no other use of the secret yields the same bytes.
const PURPOSE: &[u8] = b"justrun rpc v1 to node ";

fn token(secret: &Secret, to: NodeId) -> String {
    let mut mac = Hmac::<Sha256>::new_from_slice(secret.as_bytes()).expect("hmac takes keys of any length");
    mac.update(PURPOSE);
    mac.update(&to.0.to_be_bytes());
    mac.finalize().into_bytes().iter().fold(String::with_capacity(64), |mut text, byte| {
        write!(text, "{byte:02x}").expect("a string can always be written to");
        text
    })
}

/// Puts what one peer wants to see on every call to it.
#[derive(Clone, Debug)]
pub(crate) struct Credentials {
    from: Option<MetadataValue<Ascii>>,
    to: MetadataValue<Ascii>,
    token: MetadataValue<Ascii>,
}

impl Credentials {
    /// Of the node `from`, or of an operator.
    pub(crate) fn new(secret: &Secret, from: Option<NodeId>, to: NodeId) -> Self {
        let mut token =
            MetadataValue::try_from(token(secret, to)).expect("hexadecimal digits are plain text");
        token.set_sensitive(true);
        Self { from: from.map(|from| MetadataValue::from(from.0)), to: MetadataValue::from(to.0), token }
    }
}

impl Interceptor for Credentials {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        request.metadata_mut().insert(TO, self.to.clone());
        request.metadata_mut().insert(TOKEN, self.token.clone());
        if let Some(from) = &self.from {
            request.metadata_mut().insert(FROM, from.clone());
        }
        Ok(request)
    }
}

/// Lets in only calls that are meant for this node and carry its token, and none of nodes that were removed.
#[derive(Clone)]
pub(crate) struct Doorkeeper {
    me: NodeId,
    token: String,
    belonging: Belonging,
}

impl Doorkeeper {
    pub(crate) fn new(secret: &Secret, me: NodeId, belonging: Belonging) -> Self {
        Self { me, token: token(secret, me), belonging }
    }
}

impl Interceptor for Doorkeeper {
    fn call(&mut self, request: Request<()>) -> Result<Request<()>, Status> {
        let text =
            |name: &str| request.metadata().get(name).map_or(&[][..], |value| value.as_encoded_bytes());
        // The address before the token, so that a wrong address is not taken for a wrong secret.
        if text(TO) != self.me.to_string().as_bytes() {
            let mut refusal = Status::failed_precondition(format!("this is node {}", self.me));
            refusal.metadata_mut().insert(ME, MetadataValue::from(self.me.0));
            return Err(refusal);
        }
        if !bool::from(text(TOKEN).ct_eq(self.token.as_bytes())) {
            return Err(Status::unauthenticated("wrong cluster secret"));
        }
        match named(request.metadata(), FROM).filter(|from| self.belonging.is_removed(*from)) {
            None => Ok(request),
            Some(from) => {
                let mut refusal =
                    Status::permission_denied(format!("node {from} was removed from the cluster"));
                refusal.metadata_mut().insert(REMOVED, MetadataValue::from(from.0));
                Err(refusal)
            }
        }
    }
}

/// Which node refused a call because it was for another one.
pub(crate) fn named_by(refusal: &Status) -> Option<NodeId> {
    named(refusal.metadata(), ME)
}

/// Which node was refused a call because it was removed from the cluster.
pub(crate) fn removed_by(refusal: &Status) -> Option<NodeId> {
    named(refusal.metadata(), REMOVED)
}

fn named(metadata: &MetadataMap, name: &str) -> Option<NodeId> {
    metadata.get(name)?.to_str().ok()?.parse().ok().map(NodeId)
}

#[cfg(test)]
mod tests {
    use super::*;
    use tonic::Code;

    /// Node 1, for which node 9 is removed, is called by one.
    fn call(secret: &str, from: Option<u64>, to: u64) -> Result<(), Status> {
        let mut credentials = Credentials::new(&Secret::new(secret), from.map(NodeId), NodeId(to));
        let request = credentials.call(Request::new(())).unwrap();
        let belonging = Belonging::new(NodeId(1), crate::level::SUPPORTED);
        belonging.set_removed([NodeId(9)].into());
        Doorkeeper::new(&Secret::new("right"), NodeId(1), belonging).call(request).map(drop)
    }

    fn check(secret: &str, to: u64) -> Result<(), Code> {
        call(secret, Some(2), to).map_err(|status| status.code())
    }

    #[test]
    fn only_the_right_secret_for_the_right_node_gets_in() {
        assert_eq!(check("right", 1), Ok(()));
        assert_eq!(check("wrong", 1), Err(Code::Unauthenticated));
        assert_eq!(check("right", 2), Err(Code::FailedPrecondition));
        let refusal = call("right", None, 0).unwrap_err();
        assert_eq!((refusal.code(), named_by(&refusal)), (Code::FailedPrecondition, Some(NodeId(1))));
        assert_eq!(named_by(&Status::unauthenticated("")), None);
    }

    #[test]
    fn a_node_that_was_removed_is_told_so_if_it_knows_the_secret() {
        let refusal = call("right", Some(9), 1).unwrap_err();
        assert_eq!((refusal.code(), removed_by(&refusal)), (Code::PermissionDenied, Some(NodeId(9))));
        let refusal = call("wrong", Some(9), 1).unwrap_err();
        assert_eq!((refusal.code(), removed_by(&refusal)), (Code::Unauthenticated, None));
        assert!(call("right", None, 1).is_ok(), "an operator is no node");
    }

    #[test]
    fn the_token_is_hmac_sha256() {
        // printf 'justrun rpc v1 to node \0\0\0\0\0\0\0\1' | openssl dgst -sha256 -hmac right
        assert_eq!(token(&Secret::new("right"), NodeId(1)), GOLDEN);
    }

    const GOLDEN: &str = "0e4fe49338298b3d718bf0949e66add4457b7e016f2c5f0af7caf26f4ada5f6a";
}
