//! The reader and the writer through their public face.

mod build;
mod captures;
mod damage;
mod formats;
mod round_trip;
mod tcp;
mod udp;
