//! Golem's Runtime API: the messages that exe-unit and a runtime exchange on the
//! runtime's standard input and output, and their frames. golem-runtime, section 2.
//!
//! Both ends are served: a runtime reads [`Request`]s and writes [`Response`]s, a
//! client the other way round.
#![forbid(unsafe_code)]

mod frame;

pub use frame::{FrameError, FrameReader, MAX_FRAME, to_frame};
pub use messages::*;

mod messages {
    //! Made from `proto/ya_runtime_api.proto`.
    #![allow(missing_docs, clippy::all, reason = "made by a program")]

    include!(concat!(env!("OUT_DIR"), "/ya_runtime_api.rs"));
}
