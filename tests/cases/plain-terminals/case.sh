warpmark run --filter tiny/prefill --models "$models" --results r >/dev/null 2>&1
for term in dumb ''; do
  script -qec "env TERM=$term '$WARPMARK' report --results r" /dev/null </dev/null | grep -c $'\x1b' | sed 's/^/escapes: /'
done
LC_ALL=C warpmark report --results r | LC_ALL=C grep -c -P '[^\x00-\x7f]' | sed 's/^/not ASCII: /'
LC_ALL=C.UTF-8 warpmark report --results r | grep -c '±' | sed 's/^0$/no sign for plus and minus/'
