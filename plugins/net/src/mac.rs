//! Addresses of cards in configurations.

use plugin_sdk::{Error, Result};

/// First byte of a group's address.
pub const GROUP: u8 = 1;

/// Reads `02:00:5e:10:00:01`.
pub fn parse(text: &str) -> Result<[u8; 6]> {
    let wrong = || Error::new(format!("mac {text:?} must be as 02:00:5e:10:00:01"));
    let mut mac = [0; 6];
    let mut bytes = text.split(':');
    for byte in &mut mac {
        let digits = bytes.next().ok_or_else(wrong)?;
        if digits.len() != 2 || !digits.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return Err(wrong());
        }
        *byte = u8::from_str_radix(digits, 16).map_err(|_| wrong())?;
    }
    if bytes.next().is_some() {
        return Err(wrong());
    }
    if mac[0] & GROUP != 0 || mac == [0; 6] {
        let text = format!("mac {text:?} is no card's: its first byte must be even, and not all 0");
        return Err(Error::new(text));
    }
    Ok(mac)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_six_bytes_and_no_groups() {
        let mac = parse("90:13:c0:A8:00:02").unwrap();
        assert_eq!(mac, [0x90, 0x13, 192, 168, 0, 2]);
        for wrong in [
            "",
            "90:13:c0:a8:00",
            "90:13:c0:a8:00:02:03",
            "90:13:c0:a8:00:2",
            "90-13-c0-a8-00-02",
            "+9:13:c0:a8:00:02",
            "01:00:00:00:00:00",
            "00:00:00:00:00:00",
        ] {
            parse(wrong).unwrap_err();
        }
    }
}
