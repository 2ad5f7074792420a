//! Conditions, by the precedence of OpenSIPS (`cfg.y`, `exp`, 1.10 to 4.0): comparisons bind most, then `!`, then `&&` and `||` alike,
//! from left to right.

use super::parser::Parser;
use crate::config::error::Problem;
use crate::config::lexer::Token;
use crate::config::source::Span;
use crate::script::tree::{Comparison, Condition, Operand};

/// What joins two conditions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Joint {
    And,
    Or,
}

impl Parser<'_, '_> {
    pub(super) fn condition(&mut self) -> Result<Condition, Problem> {
        let start = self.next.span;
        let mut whole = self.term()?;
        let (mut terms, mut has_or, mut is_told) = (1, false, false);
        while let Some(joint) = self.joint()? {
            terms += 1;
            if terms > TERMS_MAX {
                let message = format!(
                    "too long: at most {TERMS_MAX} conditions expected between parentheses"
                );
                return Err(self.problem(message));
            }
            has_or |= joint == Joint::Or;
            if has_or && joint == Joint::And && !is_told {
                is_told = true;
                let (start, end) = (start.start, self.next.span.start);
                let message = "|| and && bind alike, from left to right, as in OpenSIPS: parentheses say what is meant";
                self.warn(Span { start, end }, message);
            }
            let (left, right) = (Box::new(whole), Box::new(self.term()?));
            whole = match joint {
                Joint::And => Condition::And(left, right),
                Joint::Or => Condition::Or(left, right),
            };
        }
        Ok(whole)
    }

    /// `&&` or `and`, `||` or `or`, if it is next.
    fn joint(&mut self) -> Result<Option<Joint>, Problem> {
        let (joint, sign) = match self.next.token {
            Token::Word("and") => (Joint::And, None),
            Token::Word("or") => (Joint::Or, None),
            Token::Sign('&') => (Joint::And, Some('&')),
            Token::Sign('|') => (Joint::Or, Some('|')),
            _ => return Ok(None),
        };
        if let Some(sign) = sign {
            if !self.is_followed_by(sign) {
                let message = format!("\"{sign}{sign}\" expected: there are no operations on bits");
                return Err(self.problem(message));
            }
            self.take()?;
        }
        self.take()?;
        Ok(Some(joint))
    }

    /// One condition, without what joins it to others.
    fn term(&mut self) -> Result<Condition, Problem> {
        match self.next.token {
            Token::Word("not") | Token::Sign('!') => {
                self.deeper()?;
                self.take()?;
                let inner = self.term()?;
                self.shallower();
                Ok(Condition::Not(Box::new(inner)))
            }
            Token::Sign('(') => {
                self.deeper()?;
                self.take()?;
                let inner = self.condition()?;
                self.sign(')')?;
                self.shallower();
                Ok(inner)
            }
            Token::Word(word) if self.is_followed_by('(') || !is_constant(word) => {
                let call = self.call()?;
                if self.comparison()?.is_some() {
                    let message =
                        "a call is true or false: what it returned is compared behind it, as $rc";
                    return Err(self.problem(message));
                }
                Ok(Condition::Call(call))
            }
            _ => self.comparable(),
        }
    }

    /// A comparison, or an operand by itself.
    fn comparable(&mut self) -> Result<Condition, Problem> {
        let left = self.operand("a condition")?;
        let Some(how) = self.comparison()? else {
            return Ok(Condition::Operand(left));
        };
        let span = self.next.span;
        let right = self.operand("a number, a string in quotes, a variable or null")?;
        if let (Operand::Variable(variable), Operand::Int(_)) = (&left, &right)
            && variable.is_text()
        {
            let message = "the left side is a text: a string in quotes expected";
            return Err(self.source().problem(span, message));
        }
        let is_order = !matches!(how, Comparison::Equal | Comparison::Differs);
        if is_order && (left == Operand::Null || right == Operand::Null) {
            let message = "nothing is more or less than null: == or != expected";
            return Err(self.source().problem(span, message));
        }
        Ok(Condition::Compare { left, how, right })
    }

    /// How two operands are compared, if that is next.
    fn comparison(&mut self) -> Result<Option<Comparison>, Problem> {
        let Token::Sign(sign @ ('=' | '!' | '<' | '>')) = self.next.token else {
            return Ok(None);
        };
        let is_two = self.is_followed_by('=');
        let how = match (sign, is_two) {
            ('=', true) => Comparison::Equal,
            ('!', true) => Comparison::Differs,
            ('<', true) => Comparison::LessOrEqual,
            ('>', true) => Comparison::GreaterOrEqual,
            ('<', false) => Comparison::Less,
            ('>', false) => Comparison::Greater,
            ('=', _) if self.is_followed_by('~') => {
                return Err(self.problem("there are no regular expressions here: == expected"));
            }
            ('=', _) => {
                return Err(self.problem("\"==\" expected: a condition sets no variable"));
            }
            _ => return Err(self.unexpected("\"!=\"")),
        };
        if is_two {
            self.take()?;
        }
        self.take()?;
        Ok(Some(how))
    }
}

/// Whether a word is a value and not the name of a function.
fn is_constant(word: &str) -> bool {
    let digits = word.strip_prefix('-').unwrap_or(word);
    matches!(word, "null" | "NULL") || digits.starts_with(|c: char| c.is_ascii_digit())
}

/// Conditions that are joined without parentheses (OpenSIPS: 100 of them in each other, `config.h`, `MAX_REC_LEV`).
const TERMS_MAX: usize = 100;
