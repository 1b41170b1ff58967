#!/usr/bin/env bash
# A disk that hangs with pages of a request that it was lent: neither the daemon nor the other volumes hang with it, and when
# it answers its volume can be stopped.
# timeout: 240
. "$(dirname "$0")/cleave.sh"

need_module dm_mod dm_delay
loop_device disk 64M --direct-io=on
disk=$device sectors=$((64 << 11)) dm=cleave-lent-$$
step 30 dmsetup create "$dm" --table "0 $sectors delay $disk 0 0 $disk 0 0"
[[ -b /dev/mapper/$dm ]] || step 30 dmsetup mknodes "$dm"
at_exit eval "! dmsetup info $dm || dmsetup remove --retry $dm"
# delay MILLISECONDS: what the disk takes for a write; what it has is answered at once.
delay() {
    step 30 dmsetup reload "$dm" --table "0 $sectors delay $disk 0 0 $disk 0 $1"
    step 30 dmsetup suspend --noflush --nolockfs "$dm"
    step 30 dmsetup resume "$dm"
}
start_daemon
at_exit eval "dmsetup reload $dm --table '0 $sectors linear $disk 0' && dmsetup suspend --noflush --nolockfs $dm; dmsetup resume $dm"
step 60 cleave -q make v 32m --plex "/dev/mapper/$dm"
step 60 cleave -q make w 32m --plex "$PWD/other"
way=$(cleave --json show v | jq -r '.volumes[0].data_path')
node=$(device_of v) other=$(device_of w)
lives() { timeout -k 2 10 dd if=/dev/urandom of="$other" bs=64k count=4 oflag=direct status=none; }

# A write that is under way keeps a volume from being stopped, whoever has it open.
delay 100000
(dd if=/dev/urandom of="$node" bs=64k count=1 oflag=direct status=none 2>dd.out || echo failed >>dd.out) &
writer=$!
sleep 0.5
expect_fail 'in use' timeout -k 2 20 cleave stop v
lives || die "w does not answer while a write to v hangs"

began=$(now_ms)
if [[ $way == zero ]]; then
    expect_fail 'has not ended yet' timeout -k 2 60 cleave force-stop v
    echo "refused after $(($(now_ms) - began)) ms"
    [[ ! -s dd.out ]] || die "the writer has an answer: $(<dd.out)"
    # What comes later fails.
    if timeout -k 2 10 dd if="$node" of=/dev/null bs=64k count=1 iflag=direct status=none 2>read.out; then
        die "a read of a volume that is being stopped succeeds"
    fi
    lives || die "w does not answer after v could not be stopped"
    # Nobody waits in the kernel: the daemon dies, and its successor serves the other while it waits for the disk.
    kill_daemon
    spawn_daemon
    wait_for 20 lives
    echo "the other volume is served by the successor"
    delay 0
    daemon_answers 60
    wait_child $writer 20 'the writer of a disk that answers again'
    timeout -k 2 30 dd if="$node" of=/dev/null bs=64k count=1 iflag=direct status=none || die "v was not taken over"
else
    step 60 cleave force-stop v
    wait_child $writer 20 'the writer of a volume stopped by force'
    delay 0
    step 90 cleave -q start v
fi
step 60 cleave -q stop v
# And within one life of the daemon.
step 60 cleave -q start v
node=$(device_of v)
delay 100000
(dd if=/dev/urandom of="$node" bs=64k count=1 oflag=direct status=none 2>dd.out || echo failed >>dd.out) &
writer=$!
sleep 0.5
if [[ $way == zero ]]; then expect_fail 'has not ended yet' timeout -k 2 60 cleave force-stop v; fi
delay 0
step 60 cleave force-stop v
wait_child $writer 20 'the writer of a volume stopped by force'
grep -q failed dd.out || die "the writer saw no error"
step 90 cleave -q start v
step 60 cleave -q stop v
