//! A JSON-RPC notification, as 3.1 and later send it: one object, whose parameters are numbers, texts or null.
//!
//! Bytes above ASCII are taken as they are, because the writer does not ask whether they are UTF-8.

use std::borrow::Cow;

use super::ReadError;
use crate::event::{Event, Param, Value};

/// The whole of `datagram`.
pub(super) fn event(datagram: &[u8]) -> Result<Event<'_>, ReadError> {
    let mut json = Json {
        bytes: datagram,
        at: 0,
    };
    let (mut method, mut params) = (None, Vec::new());
    json.take(b'{', "{")?;
    loop {
        let key = json.text("the name of a member in quotes")?;
        json.take(b':', "\":\"")?;
        match &*key {
            b"method" => method = Some(json.text("the name of the event in quotes")?),
            b"params" => params = json.params()?,
            // The version, and what others may add.
            _ => drop(json.scalar()?),
        }
        if !json.goes_on(b'}', "\",\" or \"}\"")? {
            break;
        }
    }
    json.skip_space();
    if json.at < datagram.len() {
        return Err(json.wrong("nothing more"));
    }
    let name = method.filter(|name| !name.is_empty());
    let name = name.ok_or_else(|| json.wrong("a member \"method\""))?;
    Ok(Event { name, params })
}

/// The members of the one object that `text` is, of numbers, texts and null.
pub(super) fn members(text: &[u8]) -> Result<Vec<Param<'_>>, ReadError> {
    let mut json = Json { bytes: text, at: 0 };
    json.params()
}

