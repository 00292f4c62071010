warpmark run --dry-run --models "$models" --filter 'tiny/prefill,tiny/deocde'
echo "one part: $?"
warpmark run --dry-run --models "$models" --filter 'tinny/prefill'
echo "all parts: $?"
