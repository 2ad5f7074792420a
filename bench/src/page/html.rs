//! Markup that is balanced and escaped by the way it is made: no text becomes markup, no element stays open.

/// A page, or a part of one, that grows.
///
/// Written so that it is well-formed XML too, which is easier to check than HTML.
#[derive(Debug, Default)]
pub(super) struct Html(String);

/// Names, which are ours, and values, which may be anybody's.
pub(super) type Attributes<'a> = [(&'static str, &'a str)];

impl Html {
    /// `<name attributes>`, what `inside` adds, `</name>`.
    pub(super) fn element(
        &mut self,
        name: &'static str,
        attributes: &Attributes<'_>,
        inside: impl FnOnce(&mut Self),
    ) {
        self.begin(name, attributes);
        self.0.push('>');
        inside(self);
        self.0.push_str("</");
        self.0.push_str(name);
        self.0.push('>');
    }

    /// An element with nothing but text in it.
    pub(super) fn leaf(&mut self, name: &'static str, attributes: &Attributes<'_>, text: &str) {
        self.element(name, attributes, |html| html.text(text));
    }

    /// An element that never has anything in it: of HTML `meta`, `link` and the like, of SVG any.
    pub(super) fn empty(&mut self, name: &'static str, attributes: &Attributes<'_>) {
        self.begin(name, attributes);
        self.0.push_str("/>");
    }

    /// Text; at most [`TEXT_MAX`] characters of it.
    pub(super) fn text(&mut self, text: &str) {
        escape(&mut self.0, text.chars().take(TEXT_MAX));
        if text.chars().nth(TEXT_MAX).is_some() {
            self.0.push('…');
        }
    }

    /// What stands in this program's sources, as it is.
    pub(super) fn verbatim(&mut self, markup: &'static str) {
        self.0.push_str(markup);
    }

    pub(super) fn into_string(self) -> String {
        self.0
    }

    fn begin(&mut self, name: &'static str, attributes: &Attributes<'_>) {
        self.0.push('<');
        self.0.push_str(name);
        for (name, value) in attributes {
            self.0.push(' ');
            self.0.push_str(name);
            self.0.push_str("=\"");
            escape(&mut self.0, value.chars());
            self.0.push('"');
        }
    }
}

/// Characters that no page may hold, and those that turn the direction of what follows, become U+FFFD: a name must not
/// make the text around it read as something else.
fn escape(out: &mut String, text: impl Iterator<Item = char>) {
    for character in text {
        match character {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            '\n' | '\t' => out.push(character),
            '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' => out.push('\u{fffd}'),
            '\u{fffe}' | '\u{ffff}' => out.push('\u{fffd}'),
            _ if character.is_control() => out.push('\u{fffd}'),
            _ => out.push(character),
        }
    }
}

/// Far longer than any name or reason that is worth reading.
const TEXT_MAX: usize = 4_000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_text_becomes_markup() {
        let mut html = Html::default();
        html.element("p", &[("title", "\"><b>")], |html| {
            html.text("<script>&'\0\u{202e}");
            html.empty("br", &[]);
        });
        assert_eq!(
            html.into_string(),
            "<p title=\"&quot;&gt;&lt;b&gt;\">&lt;script&gt;&amp;&#39;\u{fffd}\u{fffd}<br/></p>"
        );
    }

    #[test]
    fn a_text_without_end_is_cut() {
        let mut html = Html::default();
        html.text(&"é".repeat(TEXT_MAX));
        assert_eq!(html.0.chars().count(), TEXT_MAX);
        html.text(&"é".repeat(TEXT_MAX + 1));
        assert_eq!(html.0.chars().count(), 2 * TEXT_MAX + 1);
    }
}
