id=$(printf 'a%.0s' {1..20000})
sed "s/^id = \"tiny\"/id = \"$id\"/" "$models" >long.toml
timeout 100 "$WARPMARK" run --dry-run --models long.toml --filter '!micro' 2>&1 | wc -c | awk '{ print ($1 < 20000 ? "short" : "long") }'
timeout 100 "$WARPMARK" models --models long.toml >/dev/null
echo "code: $?"
