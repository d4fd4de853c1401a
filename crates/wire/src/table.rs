//! The one table of frames.
//!
//! A new kind of frame is a file in `frame/`, its two lines in `frame/mod.rs`, and a line in this table. Everything else
//! follows from them: [`Kind`](crate::Kind), [`Message`](crate::Message), the decoder, and the range of known kinds
//! in [`DecodeError`](crate::DecodeError).

/// Calls the macro `$generate` with the table of frames.
///
/// Each line reads `Name = byte, "NAME";`: the name of the type that implements [`Frame`](crate::frame::Frame), the first byte
/// of the frame, and the name that people see. Bytes count up from 0 without gaps. The comment above a line documents the
/// variants of [`Kind`](crate::Kind) and [`Message`](crate::Message).
macro_rules! frames {
    ($generate:ident) => {
        $generate! {
            /// Asks for the latest value of a key.
            Get = 0, "GET";
            /// Writes a key, or carries its value.
            Put = 1, "PUT";
            /// Reports what went wrong.
            Error = 2, "ERROR";
            /// Carries a password, or confirms that it was right.
            Auth = 3, "AUTH";
            /// Starts the extended protocol, or describes the server.
            Hello = 4, "HELLO";
            /// Deletes a key, or reports that it was deleted.
            Delete = 5, "DELETE";
            /// Subscribes to everything under a prefix.
            Watch = 6, "WATCH";
            /// Carries a watermark: the revision up to which everything was sent. From a client, a barrier.
            Mark = 7, "MARK";
            /// Asks for the keys under a prefix.
            List = 8, "LIST";
            /// Carries several operations that are accepted together or refused together.
            Txn = 9, "TXN";
            /// A PUT whose value may exceed what a PUT can carry. Displayed as `PUTL`.
            PutLarge = 10, "PUTL";
            /// Asks for the state of a server, or reports it.
            Status = 11, "STATUS";
        }
    };
}

pub(crate) use frames;
