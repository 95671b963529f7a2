//! Power-off and reset: the sleep and reset registers of a hardware-reduced
//! ACPI machine (ACPI 6.5 section 4.8.3.7), at three ports.

use std::sync::Arc;

use device_model::BusDevice;

use crate::stop::{StopReason, StopRequest};

/// Offset of the sleep control register.
pub const SLEEP_CONTROL: u64 = 0;
/// Offset of the sleep status register.
pub const SLEEP_STATUS: u64 = 1;
/// Offset of the reset register.
pub const RESET: u64 = 2;
/// What the FADT tells the guest to write to [`RESET`].
pub const RESET_VALUE: u8 = 1;
/// What the DSDT's `\_S5` tells the guest to use as sleep type.
pub const S5_SLEEP_TYPE: u8 = 5;

const SLEEP_ENABLE: u8 = 1 << 5;
const SLEEP_TYPE_SHIFT: u8 = 2;

/// Turns the guest's writes into the machine's stop.
pub struct Power(pub Arc<StopRequest>);

impl BusDevice for Power {
    fn read(&mut self, _offset: u64, data: &mut [u8]) {
        // Neither is the machine waking up nor do the other registers read back.
        data.fill(0);
    }

    fn write(&mut self, offset: u64, data: &[u8]) {
        match (offset, data) {
            (SLEEP_CONTROL, &[value])
                if value == SLEEP_ENABLE | (S5_SLEEP_TYPE << SLEEP_TYPE_SHIFT) =>
            {
                self.0.request(StopReason::GuestShutdown);
            }
            (RESET, &[RESET_VALUE]) => self.0.request(StopReason::GuestReset),
            _ => log::debug!("power register {offset} ignores {data:02x?}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stop_after(offset: u64, data: &[u8]) -> Option<StopReason> {
        let stop = Arc::new(StopRequest::new().unwrap());
        Power(Arc::clone(&stop)).write(offset, data);
        stop.requested().then(|| stop.reason(""))
    }

    #[test]
    fn sleep_type_5_powers_off() {
        assert_eq!(
            stop_after(SLEEP_CONTROL, &[0x34]),
            Some(StopReason::GuestShutdown)
        );
    }

    #[test]
    fn the_reset_value_resets() {
        assert_eq!(
            stop_after(RESET, &[RESET_VALUE]),
            Some(StopReason::GuestReset)
        );
    }

    #[test]
    fn other_writes_do_nothing() {
        for (offset, data) in [
            (0, &[0x14][..]),
            (0, &[0x34, 0]),
            (1, &[0x34]),
            (2, &[0]),
            (9, &[]),
        ] {
            assert_eq!(stop_after(offset, data), None, "{offset} {data:?}");
        }
    }
}
