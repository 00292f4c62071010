warpmark run --filter tiny/prefill,tiny/decode --models "$models" >/dev/null 2>&-
echo "closed: $?"
warpmark run --filter tiny/prefill --models "$models" >/dev/null 2>/dev/full
echo "full: $?"
warpmark report >/dev/full 2>/dev/full
echo "both full: $?"
echo "rows: $(cat results/*/*.jsonl | grep -c '"kind":"row"')"
