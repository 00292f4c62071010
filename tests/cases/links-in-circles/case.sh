warpmark run --filter tiny/prefill --models "$models" --results r >/dev/null 2>&1
ln -s . r/again
ln -s .. r/up
mkfifo r/never.jsonl
timeout 100 "$WARPMARK" report --results r >/dev/null
echo "report: $?"
timeout 100 "$WARPMARK" report --index --results r | grep -c '\.jsonl' | sed 's/^/records: /'
