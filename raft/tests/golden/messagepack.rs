//! Just enough of `MessagePack` to take records apart and put them together with a field more or less.

/// A value, as far as records are made of others.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Value {
    Map(Vec<(Self, Self)>),
    Array(Vec<Self>),
    /// Anything else, as its bytes.
    Leaf(Vec<u8>),
}

impl Value {
    pub(crate) fn text(text: &str) -> Self {
        assert!(text.len() < 32, "a short text");
        let mut bytes = vec![0xa0 | u8::try_from(text.len()).unwrap()];
        bytes.extend_from_slice(text.as_bytes());
        Self::Leaf(bytes)
    }

    /// The text this is, if it is a short one, as the names of fields are.
    pub(crate) fn as_text(&self) -> Option<&str> {
        match self {
            Self::Leaf(bytes) => match bytes.split_first() {
                Some((marker, text)) if marker & 0xe0 == 0xa0 => std::str::from_utf8(text).ok(),
                Some(_) | None => None,
            },
            Self::Map(_) | Self::Array(_) => None,
        }
    }

    /// The one value that `bytes` hold.
    pub(crate) fn parse(bytes: &[u8]) -> Self {
        let mut rest = bytes;
        let value = take(&mut rest);
        assert!(rest.is_empty(), "{} bytes behind the value", rest.len());
        value
    }

    pub(crate) fn write(&self, out: &mut Vec<u8>) {
        match self {
            Self::Map(fields) => {
                header(0x80, 0xde, fields.len(), out);
                for (name, value) in fields {
                    name.write(out);
                    value.write(out);
                }
            }
            Self::Array(items) => {
                header(0x90, 0xdc, items.len(), out);
                for item in items {
                    item.write(out);
                }
            }
            Self::Leaf(bytes) => out.extend_from_slice(bytes),
        }
    }

    /// Everything that `change` makes of one of the records in here, each with the record's path.
    ///
    /// A record is a map from names of fields, of which there are two or more: one alone may be an enum's variant.
    pub(crate) fn variations(
        &self,
        change: &dyn Fn(&Fields) -> Vec<(String, Fields)>,
    ) -> Vec<(String, Self)> {
        let mut all = Vec::new();
        match self {
            Self::Map(fields) => {
                let is_record = fields.len() > 1 && fields.iter().all(|(name, _)| name.as_text().is_some());
                if is_record {
                    all.extend(change(fields).into_iter().map(|(path, fields)| (path, Self::Map(fields))));
                }
                for (at, (name, value)) in fields.iter().enumerate() {
                    let label = name.as_text().unwrap_or("*");
                    for (path, changed) in value.variations(change) {
                        let mut fields = fields.clone();
                        fields[at].1 = changed;
                        all.push((format!("{label}.{path}"), Self::Map(fields)));
                    }
                }
            }
            Self::Array(items) => {
                for (at, item) in items.iter().enumerate() {
                    for (path, changed) in item.variations(change) {
                        let mut items = items.clone();
                        items[at] = changed;
                        all.push((path, Self::Array(items)));
                    }
                }
            }
            Self::Leaf(_) => {}
        }
        all
    }
}

/// A record's fields with their names.
pub(crate) type Fields = Vec<(Value, Value)>;

fn header(short: u8, long: u8, length: usize, out: &mut Vec<u8>) {
    match u8::try_from(length) {
        Ok(length) if length < 16 => out.push(short | length),
        Ok(_) | Err(_) => {
            out.push(long);
            out.extend_from_slice(&u16::try_from(length).unwrap().to_be_bytes());
        }
    }
}

fn take_bytes<'a>(rest: &mut &'a [u8], count: usize) -> &'a [u8] {
    let (taken, left) = rest.split_at(count);
    *rest = left;
    taken
}

/// The big-endian number in the `width` bytes behind the marker.
fn length(rest: &[u8], width: usize) -> usize {
    rest[1..=width].iter().fold(0, |number, byte| number << 8 | usize::from(*byte))
}

fn take(rest: &mut &[u8]) -> Value {
    let marker = rest[0];
    let leaf = |rest: &mut &[u8], count: usize| Value::Leaf(take_bytes(rest, count).to_vec());
    match marker {
        0x00..=0x7f | 0xe0..=0xff | 0xc0..=0xc3 => leaf(rest, 1),
        0x80..=0x8f => take_map(rest, 1, usize::from(marker & 0x0f)),
        0x90..=0x9f => take_array(rest, 1, usize::from(marker & 0x0f)),
        0xa0..=0xbf => leaf(rest, 1 + usize::from(marker & 0x1f)),
        0xc4 | 0xd9 => leaf(rest, 2 + length(rest, 1)),
        0xc5 | 0xda => leaf(rest, 3 + length(rest, 2)),
        0xc6 | 0xdb => leaf(rest, 5 + length(rest, 4)),
        0xcc | 0xd0 => leaf(rest, 2),
        0xcd | 0xd1 => leaf(rest, 3),
        0xca | 0xce | 0xd2 => leaf(rest, 5),
        0xcb | 0xcf | 0xd3 => leaf(rest, 9),
        0xdc => take_array(rest, 3, length(rest, 2)),
        0xde => take_map(rest, 3, length(rest, 2)),
        0xc7..=0xc9 | 0xd4..=0xd8 | 0xdd | 0xdf => panic!("our records hold no {marker:#x}"),
    }
}

fn take_map(rest: &mut &[u8], header: usize, count: usize) -> Value {
    take_bytes(rest, header);
    Value::Map((0..count).map(|_| (take(rest), take(rest))).collect())
}

fn take_array(rest: &mut &[u8], header: usize, count: usize) -> Value {
    take_bytes(rest, header);
    Value::Array((0..count).map(|_| take(rest)).collect())
}
