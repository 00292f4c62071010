for signal in HUP INT TERM; do
  (
    trap '' "$signal"
    exec "$WARPMARK" run --filter tiny --models "$models" --results "r-$signal"
  ) >/dev/null 2>&1 &
  run=$!
  sleep 0.7
  kill "-$signal" "$run"
  wait "$run"
  echo "$signal: $?"
done
