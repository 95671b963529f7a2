//! Frames that went nowhere, counted.

use plugin_sdk::{Host, Level};

/// How many there were.
#[derive(Default)]
pub struct Lost {
    count: u64,
    /// As many as the log says.
    told: u64,
}

impl Lost {
    /// One more.
    pub fn add(&mut self) {
        self.count += 1;
    }

    /// Logs how many, and that they `went`, when there are twice as many as the last
    /// time: a guest can cause it at will.
    pub fn report(&mut self, host: Host, went: &str) {
        if self.count >= self.told.saturating_mul(2).max(1) {
            self.told = self.count;
            let text = format!("{} frames {went} so far", self.count);
            host.log(Level::Info, &text);
        }
    }
}

#[cfg(test)]
mod tests {
    use plugin_sdk::testing::MockHost;

    use super::*;

    #[test]
    fn a_guest_does_not_fill_the_log() {
        let mock = MockHost::new();
        let mut lost = Lost::default();
        lost.report(mock.host(), "were lost");
        for _ in 0..1000 {
            lost.add();
            lost.report(mock.host(), "were lost");
        }
        let asked = mock.asked();
        assert_eq!(asked.log.len(), 10);
        assert_eq!(asked.log[9].1, "512 frames were lost so far");
    }
}
