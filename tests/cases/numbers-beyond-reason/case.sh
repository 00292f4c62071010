for option in '--duration 99999999999999999999s' '--duration 1e300s' '--users 18446744073709551616' '--max-batch 99999999999999999999' '--warm-up -1s'; do
  timeout 100 "$WARPMARK" serve tiny --models "$models" $option --dry-run >/dev/null
  echo "code: $?"
done
timeout 100 "$WARPMARK" run --dry-run --models "$models" --budget 999999999999999999999h
echo "code: $?"
timeout 100 "$WARPMARK" run --dry-run --models "$models" --filter '**************************a**************************b'
echo "code: $?"
