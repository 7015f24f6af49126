//! What the faults of a run need of the machine, and which have to be left out without it.

use crate::{plan::Fault, say, versions};
use cluster_tests::{
    Error,
    binary::{BINARY_VARIABLE, Binary, FAULTS_BINARY_VARIABLE},
    disk::Disk,
    net::Net,
};
use std::{env, fmt::Display, path::PathBuf, sync::Arc};

/// What there is.
pub(crate) struct Ground {
    /// Those that somebody wants.
    pub(crate) asked: Vec<Fault>,
    /// Those of them that can be done.
    pub(crate) possible: Vec<Fault>,
    pub(crate) net: Option<Arc<Net>>,
    /// Whether the nodes get disks of their own.
    pub(crate) disks: bool,
    /// Whether the nodes are of the build that faults can be put into.
    pub(crate) has_faults: bool,
    /// An older release.
    pub(crate) old: Option<Binary>,
}

/// Makes the network, looks for the rest, and says which faults are left out.
///
/// # Errors
/// [`Error::Input`] if none is left, or the older release is no file; as [`Binary::probe`].
pub(crate) async fn prepare(
    asked: Vec<Fault>,
    nodes: &[u64],
    is_planted: bool,
    old: Option<PathBuf>,
) -> Result<Ground, Error> {
    let mut faults = asked.clone();
    // A binary that was named is the one to be tried, with what can be done to it from outside.
    let may_have_faults =
        env::var_os(BINARY_VARIABLE).is_none() || env::var_os(FAULTS_BINARY_VARIABLE).is_some();
    if is_planted && !may_have_faults {
        return Err(Error::Input(format!("--plant needs {FAULTS_BINARY_VARIABLE} beside {BINARY_VARIABLE}")));
    }
    if !may_have_faults {
        let error = format!("{FAULTS_BINARY_VARIABLE} names none that has");
        skip(
            &mut faults,
            Fault::needs_faults,
            &format!("{BINARY_VARIABLE} names a build without them"),
            error,
        );
    }
    let net = match Net::build(nodes) {
        Ok(net) => Some(Arc::new(net)),
        Err(error) => {
            skip(&mut faults, Fault::needs_net, "the nodes cannot have a network of their own", error);
            None
        }
    };
    if let Some(net) = net.as_deref().filter(|_| faults.iter().copied().any(Fault::needs_relay))
        && let Err(error) = net.allow_impairment()
    {
        skip(&mut faults, Fault::needs_relay, "packets cannot take a detour", error);
    }
    if faults.iter().copied().any(Fault::needs_disks)
        && let Err(error) = Disk::allowed()
    {
        skip(&mut faults, Fault::needs_disks, "the nodes cannot have disks of their own", error);
    }
    let old = match old {
        Some(path) if !path.is_file() => {
            return Err(Error::Input(format!("--old-binary names {}, which is no file", path.display())));
        }
        Some(path) => Some(Binary::at(path).probe().await?),
        None => {
            skip(&mut faults, Fault::needs_old_binary, "there is no older release", versions::advice());
            None
        }
    };
    if faults.is_empty() && !asked.is_empty() {
        return Err(Error::Input("no fault is left".to_owned()));
    }
    let needed = |needs: fn(Fault) -> bool| faults.iter().copied().any(needs);
    let (disks, has_faults) = (needed(Fault::needs_disks), is_planted || needed(Fault::needs_faults));
    Ok(Ground { asked, possible: faults, net, disks, has_faults, old })
}

/// Takes out faults and says so.
fn skip(faults: &mut Vec<Fault>, needs: fn(Fault) -> bool, why: &str, error: impl Display) {
    let (skipped, others) = std::mem::take(faults).into_iter().partition::<Vec<_>, _>(|fault| needs(*fault));
    *faults = others;
    if !skipped.is_empty() {
        let names: Vec<_> = skipped.into_iter().map(Fault::name).collect();
        say(format!("SKIPPED, since {why}: {}; {error}", names.join(", ")));
    }
}
