//! What a target answered: how much of it is read, and how that is kept.

use domain::execution::ResponseBody;
use domain::limits;
use reqwest::Response;

/// What was read of an answer.
#[derive(Debug)]
pub(super) struct Answer {
    kept: Vec<u8>,
    /// How the reading ended.
    pub(super) end: End,
    /// Whether there was more than was kept.
    is_cut: bool,
}

/// How the reading of an answer ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    /// With all of it.
    Whole,
    /// With the connection.
    Broken,
    /// At the bound.
    TooLong,
}

impl Answer {
    /// Keeps the first `kept_max` bytes and discards what follows, up to about `read_max` in all.
    pub(super) async fn read(response: &mut Response, kept_max: usize, read_max: usize) -> Self {
        let mut kept = Vec::new();
        let mut read = 0;
        let end = loop {
            if read > read_max {
                break End::TooLong;
            }
            match response.chunk().await {
                Ok(Some(chunk)) => {
                    read += chunk.len();
                    kept.extend_from_slice(&chunk[..chunk.len().min(kept_max - kept.len())]);
                }
                Ok(None) => break End::Whole,
                Err(_) => break End::Broken,
            }
        };
        let is_cut = end == End::Broken || read > kept.len();
        Self { kept, end, is_cut }
    }

    /// The part that was kept.
    pub(super) fn text(&self) -> ResponseBody {
        decode(&self.kept, self.is_cut)
    }
}

/// At most [`limits::RESPONSE_BODY_BYTES_MAX`] bytes of text: what is not UTF-8 takes three bytes each.
fn decode(bytes: &[u8], mut truncated: bool) -> ResponseBody {
    let mut text = String::with_capacity(bytes.len());
    let mut chunks = bytes.utf8_chunks().peekable();
    while let Some(chunk) = chunks.next() {
        text.push_str(chunk.valid());
        // The cut may have gone through a character, which then is missing rather than wrong.
        let is_cut = truncated && chunks.peek().is_none();
        if !chunk.invalid().is_empty() && !is_cut {
            text.push(char::REPLACEMENT_CHARACTER);
        }
    }
    if text.len() > limits::RESPONSE_BODY_BYTES_MAX {
        text.truncate(text.floor_char_boundary(limits::RESPONSE_BODY_BYTES_MAX));
        truncated = true;
    }
    ResponseBody { text, truncated }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_that_are_no_text_are_replaced_and_bounded() {
        assert_eq!(
            decode(b"a\xffb", false),
            ResponseBody { text: "a\u{fffd}b".to_owned(), truncated: false }
        );
        assert_eq!(decode(b"a\xc3", false).text, "a\u{fffd}");
        assert_eq!(decode(b"a\xc3", true), ResponseBody { text: "a".to_owned(), truncated: true });
        let noise = decode(&[0xff; limits::RESPONSE_BODY_BYTES_MAX], false);
        assert!(noise.text.len() <= limits::RESPONSE_BODY_BYTES_MAX && noise.truncated);
    }
}
