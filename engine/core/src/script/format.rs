//! Texts with variables in them.

use super::variable::Variable;

/// A text as `xlog` takes it: `$name` and `$name(inner)` stand for values, `$$` for the sign itself.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Format {
    pub(crate) pieces: Vec<Piece>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Piece {
    Text(String),
    Variable(Variable),
}

impl Format {
    /// Reads `text`; `variable` knows what the words behind `$` mean.
    ///
    /// # Errors
    /// What `variable` refuses.
    pub(crate) fn read<E>(
        text: &str,
        mut variable: impl FnMut(&str) -> Result<Variable, E>,
    ) -> Result<Self, E> {
        let mut pieces = Vec::new();
        let mut plain = String::new();
        let mut rest = text;
        while let Some((before, behind)) = rest.split_once('$') {
            plain.push_str(before);
            if let Some(behind) = behind.strip_prefix('$') {
                plain.push('$');
                rest = behind;
                continue;
            }
            let len = variable_len(behind);
            if !plain.is_empty() {
                pieces.push(Piece::Text(std::mem::take(&mut plain)));
            }
            let start = rest.len() - behind.len() - 1;
            pieces.push(Piece::Variable(variable(&rest[start..start + 1 + len])?));
            rest = &behind[len..];
        }
        plain.push_str(rest);
        if !plain.is_empty() {
            pieces.push(Piece::Text(plain));
        }
        Ok(Self { pieces })
    }

    /// What it shows.
    pub(super) fn variables(&self) -> impl Iterator<Item = &Variable> {
        self.pieces.iter().filter_map(|piece| match piece {
            Piece::Text(_) => None,
            Piece::Variable(variable) => Some(variable),
        })
    }
}

/// How many bytes of `text`, which stands behind `$`, are the variable: a name, and parentheses right behind it. In a text a
/// variable may be followed by anything, so it ends with its name.
fn variable_len(text: &str) -> usize {
    let is_name = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let name = text.find(|c| !is_name(c)).unwrap_or(text.len());
    match text[name..].strip_prefix('(') {
        Some(inner) => inner.find(')').map_or(name, |end| name + end + 2),
        None => name,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pieces(text: &str) -> Vec<String> {
        let named = |name: &str| Ok::<_, ()>(Variable::Param(name.to_owned()));
        let format = Format::read(text, named).unwrap();
        let piece = |piece| match piece {
            Piece::Text(text) => text,
            Piece::Variable(Variable::Param(name)) => format!("<{name}>"),
            Piece::Variable(other) => panic!("{other:?}"),
        };
        format.pieces.into_iter().map(piece).collect()
    }

    #[test]
    fn variables_end_with_their_names_or_parentheses() {
        assert_eq!(
            pieces("from $si, $bin(name)/$bin(type): $$5$ml"),
            [
                "from ",
                "<$si>",
                ", ",
                "<$bin(name)>",
                "/",
                "<$bin(type)>",
                ": $5",
                "<$ml>"
            ]
        );
        assert_eq!(pieces("plain"), ["plain"]);
        assert!(pieces("").is_empty());
        // What is no name is told by whoever knows the names.
        assert_eq!(pieces("5 $ and $(x"), ["5 ", "<$>", " and ", "<$>", "(x"]);
        assert_eq!(pieces("$"), ["<$>"]);
    }
}
