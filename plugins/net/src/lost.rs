//! What a guest or a peer causes at will, counted.

use plugin_sdk::{Host, Level};

/// How often something was, and when the log has to have it: when it was twice as often
/// as the last time.
#[derive(Default)]
pub struct Often {
    count: u64,
    /// As many as the log says.
    told: u64,
}

impl Often {
    /// Once more.
    pub fn add(&mut self) {
        self.count += 1;
    }

    /// How often so far.
    #[cfg(test)]
    pub fn count(&self) -> u64 {
        self.count
    }

    /// How often so far, if the log is to have it now.
    pub fn news(&mut self) -> Option<u64> {
        let is_news = self.count >= self.told.saturating_mul(2).max(1);
        if is_news {
            self.told = self.count;
        }
        is_news.then_some(self.count)
    }
}

/// Frames that went nowhere.
#[derive(Default)]
pub struct Lost(Often);

impl Lost {
    /// One more.
    pub fn add(&mut self) {
        self.0.add();
    }

    /// Logs how many, and that they `went`, if that is news.
    pub fn report(&mut self, host: Host, went: &str) {
        if let Some(count) = self.0.news() {
            host.log(Level::Info, &format!("{count} frames {went} so far"));
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
