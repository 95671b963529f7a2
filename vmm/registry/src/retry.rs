//! Trying again after faults that may pass, a bounded number of times.

use std::time::Duration;

use crate::{Error, Options};

/// Longest time between two tries, when the registry names none.
const MAX_DELAY: Duration = Duration::from_secs(30);
/// Longest time that a registry is waited for when it asks for it.
pub(crate) const MAX_RETRY_AFTER: Duration = Duration::from_secs(60);

/// When to try again after an error.
pub(crate) enum Again {
    /// It would be the same.
    Never,
    /// After a while of our choice.
    Soon,
    /// When the registry said.
    After(Duration),
}

/// The tries that are left for one request.
pub(crate) struct Retry {
    retries: u32,
    first_delay: Duration,
    tried: u32,
}

impl Retry {
    pub(crate) fn new(options: &Options) -> Self {
        Self {
            retries: options.retries,
            first_delay: options.first_delay,
            tried: 0,
        }
    }

    /// Something was achieved: the count starts anew.
    pub(crate) fn reset(&mut self) {
        self.tried = 0;
    }

    /// Waits until it is time to try again, or gives `error` back when it is not
    /// worth it.
    pub(crate) async fn wait(&mut self, error: Error) -> Result<(), Error> {
        if self.tried == self.retries {
            return Err(error);
        }
        let delay = match error.again() {
            Again::Never => return Err(error),
            Again::After(delay) if delay > MAX_RETRY_AFTER => return Err(error),
            Again::After(delay) => delay,
            Again::Soon => {
                let doubled = 1_u32.checked_shl(self.tried).unwrap_or(u32::MAX);
                self.first_delay.saturating_mul(doubled).min(MAX_DELAY)
            }
        };
        self.tried += 1;
        tokio::time::sleep(delay).await;
        Ok(())
    }
}
