//! Layers of sorted changes, read as one.

use bytes::Bytes;
use std::collections::BTreeMap;
use std::ops::Bound;

/// Changes by key; `None` is a removal.
pub(crate) type Changes = BTreeMap<Vec<u8>, Option<Bytes>>;

/// What layered lookups fall through to.
pub(crate) fn get<'a>(layers: &[&'a Changes], key: &[u8]) -> Option<&'a Option<Bytes>> {
    layers.iter().find_map(|layer| layer.get(key))
}

/// At most `limit` entries of `[lower, upper)`, ascending: what `layers` say, the first of them first, and
/// below them what `base` yields in order.
pub(crate) fn range<E>(
    layers: &[&Changes],
    base: impl Iterator<Item = Result<(Vec<u8>, Bytes), E>>,
    lower: &[u8],
    upper: &[u8],
    limit: usize,
) -> Result<Vec<(Vec<u8>, Bytes)>, E> {
    let bounds = (Bound::Included(lower), Bound::Excluded(upper));
    let mut layers: Vec<_> = layers.iter().map(|layer| layer.range::<[u8], _>(bounds).peekable()).collect();
    let mut base = base.peekable();
    let mut found = Vec::new();
    while found.len() < limit {
        let base_key = match base.peek() {
            Some(Ok((key, _))) => Some(key.as_slice()),
            Some(Err(_)) => match base.next() {
                Some(Err(error)) => return Err(error),
                Some(Ok(_)) | None => None,
            },
            None => None,
        };
        let next = layers
            .iter_mut()
            .filter_map(|layer| layer.peek().map(|(key, _)| key.as_slice()))
            .chain(base_key)
            .min();
        let Some(next) = next.map(<[u8]>::to_vec) else { break };

        let mut value: Option<Option<Bytes>> = None;
        for layer in &mut layers {
            if let Some((_, change)) = layer.next_if(|(key, _)| **key == next)
                && value.is_none()
            {
                value = Some(change.clone());
            }
        }
        if let Some(Ok((_, stored))) = base.next_if(|item| item.as_ref().is_ok_and(|(key, _)| *key == next))
            && value.is_none()
        {
            value = Some(Some(stored));
        }
        if let Some(Some(value)) = value {
            found.push((next, value));
        }
    }
    Ok(found)
}
