warpmark run --filter tiny/prefill --models "$models" --results r >/dev/null 2>&1
record=$(echo r/*/*.jsonl)
before=$(sha256sum <"$record")
ln -s "$record" link.jsonl
ln "$record" hard.jsonl
for output in "$record" link.jsonl hard.jsonl; do
  warpmark report "$record" --output "$output" && echo "written"
done
[ "$before" = "$(sha256sum <"$record")" ] && echo "untouched"
warpmark report "$record" --output - | grep -c prefill/f32 || echo "nothing on standard output"
for end in csv md html json; do
  warpmark report "$record" --output "page.$end" && head -c 1 "page.$end" | od -An -c
done
warpmark report "$record" --output page.csv --format html && echo "csv or html?"
