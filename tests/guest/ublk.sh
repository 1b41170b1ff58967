#!/usr/bin/env bash
# Devices of the library itself: copied and zero-copy requests, recovery, stopping, refusals (tests/ublk_guest.rs).
# timeout: 900
# smoke
. "$(dirname "$0")/lib.sh"

program=${CLEAVE_UBLK_TESTS:-}
[[ -x $program ]] || program=/cleave/payload/ublk_guest
[[ -x $program ]] || die "the built tests/ublk_guest.rs is neither in CLEAVE_UBLK_TESTS nor a payload of this guest"
need_module ublk_drv
wait_for 5 test -c /dev/ublk-control
step 850 "$program" --test-threads=1
