# Each signal comes when the run has begun, and finds it at work: it stands still meanwhile.
for signal in HUP INT TERM; do
  (
    trap '' "$signal"
    exec "$WARPMARK" run --filter tiny --models "$models" --results "r-$signal"
  ) >/dev/null 2>"said-$signal" &
  run=$!
  until grep -q '(cpu)' "said-$signal"; do
    sleep 0.01
  done
  kill -STOP "$run"
  kill "-$signal" "$run" || echo "$signal: came too late"
  kill -CONT "$run"
  wait "$run"
  echo "$signal: $?"
done
