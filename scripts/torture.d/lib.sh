# shellcheck shell=bash
# What every part of scripts/torture sources. A part is a program PART in this folder:
#   PART --about     what it does, its goal and its hours, for the help
#   PART --totals    what all runs together have found, for the table
#   PART [COUNT]     runs COUNT trials, or those that are left to its goal; ends with 1 when one failed
# It keeps each result as a line of JSON in its file below CLEAVE_TORTURE, at once, so that a run may be stopped at any time.

set -euo pipefail
# shellcheck source=scripts/lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/../lib.sh"
part=${0##*/}
me="torture $part"
folder=${CLEAVE_TORTURE:-$target/torture}
results=$folder/$part.jsonl
mkdir -p "$folder"
[[ -e $results ]] || : >"$results"
cd "$root"
failed=0
# The output of the trial under way.
log=$folder/$part.log

commit() { git describe --always --dirty 2>/dev/null || echo unknown; }

# keep KEY VALUE...: one result; a VALUE that is a number stays one.
keep() {
    local -a arguments=()
    # shellcheck disable=SC2016 # These are jq's variables.
    local filter='{date: (now | todate), commit: $commit, load: $load'
    while (($#)); do
        if [[ $2 =~ ^-?[0-9]+(\.[0-9]+)?$ ]]; then arguments+=(--argjson "$1" "$2"); else arguments+=(--arg "$1" "$2"); fi
        filter+=", $1: \$$1"
        shift 2
    done
    jq -cn --arg commit "$(commit)" --argjson load "$(cut -d' ' -f1 /proc/loadavg)" "${arguments[@]}" "$filter}" >>"$results"
}

# count FILTER: how many results so far jq's FILTER chooses.
count() { jq -s "[.[] | select($1)] | length" "$results"; }

# in_guest SECONDS KERNEL TEST [OPTION]...: the whole-system test TEST in a fresh guest, with the options of scripts/guest
# run. Its output goes to standard output and to `log`.
in_guest() {
    local limit=$1 kernel=$2 test=$3 status=0
    shift 3
    scripts/guest run --kernel "$kernel" --timeout "$limit" "$@" -- \
        bash -c "cd \$(mktemp -d) && exec bash /cleave/tests/$test.sh" 2>&1 | tee "$log" || status=$?
    return $status
}

# failure: keeps that a trial failed, with its last lines and its log under a name of its own.
failure() {
    local log=$log kept
    kept=$folder/$part-$(date -u +%Y%m%d-%H%M%S).log
    mv "$log" "$kept"
    log=$kept
    failed=1
    keep failed "$(grep -vE '^(kill|      )' "$log" | tail -n 3 | tr '\n' ' ')" log "$log"
    say "failed: see $log"
}

# quantiles FILTER: "p50/p99/max" of the numbers that jq's FILTER gives of the results.
quantiles() {
    jq -rs "[.[] | $1] | sort | if length == 0 then \"-\" else
        \"\\(.[(length - 1) * 0.5 | floor])/\\(.[(length - 1) * 0.99 | ceil])/\\(.[-1])\" end" "$results"
}

failures() { jq -rs '[.[] | select(.failed)] | length' "$results"; }
