//! Frames between pieces of memory and sockets.

use std::os::fd::AsFd;
use std::os::unix::net::{UnixDatagram, UnixStream};

use crate::testing::Frame;

#[test]
fn bytes_are_copied_over_the_cuts_between_pieces() {
    let mut frame = Frame::cut(b"abcdefgh", &[1, 0, 3]);
    let mut middle = [0; 4];
    assert_eq!(frame.pieces().copy_to(2, &mut middle), 4);
    assert_eq!(&middle, b"cdef");
    let mut end = [0; 4];
    assert_eq!(frame.pieces().copy_to(6, &mut end), 2);
    assert_eq!(frame.pieces().copy_to(8, &mut end), 0);
    assert_eq!(frame.pieces().copy_from(b"12345"), 5);
    assert_eq!(frame.bytes(), b"12345fgh");
    assert_eq!(frame.pieces().copy_from(b"123456789"), 8);
    assert_eq!(frame.bytes(), b"12345678");
}

#[test]
fn a_datagram_goes_whole_and_tells_when_it_was_cut() {
    let (left, right) = UnixDatagram::pair().unwrap();
    let mut frame = Frame::cut(b"head frame", &[2]);
    let sent = frame.pieces().send_to(left.as_fd()).unwrap();
    assert_eq!(sent, 10);
    let mut room = Frame::cut(&[0; 6], &[1]);
    assert_eq!(room.pieces().receive_from(right.as_fd()).unwrap(), 10);
    assert_eq!(room.bytes(), b"head f");
    let error = room.pieces().receive_from(right.as_fd()).unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::WouldBlock);
}

#[test]
fn a_stream_without_a_reader_is_an_error_and_no_signal() {
    let (left, right) = UnixStream::pair().unwrap();
    drop(right);
    let error = Frame::cut(b"frame", &[])
        .pieces()
        .send_to(left.as_fd())
        .unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::BrokenPipe);
}

#[test]
fn more_pieces_than_a_frame_has_are_refused() {
    let (left, _right) = UnixDatagram::pair().unwrap();
    let mut frame = Frame::cut(&[0; 70], &[1; 64]);
    let error = frame.pieces().send_to(left.as_fd()).unwrap_err();
    assert_eq!(error.raw_os_error(), Some(libc::EMSGSIZE));
}
