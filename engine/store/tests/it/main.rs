//! Payloads through the public face.

mod made;
mod oracle;
mod payloads;
mod quirks;
