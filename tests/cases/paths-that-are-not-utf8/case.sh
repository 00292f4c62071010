warpmark run --filter tiny/prefill --models "$models" --results $'r\xff' >/dev/null
echo "results: $?"
ls r*/*/*.jsonl | wc -l
warpmark run --dry-run --filter tiny/prefill --models "$models" --weights $'w\xff'
echo "weights: $?"
warpmark run --dry-run --filter $'tiny\xff' --models "$models"
echo "filter: $?"
warpmark $'\xff\xfe'
echo "verb: $?"
