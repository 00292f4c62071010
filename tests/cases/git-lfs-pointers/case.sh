mkdir w
printf 'version https://git-lfs.github.com/spec/v1\noid sha256:%064d\nsize 548105171\n' 0 >w/model.safetensors
warpmark verify --filter tiny/prefill --models "$models" --weights w
echo "code: $?"
