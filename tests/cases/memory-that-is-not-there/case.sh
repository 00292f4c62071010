ulimit -v 300000
warpmark run --filter mid/prefill,tiny/prefill --models "$models" 2>&1
echo "run: $?"
ulimit -u 1 2>/dev/null
cat results/*/*.jsonl | grep -c '"kind":"row"' | sed 's/^/rows: /'
