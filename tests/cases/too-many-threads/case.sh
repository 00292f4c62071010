RAYON_NUM_THREADS=100000 timeout 100 "$WARPMARK" run --filter tiny/prefill --models "$models" >/dev/null
echo "rayon: $?"
