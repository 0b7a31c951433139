#!/usr/bin/env bash
# Fetch what is new on the list, and make a release: what every schedule here runs (docs/releases.md).
#
# A release that was stopped is gone on with; else one of today is made. Exit status: that of xscan
# reprocess, or of xscan fetch if it was used wrongly or stopped. What could not be fetched stands in the
# output and in $XSCAN_DATA/_fetch.jsonl, and does not keep the rest from being searched.
set -euo pipefail

: "${XSCAN_OBSLIST:?the list of observations, a file}"
: "${XSCAN_DATA:?the folder of <obsid>/ folders}"
: "${XSCAN_RELEASES:?the folder of releases}"
read -ra fetch_options <<< "${XSCAN_FETCH:-}"
read -ra options <<< "${XSCAN_OPTIONS:-}"

mkdir -p "$XSCAN_DATA" "$XSCAN_RELEASES"
if [ "${XSCAN_FETCH:-}" != no ]; then
    xscan fetch --obslist "$XSCAN_OBSLIST" --data "$XSCAN_DATA" "${fetch_options[@]}" || {
        status=$?
        [ "$status" = 1 ] || exit "$status"
        echo "reprocess.sh: some observations could not be fetched; the others are searched" >&2
    }
fi
release=$(xscan releases "$XSCAN_RELEASES" --unfinished | head -n 1)
exec xscan reprocess --release "${release:-$(date -u +%Y-%m-%d)}" --out "$XSCAN_RELEASES" \
    --obslist "$XSCAN_OBSLIST" --data "$XSCAN_DATA" "${options[@]}" "$@"
