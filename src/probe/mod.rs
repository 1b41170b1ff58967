//! What this host can do and who holds a device.
