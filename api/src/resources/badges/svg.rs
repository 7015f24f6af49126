//! Flat badges as shields.io draws them (npm `badge-maker` 6.0, MIT OR Apache-2.0): layout, colours, and the widths
//! of Verdana at 11 pixels (npm `anafanafo` 2.0), so that they stand in one row with others.

use std::borrow::Cow;
use std::fmt;

pub(super) const BRIGHT_GREEN: &str = "#4b0";
pub(super) const GREEN: &str = "#67ac09";
pub(super) const YELLOW: &str = "#d8b800";
pub(super) const ORANGE: &str = "#ea7233";
pub(super) const RED: &str = "#dd4343";
pub(super) const LIGHT_GREY: &str = "#939393";
const LABEL_COLOUR: &str = "#555";

/// Pixels on either side of a text.
const PADDING: u32 = 5;
/// Widths are in parts of the font's em square.
const UNITS_PER_EM: u32 = 2_048;
const FONT_PX: u32 = 11;

/// A label and what there is to say about it.
#[derive(Debug)]
pub(super) struct Badge<'a> {
    pub(super) label: &'a str,
    pub(super) message: Cow<'a, str>,
    pub(super) colour: &'static str,
}

impl fmt::Display for Badge<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { label, message, colour } = self;
        let (label_px, message_px) = (text_px(label), text_px(message));
        let (left, right) = (label_px + 2 * PADDING, message_px + 2 * PADDING);
        let width = left + right;
        let (label, message) = (Escaped(label), Escaped(message));
        write!(
            f,
            concat!(
                r#"<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="20" role="img" aria-label="{label}: {message}">"#,
                r#"<title>{label}: {message}</title>"#,
                r##"<linearGradient id="s" x2="0" y2="100%"><stop offset="0" stop-color="#bbb" stop-opacity=".1"/><stop offset="1" stop-opacity=".1"/></linearGradient>"##,
                r##"<clipPath id="r"><rect width="{width}" height="20" rx="3" fill="#fff"/></clipPath>"##,
                r##"<g clip-path="url(#r)"><rect width="{left}" height="20" fill="{label_colour}"/><rect x="{left}" width="{right}" height="20" fill="{colour}"/><rect width="{width}" height="20" fill="url(#s)"/></g>"##,
                r##"<g fill="#fff" text-anchor="middle" font-family="Verdana,Geneva,DejaVu Sans,sans-serif" text-rendering="geometricPrecision" font-size="110">"##,
            ),
            width = width,
            left = left,
            right = right,
            label = label,
            message = message,
            label_colour = LABEL_COLOUR,
            colour = colour,
        )?;
        // In tenths of a pixel, since half a text may end in the middle of one.
        text(f, &label, 10 + 10 * PADDING + 5 * label_px, label_px)?;
        text(f, &message, 10 * left - 10 + 10 * PADDING + 5 * message_px, message_px)?;
        f.write_str("</g></svg>")
    }
}

/// A text and its shadow.
fn text(f: &mut fmt::Formatter<'_>, text: &Escaped<'_>, x: u32, px: u32) -> fmt::Result {
    let length = 10 * px;
    write!(
        f,
        concat!(
            r##"<text aria-hidden="true" x="{x}" y="150" fill="#010101" fill-opacity=".3" transform="scale(.1)" textLength="{length}">{text}</text>"##,
            r##"<text x="{x}" y="140" transform="scale(.1)" fill="#fff" textLength="{length}">{text}</text>"##,
        ),
        x = x,
        length = length,
        text = text,
    )
}

/// Text between tags or within an attribute.
struct Escaped<'a>(&'a str);

impl fmt::Display for Escaped<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.chars().try_for_each(|c| match c {
            '&' => f.write_str("&amp;"),
            '<' => f.write_str("&lt;"),
            '>' => f.write_str("&gt;"),
            '"' => f.write_str("&quot;"),
            c => write!(f, "{c}"),
        })
    }
}

/// Pixels of a text, rounded down and then up to an odd number, which keeps letters sharp.
fn text_px(text: &str) -> u32 {
    let units: u32 = text.chars().map(units).sum();
    let px = units * FONT_PX / UNITS_PER_EM;
    px | 1
}

/// The width of a character of Verdana.
fn units(c: char) -> u32 {
    match c {
        ' ' | 'f' => 721,
        '!' => 806,
        '%' => 2_204,
        '(' | ')' | '-' | '/' | ':' => 931,
        '+' => 1_676,
        ',' | '.' => 745,
        '0'..='9' => 1_301,
        'a' => 1_231,
        'b' | 'd' | 'g' | 'p' | 'q' => 1_275,
        'c' | 's' => 1_067,
        'e' => 1_219,
        'h' | 'n' | 'u' => 1_296,
        'i' | 'l' => 562,
        'j' => 706,
        'k' | 'v' | 'x' | 'y' => 1_212,
        'm' => 1_992,
        'o' => 1_244,
        'r' => 873,
        't' => 806,
        'w' => 1_676,
        'z' => 1_076,
        // What no badge of ours says. As wide as the model takes what it does not know.
        _ => 1_992,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, px: u32) {
        assert_eq!(text_px(text), px, "{text}");
    }

    #[test]
    fn texts_are_as_wide_as_the_models() {
        check("job", 17);
        check("passing", 41);
        check("failing", 33);
        check("paused", 39);
        check("99.95%", 43);
    }

    #[test]
    fn a_badge_is_laid_out_as_the_model() {
        let svg = Badge { label: "job", message: "passing".into(), colour: BRIGHT_GREEN }.to_string();
        for part in [
            r#"width="78" height="20" role="img" aria-label="job: passing""#,
            r##"<rect width="27" height="20" fill="#555"/><rect x="27" width="51" height="20" fill="#4b0"/>"##,
            r##"<text x="145" y="140" transform="scale(.1)" fill="#fff" textLength="170">job</text>"##,
            r##"<text x="515" y="140" transform="scale(.1)" fill="#fff" textLength="410">passing</text>"##,
        ] {
            assert!(svg.contains(part), "{part} in {svg}");
        }
    }

    #[test]
    fn texts_cannot_break_out() {
        let svg = Badge { label: "<&\">", message: "\"".into(), colour: RED }.to_string();
        assert!(svg.contains("<title>&lt;&amp;&quot;&gt;: &quot;</title>"), "{svg}");
    }
}
