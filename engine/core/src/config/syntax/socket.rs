//! Addresses to listen on, which stand there without quotes.

use super::{Parser, Spanned};
use crate::config::error::{Problem, quoted};
use crate::config::lexer::{Lexeme, Token};
use crate::config::source::Span;

/// An address to listen on, as it is written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::config) struct Socket<'a> {
    /// `None`: any protocol of SIP.
    pub(in crate::config) protocol: Option<&'a str>,
    /// Without brackets; `*` for all addresses.
    pub(in crate::config) host: Spanned<String>,
    pub(in crate::config) port: Option<Spanned<&'a str>>,
    pub(in crate::config) tag: Option<&'a str>,
    /// Where each of the options stands that mean nothing to us, from its word to its end.
    pub(in crate::config) unused: Vec<Span>,
    /// From the first character to the last.
    pub(in crate::config) span: Span,
}

impl<'a> Parser<'a> {
    /// Addresses side by side, as 1.x and 2.x allow them after one `listen`.
    pub(super) fn sockets(&mut self) -> Result<Vec<Socket<'a>>, Problem> {
        let mut sockets = vec![self.socket()?];
        // Either the next statement or another address follows. Of the two only an address may begin with a
        // digit or with something else than a word, or have ':' behind the word.
        loop {
            let goes_on = match self.next.token {
                Token::Word(word) => {
                    word.starts_with(|c: char| c.is_ascii_digit())
                        || self.after_next()? == Token::Sign(':')
                }
                Token::Text(_) | Token::Sign('[' | '*') => true,
                Token::Variable(_) | Token::Sign(_) | Token::End => false,
            };
            if !goes_on {
                break;
            }
            sockets.push(self.socket()?);
        }
        Ok(sockets)
    }

    /// `PROTOCOL:HOST[:PORT]` or `HOST[:PORT]`, and what may follow it.
    fn socket(&mut self) -> Result<Socket<'a>, Problem> {
        let start = self.next.span;
        let mut protocol = None;
        if let Token::Word(word) = self.next.token
            && is_protocol(word)
        {
            self.take()?;
            self.sign(':')?;
            protocol = Some(word);
        }
        let mut socket = self.host_port(protocol, start)?;
        while let Token::Word(word) = self.next.token {
            let option = self.next.span;
            let end = match word.to_ascii_lowercase().as_str() {
                // The words of flags and options are no parameters, so no statement begins with them.
                "anycast" | "frag" | "reuse_port" | "accept_subdomain" => self.take()?.span.end,
                "use_workers" | "use_children" | "tos"
                    if self.after_next()? != Token::Sign('=') =>
                {
                    self.take()?;
                    self.integer("a number")?.span.end
                }
                "use_auto_scaling_profile" => {
                    self.take()?;
                    self.word("the name of a profile")?.span.end
                }
                "tag" => {
                    self.take()?;
                    socket.tag = Some(self.word("a tag")?.value);
                    continue;
                }
                "as" => {
                    self.take()?;
                    let start = self.next.span;
                    self.host_port(None, start)?.span.end
                }
                _ => break,
            };
            let Span { start, .. } = option;
            socket.unused.push(Span { start, end });
        }
        Ok(socket)
    }

    /// `HOST[:PORT]` of `bin_listen`, which stands for a protocol itself.
    pub(super) fn bin_listen(&mut self) -> Result<Socket<'a>, Problem> {
        if let Token::Word(word) = self.next.token
            && is_protocol(word)
            && self.after_next()? == Token::Sign(':')
        {
            let message =
                format!("bin_listen takes IP:PORT without a protocol: no \"{word}:\" expected");
            return Err(self.problem(message));
        }
        let start = self.next.span;
        self.host_port(None, start)
    }

    /// `HOST[:PORT]`, the host being an address, a name, a string, or an IPv6 address in brackets.
    fn host_port(&mut self, protocol: Option<&'a str>, start: Span) -> Result<Socket<'a>, Problem> {
        let host = self.host()?;
        let mut port = None;
        let mut end = host.span.end;
        if self.next.token == Token::Sign(':') {
            self.take()?;
            if self.next.token == Token::Sign(':') {
                return Err(self.problem(BRACKETS));
            }
            let found = self.word("a port")?;
            end = found.span.end;
            port = Some(found);
        }
        if self.next.token == Token::Sign(':') {
            // A word with a port behind it and more behind that: either stands where a protocol does.
            let unknown = protocol.is_none() && host.value.chars().all(|c| c.is_ascii_alphabetic());
            let name = quoted(&host.value);
            return Err(if unknown {
                let message = format!(
                    "unknown protocol {name}: bin or bins expected (those of SIP are not served)"
                );
                self.lexer.source().problem(host.span, message)
            } else {
                self.problem(BRACKETS)
            });
        }
        let start = start.start;
        let span = Span { start, end };
        Ok(Socket {
            protocol,
            host,
            port,
            tag: None,
            unused: vec![],
            span,
        })
    }

    fn host(&mut self) -> Result<Spanned<String>, Problem> {
        let Lexeme { token, span } = self.next.clone();
        let value = match token {
            Token::Word(word) => word.to_owned(),
            Token::Sign('*') => "*".to_owned(),
            Token::Text(text) => text,
            Token::Sign('[') => return self.bracketed(),
            Token::Sign(':') => return Err(self.problem(BRACKETS)),
            Token::Variable(_) | Token::Sign(_) | Token::End => {
                return Err(self.unexpected("an address"));
            }
        };
        self.take()?;
        Ok(Spanned { value, span })
    }

    /// What stands in brackets; the brackets belong to its span.
    fn bracketed(&mut self) -> Result<Spanned<String>, Problem> {
        let start = self.take()?.span;
        let mut value = String::new();
        loop {
            match self.next.token {
                Token::Word(word) => value.push_str(word),
                Token::Sign(sign @ (':' | '%')) => value.push(sign),
                Token::Sign(']') => break,
                _ => return Err(self.unexpected("an IPv6 address and \"]\"")),
            }
            self.take()?;
        }
        let Span { start, .. } = start;
        let Span { end, .. } = self.take()?.span;
        Ok(Spanned {
            value,
            span: Span { start, end },
        })
    }
}

/// Whether `word` in front of ':' is a protocol, not a host in front of its port.
fn is_protocol(word: &str) -> bool {
    PROTOCOLS
        .iter()
        .any(|known| known.eq_ignore_ascii_case(word))
}

const BRACKETS: &str = "an IPv6 address stands in brackets: [::1]:5555 expected";

/// The protocols of OpenSIPS, 1.10 to 4.0, and the `any` of aliases.
const PROTOCOLS: [&str; 16] = [
    "bin", "bins", "udp", "tcp", "tls", "sctp", "ws", "wss", "ipsec", "hep_udp", "hep_tcp",
    "hep_tls", "smpp", "msrp", "msrps", "any",
];
