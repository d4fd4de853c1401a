//! What the tests of several modules do with the client's end of a pipe.

use bytes::BytesMut;
use syncline_wire::{Decoded, Message, decode};
use tokio::io::{AsyncReadExt, DuplexStream};

/// The next message, of which some may be in `input` already; `None` at the end.
pub(crate) async fn receive(stream: &mut DuplexStream, input: &mut BytesMut) -> Option<Message> {
    loop {
        if let Decoded::Frame(message) = decode(input).unwrap() {
            return Some(message);
        }
        if stream.read_buf(input).await.unwrap() == 0 {
            return None;
        }
    }
}
