//! device_serial
