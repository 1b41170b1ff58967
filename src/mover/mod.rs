//! Copy, diff, resync and verify: plan, run, pause, throttle, report; generic over the device.
