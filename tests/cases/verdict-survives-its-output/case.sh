warpmark run --filter tiny/prefill --models "$models" --results r >/dev/null 2>&1
record=$(echo r/*/*.jsonl)
# A record without a single row that can be judged: "unlike", not "same".
warpmark compare "$record" "$record" >/dev/null
echo "same: $?"
warpmark compare "$record" "$record" >/dev/full
echo "same, full disk: $?"
warpmark run --filter tiny/prefill,load/nothing-of-that-name --models "$models" --dry-run >/dev/full
echo "dry run, full disk: $?"
warpmark models --models "$models" >/dev/full
echo "models, full disk: $?"
for format in csv json html markdown; do
  warpmark report "$record" --format $format >/dev/full
  echo "$format, full disk: $?"
done
set -o pipefail
warpmark report "$record" --format csv | true
echo "report, closed pipe: $?"
