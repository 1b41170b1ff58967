#!/usr/bin/env bash
# Every command of the guides and of the README, in its order, with disks and directories of this test in place of those that
# they name.
# timeout: 600
. "$(dirname "$0")/cleave.sh"

guides=/cleave/guide
[[ -d $guides ]] || guides=$(realpath "$(dirname "$0")/../../src/guide")
readme=/cleave/README.md
[[ -f $readme ]] || readme=$(realpath "$(dirname "$0")/../../README.md")
# What has no command to run.
unplayed=(reference)
need_state_disk
chmod 700 "$CLEAVE_TEST_STATE"
start_daemon
export STATE=$CLEAVE_TEST_STATE

# start_cleaved: what a guide leaves unsaid, a daemon that begins anew.
start_cleaved() {
    wait_for 30 gone "$(<"$CLEAVE_SOCKET.pid")"
    spawn_daemon
    daemon_answers
}
export -f start_cleaved

# commands GUIDE: what stands between ```sh and ```.
commands() { awk '/^```sh$/ {inside = 1; next} /^```$/ {inside = 0} inside' "$1"; }

played=(lost_state move_disks first_volume backup replace_a_disk administration on_disk_format README)
for name in "${played[@]}"; do
    guide=$guides/$name.md
    [[ $name != README ]] || guide=$readme
    echo "== $name"
    # No path of a guide stands in this one.
    mkdir "of-$name" && cd "of-$name"
    words=()
    for letter in b c d; do
        loop_device "disk-$letter" 120M --direct-io=on
        words+=(-e "s,/dev/sd$letter,$device,g")
    done
    for directory in /srv/data /mnt/friday /backup /usr/local/sbin; do words+=(-e "s,$directory,$PWD/here$directory,g"); done
    mkdir -p here/usr/local/sbin
    for directory in srv/data mnt/friday; do unmount_at_exit "$PWD/here/$directory"; done
    commands "$guide" | sed "${words[@]}" >script
    (($(wc -l <script) >= 8)) || die "$guide has no commands: $(<script)"
    step 240 bash -euxo pipefail script
    cd ..
done
for guide in "$guides"/*.md; do
    [[ " ${played[*]} ${unplayed[*]} " == *" $(basename "$guide" .md) "* ]] || die "a guide is not run: $guide"
done
calm_log
