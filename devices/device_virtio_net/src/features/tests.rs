//! What is offered, and what an answer means.

use super::*;

const ALL: Offloads = Offloads {
    checksum: true,
    tso4: true,
    tso6: true,
    uso: true,
};

fn info(header: bool, send: Offloads, receive: Offloads) -> NetInfo {
    NetInfo {
        mac: None,
        mtu: None,
        queue_pairs: 1,
        header,
        send,
        receive,
        max_frame: 1514,
        link_up: true,
    }
}

fn bits(list: &[u32]) -> u64 {
    list.iter().map(|bit| 1 << bit).sum()
}

const PLAIN: [u32; 3] = [5, 15, 16];

#[test]
fn plain_backend_makes_a_plain_card() {
    let none = Offloads::default();
    assert_eq!(offered(&info(false, none, none), None, 1), bits(&PLAIN));
    assert_eq!(offered(&info(true, none, none), None, 1), bits(&PLAIN));
}

#[test]
fn mtu_and_queues_are_offered_where_there_are_any() {
    let plain = info(false, Offloads::default(), Offloads::default());
    let all = bits(&[3, 5, 15, 16, 17, 22]);
    assert_eq!(offered(&plain, Some(1500), 2), all);
}

#[test]
fn offloads_are_offered_as_the_backend_has_them() {
    let none = Offloads::default();
    let of = |send, receive| offered(&info(true, send, receive), None, 1) & !bits(&PLAIN);
    assert_eq!(of(ALL, none), bits(&[0, 11, 12, 56]));
    assert_eq!(of(none, ALL), bits(&[1, 7, 8, 54, 55]));
    let tso6 = Offloads {
        checksum: true,
        tso6: true,
        ..none
    };
    assert_eq!(of(tso6, none), bits(&[0, 12]));
    assert_eq!(of(none, tso6), bits(&[1, 8]));
}

#[test]
fn no_offload_goes_without_headers_and_none_without_checksums() {
    assert_eq!(offered(&info(false, ALL, ALL), None, 1), bits(&PLAIN));
    let odd = Offloads {
        checksum: false,
        ..ALL
    };
    assert_eq!(offered(&info(true, odd, odd), None, 1), bits(&PLAIN));
}

#[test]
fn all_that_is_offered_can_be_accepted() {
    let features = offered(&info(true, ALL, ALL), Some(1500), 4);
    let expected = Negotiated {
        mergeable: true,
        status: true,
        control: true,
        multiqueue: true,
        mtu: true,
        send: ALL,
        receive: ALL,
    };
    assert_eq!(negotiated(features), expected);
    assert_eq!(negotiated(0), Negotiated::default());
}

#[test]
fn bits_without_those_that_they_need_mean_nothing() {
    let agreed = negotiated(bits(&[7, 8, 11, 12, 22, 54, 55, 56]));
    assert_eq!(agreed, Negotiated::default());
    // UDP of one version alone: the backend knows no difference.
    assert!(!negotiated(bits(&[1, 54])).receive.uso);
    assert!(negotiated(bits(&[1, 54, 55])).receive.uso);
}