/// Where a reading is.
struct Json<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Json<'a> {
    fn params(&mut self) -> Result<Vec<Param<'a>>, ReadError> {
        self.skip_space();
        let (has_names, end) = match self.bytes.get(self.at) {
            Some(b'{') => (true, b'}'),
            Some(b'[') => (false, b']'),
            _ => return Err(self.wrong("an object or a list")),
        };
        self.at += 1;
        let mut params = Vec::new();
        self.skip_space();
        if self.bytes.get(self.at) == Some(&end) {
            self.at += 1;
            return Ok(params);
        }
        loop {
            let mut name = None;
            if has_names {
                let key = self.text("the name of a parameter in quotes")?;
                // One that has none among others that do.
                name = Some(key).filter(|name| !name.is_empty());
                self.take(b':', "\":\"")?;
            }
            let value = self.scalar()?;
            params.push(Param { name, value });
            if !self.goes_on(end, "\",\" or the end of the parameters")? {
                return Ok(params);
            }
        }
    }

    /// A number that is none of 64 bits is text.
    fn scalar(&mut self) -> Result<Value<'a>, ReadError> {
        self.skip_space();
        let rest = &self.bytes[self.at..];
        if rest.starts_with(b"\"") {
            return self.text("a text").map(Value::Str);
        }
        let ends = |byte: &u8| matches!(byte, b',' | b'}' | b']') || is_space(*byte);
        let word = &rest[..rest.iter().position(ends).unwrap_or(rest.len())];
        let is_number = matches!(word.first(), Some(b'-' | b'0'..=b'9'))
            && word
                .iter()
                .all(|byte| matches!(byte, b'-' | b'+' | b'.' | b'e' | b'E' | b'0'..=b'9'));
        let number = str::from_utf8(word).ok().and_then(|word| word.parse().ok());
        let value = match (word, number) {
            (b"null", _) => Value::Null,
            (b"true" | b"false", _) => Value::Str(word.into()),
            (_, Some(number)) if is_number => Value::Int(number),
            _ if is_number => Value::Str(word.into()),
            _ => return Err(self.wrong("a number, a text in quotes, or null")),
        };
        self.at += word.len();
        Ok(value)
    }

    fn text(&mut self, expected: &'static str) -> Result<Cow<'a, [u8]>, ReadError> {
        self.take(b'"', expected)?;
        let begin = self.at;
        let mut text = Vec::new();
        let mut taken = begin;
        loop {
            match self.bytes.get(self.at) {
                None => return Err(self.wrong("a quote at the end of a text")),
                Some(b'"') => break,
                Some(b'\\') => {
                    text.extend_from_slice(&self.bytes[taken..self.at]);
                    self.at += 1;
                    self.escaped(&mut text)?;
                    taken = self.at;
                }
                Some(_) => self.at += 1,
            }
        }
        let end = self.at;
        self.at += 1;
        Ok(match taken == begin {
            true => Cow::Borrowed(&self.bytes[begin..end]),
            false => {
                text.extend_from_slice(&self.bytes[taken..end]);
                Cow::Owned(text)
            }
        })
    }

    /// What stands behind a backslash.
    fn escaped(&mut self, text: &mut Vec<u8>) -> Result<(), ReadError> {
        let byte = match self.bytes.get(self.at) {
            Some(byte @ (b'"' | b'\\' | b'/')) => *byte,
            Some(b'b') => 0x08,
            Some(b'f') => 0x0c,
            Some(b'n') => b'\n',
            Some(b'r') => b'\r',
            Some(b't') => b'\t',
            Some(b'u') => {
                let character = self.character()?;
                text.extend_from_slice(character.encode_utf8(&mut [0; 4]).as_bytes());
                return Ok(());
            }
            _ => return Err(self.wrong("one of \" \\ / b f n r t u behind a backslash")),
        };
        text.push(byte);
        self.at += 1;
        Ok(())
    }

    /// `u` and four digits, or twice that with a backslash between for what does not fit into sixteen bits.
    fn character(&mut self) -> Result<char, ReadError> {
        let first = self.unit()?;
        if !(0xD800..0xDC00).contains(&first) {
            return char::from_u32(first).ok_or_else(|| self.wrong(HALF));
        }
        if !self.bytes[self.at..].starts_with(b"\\u") {
            return Err(self.wrong(HALF));
        }
        self.at += 1;
        let second = self.unit()?;
        let low = second.checked_sub(0xDC00).filter(|low| *low < 0x400);
        let whole = low.map(|low| 0x1_0000 + ((first - 0xD800) << 10) + low);
        whole
            .and_then(char::from_u32)
            .ok_or_else(|| self.wrong(HALF))
    }

    fn unit(&mut self) -> Result<u32, ReadError> {
        let digits = self.bytes.get(self.at + 1..self.at + 5);
        let digits = digits.filter(|digits| digits.iter().all(u8::is_ascii_hexdigit));
        let digits = digits.and_then(|digits| str::from_utf8(digits).ok());
        let unit = digits.and_then(|digits| u32::from_str_radix(digits, 16).ok());
        let unit = unit.ok_or_else(|| self.wrong("four hexadecimal digits"))?;
        self.at += 5;
        Ok(unit)
    }

    /// Whether another one follows; if not, `end` did.
    fn goes_on(&mut self, end: u8, expected: &'static str) -> Result<bool, ReadError> {
        self.skip_space();
        let goes_on = match self.bytes.get(self.at) {
            Some(b',') => true,
            Some(byte) if *byte == end => false,
            _ => return Err(self.wrong(expected)),
        };
        self.at += 1;
        Ok(goes_on)
    }

    fn take(&mut self, byte: u8, expected: &'static str) -> Result<(), ReadError> {
        self.skip_space();
        if self.bytes.get(self.at) != Some(&byte) {
            return Err(self.wrong(expected));
        }
        self.at += 1;
        Ok(())
    }

    fn skip_space(&mut self) {
        let rest = &self.bytes[self.at..];
        let space = rest.iter().position(|byte| !is_space(*byte));
        self.at += space.unwrap_or(rest.len());
    }

    const fn wrong(&self, expected: &'static str) -> ReadError {
        let at = self.at;
        ReadError::Json { at, expected }
    }
}

const fn is_space(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\n' | b'\r')
}

const HALF: &str = "the other half of a character";
