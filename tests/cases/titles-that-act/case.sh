printf '%s' "$(sed '0,/title = "Tiny"/s//title = "T\\u001b]0;owned\\u0007\\u202einy<script>"/' "$models")" >evil.toml
warpmark models --models evil.toml | grep -c -P '[\x1b\x07]|\x{202e}' | sed 's/^/raw: /'
warpmark run --models evil.toml --filter tiny/prefill --results r >log 2>&1
grep -c -P '\x1b\]0;' log | sed 's/^/in the log: /'
for format in markdown html csv; do
  warpmark report --results r --format $format | grep -c -P '<script>"?$|\x1b\]' | sed "s/^/$format: /"
done
warpmark $'report' $'\e]0;owned\a.jsonl' 2>&1 | grep -c -P '\x1b\]0' | sed 's/^/file name: /'
