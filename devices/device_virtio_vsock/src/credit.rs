//! The credit accounts of one connection, one for each direction. Plain
//! arithmetic, modulo 2^32 as on the wire. VIRTIO 1.2 section 5.10.6.3.

/// What the guest may send to us.
#[derive(Debug)]
pub struct Inbound {
    /// Bytes that we promised to buffer (`buf_alloc`).
    alloc: u32,
    received: u32,
    /// Bytes that left for the host, or were discarded because it is gone.
    forwarded: u32,
    /// `forwarded` as the guest last heard it.
    announced: u32,
}

impl Inbound {
    /// An account for a promise of `alloc` bytes.
    pub fn new(alloc: u32) -> Self {
        Inbound {
            alloc,
            received: 0,
            forwarded: 0,
            announced: 0,
        }
    }

    /// The promise.
    pub fn alloc(&self) -> u32 {
        self.alloc
    }

    /// Books `len` bytes from the guest. False, and nothing is booked, when
    /// they exceed what we promised to hold.
    #[must_use]
    pub fn receive(&mut self, len: u32) -> bool {
        let held = self.received.wrapping_sub(self.forwarded);
        if len > self.alloc.saturating_sub(held) {
            return false;
        }
        self.received = self.received.wrapping_add(len);
        true
    }

    /// Books `len` received bytes as passed on.
    pub fn forward(&mut self, len: u32) {
        self.forwarded = self.forwarded.wrapping_add(len);
    }

    /// Books all received bytes as passed on.
    pub fn forward_all(&mut self) {
        self.forwarded = self.received;
    }

    /// The `fwd_cnt` for a packet that is now being sent.
    pub fn announce(&mut self) -> u32 {
        self.announced = self.forwarded;
        self.forwarded
    }

    /// Half of the promise has come free since the guest last heard of it. A
    /// guest without credit therefore always hears before it starves, at the
    /// price of one packet for each half buffer.
    pub fn update_due(&self) -> bool {
        self.forwarded.wrapping_sub(self.announced) >= self.alloc / 2
    }
}

/// What we may send to the guest.
#[derive(Debug, Default)]
pub struct Outbound {
    alloc: u32,
    forwarded: u32,
    sent: u32,
}

impl Outbound {
    /// Takes over `buf_alloc` and `fwd_cnt` of a packet from the guest.
    pub fn refresh(&mut self, buf_alloc: u32, fwd_cnt: u32) {
        self.alloc = buf_alloc;
        self.forwarded = fwd_cnt;
    }

    /// Bytes that the guest has room for. A guest that claims to have passed
    /// on more than it was sent has room for nothing.
    pub fn available(&self) -> u32 {
        self.alloc.saturating_sub(self.in_flight())
    }

    /// Bytes sent that the guest has not said to have passed on.
    pub fn in_flight(&self) -> u32 {
        self.sent.wrapping_sub(self.forwarded)
    }

    /// Books `len` bytes as sent.
    pub fn send(&mut self, len: u32) {
        self.sent = self.sent.wrapping_add(len);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn guest_may_fill_the_promise_and_not_a_byte_more() {
        let mut inbound = Inbound::new(100);
        assert!(inbound.receive(60));
        assert!(inbound.receive(40));
        assert!(!inbound.receive(1));
        inbound.forward(10);
        assert!(inbound.receive(10));
        assert!(!inbound.receive(1));
    }

    #[test]
    fn update_is_due_at_half_of_the_promise_and_not_after_an_announcement() {
        let mut inbound = Inbound::new(100);
        assert!(inbound.receive(100));
        inbound.forward(49);
        assert!(!inbound.update_due());
        inbound.forward(1);
        assert!(inbound.update_due());
        assert_eq!(inbound.announce(), 50);
        assert!(!inbound.update_due());
        inbound.forward_all();
        assert_eq!(inbound.announce(), 100);
    }

    #[test]
    fn accounts_go_on_past_4_gib() {
        let mut inbound = Inbound::new(1 << 20);
        let mut outbound = Outbound::default();
        let mut fwd_cnt = 0_u32;
        for _ in 0..5000 {
            assert!(inbound.receive(1 << 20));
            inbound.forward_all();
            outbound.refresh(1 << 20, fwd_cnt);
            assert_eq!(outbound.available(), 1 << 20);
            outbound.send(1 << 20);
            assert_eq!(outbound.available(), 0);
            fwd_cnt = fwd_cnt.wrapping_add(1 << 20);
        }
        assert_eq!(inbound.announce(), fwd_cnt);
    }

    #[test]
    fn claim_of_more_than_was_sent_gives_no_credit() {
        let mut outbound = Outbound::default();
        outbound.refresh(1 << 20, 1);
        assert_eq!(outbound.available(), 0);
        outbound.refresh(u32::MAX, 1);
        assert_eq!(outbound.available(), 0);
    }

    #[test]
    fn shrunk_buffer_gives_no_credit_instead_of_wrapping() {
        let mut outbound = Outbound::default();
        outbound.refresh(100, 0);
        outbound.send(100);
        outbound.refresh(10, 50);
        assert_eq!(outbound.available(), 0);
    }
}
