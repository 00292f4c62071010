for name in SUITE BUDGET AUDIO WEIGHTS HANG_LIMIT EXHAUSTIVE MODELS RESULTS DEVICE FILTER; do
  env "WARPMARK_$name=" "$WARPMARK" run --dry-run --filter tiny/decode --models "$models" >/dev/null || echo "WARPMARK_$name: $?"
done
for yes in 1 true yes on; do
  WARPMARK_EXHAUSTIVE=$yes warpmark run --dry-run --filter tiny/decode --models "$models" >/dev/null || echo "exhaustive $yes: $?"
done
